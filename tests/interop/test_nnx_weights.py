"""Weights of flax.nnx cells: there and back, outputs, gradients, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from oracles import assert_close, drawn_like, drawn_params, on_device

import lstm_jax as lj
from lstm_jax.interop import from_nnx, to_nnx

INPUT_SIZE, HIDDEN_SIZE = 3, 4

# A flax.nnx cell, our cell, and the arguments that make the one the other.
MODULES = {
    "OptimizedLSTMCell": ("lstm", {}),
    "LSTMCell": ("lstm", {}),
    "GRUCell": ("gru", {}),
    "SimpleCell": ("rnn_tanh", {}),
    "SimpleCell with relu": ("rnn_relu", {"activation_fn": nnx.relu}),
}
EACH_MODULE = pytest.mark.parametrize("name", MODULES)


def made(name, dtype=jnp.float64, hidden_size=HIDDEN_SIZE):
    """Our cell, and a flax.nnx cell in which no weight is 0."""
    ours, options = MODULES[name]
    module = getattr(nnx, name.split()[0])(
        INPUT_SIZE,
        hidden_size,
        dtype=dtype,
        param_dtype=dtype,
        rngs=nnx.Rngs(0),
        **options,
    )
    nnx.update(module, drawn_like(nnx.state(module, nnx.Param)))
    return lj.CELLS[ours], module


def drawn(cell):
    """Parameters that a flax.nnx cell can have."""
    params = drawn_params(cell, INPUT_SIZE, HIDDEN_SIZE)
    # The sign of a zero is a bit too.
    b = np.array(params.b)
    b[0] = -0.0
    inner = {"bh": np.zeros_like(params.bh)} if cell.name == "gru" else {}
    return on_device(params._replace(b=b, **inner))


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-6)]
)
@EACH_MODULE
def test_outputs_and_gradients_are_nnxs(name, dtype, tolerance):
    cell, module = made(name, jnp.dtype(dtype))
    xs = drawn_like(jax.ShapeDtypeStruct((5, 2, INPUT_SIZE), dtype), 1)
    weights = drawn_like(jax.ShapeDtypeStruct((5, 2, HIDDEN_SIZE), dtype), 2)

    def theirs(module, xs):
        ys = nnx.RNN(module, time_major=True)(xs)
        return (ys * weights).sum(), ys

    def ours(params, xs):
        ys, _ = lj.unroll(cell, params, xs)
        return (ys * weights).sum(), ys

    of_both = nnx.jit(nnx.grad(theirs, argnums=(0, 1), has_aux=True))
    expected, ys = of_both(module, xs)
    params = from_nnx(cell, module)
    found, own_ys = jax.jit(jax.grad(ours, (0, 1), has_aux=True))(params, xs)

    assert_close(own_ys, ys, tolerance)
    nnx.update(module, expected[0])
    gradients = from_nnx(cell, module)
    if cell.name == "gru":  # a bias that the module has not
        gradients = gradients._replace(bh=found[0].bh)
    assert_close(found, (gradients, expected[1]), tolerance)


@EACH_MODULE
def test_there_and_back_bit_for_bit(name):
    cell, module = made(name)
    params = drawn(cell)
    assert to_nnx(cell, params, module) is None
    back = from_nnx(cell, module)
    assert type(back) is type(params)
    for found, expected in zip(back, params, strict=True):
        assert found.dtype == expected.dtype
        assert np.asarray(found).tobytes() == np.asarray(expected).tobytes()


def test_a_bias_that_a_gru_of_nnx_has_not():
    cell, module = made("GRUCell")
    params = drawn_params(cell, INPUT_SIZE, HIDDEN_SIZE)
    before = jax.tree.map(np.array, nnx.state(module))
    with pytest.raises(ValueError, match="bh must be 0; got 4 entries"):
        to_nnx(cell, params, module)
    with pytest.raises(ValueError, match="have biases; got parameters without"):
        to_nnx(cell, params._replace(b=None, bh=None), module)
    assert_close(nnx.state(module), before, 0.0)


def test_a_module_of_another_size_or_dtype_stays_as_it_is():
    for options, error, message in (
        (
            {"hidden_size": 5},
            ValueError,
            r"Wx must have the shape \(3, 16\).*\(3, 20\)",
        ),
        ({"dtype": jnp.float32}, TypeError, r"Wx must have the dtype float64.*float32"),
    ):
        cell, module = made("OptimizedLSTMCell", **options)
        before = jax.tree.map(np.array, nnx.state(module))
        with pytest.raises(error, match=message):
            to_nnx(cell, drawn(cell), module)
        assert_close(nnx.state(module), before, 0.0)


def test_modules_that_compute_something_else():
    rngs = nnx.Rngs(0)
    lstm, tanh = lj.LSTM, lj.CELLS["rnn_tanh"]
    linear = nnx.Linear(3, 4, rngs=rngs)
    for cell, module, error, message in (
        (lstm, linear, TypeError, r"flax.nnx OptimizedLSTMCell, .*; got Linear"),
        (lstm, nnx.GRUCell(3, 4, rngs=rngs), ValueError, "got a GRUCell"),
        (lstm, nnx.LSTMCell(3, 4, gate_fn=nnx.relu, rngs=rngs), ValueError, "lstm"),
        (lstm, nnx.LSTMCell(3, 4, activation_fn=nnx.relu, rngs=rngs), ValueError, "l"),
        (tanh, nnx.SimpleCell(3, 4, residual=True, rngs=rngs), ValueError, "rnn_tanh"),
        (tanh, made("SimpleCell with relu")[1], ValueError, "got a SimpleCell with"),
        (
            lj.CELLS["gru_before"],
            nnx.GRUCell(3, 4, rngs=rngs),
            ValueError,
            "cells lstm",
        ),
    ):
        with pytest.raises(error, match=message):
            from_nnx(cell, module)
