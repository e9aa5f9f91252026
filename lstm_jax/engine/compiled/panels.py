"""The weights of a gated cell as its compiled steps read them, from end to end."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from lstm_jax.engine.compiled.unit import WEIGHTS
from lstm_jax.gated import with_zeros
from lstm_jax.identities import accumulator_dtype


class Weights(NamedTuple):
    """The parameters as the compiled steps read them.

    Attributes:
        params: the parameters.
        forward: `forward_panels` of Wh; None without Wh.
        reverse: `reverse_panels` of Wh; None without Wh.
        vectors: b and the parameters that act element by element, in one row.
    """

    params: Any
    forward: Array | None
    reverse: Array | None
    vectors: Array


def lay_out(params: Any) -> Weights:
    """The weights as both directions read them; the compiler drops what is not."""
    whole = with_zeros(params)  # a bias that is absent adds nothing
    own = [getattr(whole, field) for field in whole._fields if field not in WEIGHTS]
    vectors = jnp.concatenate([whole.b, *own])
    vectors = vectors.astype(accumulator_dtype(vectors.dtype))
    if "Wh" not in params._fields:
        return Weights(params, None, None, vectors)
    blocks = _blocks(params.Wh.astype(vectors.dtype))
    return Weights(params, forward_panels(blocks), reverse_panels(blocks), vectors)


def _blocks(Wh: Array) -> Array:
    """Wh by gate and head, (G, K, H / K, H / K)."""
    if Wh.ndim == 4:
        return Wh
    hidden_size = Wh.shape[0]
    return Wh.reshape(hidden_size, -1, hidden_size).transpose(1, 0, 2)[:, None]


def forward_panels(blocks: Array) -> Array:
    """Wh as the steps read it: two vectors' width of columns after the other.

    A vector is 64 bytes. The columns are, of each vector of hidden units, a vector of
    each gate, so that all that a unit needs is in neighbours. What is not there is 0.

    Args:
        blocks: (G, K, H / K, H / K).

    Returns:
        (K, panels, H / K, two vectors).
    """
    gates, heads, rows, _ = blocks.shape
    lanes = _lanes(blocks)
    units = _filled(blocks, lanes).reshape(gates, heads, rows, -1, lanes)
    vectors = units.transpose(1, 2, 3, 0, 4).reshape(heads, rows, -1)
    return _panels(_filled(vectors, 2 * lanes))


def reverse_panels(blocks: Array) -> Array:
    """Wh transposed, as the reverse reads it, (K, panels, G H / K, two vectors)."""
    heads, columns = blocks.shape[1], blocks.shape[2]
    transposed = blocks.transpose(1, 0, 3, 2).reshape(heads, -1, columns)
    return _panels(_filled(transposed, 2 * _lanes(blocks)))


def _panels(a: Array) -> Array:
    """(K, rows, columns) by panels of two vectors' width."""
    heads, rows, _ = a.shape
    return a.reshape(heads, rows, -1, 2 * _lanes(a)).transpose(0, 2, 1, 3)


def _lanes(a: Array) -> int:
    return 64 // a.dtype.itemsize


def _filled(a: Array, multiple: int) -> Array:
    """With zeros at the end of the last axis, up to a multiple."""
    return jnp.pad(a, (*((0, 0),) * (a.ndim - 1), (0, -a.shape[-1] % multiple)))
