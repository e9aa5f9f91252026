"""The minimal gated unit: a GRU whose one gate both resets and updates.

Source: Zhou et al. (2016), "Minimal gated unit for recurrent neural networks". The
forget gate multiplies h_prev before the candidate's product, so that there are two
products a step; f = 1 takes the candidate::

    (1)  z_f = the gate's block of  x Wx + b,  plus  h_prev Wh
    (2)  f   = σ(z_f)
    (3)  s   = f * h_prev
    (4)  z_g = the candidate's block of  x Wx + b,  plus  s Wg
    (5)  g   = tanh(z_g)
    (6)  h   = (1 - f) * h_prev + f * g
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


class MGUParams(NamedTuple):
    """Weights of the two column blocks: forget gate, candidate.

    Attributes:
        Wx: input weights, (D, 2H).
        Wh: recurrent weights of the gate, (H, H).
        Wg: recurrent weights of the candidate, (H, H).
        b: biases, (2H,).
    """

    Wx: Array
    Wh: Array
    Wg: Array
    b: Array


class MGUGates(NamedTuple):
    """What the reverse needs beside the states: (2) and (5), each (..., H)."""

    f: Array
    g: Array


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    dtype: DTypeLike = jnp.float32,
    forget_bias: float = 1.0,
    recurrent_init: Initializer = orthogonal,
    **options: Any,
) -> MGUParams:
    """Draws parameters; see `lstm_jax.initializers.init_weights`.

    `forget_bias` is the gate's bias; the candidate's is 0.
    """
    key_x, key_h, key_g = jax.random.split(key, 3)
    biases = (forget_bias, 0.0)
    return MGUParams(
        **init_inputs(key_x, input_size, hidden_size, biases, dtype, **options),
        Wh=init_blocks(recurrent_init, key_h, hidden_size, hidden_size, 1, dtype),
        Wg=init_blocks(recurrent_init, key_g, hidden_size, hidden_size, 1, dtype),
    )


@numbered
def step(
    params: MGUParams, state: OutputState, u: Array
) -> tuple[OutputState, MGUGates]:
    """Equations (1) to (6), from u = x Wx + b (..., 2H)."""
    h_prev = state.h
    u_f, u_g = jnp.split(u, 2, axis=-1)
    z_f = u_f + weighted_input(h_prev, params.Wh)  # (1)
    f = sigmoid(z_f)  # (2)
    s = f * h_prev  # (3)
    z_g = u_g + weighted_input(s, params.Wg)  # (4)
    g = tanh(z_g)  # (5)
    h = (1 - f) * h_prev + f * g  # (6)
    return OutputState(h=h), MGUGates(f, g)


@numbered
def backward(
    params: MGUParams,
    state: OutputState,
    new_state: OutputState,
    gates: MGUGates,
    dnew: OutputState,
) -> tuple[OutputState, Array]:
    """The reverse of `step`, from (6) to (1)."""
    f, g = gates
    h_prev, dh = state.h, dnew.h

    dg = dh * f  # (6)
    dz_g = dg * (1 - g**2)  # (5)
    ds = dz_g @ params.Wg.T  # (4)
    # f goes to (6) and to (3).
    df = dh * (g - h_prev) + ds * h_prev  # (3)
    dz_f = df * f * (1 - f)  # (2)
    # h_prev goes to (6), (3) and (1).
    dh_prev = dh * (1 - f) + ds * f + dz_f @ params.Wh.T  # (1)

    return OutputState(h=dh_prev), concatenate(dz_f, dz_g)


def gradients(
    params: MGUParams,
    x: Array,
    state: OutputState,
    new_state: OutputState,
    gates: MGUGates,
    du: Array,
) -> tuple[MGUParams, Array]:
    """The weighted-input rule for (1) and (4), all steps at once."""
    dz_f, dz_g = jnp.split(du, 2, axis=-1)
    dweights, dx = input_gradients(params, x, du)
    dparams = MGUParams(
        **dweights,
        Wh=weight_gradient(dz_f, state.h),
        Wg=weight_gradient(dz_g, gates.f * state.h),
    )
    return dparams, dx


MGU = Cell(
    name="mgu",
    init=init,
    sizes=weight_sizes,
    initial_state=ZeroState(OutputState),
    project=input_product,
    step=step,
    backward=backward,
    gradients=gradients,
)
