"""The independently recurrent cell: every unit sees its own past alone.

Source: Li et al. (2018), "Independently recurrent neural network (IndRNN): building a
longer and deeper RNN", section 3, with rectified linear units as in their experiments.
Units of a layer do not see each other: it takes a second layer to mix them::

    (1)  z = x Wx + b + w * h_prev
    (2)  h = max(z, 0)

A unit's gradient through T steps grows or shrinks as its w to the power of T. Li et
al. hold abs(w) below 2 to the power of 1/T while training, which is the trainer's to
do.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import initializers
from jax.typing import DTypeLike

from lstm_jax.cell import OutputState
from lstm_jax.gated import BlockSizes, gated
from lstm_jax.initializers import Initializer, ZeroState, init_inputs
from lstm_jax.numbered import numbered

uniform: Initializer = initializers.uniform(1.0)
"""Recurrent weights from 0 to 1: units of many memory lengths."""


class IndRNNParams(NamedTuple):
    """Weights of the one block.

    Attributes:
        Wx: input weights, (D, H).
        b: biases, (H,).
        w: recurrent weights, (H,).
    """

    Wx: Array
    b: Array
    w: Array


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    dtype: DTypeLike = jnp.float32,
    recurrent_init: Initializer = uniform,
    **options: Any,
) -> IndRNNParams:
    """Draws parameters; see `lstm_jax.initializers.init_weights`."""
    key_x, key_h = jax.random.split(key)
    return IndRNNParams(
        **init_inputs(key_x, input_size, hidden_size, (0.0,), dtype, **options),
        w=recurrent_init(key_h, (hidden_size,), dtype),
    )


@numbered
def equations(
    params: IndRNNParams, state: OutputState, u: Array, v: None
) -> tuple[OutputState, None]:
    """Equations (1) and (2), from u = x Wx + b (..., H)."""
    z = u + params.w * state.h  # (1)
    h = jax.nn.relu(z)  # (2)
    return OutputState(h=h), None


@numbered
def backward(
    params: IndRNNParams,
    state: OutputState,
    new_state: OutputState,
    kept: None,
    dnew: OutputState,
) -> tuple[OutputState, Array]:
    """The reverse of `equations`; at z = 0 the derivative is 0."""
    dz = jnp.where(new_state.h > 0, dnew.h, 0)  # (2)
    dh_prev = dz * params.w  # (1)
    return OutputState(h=dh_prev), dz


@numbered
def recurrent_weights(
    params: IndRNNParams,
    state: OutputState,
    new_state: OutputState,
    kept: None,
    du: Array,
    dv: None,
) -> dict[str, Array]:
    """The gradient of w at every step, (..., H)."""
    dw = du * state.h  # (1)
    return {"w": dw}


sizes = BlockSizes(1)

INDRNN = gated(
    "indrnn",
    init=init,
    initial_state=ZeroState(OutputState, sizes),
    equations=equations,
    backward=backward,
    elementwise=recurrent_weights,
    sizes=sizes,
)
