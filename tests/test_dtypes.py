"""Dtypes: cotangents are like their primals, and sums are at least float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import tree
from oracles import (
    EACH_CELL,
    EACH_GRADIENT,
    EACH_KIND,
    assert_close,
    drawn_inputs,
    drawn_like,
    on_device,
    plain_outputs,
    pulled,
    results_like,
    step_of,
)

import lstm_jax as lj

MASKS = {
    "lengths": np.array([0, 1, 5, 3]),
    "resets": np.arange(20).reshape(5, 4) == 9,
}
# The machine's epsilon, times what a few steps make of it.
TOLERANCES = {"bfloat16": 0.1, "float16": 0.01, "float32": 1e-5}


def in_64_bits(values):
    return on_device(tree.map(lambda a: np.asarray(a, np.float64), values))


def in_32_bits(values):
    return on_device(tree.map(lambda a: np.asarray(a, np.float32), values))


def assert_kept_and_close(cell, dtype):
    """Everything has the dtype asked for, and the values of 64 bits.

    Of eight units, so that each array has some large gradients: those of a layer
    that is normalized over a few features are small, and all rounding.
    """
    arguments = drawn_inputs(cell, 5, (4,), hidden_size=8, dtype=jnp.dtype(dtype))
    dout = results_like(*arguments)
    found = pulled(cell, *arguments, dout, **MASKS)
    assert {a.dtype for a in tree.leaves(found)} == {jnp.dtype(dtype)}
    mask = np.arange(5)[:, None] < MASKS["lengths"]
    expected = plain_outputs(
        step_of(cell),
        *in_64_bits((arguments, dout)),
        mask=mask,
        resets=MASKS["resets"],
        reverse=False,
    )
    assert_close(in_64_bits(found), expected, TOLERANCES[dtype])


@EACH_CELL
def test_bfloat16_is_kept_and_close_to_float64(cell):
    assert_kept_and_close(cell, "bfloat16")


@EACH_KIND
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_every_dtype_is_kept_and_close_to_float64(cell, dtype):
    assert_kept_and_close(cell, dtype)


@EACH_CELL
def test_sums_over_time_and_batch_are_at_least_float32(cell):
    """Where a cell takes them: in the gradients of its parameters."""

    def gradients(x):
        params = cell.init(jax.random.key(0), 3, 2, dtype=x.dtype)
        state = cell.initial_state(params, x.shape[:-1])
        new, kept = cell.step(params, state, cell.project(params, x))
        _, dz = cell.backward(params, state, new, kept, new)
        return cell.gradients(params, x, state, new, kept, dz)

    dparams, dx = jax.eval_shape(gradients, jnp.ones((4, 3), jnp.bfloat16))
    assert {d.dtype for d in tree.leaves(dparams)} == {jnp.dtype(jnp.float32)}
    assert dx.dtype == jnp.bfloat16


@EACH_GRADIENT
@pytest.mark.parametrize("memory", ["states", "recompute"])
def test_bfloat16_under_every_policy(gradient, memory):
    arguments = drawn_inputs(lj.LSTM, 5, (4,), dtype=jnp.bfloat16)
    dout = results_like(*arguments)
    _, gradients = pulled(
        lj.LSTM, *arguments, dout, gradient=gradient, memory=memory, reverse=True
    )
    assert all(d.dtype == jnp.bfloat16 for d in tree.leaves(gradients))


@EACH_KIND
def test_a_step_keeps_the_dtype(cell):
    params, xs, state = drawn_inputs(cell, 1, (4,), dtype=jnp.bfloat16)

    @jax.jit
    def run(params, state, x):
        new, pull = jax.vjp(lambda *a: lj.step(cell, *a), params, state, x)
        return new, pull(drawn_like(new))

    new, gradients = run(params, state, xs[0])
    assert all(d.dtype == jnp.bfloat16 for d in tree.leaves((new, gradients)))


@EACH_KIND
@pytest.mark.parametrize("memory", ["store", "recompute"])
def test_long_sums_do_not_stall_in_bfloat16(cell, memory):
    """10,000 steps with much the same gradient: in 8 bits a sum ends at 256 of them.

    Inputs vary, or the state would settle where all steps round alike.
    """
    params, xs, state = drawn_inputs(cell, 10_000, (), dtype=jnp.bfloat16)
    params = tree.map(lambda p: p * 0.25, params)
    xs = 1 + xs
    zeros = tree.map(jnp.zeros_like, state)

    def gradients(params, xs, state, dfinal):
        dys = jnp.ones((*xs.shape[:-1], state[0].shape[-1]), xs.dtype)
        return pulled(cell, params, xs, state, (dys, dfinal), memory=memory)[1][0]

    found = gradients(params, xs, zeros, zeros)
    exact = in_32_bits((params, xs, zeros, zeros))
    assert_close(in_32_bits(found), gradients(*exact), 0.1)


@pytest.mark.jax_defaults
def test_32_bits_as_jax_comes():
    """Without float64, and with standard promotion."""
    params = lj.LSTM.init(jax.random.key(0), 3, 2)
    ys, final = lj.unroll(lj.LSTM, params, jnp.ones((5, 4, 3)), lengths=[0, 1, 5, 3])
    assert {a.dtype for a in tree.leaves((ys, final))} == {jnp.dtype(jnp.float32)}
