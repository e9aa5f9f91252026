"""The real-gated linear recurrent unit as Griffin's released models have it.

Source: De et al. (2024), "Griffin: mixing gated linear recurrences with local
attention for efficient language models", section 2.4, equations 1 to 4, with c = 8 and
a = σ(Λ), as in the code that was published with RecurrentGemma (Botev et al., 2024).
Where `lstm_jax.cells.rg_lru` has three blocks of one weighted input, here the gates see
the input through block-diagonal matrices, one block a head, and the input itself is
gated. At the first step of a document the old state is left out, and the input comes in
whole. What step that is stands behind the input, x = [p, first], 1 there and 0
elsewhere::

    (1)  z_r, z_i = the blocks of  p Wx + b,  head by head
    (2)  r, i     = σ(z_r), σ(z_i)
    (3)  l        = c * r * log σ(Λ)
    (4)  e        = exp(l)
    (5)  g        = √(1 - exp(2 l))
    (6)  a        = (1 - first) * e
    (7)  k        = (1 - first) * g + first
    (8)  s        = i * p
    (9)  h        = a * h_prev + k * s

Their parameter `a_param` is -Λ, and their square root's derivative is cut off at 1000,
as ours is not (see `lstm_jax.cells.rg_lru` for why it need not be).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from lstm_jax.cell import Cell, OutputState
from lstm_jax.cells.rg_lru import RG_LRU, C
from lstm_jax.identities import (
    accumulator_dtype,
    across,
    bias_gradient,
    concatenate,
    sigmoid,
    square_root,
    square_root_backward,
)
from lstm_jax.initializers import ZeroState, check_size
from lstm_jax.numbered import numbered


class GriffinParams(NamedTuple):
    """Weights of the two gates, recurrence and input.

    Attributes:
        Wx: by gate and head, (2, K, H/K, H/K).
        b: biases, (2H,).
        decay: Λ, (H,).
    """

    Wx: Array
    b: Array
    decay: Array


class GriffinInput(NamedTuple):
    """What a step sees of the input: z_r and z_i, p, and first (..., 1)."""

    z: Array
    p: Array
    first: Array


class GriffinKept(NamedTuple):
    """What the reverse needs beside the states: (2), p, first, (4) and (5)."""

    r: Array
    i: Array
    p: Array
    first: Array
    e: Array
    g: Array


class GriffinGradients(NamedTuple):
    """The gradients of z_r and z_i, of p through (8), of first, and of l."""

    dz: Array
    dp: Array
    dfirst: Array
    dl: Array


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    heads: int = 1,
    dtype: DTypeLike = jnp.float32,
) -> GriffinParams:
    """Draws parameters: normal weights of variance 1 / fan-in, Λ as in the RG-LRU.

    Args:
        key: a PRNG key.
        input_size: H + 1.
        hidden_size: H.
        heads: K, the number of blocks of a gate's matrix.
        dtype: a floating dtype.

    Raises:
        TypeError: a size is no integer, or a dtype not floating.
        ValueError: another `input_size`, or `heads` does not divide `hidden_size`.
    """
    check_size("heads", heads)
    key_w, key_decay = jax.random.split(key)
    of_size = RG_LRU.init(key_decay, 1, hidden_size, dtype=dtype)
    if input_size != hidden_size + 1:
        raise ValueError(
            "input_size must be hidden_size + 1, the input and whether a document "
            f"starts; got {input_size} for hidden_size = {hidden_size}"
        )
    if hidden_size % heads:
        raise ValueError(
            f"heads must divide hidden_size = {hidden_size}; got heads = {heads}"
        )
    size = hidden_size // heads
    Wx = jax.random.normal(key_w, (2, heads, size, size), dtype) / size**0.5
    return GriffinParams(Wx, jnp.zeros(2 * hidden_size, dtype), of_size.decay)


def sizes(params: GriffinParams) -> dict[str, int]:
    """The size arguments of `init` that made the parameters."""
    _, heads, size, _ = params.Wx.shape
    hidden_size = heads * size
    return {
        "input_size": hidden_size + 1,
        "hidden_size": hidden_size,
        "heads": heads,
    }


def by_head(p: Array, Wx: Array) -> Array:
    """(..., K, H/K) from (..., H)."""
    return p.reshape(*p.shape[:-1], *Wx.shape[1:3])


def project(params: GriffinParams, x: Array) -> GriffinInput:
    """Equation (1), and the two parts of the input."""
    p, first = x[..., :-1], x[..., -1:]
    z = jnp.einsum("...kd,gkdn->...gkn", by_head(p, params.Wx), params.Wx)
    z = z.reshape(*p.shape[:-1], -1)
    return GriffinInput(z + across(params.b, z), p, first)


@numbered
def step(
    params: GriffinParams, state: OutputState, u: GriffinInput
) -> tuple[OutputState, GriffinKept]:
    """Equations (1) to (9)."""
    h_prev, (z, p, first) = state.h, u
    z_r, z_i = jnp.split(z, 2, axis=-1)  # (1)
    r, i = sigmoid(z_r), sigmoid(z_i)  # (2)
    l = C * r * across(jax.nn.log_sigmoid(params.decay), r)  # (3)
    e = jnp.exp(l)  # (4)
    g = square_root(-jnp.expm1(2 * l))  # (5)
    a = (1 - first) * e  # (6)
    k = (1 - first) * g + first  # (7)
    s = i * p  # (8)
    h = a * h_prev + k * s  # (9)
    return OutputState(h=h), GriffinKept(r, i, p, first, e, g)


@numbered
def backward(
    params: GriffinParams,
    state: OutputState,
    new_state: OutputState,
    kept: GriffinKept,
    dnew: OutputState,
) -> tuple[OutputState, GriffinGradients]:
    """The reverse of `step`, from (9) to (1)."""
    r, i, p, first, e, g = kept
    h_prev, dh = state.h, dnew.h

    da = dh * h_prev  # (9)
    dk = dh * i * p  # (9)
    ds = dh * ((1 - first) * g + first)  # (9)
    dh_prev = dh * (1 - first) * e  # (9)
    di = ds * p  # (8)
    dg = dk * (1 - first)  # (7)
    de = da * (1 - first)  # (6)
    # first goes to (7) and (6), for every unit.
    dfirst = jnp.sum(dk * (1 - g) - da * e, axis=-1, keepdims=True)
    # l goes to (4) and to (5), whose square has the derivative -2 exp(2 l).
    dl = de * e - square_root_backward(dg, g) * 2 * e**2  # (5)
    dr = dl * C * across(jax.nn.log_sigmoid(params.decay), dl)  # (3)
    dz_r = dr * r * (1 - r)  # (2)
    dz_i = di * i * (1 - i)  # (2)
    d = GriffinGradients(concatenate(dz_r, dz_i), dp=ds * i, dfirst=dfirst, dl=dl)
    return OutputState(h=dh_prev), d


def gradients(
    params: GriffinParams,
    x: Array,
    state: OutputState,
    new_state: OutputState,
    kept: GriffinKept,
    d: GriffinGradients,
) -> tuple[GriffinParams, Array]:
    """The weighted-input rule of each head, and (3) for Λ, all steps at once."""
    Wx = params.Wx
    dz = d.dz.reshape(*d.dz.shape[:-1], *Wx.shape[:2], Wx.shape[3])
    dparams = GriffinParams(
        Wx=jnp.einsum(
            "...kd,...gkn->gkdn",
            by_head(kept.p, Wx),
            dz,
            preferred_element_type=accumulator_dtype(Wx.dtype),
        ),
        b=bias_gradient(d.dz),
        # The derivative of log σ is 1 - σ.
        decay=bias_gradient(d.dl * C * kept.r) * sigmoid(-params.decay),
    )
    through_gates = jnp.einsum("...gkn,gkdn->...kd", dz, Wx).reshape(d.dp.shape)
    return dparams, concatenate(d.dp + through_gates, d.dfirst)


GRIFFIN = Cell(
    name="griffin",
    init=init,
    sizes=sizes,
    initial_state=ZeroState(OutputState, sizes),
    project=project,
    step=step,
    backward=backward,
    gradients=gradients,
    linear=True,
)
