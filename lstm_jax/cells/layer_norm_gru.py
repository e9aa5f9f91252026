"""The gated recurrent unit with layer normalization of both products.

Source: Ba et al. (2016), "Layer normalization", the GRU of its supplement, and the code
that its authors published. In each of the two products the gates' blocks are normalized
together, and the candidate's by itself; two biases that only add up are one here, and ε
is added to the variance. N is `lstm_jax.identities.normalize`, and z = 1 keeps the old
state::

    (1)  m        = N(v_g),  v_g = the gates' blocks of  h_prev Wh
    (2)  z_r, z_z = the blocks of  m * α_h + N(the gates' blocks of x Wx) * α_x + b
    (3)  k        = N(v_n),  v_n = the candidate's block of  h_prev Wh
    (4)  s        = k * α_h + bh
    (5)  r, z     = σ(z_r), σ(z_z)
    (6)  z_n      = N(the candidate's block of x Wx) * α_x + b + r * s
    (7)  n        = tanh(z_n)
    (8)  h        = (1 - z) * n + z * h_prev
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from lstm_jax.cell import Cell, OutputState
from lstm_jax.cells.gru import GRU
from lstm_jax.gated import weight_sizes
from lstm_jax.identities import (
    EPSILON,
    across,
    bias_gradient,
    concatenate,
    normalize,
    normalize_backward,
    sigmoid,
    tanh,
    weight_gradient,
    weighted_input,
)
from lstm_jax.initializers import ZeroState
from lstm_jax.numbered import numbered


class LayerNormGRUParams(NamedTuple):
    """Weights of the three column blocks, reset, update, candidate; biases and gains.

    Attributes:
        Wx: input weights, (D, 3H).
        Wh: recurrent weights, (H, 3H).
        b: biases, (3H,).
        bh: the candidate's bias inside the reset, (H,).
        gain_x, gain_h: α_x and α_h, (3H,).
    """

    Wx: Array
    Wh: Array
    b: Array
    bh: Array
    gain_x: Array
    gain_h: Array


class LayerNormGRUKept(NamedTuple):
    """What the reverse needs beside the states: (5), (7), (4), (1), (3), and rates."""

    r: Array
    z: Array
    n: Array
    s: Array
    m: Array
    m_rate: Array
    k: Array
    k_rate: Array


def parts(a: Array) -> tuple[Array, Array]:
    """The gates' two blocks and the candidate's, of (..., 3H)."""
    gates, candidate = jnp.split(a, [2 * (a.shape[-1] // 3)], axis=-1)
    return gates, candidate


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    dtype: DTypeLike = jnp.float32,
    input_init: Any = None,
    recurrent_init: Any = None,
) -> LayerNormGRUParams:
    """Draws parameters, gains of 1; see `lstm_jax.initializers.init_weights`."""
    options = {"input_init": input_init, "recurrent_init": recurrent_init}
    gru = GRU.init(key, input_size, hidden_size, dtype=dtype, **options)
    gain_x, gain_h = jnp.ones((2, 3 * hidden_size), dtype)
    return LayerNormGRUParams(*gru, gain_x, gain_h)


@numbered
def project(params: LayerNormGRUParams, x: Array, epsilon: float = EPSILON) -> Array:
    """The input's share of (2) and (6), (..., 3H)."""
    p = weighted_input(x, params.Wx)
    p_g = parts(p)[0]  # (2)
    p_n = parts(p)[1]  # (6)
    q_g, _ = normalize(p_g, epsilon)  # (2)
    q_n, _ = normalize(p_n, epsilon)  # (6)
    q = concatenate(q_g, q_n)
    return q * across(params.gain_x, q) + across(params.b, q)


@numbered
def step(
    params: LayerNormGRUParams, state: OutputState, u: Array, epsilon: float = EPSILON
) -> tuple[OutputState, LayerNormGRUKept]:
    """Equations (1) to (8), from the input's share u (..., 3H)."""
    h_prev = state.h
    v = weighted_input(h_prev, params.Wh)
    gain_m, gain_k = parts(across(params.gain_h, v))
    u_g, u_n = parts(u)
    v_g = parts(v)[0]  # (1)
    v_n = parts(v)[1]  # (3)
    m, _m_rate = normalize(v_g, epsilon)  # (1)
    z_r, z_z = jnp.split(u_g + m * gain_m, 2, axis=-1)  # (2)
    k, _k_rate = normalize(v_n, epsilon)  # (3)
    s = k * gain_k + across(params.bh, k)  # (4)
    r, z = sigmoid(z_r), sigmoid(z_z)  # (5)
    z_n = u_n + r * s  # (6)
    n = tanh(z_n)  # (7)
    h = (1 - z) * n + z * h_prev  # (8)
    return OutputState(h=h), LayerNormGRUKept(r, z, n, s, m, _m_rate, k, _k_rate)


@numbered
def backward(
    params: LayerNormGRUParams,
    state: OutputState,
    new_state: OutputState,
    kept: LayerNormGRUKept,
    dnew: OutputState,
) -> tuple[OutputState, tuple[Array, Array, Array]]:
    """The reverse of `step`, from (8) to (1); the gradients of u, s and v."""
    r, z, n, s, m, m_rate, k, k_rate = kept
    h_prev, dh = state.h, dnew.h

    dn = dh * (1 - z)  # (8)
    dz = dh * (h_prev - n)  # (8)
    dz_n = dn * (1 - n**2)  # (7)
    dr = dz_n * s  # (6)
    ds = dz_n * r  # (6)
    dz_r = dr * r * (1 - r)  # (5)
    dz_z = dz * z * (1 - z)  # (5)
    dz_g = concatenate(dz_r, dz_z)
    gain_m, gain_k = parts(across(params.gain_h, concatenate(dz_g, ds)))
    dk = ds * gain_k  # (4)
    dv_n = normalize_backward(dk, k, k_rate)  # (3)
    dm = dz_g * gain_m  # (2)
    dv_g = normalize_backward(dm, m, m_rate)  # (1)
    dv = concatenate(dv_g, dv_n)
    # h_prev goes to (8), (3) and (1).
    dh_prev = dh * z + dv @ params.Wh.T  # (1)
    return OutputState(h=dh_prev), (concatenate(dz_g, dz_n), ds, dv)


@numbered
def gradients(
    params: LayerNormGRUParams,
    x: Array,
    state: OutputState,
    new_state: OutputState,
    kept: LayerNormGRUKept,
    d: tuple[Array, Array, Array],
    epsilon: float = EPSILON,
) -> tuple[LayerNormGRUParams, Array]:
    """The reverse of `project`, and the weighted-input rule, all steps at once."""
    du, ds, dv = d
    p_g, p_n = parts(weighted_input(x, params.Wx))
    q_g, g_rate = normalize(p_g, epsilon)  # cheaper than keeping them
    q_n, n_rate = normalize(p_n, epsilon)
    dq_g, dq_n = parts(du * across(params.gain_x, du))
    dp_g = normalize_backward(dq_g, q_g, g_rate)  # (2)
    dp_n = normalize_backward(dq_n, q_n, n_rate)  # (6)
    dp = concatenate(dp_g, dp_n)
    dz_g, _ = parts(du)
    dparams = LayerNormGRUParams(
        Wx=weight_gradient(dp, x),
        Wh=weight_gradient(dv, state.h),
        b=bias_gradient(du),
        bh=bias_gradient(ds),
        gain_x=bias_gradient(du * concatenate(q_g, q_n)),
        gain_h=bias_gradient(concatenate(dz_g * kept.m, ds * kept.k)),
    )
    return dparams, dp @ params.Wx.T


LAYER_NORM_GRU = Cell(
    name="layer_norm_gru",
    init=init,
    sizes=weight_sizes,
    initial_state=ZeroState(OutputState),
    project=project,
    step=step,
    backward=backward,
    gradients=gradients,
)
