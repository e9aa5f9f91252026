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

import inspect
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from lstm_jax.cell import Cell
from lstm_jax.cells.lstm import LSTM, LSTMGates, LSTMState
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
from lstm_jax.initializers import Initializer, ZeroState
from lstm_jax.numbered import numbered


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
    bias: bool = True,
) -> LayerNormParams:
    """Draws parameters, gains of 1; see `lstm_jax.cells.lstm.init`.

    `bias` is that of (2) and (3); β_c, a part of the normalization, is there always.
    """
    lstm = LSTM.init(
        *(key, input_size, hidden_size),
        dtype=dtype,
        forget_bias=forget_bias,
        input_init=input_init,
        recurrent_init=recurrent_init,
        bias=bias,
    )
    gain_x, gain_h = jnp.ones((2, 4 * hidden_size), dtype)
    gain_c, bias_c = jnp.ones(hidden_size, dtype), jnp.zeros(hidden_size, dtype)
    return LayerNormParams(*lstm, gain_x, gain_h, gain_c, bias_c)


@numbered
def project(params: LayerNormParams, x: Array, epsilon: float = EPSILON) -> Array:
    """The input's share of (2) and (3), (..., 4H)."""
    p = weighted_input(x, params.Wx)  # (2)
    r, _ = normalize(p, epsilon)  # (2)
    gained = r * across(params.gain_x, r)
    return gained if params.b is None else gained + across(params.b, r)


@numbered
def step(
    params: LayerNormParams, state: LSTMState, u: Array, epsilon: float = EPSILON
) -> tuple[LSTMState, LayerNormKept]:
    """Equations (1) to (9), from the input's share u (..., 4H)."""
    h_prev, c_prev = state
    v = weighted_input(h_prev, params.Wh)  # (1)
    s, _rate = normalize(v, epsilon)  # (1)
    z = jnp.split(u + s * across(params.gain_h, s), 4, axis=-1)
    z_i, z_f, z_o = z[:3]  # (2)
    z_g = z[3]  # (3)
    i, f, o = sigmoid(z_i), sigmoid(z_f), sigmoid(z_o)  # (4)
    g = tanh(z_g)  # (5)
    c = i * g + f * c_prev  # (6)
    n, _ = normalize(c, epsilon)  # (7)
    z_c = n * across(params.gain_c, n) + across(params.bias_c, n)  # (8)
    a = tanh(z_c)  # (8)
    h = o * a  # (9)
    return LSTMState(h=h, c=c), LayerNormKept(LSTMGates(i, f, o, g), s, _rate)


@numbered
def backward(
    params: LayerNormParams,
    state: LSTMState,
    new_state: LSTMState,
    kept: LayerNormKept,
    dnew: LSTMState,
    epsilon: float = EPSILON,
) -> tuple[LSTMState, tuple[Array, Array, Array]]:
    """The reverse of `step`, from (9) to (1); the gradients of z, v and z_c."""
    (i, f, o, g), s, s_rate = kept
    c_prev, c = state.c, new_state.c
    dh, dc_next = dnew
    n, n_rate = normalize(c, epsilon)  # (7) again
    a = tanh(n * across(params.gain_c, n) + across(params.bias_c, n))  # (8) again

    da = dh * o  # (9)
    do = dh * a  # (9)
    dz_c = da * (1 - a**2)  # (8)
    dn = dz_c * across(params.gain_c, dz_c)  # (8)
    dc = dc_next + normalize_backward(dn, n, n_rate)  # (7)
    di = dc * g  # (6)
    dg = dc * i  # (6)
    df = dc * c_prev  # (6)
    dc_prev = dc * f  # (6)
    dz_g = dg * (1 - g**2)  # (5)
    dz_i = di * i * (1 - i)  # (4)
    dz_f = df * f * (1 - f)  # (4)
    dz_o = do * o * (1 - o)  # (4)
    dz = concatenate(dz_i, dz_f, dz_o, dz_g)
    ds = dz * across(params.gain_h, dz)  # (2)
    dv = normalize_backward(ds, s, s_rate)  # (1)
    dh_prev = dv @ params.Wh.T  # (1)
    return LSTMState(h=dh_prev, c=dc_prev), (dz, dv, dz_c)


@numbered
def gradients(
    params: LayerNormParams,
    x: Array,
    state: LSTMState,
    new_state: LSTMState,
    kept: LayerNormKept,
    d: tuple[Array, Array, Array],
    epsilon: float = EPSILON,
) -> tuple[LayerNormParams, Array]:
    """The reverse of `project`, and the weighted-input rule, all steps at once."""
    dz, dv, dz_c = d
    p = weighted_input(x, params.Wx)
    r, r_rate = normalize(p, epsilon)  # cheaper than keeping them
    n, _ = normalize(new_state.c, epsilon)
    dr = dz * across(params.gain_x, dz)  # (2)
    dp = normalize_backward(dr, r, r_rate)  # (2)
    dparams = LayerNormParams(
        Wx=weight_gradient(dp, x),
        Wh=weight_gradient(dv, state.h),
        b=None if params.b is None else bias_gradient(dz),
        gain_x=bias_gradient(dz * r),
        gain_h=bias_gradient(dz * kept.s),
        gain_c=bias_gradient(dz_c * n),
        bias_c=bias_gradient(dz_c),
    )
    return dparams, dp @ params.Wx.T


@lru_cache(maxsize=256)
def with_epsilon(cell: Cell, epsilon: float) -> Cell:
    """A layer-normalized cell with another ε.

    Args:
        cell: this one, or any whose functions take an argument ``epsilon``, as those
            of `lstm_jax.cells.layer_norm_gru` and `lstm_jax.cells.layer_norm_rnn` do.
        epsilon: what is added to the variance, above 0.

    Raises:
        ValueError: ε is not above 0, or the cell has none.
    """
    if not epsilon > 0:
        raise ValueError(f"epsilon must be above 0; got {epsilon}")
    functions: dict[str, Any] = {
        name: partial(function, epsilon=epsilon)
        for name, function in cell._asdict().items()
        if callable(function) and "epsilon" in inspect.signature(function).parameters
    }
    if not functions:
        raise ValueError(f"cell {cell.name!r} has no function that takes epsilon")
    return cell._replace(**functions)


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
