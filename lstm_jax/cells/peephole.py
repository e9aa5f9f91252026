"""The LSTM with peepholes: the gates see the memory cell, element by element.

Source: Gers & Schmidhuber (2000), "Recurrent nets that time and count". As there, the
input and forget gates see the old memory and the output gate the new one. They leave
out the tanh of (8); with it, this is the "vanilla LSTM" of Greff et al. (2017)::

    (1)  z_i, z_f = the blocks of  x Wx + b + h_prev Wh,  plus  c_prev * p_i, p_f
    (2)  z_g      = the candidate's block of the same, without a peephole
    (3)  i, f     = σ(z_i), σ(z_f)
    (4)  g        = tanh(z_g)
    (5)  c        = i * g + f * c_prev
    (6)  z_o      = the output gate's block, plus  c * p_o
    (7)  o        = σ(z_o)
    (8)  a        = tanh(c)
    (9)  h        = o * a
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from lstm_jax.cells.lstm import LSTMGates, LSTMState
from lstm_jax.gated import THROUGH_V, gated
from lstm_jax.identities import concatenate, sigmoid, tanh
from lstm_jax.initializers import ZeroState, init_weights
from lstm_jax.numbered import numbered


class PeepholeParams(NamedTuple):
    """Weights of the four column blocks (i, f, o, g), and the peepholes.

    Attributes:
        Wx: input weights, (D, 4H).
        Wh: recurrent weights, (H, 4H); by head, (4, K, H/K, H/K), if K > 1.
        b: biases, (4H,).
        p_i: the input gate's peephole, (H,).
        p_f: the forget gate's, (H,).
        p_o: the output gate's, (H,).
    """

    Wx: Array
    Wh: Array
    b: Array
    p_i: Array
    p_f: Array
    p_o: Array


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    dtype: DTypeLike = jnp.float32,
    forget_bias: float = 1.0,
    **options: Any,
) -> PeepholeParams:
    """Draws parameters, peepholes of 0; see `lstm_jax.cells.lstm.init`."""
    biases = (0.0, forget_bias, 0.0, 0.0)
    weights = init_weights(key, input_size, hidden_size, biases, dtype, **options)
    p_i, p_f, p_o = jnp.zeros((3, hidden_size), dtype)
    return PeepholeParams(**weights, p_i=p_i, p_f=p_f, p_o=p_o)


@numbered
def equations(
    params: PeepholeParams, state: LSTMState, u: Array, v: Array
) -> tuple[LSTMState, LSTMGates]:
    """Equations (1) to (9), from u = x Wx + b and v = h_prev Wh, each (..., 4H)."""
    c_prev = state.c
    w_i, w_f, w_o, w_g = jnp.split(u + v, 4, axis=-1)
    z_i, z_f = w_i + c_prev * params.p_i, w_f + c_prev * params.p_f  # (1)
    z_g = w_g  # (2)
    i, f = sigmoid(z_i), sigmoid(z_f)  # (3)
    g = tanh(z_g)  # (4)
    c = i * g + f * c_prev  # (5)
    z_o = w_o + c * params.p_o  # (6)
    o = sigmoid(z_o)  # (7)
    a = tanh(c)  # (8)
    h = o * a  # (9)
    return LSTMState(h=h, c=c), LSTMGates(i, f, o, g)


@numbered
def backward(
    params: PeepholeParams,
    state: LSTMState,
    new_state: LSTMState,
    gates: LSTMGates,
    dnew: LSTMState,
) -> tuple[LSTMState, Array]:
    """The reverse of `equations`, from (9) to (1)."""
    i, f, o, g = gates
    c_prev, c = state.c, new_state.c
    dh, dc_next = dnew
    a = tanh(c)  # (8) again: cheaper than keeping it

    da = dh * o  # (9)
    do = dh * a  # (9)
    dz_o = do * o * (1 - o)  # (7)
    # c goes to (8), to (6), and to the next step: the fan-out rule sums the three.
    dc = dc_next + da * (1 - a**2) + dz_o * params.p_o  # (6)
    di = dc * g  # (5)
    dg = dc * i  # (5)
    df = dc * c_prev  # (5)
    dz_g = dg * (1 - g**2)  # (4)
    dz_i = di * i * (1 - i)  # (3)
    dz_f = df * f * (1 - f)  # (3)
    # c_prev goes to (5) and through both peepholes of (1).
    dc_prev = dc * f + dz_i * params.p_i + dz_f * params.p_f  # (1)

    return LSTMState(h=THROUGH_V, c=dc_prev), concatenate(dz_i, dz_f, dz_o, dz_g)


@numbered
def peepholes(
    params: PeepholeParams,
    state: LSTMState,
    new_state: LSTMState,
    gates: LSTMGates,
    du: Array,
    dv: Array,
) -> dict[str, Array]:
    """The peepholes' gradients at every step, (..., H): each weights a memory."""
    dz_i, dz_f, dz_o, _ = jnp.split(du, 4, axis=-1)
    dp_i = dz_i * state.c  # (1)
    dp_f = dz_f * state.c  # (1)
    dp_o = dz_o * new_state.c  # (6)
    return {"p_i": dp_i, "p_f": dp_f, "p_o": dp_o}


PEEPHOLE_LSTM = gated(
    "peephole_lstm",
    init=init,
    initial_state=ZeroState(LSTMState),
    equations=equations,
    backward=backward,
    elementwise=peepholes,
)
