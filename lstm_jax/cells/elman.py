"""The simple recurrent cell, with tanh or with rectified linear units.

Source: Elman (1990), "Finding structure in time", in the usual form of today, with
tanh in place of his logistic function; with rectifiers it is the network of Le et
al. (2015), who start it from identity recurrent weights::

    (1)  z = x Wx + b + h_prev Wh
    (2)  h = tanh(z)    or    h = max(z, 0)
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from lstm_jax.cell import OutputState
from lstm_jax.gated import THROUGH_V, gated
from lstm_jax.identities import tanh, tanh_backward
from lstm_jax.initializers import ZeroState, init_weights
from lstm_jax.numbered import numbered


class ElmanParams(NamedTuple):
    """Weights of the one block.

    Attributes:
        Wx: input weights, (D, H).
        Wh: recurrent weights, (H, H); by head, (1, K, H/K, H/K), if K > 1.
        b: biases, (H,).
    """

    Wx: Array
    Wh: Array
    b: Array


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    dtype: DTypeLike = jnp.float32,
    **options: Any,
) -> ElmanParams:
    """Draws parameters; see `lstm_jax.initializers.init_weights`."""
    weights = init_weights(key, input_size, hidden_size, (0.0,), dtype, **options)
    return ElmanParams(**weights)


@numbered
def tanh_equations(
    params: ElmanParams, state: OutputState, u: Array, v: Array
) -> tuple[OutputState, None]:
    """Equations (1) and (2), from u = x Wx + b and v = h_prev Wh, each (..., H)."""
    z = u + v  # (1)
    h = tanh(z)  # (2)
    return OutputState(h=h), None


@numbered
def tanh_backward_step(
    params: ElmanParams,
    state: OutputState,
    new_state: OutputState,
    kept: None,
    dnew: OutputState,
) -> tuple[OutputState, Array]:
    """The reverse of `tanh_equations`."""
    dz = tanh_backward(dnew.h, new_state.h)  # (2)
    return OutputState(h=THROUGH_V), dz


@numbered
def relu_equations(
    params: ElmanParams, state: OutputState, u: Array, v: Array
) -> tuple[OutputState, None]:
    """Equations (1) and (2), from u = x Wx + b and v = h_prev Wh, each (..., H)."""
    z = u + v  # (1)
    h = jax.nn.relu(z)  # (2)
    return OutputState(h=h), None


@numbered
def relu_backward_step(
    params: ElmanParams,
    state: OutputState,
    new_state: OutputState,
    kept: None,
    dnew: OutputState,
) -> tuple[OutputState, Array]:
    """The reverse of `relu_equations`; at z = 0 the derivative is 0."""
    dz = jnp.where(new_state.h > 0, dnew.h, 0)  # (2)
    return OutputState(h=THROUGH_V), dz


RNN_TANH = gated(
    "rnn_tanh",
    init=init,
    initial_state=ZeroState(OutputState),
    equations=tanh_equations,
    backward=tanh_backward_step,
)

RNN_RELU = gated(
    "rnn_relu",
    init=init,
    initial_state=ZeroState(OutputState),
    equations=relu_equations,
    backward=relu_backward_step,
)
