"""The multiplicative LSTM: the input chooses the recurrent transition.

Source: Krause et al. (2016), "Multiplicative LSTM for sequence modelling". An
intermediate state m, the product of a view of the input and a view of h_prev, neither
with a bias, takes the place of h_prev in the gates; m has the size of h. Two products
a step, one after the other: (8) and (9), then the equations of `lstm_jax.cells.lstm`::

    (1)  z_i, z_f, z_o = the gates' blocks of  x Wx + b + m Wh
    (2)  z_g           = the candidate's block of the same
    (3)  i, f, o       = σ(z_i), σ(z_f), σ(z_o)
    (4)  g             = tanh(z_g)
    (5)  c             = i * g + f * c_prev
    (6)  a             = tanh(c)
    (7)  h             = o * a
    (8)  q             = h_prev Wmh
    (9)  m             = (x Wmx) * q
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from lstm_jax.cell import Cell
from lstm_jax.cells.lstm import LSTM, LSTMGates, LSTMParams, LSTMState
from lstm_jax.gated import weight_sizes
from lstm_jax.identities import weight_gradient, weighted_input
from lstm_jax.initializers import (
    Initializer,
    ZeroState,
    glorot_uniform,
    init_blocks,
    orthogonal,
)
from lstm_jax.numbered import numbered


class MultiplicativeParams(NamedTuple):
    """The LSTM's weights, four column blocks each, and those of the views.

    Attributes:
        Wx: input weights, (D, 4H).
        Wh: weights of m, (H, 4H).
        b: biases, (4H,).
        Wmx: the input's view, (D, H).
        Wmh: the recurrent view, (H, H).
    """

    Wx: Array
    Wh: Array
    b: Array
    Wmx: Array
    Wmh: Array


class MultiplicativeInput(NamedTuple):
    """The input's two products: u = x Wx + b (..., 4H) and p = x Wmx (..., H)."""

    u: Array
    p: Array


class MultiplicativeKept(NamedTuple):
    """What the reverse needs beside the states: (3) and (4), p and (8)."""

    gates: LSTMGates
    p: Array
    q: Array


class MultiplicativeGradients(NamedTuple):
    """The gradients of the LSTM's products, of p and of q."""

    dz: Any
    dp: Array
    dq: Array


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    dtype: DTypeLike = jnp.float32,
    forget_bias: float = 1.0,
    input_init: Initializer = glorot_uniform,
    recurrent_init: Initializer = orthogonal,
    bias: bool = True,
) -> MultiplicativeParams:
    """Draws parameters; arguments and errors as in `lstm_jax.cells.lstm.init`."""
    key, key_x, key_h = jax.random.split(key, 3)
    weights = LSTM.init(
        *(key, input_size, hidden_size),
        dtype=dtype,
        forget_bias=forget_bias,
        input_init=input_init,
        recurrent_init=recurrent_init,
        bias=bias,
    )
    return MultiplicativeParams(
        *weights,
        Wmx=init_blocks(input_init, key_x, input_size, hidden_size, 1, dtype),
        Wmh=init_blocks(recurrent_init, key_h, hidden_size, hidden_size, 1, dtype),
    )


def lstm(params: MultiplicativeParams) -> LSTMParams:
    """The parameters of (1) to (7)."""
    return LSTMParams(params.Wx, params.Wh, params.b)


@numbered
def project(params: MultiplicativeParams, x: Array) -> MultiplicativeInput:
    """The two products of the input."""
    p = weighted_input(x, params.Wmx)  # (9)
    return MultiplicativeInput(LSTM.project(lstm(params), x), p)


@numbered
def step(
    params: MultiplicativeParams, state: LSTMState, products: MultiplicativeInput
) -> tuple[LSTMState, MultiplicativeKept]:
    """Equations (8), (9), and (1) to (7), from the input's two products."""
    u, p = products
    q = weighted_input(state.h, params.Wmh)  # (8)
    m = p * q  # (9)
    new_state, gates = LSTM.step(lstm(params), state._replace(h=m), u)
    return new_state, MultiplicativeKept(gates, p, q)


@numbered
def backward(
    params: MultiplicativeParams,
    state: LSTMState,
    new_state: LSTMState,
    kept: MultiplicativeKept,
    dnew: LSTMState,
) -> tuple[LSTMState, MultiplicativeGradients]:
    """The reverse of `step`: from (7) to (1), then (9) and (8)."""
    gates, p, q = kept
    dlstm, dz = LSTM.backward(lstm(params), state, new_state, gates, dnew)
    dm = dlstm.h  # (1)
    dp = dm * q  # (9)
    dq = dm * p  # (9)
    dh_prev = dq @ params.Wmh.T  # (8)
    return LSTMState(h=dh_prev, c=dlstm.c), MultiplicativeGradients(dz, dp, dq)


def gradients(
    params: MultiplicativeParams,
    x: Array,
    state: LSTMState,
    new_state: LSTMState,
    kept: MultiplicativeKept,
    d: MultiplicativeGradients,
) -> tuple[MultiplicativeParams, Array]:
    """The weighted-input rule for (1), (2), (8) and (9), all steps at once."""
    seen = LSTMState(kept.p * kept.q, state.c)  # with m for h_prev
    dlstm, dx = LSTM.gradients(lstm(params), x, seen, new_state, kept.gates, d.dz)
    dWmx, dWmh = weight_gradient(d.dp, x), weight_gradient(d.dq, state.h)
    return MultiplicativeParams(*dlstm, dWmx, dWmh), dx + d.dp @ params.Wmx.T


MULTIPLICATIVE_LSTM = Cell(
    name="multiplicative_lstm",
    init=init,
    sizes=weight_sizes,
    initial_state=ZeroState(LSTMState),
    project=project,
    step=step,
    backward=backward,
    gradients=gradients,
)
