"""The multiplicative LSTM: the input chooses the recurrent transition.

Source: Krause et al. (2016), "Multiplicative LSTM for sequence modelling". An
intermediate state m, the product of a view of the input and a view of h_prev, neither
with a bias, takes the place of h_prev in the gates; m has the size of h. Two products
a step, one after the other::

    (1)  q             = h_prev Wmh
    (2)  m             = (x Wmx) * q
    (3)  z_i, z_f, z_o = the gates' blocks of  x Wx + b + m Wh
    (4)  z_g           = the candidate's block of the same
    (5)  i, f, o       = σ(z_i), σ(z_f), σ(z_o)
    (6)  g             = tanh(z_g)
    (7)  c             = i * g + f * c_prev
    (8)  a             = tanh(c)
    (9)  h             = o * a
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from lstm_jax.cell import (
    Cell,
    Initializer,
    glorot_uniform,
    init_blocks,
    init_weights,
    input_gradients,
    input_product,
    named,
    orthogonal,
    weight_sizes,
    zero_state,
)
from lstm_jax.cells.lstm import LSTMState
from lstm_jax.identities import (
    concatenate,
    sigmoid,
    tanh,
    weight_gradient,
    weighted_input,
)


class MultiplicativeParams(NamedTuple):
    """Weights of the four column blocks (i, f, o, g), and of the intermediate state.

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
    """What the reverse needs beside the states: (5), (6), p and (1), each (..., H)."""

    i: Array
    f: Array
    o: Array
    g: Array
    p: Array
    q: Array


class MultiplicativeGradients(NamedTuple):
    """The gradients of the products: z (..., 4H), p (..., H) and q (..., H)."""

    dz: Array
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
) -> MultiplicativeParams:
    """Draws parameters; arguments and errors as in `lstm_jax.cells.lstm.init`."""
    key, key_x, key_h = jax.random.split(key, 3)
    weights = init_weights(
        key,
        input_size,
        hidden_size,
        (0.0, forget_bias, 0.0, 0.0),
        dtype,
        input_init=input_init,
        recurrent_init=recurrent_init,
    )
    return MultiplicativeParams(
        **weights,
        Wmx=init_blocks(input_init, key_x, input_size, hidden_size, 1, dtype),
        Wmh=init_blocks(recurrent_init, key_h, hidden_size, hidden_size, 1, dtype),
    )


def project(params: MultiplicativeParams, x: Array) -> MultiplicativeInput:
    """The two products of the input."""
    p = named(weighted_input(x, params.Wmx), "p", 2)
    return MultiplicativeInput(u=input_product(params, x), p=p)


def step(
    params: MultiplicativeParams,
    state: LSTMState,
    products: MultiplicativeInput,
) -> tuple[LSTMState, MultiplicativeKept]:
    """Equations (1) to (9), from the input's two products."""
    u, p = products
    q = named(weighted_input(state.h, params.Wmh), "q", 1)
    m = named(p * q, "m", 2)
    z_i, z_f, z_o, z_g = jnp.split(u + weighted_input(m, params.Wh), 4, axis=-1)
    i = named(sigmoid(named(z_i, "z_i", 3)), "i", 5)
    f = named(sigmoid(named(z_f, "z_f", 3)), "f", 5)
    o = named(sigmoid(named(z_o, "z_o", 3)), "o", 5)
    g = named(tanh(named(z_g, "z_g", 4)), "g", 6)
    c = named(i * g + f * state.c, "c", 7)
    a = named(tanh(c), "a", 8)
    h = named(o * a, "h", 9)
    return LSTMState(h=h, c=c), MultiplicativeKept(i, f, o, g, p, q)


def backward(
    params: MultiplicativeParams,
    state: LSTMState,
    new_state: LSTMState,
    kept: MultiplicativeKept,
    dnew: LSTMState,
) -> tuple[LSTMState, MultiplicativeGradients]:
    """The reverse of `step`, from (9) to (1)."""
    i, f, o, g, p, q = kept
    a = tanh(new_state.c)  # (8) again: cheaper than keeping it

    da = named(dnew.h * o, "da", 9)
    do = named(dnew.h * a, "do", 9)
    dc = named(dnew.c + da * (1 - a**2), "dc", 8)
    di = named(dc * g, "di", 7)
    dg = named(dc * i, "dg", 7)
    df = named(dc * state.c, "df", 7)
    dc_prev = named(dc * f, "dc_prev", 7)
    dz_g = named(dg * (1 - g**2), "dz_g", 6)
    dz_i = named(di * i * (1 - i), "dz_i", 5)
    dz_f = named(df * f * (1 - f), "dz_f", 5)
    dz_o = named(do * o * (1 - o), "dz_o", 5)
    dz = concatenate(dz_i, dz_f, dz_o, dz_g)
    dm = named(dz @ params.Wh.T, "dm", 3)
    dp = named(dm * q, "dp", 2)
    dq = named(dm * p, "dq", 2)
    dh_prev = named(dq @ params.Wmh.T, "dh_prev", 1)

    dstate = LSTMState(h=dh_prev, c=dc_prev)
    return dstate, MultiplicativeGradients(dz, dp, dq)


def gradients(
    params: MultiplicativeParams,
    x: Array,
    state: LSTMState,
    new_state: LSTMState,
    kept: MultiplicativeKept,
    d: MultiplicativeGradients,
) -> tuple[MultiplicativeParams, Array]:
    """The weighted-input rule for (1) to (4), all steps at once."""
    del new_state
    dweights, dx = input_gradients(params, x, d.dz)
    dparams = MultiplicativeParams(
        **dweights,
        Wh=weight_gradient(d.dz, kept.p * kept.q),
        Wmx=weight_gradient(d.dp, x),
        Wmh=weight_gradient(d.dq, state.h),
    )
    return dparams, dx + d.dp @ params.Wmx.T


MULTIPLICATIVE_LSTM = Cell(
    name="multiplicative_lstm",
    init=init,
    sizes=weight_sizes,
    initial_state=zero_state(LSTMState),
    project=project,
    step=step,
    backward=backward,
    gradients=gradients,
)
