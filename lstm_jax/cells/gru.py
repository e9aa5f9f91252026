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

from lstm_jax.cell import OutputState, named
from lstm_jax.gated import gated
from lstm_jax.identities import concatenate, sigmoid, tanh
from lstm_jax.initializers import ZeroState, init_weights


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
    return GRUParams(**weights, bh=jnp.zeros((hidden_size,), dtype))


def equations(
    params: GRUParams, state: OutputState, u: Array, v: Array
) -> tuple[OutputState, GRUGates]:
    """Equations (1) to (6), from u = x Wx + b and v = h_prev Wh, each (..., 3H)."""
    u_r, u_z, u_n = jnp.split(u, 3, axis=-1)
    v_r, v_z, v_n = jnp.split(v, 3, axis=-1)
    z_r = named(u_r + v_r, "z_r", 1)
    z_z = named(u_z + v_z, "z_z", 1)
    s = named(v_n + params.bh, "s", 2)
    r = named(sigmoid(z_r), "r", 3)
    z = named(sigmoid(z_z), "z", 3)
    z_n = named(u_n + r * s, "z_n", 4)
    n = named(tanh(z_n), "n", 5)
    h = named((1 - z) * n + z * state.h, "h", 6)
    return OutputState(h=h), GRUGates(r, z, n, s)


def backward(
    params: GRUParams,
    state: OutputState,
    new_state: OutputState,
    gates: GRUGates,
    dnew: OutputState,
) -> tuple[OutputState, Array, Array]:
    """The reverse of `equations`, from (6) to (1)."""
    del params, new_state
    r, z, n, s = gates

    dn = named(dnew.h * (1 - z), "dn", 6)
    dz = named(dnew.h * (state.h - n), "dz", 6)
    dh_prev = named(dnew.h * z, "dh_prev", 6)
    dz_n = named(dn * (1 - n**2), "dz_n", 5)
    dr = named(dz_n * s, "dr", 4)
    ds = named(dz_n * r, "ds", 4)
    dz_r = named(dr * r * (1 - r), "dz_r", 3)
    dz_z = named(dz * z * (1 - z), "dz_z", 3)

    du = concatenate(dz_r, dz_z, dz_n)
    dv = concatenate(dz_r, dz_z, ds)
    return OutputState(h=dh_prev), du, dv


def inner_bias(
    params: GRUParams,
    state: OutputState,
    new_state: OutputState,
    gates: GRUGates,
    du: Array,
    dv: Array,
) -> dict[str, Array]:
    """The gradient of bh at every step, (..., H)."""
    del params, state, new_state, gates, du
    return {"bh": named(jnp.split(dv, 3, axis=-1)[2], "dbh", 2)}


GRU = gated(
    "gru",
    init=init,
    initial_state=ZeroState(OutputState),
    equations=equations,
    backward=backward,
    elementwise=inner_bias,
)
