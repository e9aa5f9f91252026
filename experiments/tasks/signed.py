"""The minGRU with factors from -1 to 1: its state may change its sign at a step.

Of a layer that is linear in its state, element by element, with factors from 0 to 1,
no state goes back and forth for ever with the inputs: it cannot tell even from odd. A
factor of -1 can (Grazzi et al., 2024, "Unlocking state-tracking in linear RNNs through
negative eigenvalues", section 4). As theirs, this cell doubles what is taken in, and
is the minGRU of `lstm_jax.cells.min_gru` otherwise::

    (1)  z_z, n = the blocks of  x Wx + b
    (2)  z      = 2 * σ(z_z)
    (3)  h      = (1 - z) * h_prev + z * n
"""

import jax.numpy as jnp
from jax import Array

from lstm_jax.cell import OutputState
from lstm_jax.cells.min_gru import MinGRUGates, MinGRUParams, init, sizes
from lstm_jax.gated import gated
from lstm_jax.identities import concatenate, sigmoid
from lstm_jax.initializers import ZeroState
from lstm_jax.numbered import numbered


@numbered
def equations(
    params: MinGRUParams, state: OutputState, u: Array, v: None
) -> tuple[OutputState, MinGRUGates]:
    """Equations (1) to (3), from u = x Wx + b (..., 2H)."""
    h_prev = state.h
    z_z, n = jnp.split(u, 2, axis=-1)  # (1)
    z = 2 * sigmoid(z_z)  # (2)
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
    dz_z = dz * z * (1 - z / 2)  # (2)

    return OutputState(h=dh_prev), concatenate(dz_z, dn)


SIGNED_MIN_GRU = gated(
    "signed_min_gru",
    init=init,
    initial_state=ZeroState(OutputState, sizes),
    equations=equations,
    backward=backward,
    sizes=sizes,
    linear=True,
)
