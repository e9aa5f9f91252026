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

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from lstm_jax.cell import OutputState, named
from lstm_jax.gated import BlockSizes, gated
from lstm_jax.identities import concatenate, sigmoid
from lstm_jax.initializers import Initializer, ZeroState, init_inputs


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
    input_init: Initializer | None = None,
) -> MinLSTMParams:
    """Draws parameters; see `lstm_jax.initializers.init_weights`.

    `forget_bias` is the forget gate's bias; all others are 0.
    """
    biases = (forget_bias, 0.0, 0.0)
    weights = init_inputs(key, input_size, hidden_size, biases, dtype, input_init)
    return MinLSTMParams(**weights)


def equations(
    params: MinLSTMParams, state: OutputState, u: Array, v: None
) -> tuple[OutputState, MinLSTMGates]:
    """Equations (1) to (4), from u = x Wx + b (..., 3H)."""
    del params, v
    z_f, z_i, n = jnp.split(u, 3, axis=-1)
    z_f = named(z_f, "z_f", 1)
    z_i = named(z_i, "z_i", 1)
    n = named(n, "n", 1)
    e = named(jax.nn.softplus(-z_i) - jax.nn.softplus(-z_f), "e", 2)
    f = named(sigmoid(e), "f", 3)
    h = named(f * state.h + (1 - f) * n, "h", 4)
    return OutputState(h=h), MinLSTMGates(z_f, z_i, f, n)


def backward(
    params: MinLSTMParams,
    state: OutputState,
    new_state: OutputState,
    gates: MinLSTMGates,
    dnew: OutputState,
) -> tuple[OutputState, Array, None]:
    """The reverse of `equations`, from (4) to (1); softplus' derivative is σ."""
    del params, new_state
    z_f, z_i, f, n = gates
    dn = named(dnew.h * (1 - f), "dn", 4)
    df = named(dnew.h * (state.h - n), "df", 4)
    dh_prev = named(dnew.h * f, "dh_prev", 4)
    de = named(df * f * (1 - f), "de", 3)
    dz_i = named(-de * sigmoid(-z_i), "dz_i", 2)
    dz_f = named(de * sigmoid(-z_f), "dz_f", 2)
    return OutputState(h=dh_prev), concatenate(dz_f, dz_i, dn), None


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
