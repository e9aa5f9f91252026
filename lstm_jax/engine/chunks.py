"""Going through time in chunks: how many steps at once, and the scan over them.

All tuning of the engine lives here. A chunk is short enough for its input products
and local derivatives to stay in the cache, and long enough for its matrix products to
be large.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

CHUNK_BYTES = 5 * 2**18
"""What a chunk's pre-activations may take: 1.25 MiB, about a core's cache on CPUs."""

SHORTEST, LONGEST = 8, 50
"""Steps of a chunk: fewer cost more in launches, more gain little for their memory."""


def chunk_length(
    steps: int, step_bytes: int, memory: str | None, chunk_bytes: int | None = None
) -> int:
    """The number of steps in a chunk.

    A chunk's temporaries exist beside what is kept of all steps, so a chunk is also
    at most a tenth of the sequence. `python -m benchmarks.chunk_lengths` measures
    the alternatives.

    Args:
        steps: T, the length of the sequences, at least 1. Where it is a symbol, there
            is one chunk of so many steps.
        step_bytes: the size of one step's pre-activations, in bytes.
        memory: the memory policy of `lstm_jax.unroll`. "recompute" keeps one state a
            chunk and one chunk of everything else, least together at chunks of √T.
        chunk_bytes: what a chunk's pre-activations may take, and no other limit, where
            the next chunk costs much and a cache has no part in it.

    Returns:
        A length from 1 to `steps`; one that divides `steps` if one does that is not
        too far off, since a shorter last chunk is compiled by itself.
    """
    if not isinstance(steps, int):  # a size that `jax.export` leaves open
        return steps
    if memory == "recompute":
        wanted = math.isqrt(steps)
    elif chunk_bytes is not None:
        wanted = max(1, chunk_bytes // max(step_bytes, 1))
    else:
        fitting = CHUNK_BYTES // max(step_bytes, 1)
        wanted = max(SHORTEST, min(fitting, LONGEST, steps // 10))
    wanted = min(wanted, steps)
    near = range((wanted + 1) // 2, min(2 * wanted, steps) + 1)
    whole = [length for length in near if steps % length == 0]
    return min(whole, key=lambda length: abs(length - wanted), default=wanted)


def scan_chunks(
    body: Callable[[Any, Any], tuple[Any, Any]],
    carry: Any,
    sequences: Any,
    per_chunk: Any,
    length: int,
    *,
    reverse: bool,
) -> tuple[Any, Any]:
    """Scans ``carry, outputs = body(carry, (sequences, per_chunk))`` over chunks.

    Args:
        body: gets the `sequences` of one chunk, at most `length` steps long, and its
            element of `per_chunk`. Each of its outputs has a leading axis of one
            entry a step, or of one entry in all.
        carry: the first carry.
        sequences: a pytree of arrays with time as their leading axis, T steps.
        per_chunk: a pytree of arrays with a leading axis of ⌈T / length⌉ entries.
        length: the number of steps in a chunk; the last chunk in time has the rest.
        reverse: goes from the last chunk to the first. Outputs stay in their places.

    Returns:
        The last carry, and the outputs of all chunks joined along their leading axis.
    """
    steps = jax.tree.leaves(sequences)[0].shape[0]
    if length == steps:
        # Without a scan around it, the compiler need not copy what goes in and out.
        return body(carry, (sequences, jax.tree.map(lambda s: s[0], per_chunk)))
    whole = steps // length
    parts = [(0, whole)] if whole else []
    if steps % length:
        parts.append((whole, 1))

    outputs = {}
    for first, count in reversed(parts) if reverse else parts:
        taken = jax.tree.map(
            lambda s, a=first, n=count: _split(s[a * length : (a + n) * length], n),
            sequences,
        )
        own = jax.tree.map(lambda s, a=first, n=count: s[a : a + n], per_chunk)
        carry, out = lax.scan(body, carry, (taken, own), reverse=reverse)
        outputs[first] = jax.tree.map(_join, out)
    pieces = [outputs[first] for first, _ in parts]
    if len(pieces) == 1:
        return carry, pieces[0]
    return carry, jax.tree.map(lambda *p: jnp.concatenate(p), *pieces)


def _split(sequence: Array, chunks: int) -> Array:
    return sequence.reshape(chunks, sequence.shape[0] // chunks, *sequence.shape[1:])


def _join(chunks: Array) -> Array:
    count, length, *rest = chunks.shape  # -1 would not do for an empty batch
    return chunks.reshape(count * length, *rest)
