"""The weights of a gated cell as its compiled steps read them, from end to end."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from lstm_jax.engine.compiled.processor import vector_bytes
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
    """Wh as the steps read it: a vector's width of columns after the other.

    A vector has `vector_bytes()`. The columns are, of each vector of hidden units, a
    vector of each gate, so that all that a unit needs is in neighbours. What is not
    there is 0.

    Args:
        blocks: (G, K, H / K, H / K).

    Returns:
        (K, panels, H / K, vector).
    """
    heads, rows = blocks.shape[1:3]
    by_vector = _in_vectors(blocks, axis=3).transpose(1, 3, 0, 2, 4)
    return by_vector.reshape(heads, -1, rows, _lanes(blocks))


def reverse_panels(blocks: Array) -> Array:
    """Wh transposed, as the reverse reads it, (K, panels, G H / K, vector)."""
    gates, heads, _, columns = blocks.shape
    by_vector = _in_vectors(blocks, axis=2).transpose(1, 2, 0, 4, 3)
    return by_vector.reshape(heads, -1, gates * columns, _lanes(blocks))


def _in_vectors(a: Array, axis: int) -> Array:
    """With an axis in two, vectors and their numbers; with zeros at its end."""
    lanes = _lanes(a)
    padding = [(0, 0)] * a.ndim
    padding[axis] = (0, -a.shape[axis] % lanes)
    shape = (*a.shape[:axis], -1, lanes, *a.shape[axis + 1 :])
    return jnp.pad(a, padding).reshape(shape)


def _lanes(a: Array) -> int:
    return vector_bytes() // a.dtype.itemsize
