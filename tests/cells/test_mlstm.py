"""The mLSTM against its paper's equations before they are stabilized."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import tree
from oracles import EACH_GRADIENT, assert_close, drawn_like, on_device
from papers import MLSTM as PLAIN
from papers import MLSTMParams

import lstm_jax as lj
from lstm_jax.cells import MLSTM

STEPS, INPUTS, HIDDEN = 4, 2, 3


def params_with(z_i, z_f, dtype):
    """Gates about exp(z_i) and σ(z_f), whatever is read."""
    init = partial(MLSTM.init, jax.random.key(0), INPUTS, HIDDEN, dtype=dtype)
    params = drawn_like(jax.eval_shape(init))
    b = np.array(params.b)
    b[-2:] = z_i, z_f
    return params._replace(b=on_device(b))


def in_float64(values):
    return on_device(tree.map(lambda a: np.asarray(a, np.float64), values))


def value_and_gradient(cell, params, xs, gradient):
    def loss(params, xs):
        ys, _ = lj.unroll(cell, params, xs, gradient=gradient)
        return jnp.sum(jnp.sin(ys)), ys

    return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(params, xs)


@EACH_GRADIENT
@pytest.mark.parametrize(
    ("dtype", "z_i", "z_f", "tolerance"),
    [
        ("float64", -300.0, 1.0, 1e-12),
        ("float64", 0.5, -2.0, 1e-12),
        ("float64", 300.0, 3.0, 1e-12),
        ("float32", 2.0, 1.0, 1e-5),
        ("float32", 60.0, -200.0, 1e-5),
        ("float16", 8.0, 3.0, 0.02),
    ],
)
def test_it_is_the_unstabilized_one(dtype, z_i, z_f, tolerance, gradient):
    """Which 64 bits hold; the paper's 1 in the place of exp(-m)."""
    params = params_with(z_i, z_f, dtype)
    xs = drawn_like(np.empty((STEPS, INPUTS), dtype), 1)
    exact = in_float64((params, xs))
    found = value_and_gradient(MLSTM, params, xs, gradient)
    expected = value_and_gradient(PLAIN, MLSTMParams(*exact[0]), exact[1], gradient)
    (_, ys), (dparams, dxs) = in_float64(found)
    assert_close(
        (ys, tuple(dparams), dxs),
        (expected[0][1], tuple(expected[1][0]), expected[1][1]),
        tolerance,
    )


@EACH_GRADIENT
@pytest.mark.parametrize("z_i", [-1000.0, 1000.0])
def test_nothing_read_through_gates_that_are_saturated(z_i, gradient):
    params = params_with(z_i, -1000.0, jnp.float64)
    b = np.array(params.b)
    b[:-2] = 0
    params, xs = on_device((params._replace(b=b), np.zeros((STEPS, INPUTS))))
    found = value_and_gradient(MLSTM, params, xs, gradient)
    assert all(np.all(np.isfinite(a)) for a in tree.leaves(found))


def test_a_value_comes_back_by_its_key():
    """With keys that are orthogonal, each value is read as it was written."""
    H = 4
    eye, zeros = np.eye(H), np.zeros((H, H))
    gates = np.zeros((2 * H, 2))
    key, value = np.concatenate([eye, zeros]), np.concatenate([zeros, eye])
    Wx = np.concatenate([key, H**0.5 * key, value, 0 * key, gates], axis=1)
    b = np.zeros(4 * H + 2)
    b[3 * H : 4 * H] = b[-1] = 50.0  # all open
    values = np.random.default_rng(0).normal(size=(H, H))
    written = np.concatenate([eye, values], axis=1)
    asked = np.concatenate([eye[::-1], 0 * values], axis=1)
    Wx, b, written, asked = on_device((Wx, b, written, asked))
    params = type(params_with(0.0, 0.0, jnp.float64))(Wx, b)
    _, state = lj.unroll(MLSTM, params, written)
    # A question writes a value of 0, so that its key has then come twice.
    ys, _ = lj.unroll(MLSTM, params, asked, state)
    assert_close(ys, values[::-1] / 2, 1e-12)
