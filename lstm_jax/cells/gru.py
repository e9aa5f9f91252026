"""The gated recurrent unit that resets after the recurrent product.

Source: Cho et al. (2014), "Learning phrase representations using RNN
encoder-decoder", in the form of its first preprint (arXiv 1406.1078v1), which is that
of cuDNN, torch and Keras' ``reset_after=True``: the reset gate multiplies the
candidate's product ``h_prev Wh``, which takes one product a step. The form that was
printed is `lstm_jax.cells.gru_before`. As in Cho et al. (and unlike Chung et al.,
2014), z = 1 keeps the old state::

    (1)  z_r, z_z = the gates' blocks of  x Wx + b + h_prev Wh
    (2)  s        = the candidate's block of  h_prev Wh,  plus  bh
    (3)  r, z     = σ(z_r), σ(z_z)
    (4)  z_n      = the candidate's block of  x Wx + b,  plus  r * s
    (5)  n        = tanh(z_n)
    (6)  h        = (1 - z) * n + z * h_prev

cuDNN and torch have a second bias for the two gates as well, which only adds to the
first; here those two are one.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from lstm_jax.cell import OutputState
from lstm_jax.gated import gated
from lstm_jax.identities import concatenate, sigmoid, tanh
from lstm_jax.initializers import ZeroState, init_weights
from lstm_jax.numbered import numbered


class GRUParams(NamedTuple):
    """Weights of the three column blocks: reset gate, update gate, candidate.

    Attributes:
        Wx: input weights, (D, 3H).
        Wh: recurrent weights, (H, 3H); by head, (3, K, H/K, H/K), if K > 1.
        b: biases, (3H,).
        bh: the candidate's bias inside the reset, (H,).
    """

    Wx: Array
    Wh: Array
    b: Array
    bh: Array


class GRUGates(NamedTuple):
    """What the reverse needs beside the states: (3), (5) and (2), each (..., H)."""

    r: Array
    z: Array
    n: Array
    s: Array


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    dtype: DTypeLike = jnp.float32,
    **options: Any,
) -> GRUParams:
    """Draws parameters; see `lstm_jax.initializers.init_weights`."""
    biases = (0.0, 0.0, 0.0)
    weights = init_weights(key, input_size, hidden_size, biases, dtype, **options)
    absent = weights["b"] is None
    weights["bh"] = None if absent else jnp.zeros((hidden_size,), dtype)
    return GRUParams(**weights)


@numbered
def equations(
    params: GRUParams, state: OutputState, u: Array, v: Array
) -> tuple[OutputState, GRUGates]:
    """Equations (1) to (6), from u = x Wx + b and v = h_prev Wh, each (..., 3H)."""
    h_prev = state.h
    u_r, u_z, u_n = jnp.split(u, 3, axis=-1)
    v_r, v_z, v_n = jnp.split(v, 3, axis=-1)
    z_r, z_z = u_r + v_r, u_z + v_z  # (1)
    s = v_n + params.bh  # (2)
    r, z = sigmoid(z_r), sigmoid(z_z)  # (3)
    z_n = u_n + r * s  # (4)
    n = tanh(z_n)  # (5)
    h = (1 - z) * n + z * h_prev  # (6)
    return OutputState(h=h), GRUGates(r, z, n, s)


@numbered
def backward(
    params: GRUParams,
    state: OutputState,
    new_state: OutputState,
    gates: GRUGates,
    dnew: OutputState,
) -> tuple[OutputState, Array, Array]:
    """The reverse of `equations`, from (6) to (1)."""
    r, z, n, s = gates
    h_prev, dh = state.h, dnew.h

    dn = dh * (1 - z)  # (6)
    dz = dh * (h_prev - n)  # (6)
    dh_prev = dh * z  # (6)
    dz_n = dn * (1 - n**2)  # (5)
    dr = dz_n * s  # (4)
    ds = dz_n * r  # (4)
    dz_r = dr * r * (1 - r)  # (3)
    dz_z = dz * z * (1 - z)  # (3)

    du = concatenate(dz_r, dz_z, dz_n)
    dv = concatenate(dz_r, dz_z, ds)
    return OutputState(h=dh_prev), du, dv


@numbered
def inner_bias(
    params: GRUParams,
    state: OutputState,
    new_state: OutputState,
    gates: GRUGates,
    du: Array,
    dv: Array,
) -> dict[str, Array]:
    """The gradient of bh at every step, (..., H)."""
    dbh = jnp.split(dv, 3, axis=-1)[2]  # (2)
    return {"bh": dbh}


GRU = gated(
    "gru",
    init=init,
    initial_state=ZeroState(OutputState),
    equations=equations,
    backward=backward,
    elementwise=inner_bias,
)
