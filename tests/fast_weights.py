"""Fast weights: a cell unlike those of the table, for the tests that go through it.

Its state has a matrix, its reverse names a gradient twice and has a helper line without
a name.

Source: after Schlag, Irie & Schmidhuber (2021), "Linear transformers are secretly fast
weight programmers", equations 4 to 6, with a gate that forgets and writes out::

    (1)  z_f, q, k, v = the four blocks of  x Wx + b
    (2)  f            = σ(z_f)
    (3)  C            = f * C_prev + v kᵀ, row by row
    (4)  r            = tanh(C q)
    (5)  h            = f * r
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from lstm_jax.cell import Cell
from lstm_jax.gated import BlockSizes, input_gradients, input_product
from lstm_jax.identities import concatenate, sigmoid, tanh
from lstm_jax.initializers import init_inputs
from lstm_jax.numbered import numbered


class FastWeightsParams(NamedTuple):
    Wx: Array  # (D, 4H)
    b: Array  # (4H,)


class FastWeightsState(NamedTuple):
    h: Array  # (..., H)
    C: Array  # (..., H, H), from keys (the last axis) to values


class FastWeightsKept(NamedTuple):
    f: Array
    q: Array
    k: Array
    v: Array
    r: Array


def init(key, input_size, hidden_size, **options):
    biases = (1.0, 0.0, 0.0, 0.0)
    return FastWeightsParams(
        **init_inputs(key, input_size, hidden_size, biases, **options)
    )


def initial_state(params, batch_shape):
    H, dtype = sizes(params)["hidden_size"], params.Wx.dtype
    return FastWeightsState(
        jnp.zeros((*batch_shape, H), dtype), jnp.zeros((*batch_shape, H, H), dtype)
    )


@numbered
def step(params, state, u):
    C_prev = state.C
    z_f, q, k, v = jnp.split(u, 4, axis=-1)  # (1)
    f = sigmoid(z_f)  # (2)
    C = f[..., None] * C_prev + v[..., None] * k[..., None, :]  # (3)
    r = tanh(jnp.sum(C * q[..., None, :], axis=-1))  # (4)
    h = f * r  # (5)
    return FastWeightsState(h, C), FastWeightsKept(f, q, k, v, r)


@numbered
def backward(params, state, new_state, kept, dnew):
    f, q, k, v, r = kept
    dr = dnew.h * f  # (5)
    df = dnew.h * r  # (5)
    from_output = df
    dp = (dr * (1 - r**2))[..., None]
    dC = dnew.C + dp * q[..., None, :]  # (4)
    dq = jnp.sum(dp * new_state.C, axis=-2)  # (4)
    df = jnp.sum(dC * state.C, axis=-1)  # (3)
    dC_prev = dC * f[..., None]  # (3)
    dv = jnp.sum(dC * k[..., None, :], axis=-1)  # (3)
    dk = jnp.sum(dC * v[..., None], axis=-2)  # (3)
    dz_f = (from_output + df) * f * (1 - f)  # (2)
    dstate = FastWeightsState(jnp.zeros_like(dnew.h), dC_prev)
    return dstate, concatenate(dz_f, dq, dk, dv)


def gradients(params, x, state, new_state, kept, du):
    dweights, dx = input_gradients(params, x, du)
    return FastWeightsParams(**dweights), dx


sizes = BlockSizes(4)

FAST_WEIGHTS = Cell(
    name="fast_weights",
    init=init,
    sizes=sizes,
    initial_state=initial_state,
    project=input_product,
    step=step,
    backward=backward,
    gradients=gradients,
)
