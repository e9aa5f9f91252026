"""How the arrays of a sequence lie in memory, where its steps are compiled for CPUs.

The numbers of one kind that a unit has are blocks of H columns, side by side: u is
(T, *batch, kU H).
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_batching import custom_vmap

from lstm_jax.engine.compiled.source import kept_parts
from lstm_jax.engine.compiled.unit import Program, Unit
from lstm_jax.engine.meshes import sees_one_device, share_varying_axes
from lstm_jax.identities import accumulator_dtype, concatenate

LARGE = 2**23
"""Bytes of a sequence's arrays from which on it pays to ask for large pages."""


def _parts(unit: Unit, leaves: Sequence[Any]) -> list[Sequence[Any]]:
    """The leaves of what is kept by the array that they lie in."""
    first, _ = kept_parts(unit)
    return [leaves[:first], leaves[first:]]


def kept_blocks(unit: Unit) -> list[int]:
    """How many numbers a unit has in each of the arrays of what is kept."""
    return [sum(sizes) for sizes in _parts(unit, jax.tree.leaves(unit.kept))]


def as_kept(unit: Unit, hidden_size: int, parts: Sequence[Array]) -> Any:
    """What the cell keeps, from the arrays that hold it."""
    sizes, tree = jax.tree.flatten(unit.kept)
    leaves = []
    for part, of in zip(parts, filter(None, _parts(unit, sizes)), strict=True):
        ends = [hidden_size * sum(of[: k + 1]) for k in range(len(of) - 1)]
        split = jnp.split(_as_integers(part), ends, axis=-1)
        leaves.extend(lax.bitcast_convert_type(a, part.dtype) for a in split)
    return jax.tree.unflatten(tree, leaves)


def from_kept(unit: Unit, kept: Any) -> list[Array]:
    """The arrays that hold what the cell keeps, one or two."""
    return [
        lax.bitcast_convert_type(concatenate(*map(_as_integers, part)), part[0].dtype)
        for part in _parts(unit, jax.tree.leaves(kept))
        if part
    ]


def _as_integers(a: Array) -> Array:
    """The bits of floats: XLA splits and joins them as they lie, and 16-bit floats not.

    Those it turns into 32 bits first, and back.
    """
    return lax.bitcast_convert_type(a, f"uint{8 * a.dtype.itemsize}")


def over_u(unit: Unit, u_dtype: Any, dtype: Any) -> dict[int, int]:
    """Which of the steps' sequences is written over u, by number: {0: number}.

    What is kept first, if it is as much, or else an output of one number a unit.
    """
    u = len(unit.forward.inputs["u"])
    if u_dtype != dtype:
        return {}
    if kept_blocks(unit)[0] == u:
        return {0: len(unit.state)}
    return {0: 0} if u == 1 else {}


def sequence_bytes(unit: Unit, backward: Program, x: Array, state: Any) -> int:
    """How much the arrays of all steps take that are there at the same time.

    Beside u and what is written over it, these are the steps' other results, and in the
    reverse v's gradient, if it is not u's, and u's where it does not lie over what is
    kept.
    """
    dtype, fields = state[0].dtype, len(unit.state)
    u_dtype = accumulator_dtype(x.dtype)
    kept, over = kept_blocks(unit), over_u(unit, u_dtype, dtype)
    du, dv = (len(backward.outputs[group]) for group in ("du", "dv"))
    blocks = (*(1,) * fields, *kept)
    beside = sum(n for k, n in enumerate(blocks) if k not in over.values())
    beside += dv + (du if kept[0] != du else 0)
    u = len(unit.forward.inputs["u"])
    units = math.prod(x.shape[:-1]) * state[0].shape[-1]
    return units * (u * u_dtype.itemsize + beside * dtype.itemsize)


def on_large_pages(name: str, Wx: Array, size: int) -> Array:
    """Wx, once the system was asked for large pages for what comes after it.

    XLA lays the arrays of a program into one block, those of other times in the same
    places. So this takes so many bytes for a moment, before the first of the arrays
    that are as large together, which is a product with Wx.
    """
    if not isinstance(size, int) or size < LARGE:  # `jax.export` may leave sizes open
        return Wx
    if not sees_one_device():
        return Wx

    @custom_vmap
    def asked(Wx: Array) -> Array:
        # Wx is copied, so that what reads it has to wait.
        Wx, _ = jax.ffi.ffi_call(
            f"{name}_LargePages",
            (
                jax.ShapeDtypeStruct(Wx.shape, Wx.dtype),
                jax.ShapeDtypeStruct((size,), jnp.uint8),
            ),
            input_output_aliases={0: 0},
        )(Wx)
        return Wx

    @asked.def_vmap
    def _(_: int, batched: Sequence[bool], Wx: Array) -> tuple[Array, bool]:
        return Wx, batched[0]

    return share_varying_axes((Wx, asked(Wx)))[1]
