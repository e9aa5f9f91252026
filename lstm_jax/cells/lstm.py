"""The LSTM cell: long short-term memory with input, forget and output gates.

Source: the equations 1 to 7 of Mukul Rathi, "Demystifying Deep Learning: Part 11"
(2018); Hochreiter & Schmidhuber (1997) with the forget gate of Gers et al. (2000).
The article's a is `h` here, its Γ are `i`, `f`, `o`, its c̃ is `g` and its ã is `a`::

    (1)  z_i, z_f, z_o = the gates' blocks of   x Wx + b + h_prev Wh
    (2)  z_g           = the candidate's block of the same
    (3)  i, f, o       = σ(z_i), σ(z_f), σ(z_o)
    (4)  g             = tanh(z_g)
    (5)  c             = i * g + f * c_prev
    (6)  a             = tanh(c)
    (7)  h             = o * a

Going back from (7) to (1), each line of `backward` applies one local rule of
`lstm_jax.identities` to one equation.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from lstm_jax.gated import THROUGH_V, gated
from lstm_jax.identities import concatenate, sigmoid, tanh
from lstm_jax.initializers import ZeroState, init_weights
from lstm_jax.numbered import numbered


class LSTMParams(NamedTuple):
    """Weights of the four column blocks: input, forget, output gate, candidate.

    Attributes:
        Wx: input weights, (D, 4H).
        Wh: recurrent weights, (H, 4H); by head, (4, K, H/K, H/K), if K > 1.
        b: biases, (4H,).
    """

    Wx: Array
    Wh: Array
    b: Array


class LSTMState(NamedTuple):
    """The state between two steps.

    Attributes:
        h: the output, the article's a, (..., H).
        c: the memory cell, (..., H).
    """

    h: Array
    c: Array


class LSTMGates(NamedTuple):
    """What the reverse needs beside the states: (3) and (4), each (..., H)."""

    i: Array
    f: Array
    o: Array
    g: Array


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    dtype: DTypeLike = jnp.float32,
    forget_bias: float = 1.0,
    **options: Any,
) -> LSTMParams:
    """Draws parameters.

    Args:
        key: a PRNG key.
        input_size: D, at least 1.
        hidden_size: H, at least 1.
        dtype: a floating dtype.
        forget_bias: the forget gate's bias (1 by Jozefowicz et al., 2015, so that
            memory lasts at the start of training); all others are 0.
        **options: `input_init`, `recurrent_init` and `heads` of
            `lstm_jax.initializers.init_weights`, which also names the errors raised.
    """
    biases = (0.0, forget_bias, 0.0, 0.0)
    return LSTMParams(
        **init_weights(key, input_size, hidden_size, biases, dtype, **options)
    )


@numbered
def equations(
    params: LSTMParams, state: LSTMState, u: Array, v: Array
) -> tuple[LSTMState, LSTMGates]:
    """Equations (1) to (7), from u = x Wx + b and v = h_prev Wh, each (..., 4H)."""
    c_prev = state.c
    z = jnp.split(u + v, 4, axis=-1)
    z_i, z_f, z_o = z[:3]  # (1)
    z_g = z[3]  # (2)
    i, f, o = sigmoid(z_i), sigmoid(z_f), sigmoid(z_o)  # (3)
    g = tanh(z_g)  # (4)
    c = i * g + f * c_prev  # (5)
    a = tanh(c)  # (6)
    h = o * a  # (7)
    return LSTMState(h=h, c=c), LSTMGates(i, f, o, g)


@numbered
def backward(
    params: LSTMParams,
    state: LSTMState,
    new_state: LSTMState,
    gates: LSTMGates,
    dnew: LSTMState,
) -> tuple[LSTMState, Array]:
    """The reverse of `equations`, from (7) to (1)."""
    i, f, o, g = gates
    c_prev, c = state.c, new_state.c
    dh, dc_next = dnew
    a = tanh(c)  # (6) again: cheaper than keeping it

    da = dh * o  # (7)
    do = dh * a  # (7)
    # c goes to (6) and to the next step's (5): the fan-out rule sums the two.
    dc = dc_next + da * (1 - a**2)  # (6)
    di = dc * g  # (5)
    dg = dc * i  # (5)
    df = dc * c_prev  # (5)
    dc_prev = dc * f  # (5)
    dz_g = dg * (1 - g**2)  # (4)
    dz_i = di * i * (1 - i)  # (3)
    dz_f = df * f * (1 - f)  # (3)
    dz_o = do * o * (1 - o)  # (3)

    # (1), (2): z = u + v gives both the same gradient; h_prev is reached through v.
    dz = concatenate(dz_i, dz_f, dz_o, dz_g)
    return LSTMState(h=THROUGH_V, c=dc_prev), dz


LSTM = gated(
    "lstm",
    init=init,
    initial_state=ZeroState(LSTMState),
    equations=equations,
    backward=backward,
)
