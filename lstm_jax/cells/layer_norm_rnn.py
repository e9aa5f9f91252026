"""The simple recurrent cell with layer normalization.

Source: Ba et al. (2016), "Layer normalization", equation 4, with tanh. As there, the
sum of both products is normalized over the units of the layer; ε is added to the
variance. N is `lstm_jax.identities.normalize`::

    (1)  a = x Wx + h_prev Wh
    (2)  n = N(a)
    (3)  z = n * α + b
    (4)  h = tanh(z)
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from lstm_jax.cell import Cell, OutputState
from lstm_jax.cells.elman import RNN_TANH
from lstm_jax.gated import weight_sizes
from lstm_jax.identities import (
    EPSILON,
    across,
    bias_gradient,
    normalize,
    normalize_backward,
    tanh,
    weight_gradient,
    weighted_input,
)
from lstm_jax.initializers import ZeroState
from lstm_jax.numbered import numbered


class LayerNormRNNParams(NamedTuple):
    """Weights, biases and gains.

    Attributes:
        Wx: input weights, (D, H).
        Wh: recurrent weights, (H, H).
        b: biases, after the normalization, (H,).
        gain: α, (H,).
    """

    Wx: Array
    Wh: Array
    b: Array
    gain: Array


class LayerNormRNNKept(NamedTuple):
    """What the reverse needs beside the states: (2) and its rate."""

    n: Array
    rate: Array


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    dtype: DTypeLike = jnp.float32,
    input_init: Any = None,
    recurrent_init: Any = None,
) -> LayerNormRNNParams:
    """Draws parameters, gains of 1; see `lstm_jax.initializers.init_weights`."""
    options = {"input_init": input_init, "recurrent_init": recurrent_init}
    rnn = RNN_TANH.init(key, input_size, hidden_size, dtype=dtype, **options)
    return LayerNormRNNParams(*rnn, gain=jnp.ones(hidden_size, dtype))


def project(params: LayerNormRNNParams, x: Array) -> Array:
    """The input's share of (1), (..., H)."""
    return weighted_input(x, params.Wx)


@numbered
def step(
    params: LayerNormRNNParams, state: OutputState, u: Array, epsilon: float = EPSILON
) -> tuple[OutputState, LayerNormRNNKept]:
    """Equations (1) to (4), from u = x Wx (..., H)."""
    h_prev = state.h
    a = u + weighted_input(h_prev, params.Wh)  # (1)
    n, _rate = normalize(a, epsilon)  # (2)
    z = n * across(params.gain, n) + across(params.b, n)  # (3)
    h = tanh(z)  # (4)
    return OutputState(h=h), LayerNormRNNKept(n, _rate)


@numbered
def backward(
    params: LayerNormRNNParams,
    state: OutputState,
    new_state: OutputState,
    kept: LayerNormRNNKept,
    dnew: OutputState,
) -> tuple[OutputState, tuple[Array, Array]]:
    """The reverse of `step`, from (4) to (1); the gradients of z and a."""
    n, rate = kept
    h, dh = new_state.h, dnew.h
    dz = dh * (1 - h**2)  # (4)
    dn = dz * across(params.gain, dz)  # (3)
    da = normalize_backward(dn, n, rate)  # (2)
    dh_prev = da @ params.Wh.T  # (1)
    return OutputState(h=dh_prev), (dz, da)


@numbered
def gradients(
    params: LayerNormRNNParams,
    x: Array,
    state: OutputState,
    new_state: OutputState,
    kept: LayerNormRNNKept,
    d: tuple[Array, Array],
) -> tuple[LayerNormRNNParams, Array]:
    """The reverse of `project`, and the weighted-input rule, all steps at once."""
    dz, da = d
    dparams = LayerNormRNNParams(
        Wx=weight_gradient(da, x),
        Wh=weight_gradient(da, state.h),
        b=bias_gradient(dz),
        gain=bias_gradient(dz * kept.n),
    )
    return dparams, da @ params.Wx.T


LAYER_NORM_RNN = Cell(
    name="layer_norm_rnn",
    init=init,
    sizes=weight_sizes,
    initial_state=ZeroState(OutputState),
    project=project,
    step=step,
    backward=backward,
    gradients=gradients,
)
