"""Integer, weakly typed and NaN arguments of `unroll`, under JAX's transformations."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import dtypes, tree
from oracles import EACH_CELL, EACH_GRADIENT, assert_close, drawn_inputs, on_device

import lstm_jax as lj
from lstm_jax.layers import init_layers, unroll_layers

STEPS, BATCH = 3, 2
LENGTHS = on_device(np.array([1, 3]))
RESETS = on_device(np.array([[False, True], [False, False], [True, True]]))
CELLS = pytest.mark.parametrize("name", ["lstm", "min_gru"])


@CELLS
@EACH_GRADIENT
def test_integers_have_gradients_of_float0(name, gradient):
    cell = lj.CELLS[name]
    params, xs, state = drawn_inputs(cell, STEPS, (BATCH,))

    def run(params, lengths, resets, key):
        zoneout = lj.Zoneout({"h": 0.5}, key)
        masks = {"lengths": lengths, "resets": resets, "zoneout": zoneout}
        ys, _ = lj.unroll(cell, params, xs, state, gradient=gradient, **masks)
        return jnp.sum(ys**2)

    key = jax.random.key(0)
    arguments = params, LENGTHS, RESETS, key
    dparams, *others = jax.grad(run, (0, 1, 2, 3), allow_int=True)(*arguments)
    assert {d.dtype for d in others} == {dtypes.float0}
    assert [d.shape for d in others] == [LENGTHS.shape, RESETS.shape, key.shape]
    assert_close(dparams, jax.jit(jax.grad(run))(*arguments))


@CELLS
@EACH_GRADIENT
def test_weak_types_are_as_good_as_others(name, gradient):
    cell = lj.CELLS[name]
    params, xs, state = drawn_inputs(cell, STEPS, (BATCH,))

    @partial(jax.grad, argnums=(0, 1, 2))
    def gradients(params, xs, state):
        masks = {"lengths": LENGTHS, "resets": RESETS}
        ys, final = lj.unroll(cell, params, xs, state, gradient=gradient, **masks)
        return jnp.sum(ys**2) + sum(jnp.sum(s) for s in final)

    @jax.jit
    def both(strong):
        weak = tree.map(lambda a: jnp.broadcast_to(0.5, a.shape), strong)
        assert all(a.weak_type for a in tree.leaves(weak))
        return gradients(*weak), gradients(*strong)

    halves = tree.map(lambda a: np.full(a.shape, 0.5, a.dtype), (params, xs, state))
    assert_close(*both(halves))


@CELLS
@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
def test_nan_in_the_padding_is_not_looked_at(name, kind):
    """Not by the doors either, where nothing is compiled."""
    cell = lj.CELLS[name]
    params, xs, state = drawn_inputs(cell, STEPS, (BATCH,))
    xs = np.array(xs)
    xs[1:, 0] = np.nan
    xs = kind(xs)
    run = partial(lj.unroll, cell, lengths=np.array([1, 3]))
    with jax.debug_nans(True):
        ys, _ = run(params, xs, state)
        dparams = jax.grad(lambda p: jnp.sum(run(p, xs, state)[0]))(params)
    assert all(np.all(np.isfinite(a)) for a in tree.leaves((ys, dparams)))


def test_an_ensemble_of_stacks():
    """vmap over what is drawn and run with learned states, resets and zoneout."""
    cell = lj.LSTM
    _, xs, _ = drawn_inputs(cell, STEPS, (BATCH,))

    def member(key):
        params = init_layers(
            *(cell, key, 3, 4), layers=2, learned_state=True, dtype=xs.dtype
        )

        def loss(params, gradient):
            zoneout = lj.Zoneout({"c": 0.5}, key)
            options = {"zoneout": zoneout, "resets": RESETS, "gradient": gradient}
            run = jax.checkpoint(partial(unroll_layers, cell, **options))
            return jnp.sum(run(params, xs)[0] ** 2)

        return [jax.grad(loss)(params, name) for name in ("manual", "automatic")]

    manual, automatic = jax.jit(jax.vmap(member))(jax.random.split(jax.random.key(0)))
    assert_close(manual, automatic)


@EACH_CELL
@EACH_GRADIENT
def test_an_empty_batch(cell, gradient):
    """More steps than a chunk has; every gradient is that of nothing, 0."""
    params, xs, state = drawn_inputs(cell, 20, (0,))

    def run(params, xs, state):
        return lj.unroll(cell, params, xs, state, gradient=gradient, memory="states")

    @jax.jit
    def pulled(*arguments):
        (ys, final), pull = jax.vjp(run, *arguments)
        return ys, pull((ys, final))

    ys, gradients = pulled(params, xs, state)
    assert ys.shape == (20, 0, *state[0].shape[1:])
    assert_close(gradients, tree.map(np.zeros_like, (params, xs, state)))


def test_an_empty_batch_of_the_compiled_steps():
    params, xs, _ = drawn_inputs(lj.LSTM, 20, (0,))
    resets = np.zeros((20, 0), bool)
    loss = lambda p: jnp.sum(lj.unroll(lj.LSTM, p, xs, resets=resets)[0])  # noqa: E731
    assert_close(jax.jit(jax.grad(loss))(params), tree.map(np.zeros_like, params))
