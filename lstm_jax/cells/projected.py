"""The LSTM with a recurrent projection: a small output before a large memory.

Source: Sak et al. (2014), "Long short-term memory recurrent neural network
architectures for large scale acoustic modeling", the architecture LSTMP. Theirs has
peepholes and may add a second, non-recurrent projection; this one has neither, like
torch's ``proj_size``. (1) to (7) are `lstm_jax.cells.lstm`, with m for its output::

    (1)  z_i, z_f, z_o = the gates' blocks of  x Wx + b + h_prev Wh
    (2)  z_g           = the candidate's block of the same
    (3)  i, f, o       = σ(z_i), σ(z_f), σ(z_o)
    (4)  g             = tanh(z_g)
    (5)  c             = i * g + f * c_prev
    (6)  a             = tanh(c)
    (7)  m             = o * a
    (8)  h             = m Wp
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from lstm_jax.cell import Cell
from lstm_jax.cells.lstm import LSTM, LSTMGates, LSTMParams, LSTMState
from lstm_jax.gated import weight_sizes
from lstm_jax.identities import tanh, weight_gradient, weighted_input
from lstm_jax.initializers import (
    Initializer,
    check_size,
    glorot_uniform,
    init_blocks,
    init_inputs,
    orthogonal,
)
from lstm_jax.numbered import numbered


class ProjectedParams(NamedTuple):
    """The LSTM's weights, four column blocks each, and the projection to P values.

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
    """What the weights' gradients need: those of the LSTM's products, and of h."""

    dz: Any
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
    bias: bool = True,
) -> ProjectedParams:
    """Draws parameters; arguments and errors as in `lstm_jax.cells.lstm.init`.

    `projection_size` is P, the size of the output; None for half of H, rounded up.
    """
    key_x, key_h, key_p = jax.random.split(key, 3)
    biases = (0.0, forget_bias, 0.0, 0.0)
    weights = init_inputs(
        *(key_x, input_size, hidden_size, biases, dtype),
        input_init=input_init,
        bias=bias,
    )
    if projection_size is None:
        projection_size = (hidden_size + 1) // 2
    check_size("projection_size", projection_size)
    return ProjectedParams(
        **weights,
        Wh=init_blocks(recurrent_init, key_h, projection_size, hidden_size, 4, dtype),
        Wp=init_blocks(input_init, key_p, hidden_size, projection_size, 1, dtype),
    )


def lstm(params: ProjectedParams) -> LSTMParams:
    """The parameters of (1) to (7)."""
    return LSTMParams(params.Wx, params.Wh, params.b)


def sizes(params: ProjectedParams) -> dict[str, int]:
    """The size arguments of `init` that made the parameters."""
    hidden_size, projection_size = params.Wp.shape
    own = {"hidden_size": hidden_size, "projection_size": projection_size}
    return weight_sizes(params) | own


def initial_state(params: ProjectedParams, batch_shape: tuple[int, ...]) -> LSTMState:
    """Zeros, h (*batch_shape, P) and c (*batch_shape, H)."""
    hidden_size, projection_size = params.Wp.shape
    return LSTMState(
        h=jnp.zeros((*batch_shape, projection_size), params.Wp.dtype),
        c=jnp.zeros((*batch_shape, hidden_size), params.Wp.dtype),
    )


@numbered
def step(
    params: ProjectedParams, state: LSTMState, u: Array
) -> tuple[LSTMState, LSTMGates]:
    """Equations (1) to (8), from u = x Wx + b (..., 4H)."""
    new_state, gates = LSTM.step(lstm(params), state, u)
    m = new_state.h  # (7)
    h = weighted_input(m, params.Wp)  # (8)
    return new_state._replace(h=h), gates


@numbered
def backward(
    params: ProjectedParams,
    state: LSTMState,
    new_state: LSTMState,
    gates: LSTMGates,
    dnew: LSTMState,
) -> tuple[LSTMState, ProjectedGradients]:
    """The reverse of `step`, from (8) to (1)."""
    dm = dnew.h @ params.Wp.T  # (8)
    dlstm = LSTMState(h=dm, c=dnew.c)
    dstate, dz = LSTM.backward(lstm(params), state, new_state, gates, dlstm)
    return dstate, ProjectedGradients(dz, dh=dnew.h)


def gradients(
    params: ProjectedParams,
    x: Array,
    state: LSTMState,
    new_state: LSTMState,
    gates: LSTMGates,
    d: ProjectedGradients,
) -> tuple[ProjectedParams, Array]:
    """The weighted-input rule for (1), (2) and (8), all steps at once."""
    dlstm, dx = LSTM.gradients(lstm(params), x, state, new_state, gates, d.dz)
    m = gates.o * tanh(new_state.c)  # (7) again
    return ProjectedParams(*dlstm, Wp=weight_gradient(d.dh, m)), dx


PROJECTED_LSTM = Cell(
    name="projected_lstm",
    init=init,
    sizes=sizes,
    initial_state=initial_state,
    project=LSTM.project,
    step=step,
    backward=backward,
    gradients=gradients,
)
