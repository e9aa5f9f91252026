"""The sLSTM against its paper's equations before they are stabilized."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import tree
from oracles import EACH_GRADIENT, assert_close

import lstm_jax as lj
from lstm_jax.cells.slstm import SLSTMParams

SLSTM = lj.CELLS["slstm"]
STEPS = 4


def params_with(z_i, dtype):
    """One unit whose input gate is exp(z_i) whatever is read, the others' gates not."""
    return SLSTMParams(
        Wx=jnp.asarray([[0.0, 0.5, -0.5, 1.0]], dtype),
        Wh=jnp.asarray([[0.0, 0.25, 0.5, -1.0]], dtype),
        b=jnp.asarray([z_i, 1.0, 0.0, 0.1], dtype),
    )


def unstabilized(params, xs):
    """All outputs, in the paper's own variables, which 64 bits hold."""
    params, xs = tree.map(lambda a: jnp.asarray(a, jnp.float64), (params, xs))
    h = c = n = jnp.zeros(1)
    ys = []
    for x in xs:
        z_i, z_f, z_o, z_g = x @ params.Wx + h @ params.Wh + params.b
        i, f, o = jnp.exp(z_i), jax.nn.sigmoid(z_f), jax.nn.sigmoid(z_o)
        c = i * jnp.tanh(z_g) + f * c
        n = i + f * n
        h = o * c / n
        ys.append(h)
    return jnp.stack(ys)


@EACH_GRADIENT
@pytest.mark.parametrize(
    ("dtype", "z_i", "tolerance"),
    [
        ("float64", -300.0, 1e-12),
        ("float32", -44.0, 1e-5),
        ("float32", -86.0, 1e-5),
        ("float32", -200.0, 1e-5),
        ("float32", 80.0, 1e-5),
        ("float16", -11.0, 0.02),
        ("float16", -40.0, 0.02),
    ],
)
def test_a_closed_input_gate_at_first(dtype, z_i, tolerance, gradient):
    """What the first steps read is kept, whatever the scale of their gates."""
    params = params_with(z_i, dtype)
    xs = jnp.asarray(np.linspace(-1, 1, STEPS)[:, None], dtype)

    def loss(run, params, xs):
        ys = run(params, xs)
        return jnp.sum(jnp.sin(ys)), ys

    def run(params, xs):
        return lj.unroll(SLSTM, params, xs, gradient=gradient)[0]

    exact = tree.map(lambda a: jnp.asarray(a, jnp.float64), (params, xs))
    found, expected = (
        jax.jit(jax.value_and_grad(partial(loss, one), (0, 1), has_aux=True))(*at)
        for one, at in ((run, (params, xs)), (unstabilized, exact))
    )
    found = tree.map(lambda a: jnp.asarray(a, jnp.float64), found)
    assert_close(found, expected, tolerance)


def test_a_given_state_of_zeros_is_no_division_by_zero():
    params = params_with(-500.0, "float64")
    zeros = tree.map(jnp.zeros_like, SLSTM.initial_state(params, ()))
    run = lambda p: jnp.sum(lj.unroll(SLSTM, p, jnp.ones((2, 1)), zeros)[0])  # noqa: E731
    found = jax.value_and_grad(run)(params)
    assert all(np.all(np.isfinite(a)) for a in tree.leaves(found))
