"""The LSTM with layer normalization of both products and of the memory cell.

Source: Ba et al. (2016), "Layer normalization", equations 20 to 22, in the supplement.
As there, each product is normalized over all four gates together; the three biases of
their sum are one here, and ε is added to the variance. N is
`lstm_jax.identities.normalize`::

    (1)  s             = N(h_prev Wh)
    (2)  z_i, z_f, z_o = the gates' blocks of  s * α_h + N(x Wx) * α_x + b
    (3)  z_g           = the candidate's block of the same
    (4)  i, f, o       = σ(z_i), σ(z_f), σ(z_o)
    (5)  g             = tanh(z_g)
    (6)  c             = i * g + f * c_prev
    (7)  n             = N(c)
    (8)  a             = tanh(n * α_c + β_c)
    (9)  h             = o * a
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from lstm_jax.cell import Cell, named
from lstm_jax.cells.lstm import LSTM, LSTMGates, LSTMState
from lstm_jax.gated import weight_sizes
from lstm_jax.identities import (
    bias_gradient,
    concatenate,
    normalize,
    normalize_backward,
    sigmoid,
    tanh,
    weight_gradient,
    weighted_input,
)
from lstm_jax.initializers import Initializer, ZeroState


class LayerNormParams(NamedTuple):
    """The LSTM's weights, four column blocks each, gains and the memory's bias.

    Attributes:
        Wx: input weights, (D, 4H).
        Wh: recurrent weights, (H, 4H).
        b: biases, (4H,).
        gain_x, gain_h: α_x and α_h, (4H,).
        gain_c, bias_c: α_c and β_c, (H,).
    """

    Wx: Array
    Wh: Array
    b: Array
    gain_x: Array
    gain_h: Array
    gain_c: Array
    bias_c: Array


class LayerNormKept(NamedTuple):
    """What the reverse needs beside the states: (4), (5), (1), and the rate of (1)."""

    gates: LSTMGates
    s: Array
    s_rate: Array


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    dtype: DTypeLike = jnp.float32,
    forget_bias: float = 1.0,
    input_init: Initializer | None = None,
    recurrent_init: Initializer | None = None,
) -> LayerNormParams:
    """Draws parameters, gains of 1; see `lstm_jax.cells.lstm.init`."""
    options = {"input_init": input_init, "recurrent_init": recurrent_init}
    lstm = LSTM.init(
        key, input_size, hidden_size, dtype=dtype, forget_bias=forget_bias, **options
    )
    gain_x, gain_h = jnp.ones((2, 4 * hidden_size), dtype)
    gain_c, bias_c = jnp.ones(hidden_size, dtype), jnp.zeros(hidden_size, dtype)
    return LayerNormParams(*lstm, gain_x, gain_h, gain_c, bias_c)


def project(params: LayerNormParams, x: Array) -> Array:
    """The input's share of (2) and (3), (..., 4H)."""
    r, _ = normalize(named(weighted_input(x, params.Wx), "p", 2))
    return named(r, "r", 2) * params.gain_x + params.b


def step(
    params: LayerNormParams, state: LSTMState, u: Array
) -> tuple[LSTMState, LayerNormKept]:
    """Equations (1) to (9), from the input's share u (..., 4H)."""
    s, s_rate = normalize(named(weighted_input(state.h, params.Wh), "v", 1))
    s = named(s, "s", 1)
    z_i, z_f, z_o, z_g = jnp.split(u + s * params.gain_h, 4, axis=-1)
    i = named(sigmoid(named(z_i, "z_i", 2)), "i", 4)
    f = named(sigmoid(named(z_f, "z_f", 2)), "f", 4)
    o = named(sigmoid(named(z_o, "z_o", 2)), "o", 4)
    g = named(tanh(named(z_g, "z_g", 3)), "g", 5)
    c = named(i * g + f * state.c, "c", 6)
    n = named(normalize(c)[0], "n", 7)
    z_c = named(n * params.gain_c + params.bias_c, "z_c", 8)
    a = named(tanh(z_c), "a", 8)
    h = named(o * a, "h", 9)
    return LSTMState(h=h, c=c), LayerNormKept(LSTMGates(i, f, o, g), s, s_rate)


def backward(
    params: LayerNormParams,
    state: LSTMState,
    new_state: LSTMState,
    kept: LayerNormKept,
    dnew: LSTMState,
) -> tuple[LSTMState, tuple[Array, Array, Array]]:
    """The reverse of `step`, from (9) to (1); the gradients of z, v and z_c."""
    (i, f, o, g), s, s_rate = kept
    n, n_rate = normalize(new_state.c)  # (7) and (8) again
    a = tanh(n * params.gain_c + params.bias_c)

    da = named(dnew.h * o, "da", 9)
    do = named(dnew.h * a, "do", 9)
    dz_c = named(da * (1 - a**2), "dz_c", 8)
    dn = named(dz_c * params.gain_c, "dn", 8)
    dc = named(dnew.c + normalize_backward(dn, n, n_rate), "dc", 7)
    di = named(dc * g, "di", 6)
    dg = named(dc * i, "dg", 6)
    df = named(dc * state.c, "df", 6)
    dc_prev = named(dc * f, "dc_prev", 6)
    dz_g = named(dg * (1 - g**2), "dz_g", 5)
    dz_i = named(di * i * (1 - i), "dz_i", 4)
    dz_f = named(df * f * (1 - f), "dz_f", 4)
    dz_o = named(do * o * (1 - o), "dz_o", 4)
    dz = concatenate(dz_i, dz_f, dz_o, dz_g)
    ds = named(dz * params.gain_h, "ds", 2)
    dv = named(normalize_backward(ds, s, s_rate), "dv", 1)
    dh_prev = named(dv @ params.Wh.T, "dh_prev", 1)
    return LSTMState(h=dh_prev, c=dc_prev), (dz, dv, dz_c)


def gradients(
    params: LayerNormParams,
    x: Array,
    state: LSTMState,
    new_state: LSTMState,
    kept: LayerNormKept,
    d: tuple[Array, Array, Array],
) -> tuple[LayerNormParams, Array]:
    """The reverse of `project`, and the weighted-input rule, all steps at once."""
    dz, dv, dz_c = d
    r, r_rate = normalize(weighted_input(x, params.Wx))  # cheaper than keeping them
    n, _ = normalize(new_state.c)
    dr = named(dz * params.gain_x, "dr", 2)
    dp = named(normalize_backward(dr, r, r_rate), "dp", 2)
    dparams = LayerNormParams(
        Wx=weight_gradient(dp, x),
        Wh=weight_gradient(dv, state.h),
        b=bias_gradient(dz),
        gain_x=bias_gradient(dz * r),
        gain_h=bias_gradient(dz * kept.s),
        gain_c=bias_gradient(dz_c * n),
        bias_c=bias_gradient(dz_c),
    )
    return dparams, dp @ params.Wx.T


LAYER_NORM_LSTM = Cell(
    name="layer_norm_lstm",
    init=init,
    sizes=weight_sizes,
    initial_state=ZeroState(LSTMState),
    project=project,
    step=step,
    backward=backward,
    gradients=gradients,
)
