"""The minGRU: a GRU whose gate and candidate see the input alone.

Source: Feng et al. (2024), "Were RNNs all we needed?", section 3.1. This is the plain
form, with a linear candidate, not the one that scans in log-space, whose candidate is
positive. Here z = 1 takes the candidate, unlike in `lstm_jax.cells.gru`::

    (1)  z_z, n = the blocks of  x Wx + b
    (2)  z      = σ(z_z)
    (3)  h      = (1 - z) * h_prev + z * n
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from lstm_jax.cell import OutputState
from lstm_jax.gated import BlockSizes, gated
from lstm_jax.identities import concatenate, sigmoid
from lstm_jax.initializers import ZeroState, init_inputs
from lstm_jax.numbered import numbered


class MinGRUParams(NamedTuple):
    """Weights of the two column blocks: update gate, candidate.

    Attributes:
        Wx: input weights, (D, 2H).
        b: biases, (2H,).
    """

    Wx: Array
    b: Array


class MinGRUGates(NamedTuple):
    """What the reverse needs beside the states: (2) and n of (1), each (..., H)."""

    z: Array
    n: Array


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    dtype: DTypeLike = jnp.float32,
    **options: Any,
) -> MinGRUParams:
    """Draws parameters; see `lstm_jax.initializers.init_inputs`."""
    biases = (0.0, 0.0)
    weights = init_inputs(key, input_size, hidden_size, biases, dtype, **options)
    return MinGRUParams(**weights)


@numbered
def equations(
    params: MinGRUParams, state: OutputState, u: Array, v: None
) -> tuple[OutputState, MinGRUGates]:
    """Equations (1) to (3), from u = x Wx + b (..., 2H)."""
    h_prev = state.h
    z_z, n = jnp.split(u, 2, axis=-1)  # (1)
    z = sigmoid(z_z)  # (2)
    h = (1 - z) * h_prev + z * n  # (3)
    return OutputState(h=h), MinGRUGates(z, n)


@numbered
def backward(
    params: MinGRUParams,
    state: OutputState,
    new_state: OutputState,
    gates: MinGRUGates,
    dnew: OutputState,
) -> tuple[OutputState, Array]:
    """The reverse of `equations`, from (3) to (1)."""
    z, n = gates
    h_prev, dh = state.h, dnew.h

    dn = dh * z  # (3)
    dz = dh * (n - h_prev)  # (3)
    dh_prev = dh * (1 - z)  # (3)
    dz_z = dz * z * (1 - z)  # (2)

    return OutputState(h=dh_prev), concatenate(dz_z, dn)


sizes = BlockSizes(2)

MIN_GRU = gated(
    "min_gru",
    init=init,
    initial_state=ZeroState(OutputState, sizes),
    equations=equations,
    backward=backward,
    sizes=sizes,
    linear=True,
)
