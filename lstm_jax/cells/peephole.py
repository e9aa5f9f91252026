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

from lstm_jax.cell import named
from lstm_jax.cells.lstm import LSTMGates, LSTMState
from lstm_jax.gated import gated
from lstm_jax.identities import concatenate, sigmoid, tanh
from lstm_jax.initializers import ZeroState, init_weights


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


def equations(
    params: PeepholeParams, state: LSTMState, u: Array, v: Array
) -> tuple[LSTMState, LSTMGates]:
    """Equations (1) to (9), from u = x Wx + b and v = h_prev Wh, each (..., 4H)."""
    w_i, w_f, w_o, w_g = jnp.split(u + v, 4, axis=-1)
    z_i = named(w_i + state.c * params.p_i, "z_i", 1)
    z_f = named(w_f + state.c * params.p_f, "z_f", 1)
    z_g = named(w_g, "z_g", 2)
    i = named(sigmoid(z_i), "i", 3)
    f = named(sigmoid(z_f), "f", 3)
    g = named(tanh(z_g), "g", 4)
    c = named(i * g + f * state.c, "c", 5)
    z_o = named(w_o + c * params.p_o, "z_o", 6)
    o = named(sigmoid(z_o), "o", 7)
    a = named(tanh(c), "a", 8)
    h = named(o * a, "h", 9)
    return LSTMState(h=h, c=c), LSTMGates(i, f, o, g)


def backward(
    params: PeepholeParams,
    state: LSTMState,
    new_state: LSTMState,
    gates: LSTMGates,
    dnew: LSTMState,
) -> tuple[LSTMState, Array, Array]:
    """The reverse of `equations`, from (9) to (1)."""
    i, f, o, g = gates
    a = tanh(new_state.c)  # (8) again: cheaper than keeping it

    da = named(dnew.h * o, "da", 9)
    do = named(dnew.h * a, "do", 9)
    dz_o = named(do * o * (1 - o), "dz_o", 7)
    # c goes to (8), to (6), and to the next step: the fan-out rule sums the three.
    dc = named(dnew.c + da * (1 - a**2) + dz_o * params.p_o, "dc", 6)
    di = named(dc * g, "di", 5)
    dg = named(dc * i, "dg", 5)
    df = named(dc * state.c, "df", 5)
    dz_g = named(dg * (1 - g**2), "dz_g", 4)
    dz_i = named(di * i * (1 - i), "dz_i", 3)
    dz_f = named(df * f * (1 - f), "dz_f", 3)
    # c_prev goes to (5) and through both peepholes of (1).
    dc_prev = named(dc * f + dz_i * params.p_i + dz_f * params.p_f, "dc_prev", 1)

    dz = concatenate(dz_i, dz_f, dz_o, dz_g)
    return LSTMState(h=jnp.zeros_like(dc), c=dc_prev), dz, dz


def peepholes(
    params: PeepholeParams,
    state: LSTMState,
    new_state: LSTMState,
    gates: LSTMGates,
    du: Array,
    dv: Array,
) -> dict[str, Array]:
    """The peepholes' gradients at every step, (..., H): each weights a memory."""
    del params, gates, dv
    dz_i, dz_f, dz_o, _ = jnp.split(du, 4, axis=-1)
    return {
        "p_i": named(dz_i * state.c, "dp_i", 1),
        "p_f": named(dz_f * state.c, "dp_f", 1),
        "p_o": named(dz_o * new_state.c, "dp_o", 6),
    }


PEEPHOLE_LSTM = gated(
    "peephole_lstm",
    init=init,
    initial_state=ZeroState(LSTMState),
    equations=equations,
    backward=backward,
    elementwise=peepholes,
)
