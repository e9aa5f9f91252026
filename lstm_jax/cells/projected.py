"""The LSTM with a recurrent projection: a small output before a large memory.

Source: Sak et al. (2014), "Long short-term memory recurrent neural network
architectures for large scale acoustic modeling", the architecture LSTMP. Theirs has
peepholes and may add a second, non-recurrent projection; this one has neither, like
torch's ``proj_size``::

    (1)  z_i, z_f, z_o = the gates' blocks of  x Wx + b + h_prev Wh
    (2)  z_g           = the candidate's block of the same
    (3)  i, f, o       = σ(z_i), σ(z_f), σ(z_o)
    (4)  g             = tanh(z_g)
    (5)  c             = i * g + f * c_prev
    (6)  a             = tanh(c)
    (7)  m             = o * a
    (8)  h             = m Wp
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from lstm_jax.cell import (
    Cell,
    Initializer,
    check_size,
    glorot_uniform,
    init_blocks,
    init_inputs,
    input_gradients,
    input_product,
    named,
    orthogonal,
)
from lstm_jax.cells.lstm import LSTMGates, LSTMState
from lstm_jax.identities import (
    concatenate,
    sigmoid,
    tanh,
    weight_gradient,
    weighted_input,
)


class ProjectedParams(NamedTuple):
    """Weights of the four column blocks (i, f, o, g), and the projection to P values.

    Attributes:
        Wx: input weights, (D, 4H).
        Wh: recurrent weights, (P, 4H).
        b: biases, (4H,).
        Wp: projection, (H, P).
    """

    Wx: Array
    Wh: Array
    b: Array
    Wp: Array


class ProjectedGradients(NamedTuple):
    """What the weights' gradients need: those of u + v (..., 4H) and h (..., P)."""

    dz: Array
    dh: Array


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    projection_size: int | None = None,
    dtype: DTypeLike = jnp.float32,
    forget_bias: float = 1.0,
    input_init: Initializer = glorot_uniform,
    recurrent_init: Initializer = orthogonal,
) -> ProjectedParams:
    """Draws parameters; arguments and errors as in `lstm_jax.cells.lstm.init`.

    `projection_size` is P, the size of the output; None for half of H, rounded up.
    """
    check_size("hidden_size", hidden_size)
    if projection_size is None:
        projection_size = (hidden_size + 1) // 2
    check_size("projection_size", projection_size)
    key_x, key_h, key_p = jax.random.split(key, 3)
    biases = (0.0, forget_bias, 0.0, 0.0)
    return ProjectedParams(
        **init_inputs(key_x, input_size, hidden_size, biases, dtype, input_init),
        Wh=init_blocks(recurrent_init, key_h, projection_size, hidden_size, 4, dtype),
        Wp=init_blocks(input_init, key_p, hidden_size, projection_size, 1, dtype),
    )


def sizes(params: ProjectedParams) -> dict[str, int]:
    """The size arguments of `init` that made the parameters."""
    return {
        "input_size": params.Wx.shape[0],
        "hidden_size": params.Wp.shape[0],
        "projection_size": params.Wp.shape[1],
    }


def initial_state(params: ProjectedParams, batch_shape: tuple[int, ...]) -> LSTMState:
    """Zeros, h (*batch_shape, P) and c (*batch_shape, H)."""
    hidden_size, projection_size = params.Wp.shape
    return LSTMState(
        h=jnp.zeros((*batch_shape, projection_size), params.Wp.dtype),
        c=jnp.zeros((*batch_shape, hidden_size), params.Wp.dtype),
    )


def step(
    params: ProjectedParams, state: LSTMState, u: Array
) -> tuple[LSTMState, LSTMGates]:
    """Equations (1) to (8), from u = x Wx + b (..., 4H)."""
    z_i, z_f, z_o, z_g = jnp.split(u + weighted_input(state.h, params.Wh), 4, axis=-1)
    i = named(sigmoid(named(z_i, "z_i", 1)), "i", 3)
    f = named(sigmoid(named(z_f, "z_f", 1)), "f", 3)
    o = named(sigmoid(named(z_o, "z_o", 1)), "o", 3)
    g = named(tanh(named(z_g, "z_g", 2)), "g", 4)
    c = named(i * g + f * state.c, "c", 5)
    a = named(tanh(c), "a", 6)
    m = named(o * a, "m", 7)
    h = named(weighted_input(m, params.Wp), "h", 8)
    return LSTMState(h=h, c=c), LSTMGates(i, f, o, g)


def backward(
    params: ProjectedParams,
    state: LSTMState,
    new_state: LSTMState,
    gates: LSTMGates,
    dnew: LSTMState,
) -> tuple[LSTMState, ProjectedGradients]:
    """The reverse of `step`, from (8) to (1)."""
    i, f, o, g = gates
    a = tanh(new_state.c)  # (6) again: cheaper than keeping it

    dm = named(dnew.h @ params.Wp.T, "dm", 8)
    da = named(dm * o, "da", 7)
    do = named(dm * a, "do", 7)
    dc = named(dnew.c + da * (1 - a**2), "dc", 6)
    di = named(dc * g, "di", 5)
    dg = named(dc * i, "dg", 5)
    df = named(dc * state.c, "df", 5)
    dc_prev = named(dc * f, "dc_prev", 5)
    dz_g = named(dg * (1 - g**2), "dz_g", 4)
    dz_i = named(di * i * (1 - i), "dz_i", 3)
    dz_f = named(df * f * (1 - f), "dz_f", 3)
    dz_o = named(do * o * (1 - o), "dz_o", 3)

    dz = concatenate(dz_i, dz_f, dz_o, dz_g)
    dh_prev = named(dz @ params.Wh.T, "dh_prev", 1)
    return LSTMState(h=dh_prev, c=dc_prev), ProjectedGradients(dz, dnew.h)


def gradients(
    params: ProjectedParams,
    x: Array,
    state: LSTMState,
    new_state: LSTMState,
    gates: LSTMGates,
    dz: ProjectedGradients,
) -> tuple[ProjectedParams, Array]:
    """The weighted-input rule for (1), (2) and (8), all steps at once."""
    m = gates.o * tanh(new_state.c)  # (7) again
    dweights, dx = input_gradients(params, x, dz.dz)
    dparams = ProjectedParams(
        **dweights,
        Wh=weight_gradient(dz.dz, state.h),
        Wp=weight_gradient(dz.dh, m),
    )
    return dparams, dx


PROJECTED_LSTM = Cell(
    name="projected_lstm",
    init=init,
    sizes=sizes,
    initial_state=initial_state,
    project=input_product,
    step=step,
    backward=backward,
    gradients=gradients,
)
