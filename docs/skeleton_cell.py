"""NAME: what distinguishes this cell, in a line.

Source: Author (year), "Title", equations n to m. Where published forms differ, say
which one this is::

    (1)  z = x Wx + b + h_prev Wh
    (2)  h = tanh(z)

Copy this file to wherever you like, replace the equations, and follow
docs/adding_a_cell.md. It runs as it is: python -m experiments.cell_report FILE:NAME
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from lstm_jax.cell import OutputState
from lstm_jax.gated import THROUGH_V, gated
from lstm_jax.identities import tanh
from lstm_jax.initializers import ZeroState, init_weights
from lstm_jax.numbered import numbered


class NameParams(NamedTuple):
    """Weights of the column blocks, in the order of equation (1).

    Attributes:
        Wx: input weights, (D, H).
        Wh: recurrent weights, (H, H); by head, (1, K, H/K, H/K), if K > 1.
        b: biases, (H,).
    """

    Wx: Array
    Wh: Array
    b: Array


class NameKept(NamedTuple):
    """What the reverse needs beside the states: (1), (..., H)."""

    z: Array


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    dtype: DTypeLike = jnp.float32,
    **options: Any,
) -> NameParams:
    """Draws parameters; see `lstm_jax.initializers.init_weights`."""
    biases = (0.0,)  # one for each column block
    weights = init_weights(key, input_size, hidden_size, biases, dtype, **options)
    return NameParams(**weights)


@numbered
def equations(
    params: NameParams, state: OutputState, u: Array, v: Array
) -> tuple[OutputState, NameKept]:
    """Equations (1) and (2), from u = x Wx + b and v = h_prev Wh, each (..., H)."""
    z = u + v  # (1)
    h = tanh(z)  # (2)
    return OutputState(h=h), NameKept(z)


@numbered
def backward(
    params: NameParams,
    state: OutputState,
    new_state: OutputState,
    kept: NameKept,
    dnew: OutputState,
) -> tuple[OutputState, Array]:
    """The reverse of `equations`, from (2) to (1)."""
    z, dh = kept.z, dnew.h
    dz = dh * (1 - tanh(z) ** 2)  # (2)
    # (1): z = u + v gives both the same gradient; h_prev is reached through v.
    return OutputState(h=THROUGH_V), dz


NAME = gated(
    "name",
    init=init,
    initial_state=ZeroState(OutputState),
    equations=equations,
    backward=backward,
)
