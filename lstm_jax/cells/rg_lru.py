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

from lstm_jax.cell import (
    Cell,
    Initializer,
    OutputState,
    block_sizes,
    init_inputs,
    input_gradients,
    input_product,
    named,
    zero_state,
)
from lstm_jax.identities import bias_gradient, concatenate, sigmoid

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


class RGLRUGradients(NamedTuple):
    """∂J/∂u of u = x Wx + b (..., 3H), and ∂J/∂l (..., H)."""

    du: Array
    dl: Array


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    dtype: DTypeLike = jnp.float32,
    input_init: Initializer | None = None,
) -> RGLRUParams:
    """Draws parameters; arguments and errors as in `lstm_jax.cell.init_weights`.

    As in De et al., Λ is such that σ(Λ) to the power of c is uniform from 0.9 to
    0.999.
    """
    key_x, key_a = jax.random.split(key)
    biases = (0.0, 0.0, 0.0)
    weights = init_inputs(key_x, input_size, hidden_size, biases, dtype, input_init)
    slowest = jax.random.uniform(key_a, (hidden_size,), dtype, 0.9, 0.999)
    log_a = jnp.log(slowest) / C
    return RGLRUParams(**weights, decay=log_a - jnp.log(-jnp.expm1(log_a)))


def step(
    params: RGLRUParams, state: OutputState, u: Array
) -> tuple[OutputState, RGLRUKept]:
    """Equations (1) to (7), from u = x Wx + b (..., 3H)."""
    z_r, z_i, p = jnp.split(u, 3, axis=-1)
    p = named(p, "p", 1)
    r = named(sigmoid(named(z_r, "z_r", 1)), "r", 2)
    i = named(sigmoid(named(z_i, "z_i", 1)), "i", 2)
    l = named(C * r * jax.nn.log_sigmoid(params.decay), "l", 3)
    a = named(jnp.exp(l), "a", 4)
    square = -jnp.expm1(2 * l)
    # Where the square is 0, a root of 1 keeps automatic gradients finite.
    k = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
    k = named(k, "k", 5)
    s = named(i * p, "s", 6)
    h = named(a * state.h + k * s, "h", 7)
    return OutputState(h=h), RGLRUKept(p, r, i, a, k)


def backward(
    params: RGLRUParams,
    state: OutputState,
    new_state: OutputState,
    kept: RGLRUKept,
    dnew: OutputState,
) -> tuple[OutputState, RGLRUGradients]:
    """The reverse of `step`, from (7) to (1)."""
    del new_state
    p, r, i, a, k = kept

    da = named(dnew.h * state.h, "da", 7)
    dk = named(dnew.h * i * p, "dk", 7)
    ds = named(dnew.h * k, "ds", 7)
    dh_prev = named(dnew.h * a, "dh_prev", 7)
    di = named(ds * p, "di", 6)
    dp = named(ds * i, "dp", 6)
    # l goes to (4) and to (5).
    dl = named(da * a - dk * a**2 / jnp.where(k > 0, k, 1), "dl", 5)
    dr = named(dl * C * jax.nn.log_sigmoid(params.decay), "dr", 3)
    dz_r = named(dr * r * (1 - r), "dz_r", 2)
    dz_i = named(di * i * (1 - i), "dz_i", 2)

    du = concatenate(dz_r, dz_i, dp)
    return OutputState(h=dh_prev), RGLRUGradients(du, dl)


def gradients(
    params: RGLRUParams,
    x: Array,
    state: OutputState,
    new_state: OutputState,
    kept: RGLRUKept,
    d: RGLRUGradients,
) -> tuple[RGLRUParams, Array]:
    """The weighted-input rule for (1), and Λ's gradient, all steps at once."""
    del state, new_state
    dweights, dx = input_gradients(params, x, d.du)
    # (3): the derivative of log σ is 1 - σ.
    ddecay = named(d.dl * C * kept.r * sigmoid(-params.decay), "ddecay", 3)
    return RGLRUParams(**dweights, decay=bias_gradient(ddecay)), dx


sizes = block_sizes(3)

RG_LRU = Cell(
    name="rg_lru",
    init=init,
    sizes=sizes,
    initial_state=zero_state(OutputState, sizes),
    project=input_product,
    step=step,
    backward=backward,
    gradients=gradients,
    linear=True,
)
