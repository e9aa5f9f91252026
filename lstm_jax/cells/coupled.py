"""The LSTM with coupled input and forget gates: what is not written is kept.

Source: the variant CIFG of Greff et al. (2017), "LSTM: a search space odyssey", with
``f = 1 - i``. Theirs has peepholes as well; this one has none, like
`lstm_jax.cells.lstm`::

    (1)  z_i, z_o = the gates' blocks of  x Wx + b + h_prev Wh
    (2)  z_g      = the candidate's block of the same
    (3)  i, o     = σ(z_i), σ(z_o)
    (4)  g        = tanh(z_g)
    (5)  c        = i * g + (1 - i) * c_prev
    (6)  a        = tanh(c)
    (7)  h        = o * a
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from lstm_jax.cells.lstm import LSTMState
from lstm_jax.gated import THROUGH_V, gated
from lstm_jax.identities import concatenate, sigmoid, tanh
from lstm_jax.initializers import ZeroState, init_weights
from lstm_jax.numbered import numbered


class CoupledParams(NamedTuple):
    """Weights of the three column blocks: input gate, output gate, candidate.

    Attributes:
        Wx: input weights, (D, 3H).
        Wh: recurrent weights, (H, 3H); by head, (3, K, H/K, H/K), if K > 1.
        b: biases, (3H,).
    """

    Wx: Array
    Wh: Array
    b: Array


class CoupledGates(NamedTuple):
    """What the reverse needs beside the states: (3) and (4), each (..., H)."""

    i: Array
    o: Array
    g: Array


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    dtype: DTypeLike = jnp.float32,
    input_bias: float = -1.0,
    **options: Any,
) -> CoupledParams:
    """Draws parameters; see `lstm_jax.initializers.init_weights`.

    `input_bias` is the input gate's bias: -1 opens the forget gate as the bias of 1
    does in `lstm_jax.cells.lstm`. All others are 0.
    """
    biases = (input_bias, 0.0, 0.0)
    return CoupledParams(
        **init_weights(key, input_size, hidden_size, biases, dtype, **options)
    )


@numbered
def equations(
    params: CoupledParams, state: LSTMState, u: Array, v: Array
) -> tuple[LSTMState, CoupledGates]:
    """Equations (1) to (7), from u = x Wx + b and v = h_prev Wh, each (..., 3H)."""
    c_prev = state.c
    z = jnp.split(u + v, 3, axis=-1)
    z_i, z_o = z[:2]  # (1)
    z_g = z[2]  # (2)
    i, o = sigmoid(z_i), sigmoid(z_o)  # (3)
    g = tanh(z_g)  # (4)
    c = i * g + (1 - i) * c_prev  # (5)
    a = tanh(c)  # (6)
    h = o * a  # (7)
    return LSTMState(h=h, c=c), CoupledGates(i, o, g)


@numbered
def backward(
    params: CoupledParams,
    state: LSTMState,
    new_state: LSTMState,
    gates: CoupledGates,
    dnew: LSTMState,
) -> tuple[LSTMState, Array]:
    """The reverse of `equations`, from (7) to (1)."""
    i, o, g = gates
    c_prev, c = state.c, new_state.c
    dh, dc_next = dnew
    a = tanh(c)  # (6) again: cheaper than keeping it

    da = dh * o  # (7)
    do = dh * a  # (7)
    dc = dc_next + da * (1 - a**2)  # (6)
    di = dc * (g - c_prev)  # (5)
    dg = dc * i  # (5)
    dc_prev = dc * (1 - i)  # (5)
    dz_g = dg * (1 - g**2)  # (4)
    dz_i = di * i * (1 - i)  # (3)
    dz_o = do * o * (1 - o)  # (3)

    return LSTMState(h=THROUGH_V, c=dc_prev), concatenate(dz_i, dz_o, dz_g)


COUPLED_LSTM = gated(
    "coupled_lstm",
    init=init,
    initial_state=ZeroState(LSTMState),
    equations=equations,
    backward=backward,
)
