"""The real-gated linear recurrent unit of Griffin.

Source: De et al. (2024), "Griffin: mixing gated linear recurrences with local
attention for efficient language models", section 2.4, equations 1 to 4, with c = 8 and
a = σ(Λ), computed in logarithms as in its appendix A. There the gates and the gated
input all see the output of a linear layer and a convolution; here they are three
blocks of one weighted input, so that D may differ from H (the third block identity
and without bias, it is theirs)::

    (1)  z_r, z_i, p = the blocks of  x Wx + b
    (2)  r, i        = σ(z_r), σ(z_i)
    (3)  l           = c * r * log σ(Λ)
    (4)  a           = exp(l)
    (5)  k           = √(1 - exp(2 l))
    (6)  s           = i * p
    (7)  h           = a * h_prev + k * s

Their code, other than the paper, sets k = 1 at the first step of a sequence; this
does not. Where r goes to 0, so does l, and the derivative of (5) grows without bound.
The derivative of r, which it is multiplied by, goes to 0 faster, and so their product
goes to 0.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from lstm_jax.cell import OutputState
from lstm_jax.gated import BlockSizes, gated
from lstm_jax.identities import concatenate, sigmoid, square_root, square_root_backward
from lstm_jax.initializers import ZeroState, init_inputs
from lstm_jax.numbered import numbered

C = 8.0
"""c: the recurrence gate moves a between σ(Λ) to the power of 8 and 1."""


class RGLRUParams(NamedTuple):
    """Weights of the three column blocks: recurrence gate, input gate, input.

    Attributes:
        Wx: input weights, (D, 3H).
        b: biases, (3H,).
        decay: Λ, (H,).
    """

    Wx: Array
    b: Array
    decay: Array


class RGLRUKept(NamedTuple):
    """What the reverse needs beside the states: (1), (2), (4), (5), each (..., H)."""

    p: Array
    r: Array
    i: Array
    a: Array
    k: Array


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    dtype: DTypeLike = jnp.float32,
    **options: Any,
) -> RGLRUParams:
    """Draws parameters; see `lstm_jax.initializers.init_inputs`.

    As in De et al., Λ is such that σ(Λ) to the power of c is uniform from 0.9 to
    0.999.
    """
    key_x, key_a = jax.random.split(key)
    biases = (0.0, 0.0, 0.0)
    weights = init_inputs(key_x, input_size, hidden_size, biases, dtype, **options)
    slowest = jax.random.uniform(key_a, (hidden_size,), dtype, 0.9, 0.999)
    log_a = jnp.log(slowest) / C
    return RGLRUParams(**weights, decay=log_a - jnp.log(-jnp.expm1(log_a)))


@numbered
def equations(
    params: RGLRUParams, state: OutputState, u: Array, v: None
) -> tuple[OutputState, RGLRUKept]:
    """Equations (1) to (7), from u = x Wx + b (..., 3H)."""
    h_prev = state.h
    z_r, z_i, p = jnp.split(u, 3, axis=-1)  # (1)
    r, i = sigmoid(z_r), sigmoid(z_i)  # (2)
    l = C * r * jax.nn.log_sigmoid(params.decay)  # (3)
    a = jnp.exp(l)  # (4)
    k = square_root(-jnp.expm1(2 * l))  # (5)
    s = i * p  # (6)
    h = a * h_prev + k * s  # (7)
    return OutputState(h=h), RGLRUKept(p, r, i, a, k)


@numbered
def backward(
    params: RGLRUParams,
    state: OutputState,
    new_state: OutputState,
    kept: RGLRUKept,
    dnew: OutputState,
) -> tuple[OutputState, Array, Array]:
    """The reverse of `equations`, from (7) to (1); beside du, dl for Λ's gradient."""
    p, r, i, a, k = kept
    h_prev, dh = state.h, dnew.h

    da = dh * h_prev  # (7)
    dk = dh * i * p  # (7)
    ds = dh * k  # (7)
    dh_prev = dh * a  # (7)
    di = ds * p  # (6)
    dp = ds * i  # (6)
    # l goes to (4) and to (5), whose square has the derivative -2 exp(2 l).
    dl = da * a - square_root_backward(dk, k) * 2 * a**2  # (5)
    dr = dl * C * jax.nn.log_sigmoid(params.decay)  # (3)
    dz_r = dr * r * (1 - r)  # (2)
    dz_i = di * i * (1 - i)  # (2)

    return OutputState(h=dh_prev), concatenate(dz_r, dz_i, dp), dl


@numbered
def decay(
    params: RGLRUParams,
    state: OutputState,
    new_state: OutputState,
    kept: RGLRUKept,
    du: Array,
    dl: Array,
) -> dict[str, Array]:
    """The gradient of Λ at every step, (..., H)."""
    # The derivative of log σ is 1 - σ.
    ddecay = dl * C * kept.r * sigmoid(-params.decay)  # (3)
    return {"decay": ddecay}


sizes = BlockSizes(3)

RG_LRU = gated(
    "rg_lru",
    init=init,
    initial_state=ZeroState(OutputState, sizes),
    equations=equations,
    backward=backward,
    elementwise=decay,
    sizes=sizes,
    linear=True,
)
