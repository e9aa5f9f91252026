"""The minLSTM: an LSTM whose gates and candidate see the input alone.

Source: Feng et al. (2024), "Were RNNs all we needed?", section 3.2, with the two
gates normalized to add up to 1 (an option of the authors' code), and the candidate
linear. They divide σ(z_f) and σ(z_i) by their sum; the same quotient is written here
as a logistic function of the difference of their logarithms, as in their scan in
log-space, which is finite where both gates are closed.
``softplus(q) = log(1 + exp(q)) = -log σ(-q)``::

    (1)  z_f, z_i, n = the blocks of  x Wx + b
    (2)  e           = softplus(-z_i) - softplus(-z_f)
    (3)  f           = σ(e)              = σ(z_f) / (σ(z_f) + σ(z_i))
    (4)  h           = f * h_prev + (1 - f) * n
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from lstm_jax.cell import OutputState
from lstm_jax.gated import BlockSizes, gated
from lstm_jax.identities import concatenate, sigmoid
from lstm_jax.initializers import ZeroState, init_inputs
from lstm_jax.numbered import numbered


class MinLSTMParams(NamedTuple):
    """Weights of the three column blocks: forget gate, input gate, candidate.

    Attributes:
        Wx: input weights, (D, 3H).
        b: biases, (3H,).
    """

    Wx: Array
    b: Array


class MinLSTMGates(NamedTuple):
    """What the reverse needs beside the states: (1) and (3), each (..., H)."""

    z_f: Array
    z_i: Array
    f: Array
    n: Array


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    dtype: DTypeLike = jnp.float32,
    forget_bias: float = 1.0,
    **options: Any,
) -> MinLSTMParams:
    """Draws parameters; see `lstm_jax.initializers.init_inputs`.

    `forget_bias` is the forget gate's bias; all others are 0.
    """
    biases = (forget_bias, 0.0, 0.0)
    weights = init_inputs(key, input_size, hidden_size, biases, dtype, **options)
    return MinLSTMParams(**weights)


@numbered
def equations(
    params: MinLSTMParams, state: OutputState, u: Array, v: None
) -> tuple[OutputState, MinLSTMGates]:
    """Equations (1) to (4), from u = x Wx + b (..., 3H)."""
    h_prev = state.h
    z_f, z_i, n = jnp.split(u, 3, axis=-1)  # (1)
    e = jax.nn.softplus(-z_i) - jax.nn.softplus(-z_f)  # (2)
    f = sigmoid(e)  # (3)
    h = f * h_prev + (1 - f) * n  # (4)
    return OutputState(h=h), MinLSTMGates(z_f, z_i, f, n)


@numbered
def backward(
    params: MinLSTMParams,
    state: OutputState,
    new_state: OutputState,
    gates: MinLSTMGates,
    dnew: OutputState,
) -> tuple[OutputState, Array]:
    """The reverse of `equations`, from (4) to (1); softplus' derivative is σ."""
    z_f, z_i, f, n = gates
    h_prev, dh = state.h, dnew.h

    dn = dh * (1 - f)  # (4)
    df = dh * (h_prev - n)  # (4)
    dh_prev = dh * f  # (4)
    de = df * f * (1 - f)  # (3)
    dz_i = -de * sigmoid(-z_i)  # (2)
    dz_f = de * sigmoid(-z_f)  # (2)

    return OutputState(h=dh_prev), concatenate(dz_f, dz_i, dn)


sizes = BlockSizes(3)

MIN_LSTM = gated(
    "min_lstm",
    init=init,
    initial_state=ZeroState(OutputState, sizes),
    equations=equations,
    backward=backward,
    sizes=sizes,
    linear=True,
)
