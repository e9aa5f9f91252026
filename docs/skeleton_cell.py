"""NAME: what distinguishes this cell, in a line.

Source: Author (year), "Title", equations n to m. Where published forms differ, say
which one this is::

    (1)  z = x Wx + b + h_prev Wh
    (2)  h = tanh(z)

Copy this file to lstm_jax/cells/, replace the equations, and follow
docs/adding_a_cell.md. It runs as it is.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from lstm_jax.cell import OutputState, named
from lstm_jax.gated import gated
from lstm_jax.identities import tanh
from lstm_jax.initializers import ZeroState, init_weights


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


def equations(
    params: NameParams, state: OutputState, u: Array, v: Array
) -> tuple[OutputState, NameKept]:
    """Equations (1) and (2), from u = x Wx + b and v = h_prev Wh, each (..., H)."""
    del params, state
    z = named(u + v, "z", 1)
    h = named(tanh(z), "h", 2)
    return OutputState(h=h), NameKept(z)


def backward(
    params: NameParams,
    state: OutputState,
    new_state: OutputState,
    kept: NameKept,
    dnew: OutputState,
) -> tuple[OutputState, Array, Array]:
    """The reverse of `equations`, from (2) to (1)."""
    del params, state, new_state
    dz = named(dnew.h * (1 - tanh(kept.z) ** 2), "dz", 2)
    # (1): z = u + v gives both the same gradient; h_prev is reached through v.
    return OutputState(h=jnp.zeros_like(dz)), dz, dz


NAME = gated(
    "name",
    init=init,
    initial_state=ZeroState(OutputState),
    equations=equations,
    backward=backward,
)
