"""The gated recurrent unit as it was printed: it resets before the product.

Source: Cho et al. (2014), "Learning phrase representations using RNN
encoder-decoder", section 2.3, in the form of its last preprint (arXiv 1406.1078v3)
and of Keras' ``reset_after=False``. The reset gate multiplies h_prev, so that the
candidate needs a second product after the gates' (`lstm_jax.cells.gru` is the form
with one). As there, z = 1 keeps the old state::

    (1)  z_r, z_z = the gates' blocks of  x Wx + b,  plus  h_prev Wh
    (2)  r, z     = σ(z_r), σ(z_z)
    (3)  s        = r * h_prev
    (4)  z_n      = the candidate's block of  x Wx + b,  plus  s Wn
    (5)  n        = tanh(z_n)
    (6)  h        = (1 - z) * n + z * h_prev
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from lstm_jax.cell import Cell, OutputState
from lstm_jax.gated import input_gradients, input_product, weight_sizes
from lstm_jax.identities import (
    concatenate,
    sigmoid,
    tanh,
    weight_gradient,
    weighted_input,
)
from lstm_jax.initializers import (
    Initializer,
    ZeroState,
    init_blocks,
    init_inputs,
    orthogonal,
)
from lstm_jax.numbered import numbered


class GRUBeforeParams(NamedTuple):
    """Weights of the column blocks: reset gate, update gate, candidate.

    Attributes:
        Wx: input weights, (D, 3H).
        Wh: recurrent weights of the two gates, (H, 2H).
        Wn: recurrent weights of the candidate, (H, H).
        b: biases, (3H,).
    """

    Wx: Array
    Wh: Array
    Wn: Array
    b: Array


class GRUBeforeGates(NamedTuple):
    """What the reverse needs beside the states: (2) and (5), each (..., H)."""

    r: Array
    z: Array
    n: Array


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    dtype: DTypeLike = jnp.float32,
    recurrent_init: Initializer = orthogonal,
    **options: Any,
) -> GRUBeforeParams:
    """Draws parameters; see `lstm_jax.initializers.init_weights`."""
    key_x, key_h, key_n = jax.random.split(key, 3)
    biases = (0.0, 0.0, 0.0)
    return GRUBeforeParams(
        **init_inputs(key_x, input_size, hidden_size, biases, dtype, **options),
        Wh=init_blocks(recurrent_init, key_h, hidden_size, hidden_size, 2, dtype),
        Wn=init_blocks(recurrent_init, key_n, hidden_size, hidden_size, 1, dtype),
    )


@numbered
def step(
    params: GRUBeforeParams, state: OutputState, u: Array
) -> tuple[OutputState, GRUBeforeGates]:
    """Equations (1) to (6), from u = x Wx + b (..., 3H)."""
    h_prev = state.h
    u_r, u_z, u_n = jnp.split(u, 3, axis=-1)
    v_r, v_z = jnp.split(weighted_input(h_prev, params.Wh), 2, axis=-1)
    z_r, z_z = u_r + v_r, u_z + v_z  # (1)
    r, z = sigmoid(z_r), sigmoid(z_z)  # (2)
    s = r * h_prev  # (3)
    z_n = u_n + weighted_input(s, params.Wn)  # (4)
    n = tanh(z_n)  # (5)
    h = (1 - z) * n + z * h_prev  # (6)
    return OutputState(h=h), GRUBeforeGates(r, z, n)


@numbered
def backward(
    params: GRUBeforeParams,
    state: OutputState,
    new_state: OutputState,
    gates: GRUBeforeGates,
    dnew: OutputState,
) -> tuple[OutputState, Array]:
    """The reverse of `step`, from (6) to (1)."""
    r, z, n = gates
    h_prev, dh = state.h, dnew.h

    dn = dh * (1 - z)  # (6)
    dz = dh * (h_prev - n)  # (6)
    dz_n = dn * (1 - n**2)  # (5)
    ds = dz_n @ params.Wn.T  # (4)
    dr = ds * h_prev  # (3)
    dz_r = dr * r * (1 - r)  # (2)
    dz_z = dz * z * (1 - z)  # (2)
    # h_prev goes to (6), (3) and (1).
    dh_prev = dh * z + ds * r + concatenate(dz_r, dz_z) @ params.Wh.T  # (1)

    return OutputState(h=dh_prev), concatenate(dz_r, dz_z, dz_n)


def gradients(
    params: GRUBeforeParams,
    x: Array,
    state: OutputState,
    new_state: OutputState,
    gates: GRUBeforeGates,
    du: Array,
) -> tuple[GRUBeforeParams, Array]:
    """The weighted-input rule for (1) and (4), all steps at once."""
    dz_rz, dz_n = jnp.split(du, [2 * gates.r.shape[-1]], axis=-1)
    dweights, dx = input_gradients(params, x, du)
    dparams = GRUBeforeParams(
        **dweights,
        Wh=weight_gradient(dz_rz, state.h),
        Wn=weight_gradient(dz_n, gates.r * state.h),
    )
    return dparams, dx


GRU_BEFORE = Cell(
    name="gru_before",
    init=init,
    sizes=weight_sizes,
    initial_state=ZeroState(OutputState),
    project=input_product,
    step=step,
    backward=backward,
    gradients=gradients,
)
