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
does not. The derivative of (5) is infinite at l = 0, where r is 0: r's own derivative
is 0 there, faster, and so is the product.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from lstm_jax.cell import OutputState, named
from lstm_jax.gated import BlockSizes, gated
from lstm_jax.identities import concatenate, sigmoid, square_root, square_root_backward
from lstm_jax.initializers import Initializer, ZeroState, init_inputs

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
    input_init: Initializer | None = None,
) -> RGLRUParams:
    """Draws parameters; see `lstm_jax.initializers.init_weights`.

    As in De et al., Λ is such that σ(Λ) to the power of c is uniform from 0.9 to
    0.999.
    """
    key_x, key_a = jax.random.split(key)
    biases = (0.0, 0.0, 0.0)
    weights = init_inputs(key_x, input_size, hidden_size, biases, dtype, input_init)
    slowest = jax.random.uniform(key_a, (hidden_size,), dtype, 0.9, 0.999)
    log_a = jnp.log(slowest) / C
    return RGLRUParams(**weights, decay=log_a - jnp.log(-jnp.expm1(log_a)))


def equations(
    params: RGLRUParams, state: OutputState, u: Array, v: None
) -> tuple[OutputState, RGLRUKept]:
    """Equations (1) to (7), from u = x Wx + b (..., 3H)."""
    del v
    z_r, z_i, p = jnp.split(u, 3, axis=-1)
    p = named(p, "p", 1)
    r = named(sigmoid(named(z_r, "z_r", 1)), "r", 2)
    i = named(sigmoid(named(z_i, "z_i", 1)), "i", 2)
    l = named(C * r * jax.nn.log_sigmoid(params.decay), "l", 3)
    a = named(jnp.exp(l), "a", 4)
    k = named(square_root(-jnp.expm1(2 * l)), "k", 5)
    s = named(i * p, "s", 6)
    h = named(a * state.h + k * s, "h", 7)
    return OutputState(h=h), RGLRUKept(p, r, i, a, k)


def backward(
    params: RGLRUParams,
    state: OutputState,
    new_state: OutputState,
    kept: RGLRUKept,
    dnew: OutputState,
) -> tuple[OutputState, Array, Array]:
    """The reverse of `equations`, from (7) to (1); beside du, dl for Λ's gradient."""
    del new_state
    p, r, i, a, k = kept
    da = named(dnew.h * state.h, "da", 7)
    dk = named(dnew.h * i * p, "dk", 7)
    ds = named(dnew.h * k, "ds", 7)
    dh_prev = named(dnew.h * a, "dh_prev", 7)
    di = named(ds * p, "di", 6)
    dp = named(ds * i, "dp", 6)
    # l goes to (4) and to (5), whose square has the derivative -2 exp(2 l).
    dl = named(da * a - square_root_backward(dk, k) * 2 * a**2, "dl", 5)
    dr = named(dl * C * jax.nn.log_sigmoid(params.decay), "dr", 3)
    dz_r = named(dr * r * (1 - r), "dz_r", 2)
    dz_i = named(di * i * (1 - i), "dz_i", 2)
    return OutputState(h=dh_prev), concatenate(dz_r, dz_i, dp), dl


def decay(
    params: RGLRUParams,
    state: OutputState,
    new_state: OutputState,
    kept: RGLRUKept,
    du: Array,
    dl: Array,
) -> dict[str, Array]:
    """The gradient of Λ at every step, (..., H)."""
    del state, new_state, du
    # (3): the derivative of log σ is 1 - σ.
    return {"decay": named(dl * C * kept.r * sigmoid(-params.decay), "ddecay", 3)}


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
