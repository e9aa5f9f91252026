"""Three cells that are not in the table, written from their papers.

Each has what no cell of the table has, or few: a gated cell with a branch, a state of
several axes, a second product of the state in each step.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from lstm_jax.cell import Cell, OutputState
from lstm_jax.gated import gated, input_gradients, input_product, weight_sizes
from lstm_jax.identities import (
    bias_gradient,
    concatenate,
    sigmoid,
    tanh,
    weight_gradient,
    weighted_input,
)
from lstm_jax.initializers import ZeroState, init_weights, orthogonal
from lstm_jax.numbered import numbered

# --- Li-GRU: Ravanelli et al. (2018), "Light gated recurrent units for speech ---------
# recognition", equations 5 to 7, without their batch normalization.


class LiGRUParams(NamedTuple):
    Wx: Array  # (D, 2H)
    Wh: Array  # (H, 2H)
    b: Array  # (2H,)


class LiGRUKept(NamedTuple):
    z: Array
    c: Array


def ligru_init(key, input_size, hidden_size, **options):
    return LiGRUParams(
        **init_weights(key, input_size, hidden_size, (0.0, 0.0), **options)
    )


@numbered
def ligru_equations(params, state, u, v):
    (h_prev,) = state
    a, p = jnp.split(u + v, 2, axis=-1)  # (1)
    z = sigmoid(a)  # (2)
    c = jnp.maximum(p, 0)  # (3)
    h = z * h_prev + (1 - z) * c  # (4)
    return OutputState(h), LiGRUKept(z, c)


@numbered
def ligru_backward(params, state, new_state, kept, dnew):
    (h_prev,), (dh,) = state, dnew
    z, c = kept
    dz = dh * (h_prev - c)  # (4)
    dc = dh * (1 - z)  # (4)
    dh_prev = dh * z  # (4)
    dp = jnp.where(c > 0, dc, 0)  # (3)
    da = dz * z * (1 - z)  # (2)
    return OutputState(dh_prev), concatenate(da, dp)


LIGRU = gated(
    "li_gru",
    init=ligru_init,
    initial_state=ZeroState(OutputState),
    equations=ligru_equations,
    backward=ligru_backward,
)


# --- mLSTM: Beck et al. (2024), "xLSTM: extended long short-term memory", -------------
# equations 19 to 27, one head; the table's has a stabilizer, this one has none.


class MLSTMParams(NamedTuple):
    Wx: Array  # (D, 4H + 2)
    b: Array  # (4H + 2,)


class MLSTMState(NamedTuple):
    h: Array  # (..., H)
    C: Array  # (..., H, H), from keys (the last axis) to values
    n: Array  # (..., H)


class MLSTMKept(NamedTuple):
    q: Array
    k: Array
    v: Array
    i: Array
    f: Array
    o: Array
    s: Array
    d: Array
    r: Array


def mlstm_sizes(params):
    D, N = params.Wx.shape
    return {"input_size": D, "hidden_size": (N - 2) // 4}


def mlstm_init(key, input_size, hidden_size, *, dtype=jnp.float32):
    shape = (input_size, 4 * hidden_size + 2)
    Wx = jax.random.normal(key, shape, dtype) / jnp.sqrt(jnp.asarray(input_size, dtype))
    return MLSTMParams(Wx, jnp.zeros(shape[1:], dtype))


def mlstm_initial_state(params, batch_shape):
    H, dtype = mlstm_sizes(params)["hidden_size"], params.Wx.dtype
    zeros = partial(jnp.zeros, dtype=dtype)
    return MLSTMState(
        zeros((*batch_shape, H)), zeros((*batch_shape, H, H)), zeros((*batch_shape, H))
    )


@numbered
def mlstm_step(params, state, u):
    _, C_prev, n_prev = state
    H = n_prev.shape[-1]
    ends = (H, 2 * H, 3 * H, 4 * H, 4 * H + 1)
    q, p, v, z_o, z_i, z_f = jnp.split(u, ends, axis=-1)  # (1)
    k = p / H**0.5  # (2)
    i = jnp.exp(z_i)  # (4)
    f = sigmoid(z_f)  # (5)
    o = sigmoid(z_o)  # (6)
    C = f[..., None] * C_prev + i[..., None] * v[..., None] * k[..., None, :]  # (7)
    n = f * n_prev + i * k  # (8)
    s = jnp.sum(n * q, axis=-1, keepdims=True)  # (9)
    d = jnp.maximum(jnp.abs(s), 1)  # (10)
    r = jnp.sum(C * q[..., None, :], axis=-1) / d  # (11)
    h = o * r  # (12)
    return MLSTMState(h, C, n), MLSTMKept(q, k, v, i, f, o, s, d, r)


@numbered
def mlstm_backward(params, state, new_state, kept, dnew):
    _, C_prev, n_prev = state
    _, C, n = new_state
    q, k, v, i, f, o, s, d, r = kept
    dr = dnew.h * o  # (12)
    do = dnew.h * r  # (12)
    dd = -jnp.sum(dr * r, axis=-1, keepdims=True) / d  # (11)
    ds = jnp.where(jnp.abs(s) > 1, dd * jnp.sign(s), 0)  # (10)
    dn = dnew.n + ds * q  # (9)
    dC = dnew.C + (dr / d)[..., None] * q[..., None, :]  # (11)
    dq = ds * n + jnp.sum((dr / d)[..., None] * C, axis=-2)  # (11)
    dC_prev = f[..., None] * dC  # (7)
    dn_prev = f * dn  # (8)
    # The gates and k go to (7) and to (8).
    write = jnp.sum(dC * k[..., None, :], axis=-1)
    read = jnp.sum(dC * v[..., None], axis=-2)
    kept_C = jnp.sum(dC * C_prev, axis=(-2, -1))[..., None]
    dv = i * write  # (7)
    dk = i * (read + dn)  # (8)
    di = jnp.sum(v * write + k * dn, axis=-1, keepdims=True)  # (8)
    df = kept_C + jnp.sum(dn * n_prev, axis=-1, keepdims=True)  # (8)
    dz_o = do * o * (1 - o)  # (6)
    dz_f = df * f * (1 - f)  # (5)
    dz_i = di * i  # (4)
    dp = dk / n.shape[-1] ** 0.5  # (2)
    du = concatenate(dq, dp, dv, dz_o, dz_i, dz_f)
    return MLSTMState(jnp.zeros_like(dn), dC_prev, dn_prev), du


def mlstm_gradients(params, x, state, new_state, kept, du):
    dweights, dx = input_gradients(params, x, du)
    return MLSTMParams(**dweights), dx


MLSTM = Cell(
    name="plain_mlstm",
    init=mlstm_init,
    sizes=mlstm_sizes,
    initial_state=mlstm_initial_state,
    project=input_product,
    step=mlstm_step,
    backward=mlstm_backward,
    gradients=mlstm_gradients,
)


# --- Recurrent highway network: Zilly et al. (2017), "Recurrent highway networks", ----
# equations 6 to 9, of depth 2, with coupled gates c = 1 - t.


class RHNParams(NamedTuple):
    Wx: Array  # (D, 2H)
    Wh: Array  # (H, 2H), of the first layer
    b: Array  # (2H,)
    Rs: Array  # (H, 2H), of the second
    bs: Array  # (2H,)


class RHNKept(NamedTuple):
    g: Array
    t: Array
    s: Array
    k: Array
    r: Array


def rhn_init(key, input_size, hidden_size, **options):
    first, second = jax.random.split(key)
    weights = init_weights(first, input_size, hidden_size, (0.0, -1.0), **options)
    shape, dtype = weights["Wh"].shape, weights["Wh"].dtype
    return RHNParams(
        **weights, Rs=orthogonal(second, shape, dtype), bs=jnp.zeros(shape[1:], dtype)
    )


@numbered
def rhn_step(params, state, u):
    (h_prev,) = state
    z_g, z_t = jnp.split(u + weighted_input(h_prev, params.Wh), 2, axis=-1)  # (1)
    g = tanh(z_g)  # (2)
    t = sigmoid(z_t)  # (3)
    s = g * t + h_prev * (1 - t)  # (4)
    z_k, z_r = jnp.split(weighted_input(s, params.Rs, params.bs), 2, axis=-1)  # (5)
    k = tanh(z_k)  # (6)
    r = sigmoid(z_r)  # (7)
    h = k * r + s * (1 - r)  # (8)
    return OutputState(h), RHNKept(g, t, s, k, r)


@numbered
def rhn_backward(params, state, new_state, kept, dnew):
    (h_prev,), (dh,) = state, dnew
    g, t, s, k, r = kept
    dk = dh * r  # (8)
    dr = dh * (k - s)  # (8)
    dz_k = dk * (1 - k**2)  # (6)
    dz_r = dr * r * (1 - r)  # (7)
    dsecond = concatenate(dz_k, dz_r)
    ds = dh * (1 - r) + dsecond @ params.Rs.T  # (5)
    dg = ds * t  # (4)
    dt = ds * (g - h_prev)  # (4)
    dz_g = dg * (1 - g**2)  # (2)
    dz_t = dt * t * (1 - t)  # (3)
    dfirst = concatenate(dz_g, dz_t)
    dh_prev = ds * (1 - t) + dfirst @ params.Wh.T  # (4)
    return OutputState(dh_prev), (dfirst, dsecond)


def rhn_gradients(params, x, state, new_state, kept, dz):
    dfirst, dsecond = dz
    dweights, dx = input_gradients(params, x, dfirst)
    return RHNParams(
        **dweights,
        Wh=weight_gradient(dfirst, state.h),
        Rs=weight_gradient(dsecond, kept.s),
        bs=bias_gradient(dsecond),
    ), dx


RHN = Cell(
    name="rhn",
    init=rhn_init,
    sizes=weight_sizes,
    initial_state=ZeroState(OutputState),
    project=input_product,
    step=rhn_step,
    backward=rhn_backward,
    gradients=rhn_gradients,
)

PAPERS = {cell.name: cell for cell in (LIGRU, MLSTM, RHN)}
