"""Zoneout: against a plain loop with the masks as drawn, and in expectation."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import tree
from oracles import (
    EACH_KIND,
    assert_close,
    drawn_inputs,
    plain_outputs,
    results_like,
    step_of,
)

import lstm_jax as lj
from lstm_jax.engine.zoneout import draw_masks
from lstm_jax.layers import init_layers, unroll_layers

STEPS, BATCH = 4, 3
LENGTHS = np.array([0, STEPS, 2])
RESETS = np.zeros((STEPS, BATCH), bool)
RESETS[[1, 2], [1, 0]] = True
KEY = jax.random.key(5)


def rates_of(cell):
    *_, state = drawn_inputs(cell, STEPS, (BATCH,))
    return {"h": 0.4, "c": 0.6} if len(state) == 2 else {state._fields[0]: 0.5}


def zoned_out(cell):
    """A step of a cell, whose x has the rates or masks with it; (1) of the module."""

    def step(params, old, inputs):
        x, rates = inputs
        new = step_of(cell)(params, old, x)
        mixed = {
            field: d * getattr(old, field) + (1 - d) * getattr(new, field)
            for field, d in rates.items()
        }
        return new._replace(**mixed)

    return step


def pulled(run, arguments, dout):
    results, pull = jax.vjp(run, *arguments)
    return results, pull(dout)


@EACH_KIND
@pytest.mark.parametrize("key", [None, KEY], ids=["expected", "drawn"])
def test_a_plain_loop_says_the_same(cell, key):
    """Both gradients, both masks, in reverse."""
    zoneout = lj.Zoneout(rates_of(cell), key)
    arguments = params, xs, state = drawn_inputs(cell, STEPS, (BATCH,))
    dout = results_like(*arguments)
    masks = draw_masks(zoneout, STEPS, state) or zoneout.rates
    rates = {
        field: np.broadcast_to(d, (STEPS, *getattr(state, field).shape)).astype(float)
        for field, d in masks.items()
    }
    (outputs, (dparams, (dxs, _), dstate)) = plain_outputs(
        zoned_out(cell),
        (params, (xs, rates), state),
        dout,
        mask=np.arange(STEPS)[:, None] < LENGTHS,
        resets=RESETS,
        reverse=True,
    )
    options = {"lengths": LENGTHS, "resets": RESETS, "reverse": True}
    for gradient, memory in (("manual", "states"), ("automatic", "store")):
        run = partial(
            *(lj.unroll, cell),
            **options,
            gradient=gradient,
            memory=memory,
            zoneout=zoneout,
        )
        found = jax.jit(partial(pulled, run))(arguments, dout)
        assert_close(found, (outputs, (dparams, dxs, dstate)))


def test_masks_have_their_rates():
    state = lj.LSTMState(*(jnp.zeros((50, 40)) for _ in range(2)))
    zoneout = lj.Zoneout({"h": 0.2, "c": 0.7}, KEY)
    masks = draw_masks(zoneout, 20, state)
    for field, rate in zoneout.rates.items():
        deviation = np.sqrt(rate * (1 - rate) / masks[field].size)
        assert abs(np.mean(np.asarray(masks[field])) - rate) < 5 * deviation
    assert not np.array_equal(masks["h"][0], masks["h"][1])
    same = draw_masks(lj.Zoneout({"h": 0.2, "c": 0.2}, KEY), 20, state)
    assert not np.array_equal(same["h"], same["c"])


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.array, jnp.float32])
@pytest.mark.parametrize("name", ["lstm", "min_gru"])
@pytest.mark.parametrize("key", [None, KEY], ids=["expected", "drawn"])
def test_rates_are_numbers_whatever_their_type(name, kind, key):
    """They change no dtype, and 0 is a rate beside a key."""
    cell = lj.CELLS[name]
    arguments = tree.map(
        lambda a: a.astype(jnp.bfloat16), drawn_inputs(cell, STEPS, (BATCH,))
    )
    for rate in (0.5, 0):
        expected, found = (
            lj.unroll(cell, *arguments, zoneout=lj.Zoneout({"h": given}, key))
            for given in (rate, kind(rate))
        )
        assert {a.dtype for a in tree.leaves(found)} == {jnp.dtype(jnp.bfloat16)}
        tree.map(np.testing.assert_array_equal, found, expected)


def test_a_rate_that_only_the_traced_program_knows():
    params, xs, _ = drawn_inputs(lj.LSTM, STEPS, (BATCH,))

    def run(rate):
        return lj.unroll(lj.LSTM, params, xs, zoneout=lj.Zoneout({"h": rate}))

    with pytest.raises(TypeError, match="known when the function is traced"):
        jax.jit(run)(0.5)


def test_without_rates_nothing_is_zoned_out():
    arguments = drawn_inputs(lj.LSTM, STEPS, (BATCH,))
    expected = lj.unroll(lj.LSTM, *arguments)
    for rates in ({}, {"h": 0.0, "c": 0.0}):
        found = lj.unroll(lj.LSTM, *arguments, zoneout=lj.Zoneout(rates, KEY))
        assert_close(found, expected)


def test_the_reverse_differentiated_again_and_vmap():
    """Products of the Hessian with a vector, for each of two stacked arguments."""
    arguments = drawn_inputs(lj.LSTM, STEPS, (BATCH,))
    zoneout = lj.Zoneout({"h": 0.4, "c": 0.6}, KEY)

    def product(gradient, arguments):
        def loss(arguments):
            ys, final = lj.unroll(
                lj.LSTM, *arguments, gradient=gradient, zoneout=zoneout
            )
            return jnp.sum(jnp.sin(3 * ys)) + jnp.sum(final.c**3)

        def along(arguments):
            d = jax.grad(loss)(arguments)
            return sum(jnp.sum(a**2) for a in tree.leaves(d))

        return jax.grad(along)(arguments)

    stacked = tree.map(lambda a: jnp.stack([a, -a]), arguments)
    manual, automatic = (
        jax.jit(jax.vmap(partial(product, gradient)))(stacked)
        for gradient in ("manual", "automatic")
    )
    assert_close(manual, automatic)


def test_layers_and_directions_have_masks_of_their_own():
    cell, rate = lj.CELLS["gru"], 0.5
    params = init_layers(
        *(cell, KEY, 8, 8), layers=2, bidirectional=True, dtype=jnp.float64
    )
    xs = jnp.zeros((1, 4, 8))
    # Steps that lead to 1 from a state of 0, so that an output of 0 is zoned out.
    cell = cell._replace(step=lambda p, s, u: (type(s)(jnp.ones_like(s.h)), u))
    zoneout = lj.Zoneout({"h": rate}, KEY)
    _, finals = unroll_layers(cell, params, xs, zoneout=zoneout, gradient="automatic")
    drawn = {np.asarray(state.h).tobytes() for layer in finals for state in layer}
    assert len(drawn) == 4
    _, finals = unroll_layers(
        cell, params, xs, zoneout=zoneout._replace(key=None), gradient="automatic"
    )
    assert all(np.all(s == 1 - rate) for s in tree.leaves(finals))


@pytest.mark.parametrize(
    ("cell", "zoneout", "error", "message"),
    [
        (lj.LSTM, 0.1, TypeError, "zoneout must be an lstm_jax.Zoneout; got float"),
        (lj.LSTM, lj.Zoneout(0.1), TypeError, "zoneout's rates must be by field"),
        (lj.LSTM, lj.Zoneout({"a": 0.1}), ValueError, "rates for h, c of LSTMState"),
        (lj.LSTM, lj.Zoneout({"h": "half"}), TypeError, "must be a number; got 'half'"),
        (lj.LSTM, lj.Zoneout({"h": [0.1, 0.2]}), TypeError, "must be a number; got "),
        (lj.LSTM, lj.Zoneout({"h": 1.0}), ValueError, "rate for h must be from 0 to 1"),
        (lj.LSTM, lj.Zoneout({"c": -0.1}), ValueError, "1 excluded; got -0.1"),
        (lj.LSTM, lj.Zoneout({"c": float("nan")}), ValueError, "got nan"),
        (lj.CELLS["gru"], lj.Zoneout({"c": 0.1}), ValueError, "rates for h of Output"),
        (lj.CELLS["slstm"], lj.Zoneout({"c": 0.1}), ValueError, "rates for h of SLSTM"),
    ],
)
def test_zoneout_refuses(cell, zoneout, error, message):
    arguments = drawn_inputs(cell, STEPS, (BATCH,))
    with pytest.raises(error, match=message):
        inspect.unwrap(lj.unroll)(cell, *arguments, zoneout=zoneout)
