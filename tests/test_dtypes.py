"""Dtypes: cotangents are like their primals, and sums are at least float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import tree
from oracles import (
    EACH_CELL,
    EACH_GRADIENT,
    assert_close,
    drawn_inputs,
    drawn_like,
    pulled,
    results_like,
)

import lstm_jax as lj

# The machine's epsilon, times what a few steps make of it.
TOLERANCES = {"bfloat16": 0.1, "float16": 0.01, "float32": 1e-5}


@EACH_CELL
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_every_dtype_is_kept_and_close_to_float64(cell, dtype):
    arguments = drawn_inputs(cell, 5, (4,), dtype=jnp.dtype(dtype))
    dout = results_like(*arguments)
    masks = {
        "lengths": np.array([0, 1, 5, 3]),
        "resets": np.arange(20).reshape(5, 4) == 9,
    }
    found = pulled(cell, *arguments, dout, **masks)
    results, gradients = found
    assert tree.map(jnp.result_type, results) == tree.map(jnp.result_type, dout)
    assert tree.map(jnp.result_type, gradients) == tree.map(jnp.result_type, arguments)

    def in_64_bits(values):
        return tree.map(lambda a: a.astype(jnp.float64), values)

    expected = pulled(cell, *in_64_bits(arguments), in_64_bits(dout), **masks)
    assert_close(in_64_bits(found), expected, TOLERANCES[dtype])


@EACH_GRADIENT
@pytest.mark.parametrize("memory", ["states", "recompute"])
def test_bfloat16_under_every_policy(gradient, memory):
    arguments = drawn_inputs(lj.LSTM, 5, (4,), dtype=jnp.bfloat16)
    dout = results_like(*arguments)
    _, gradients = pulled(
        lj.LSTM, *arguments, dout, gradient=gradient, memory=memory, reverse=True
    )
    assert all(d.dtype == jnp.bfloat16 for d in tree.leaves(gradients))


@EACH_CELL
def test_a_step_keeps_the_dtype(cell):
    params, xs, state = drawn_inputs(cell, 1, (4,), dtype=jnp.bfloat16)

    @jax.jit
    def run(params, state, x):
        new, pull = jax.vjp(lambda *a: lj.step(cell, *a), params, state, x)
        return new, pull(drawn_like(new))

    new, gradients = run(params, state, xs[0])
    assert all(d.dtype == jnp.bfloat16 for d in tree.leaves((new, gradients)))


@EACH_CELL
@pytest.mark.parametrize("memory", ["store", "recompute"])
def test_long_sums_do_not_stall_in_bfloat16(cell, memory):
    """10,000 steps with much the same gradient: in 8 bits a sum ends at 256 of them."""
    params, _, state = drawn_inputs(cell, 1, (), dtype=jnp.bfloat16)
    params = tree.map(lambda p: p * 0.25, params)
    xs = jnp.ones((10_000, 3), jnp.bfloat16)
    zeros = tree.map(jnp.zeros_like, state)

    def gradients(params, xs, state, dfinal):
        dys = jnp.ones((*xs.shape[:-1], state[0].shape[-1]), xs.dtype)
        return pulled(cell, params, xs, state, (dys, dfinal), memory=memory)[1][0]

    found = gradients(params, xs, zeros, zeros)
    exact = tree.map(lambda a: a.astype(jnp.float32), (params, xs, zeros, zeros))
    found = tree.map(lambda d: d.astype(jnp.float32), found)
    assert_close(found, gradients(*exact), 0.1)


@pytest.mark.jax_defaults
def test_32_bits_as_jax_comes():
    """Without float64, and with standard promotion."""
    params = lj.LSTM.init(jax.random.key(0), 3, 2)
    ys, final = lj.unroll(lj.LSTM, params, jnp.ones((5, 4, 3)), lengths=[0, 1, 5, 3])
    assert {a.dtype for a in tree.leaves((ys, final))} == {jnp.dtype(jnp.float32)}
