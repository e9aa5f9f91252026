"""The runner for CPUs: a gated cell's steps as C++, written from its equations.

`source.py` writes the library, `build.py` compiles it, and this calls it: the products
with the input, before the steps, and all weights' gradients, after them, stay products
of JAX. Derivatives of both directions are the scan's.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_batching import custom_vmap
from jax.sharding import get_abstract_mesh

from lstm_jax.cell import Cell
from lstm_jax.engine import scan
from lstm_jax.engine.compiled.batches import Axes, over_batch
from lstm_jax.engine.compiled.build import NotBuilt, registered, switched_off
from lstm_jax.engine.compiled.choice import compiled_on
from lstm_jax.engine.compiled.panels import Weights
from lstm_jax.engine.compiled.source import TYPES, kept_parts, reads, source
from lstm_jax.engine.compiled.unit import NotUnitByUnit, Program, Unit, trace
from lstm_jax.engine.meshes import share_varying_axes
from lstm_jax.engine.sequence import Inputs, Settings, Starts, Steps
from lstm_jax.gated import GatedGradients
from lstm_jax.identities import accumulator_dtype, concatenate

LARGE = 2**23
"""Bytes of a sequence's arrays from which on it pays to ask for large pages."""


def why_not(cell: Cell, params: Any) -> str | None:
    """Why the compiled steps do not take this cell and these parameters, here and now.

    None if they do.
    """
    if jax.default_backend() != "cpu":
        return f"there are no compiled steps for {jax.default_backend()}"
    if switched_off():
        return "LSTM_JAX_NATIVE says so"
    dtype = params.Wx.dtype if hasattr(params, "Wx") else None
    if dtype not in TYPES:
        return f"there are no compiled steps for {dtype}"
    try:
        _built(cell, dtype)
    except NotUnitByUnit as error:
        return str(error)
    except NotBuilt as error:
        return f"its steps could not be compiled: {error}"
    return None


class _Built(NamedTuple):
    """A cell's compiled steps: what they are of, and what they are registered as."""

    name: str
    unit: Unit
    backward: Program


def _built(cell: Cell, dtype: Any) -> _Built:
    """Raises `NotUnitByUnit` or `NotBuilt` if there is none."""
    unit = trace(cell, dtype)
    if unit.backward is None:
        raise NotUnitByUnit(f"{cell.name} has no hand-derived backward")
    backward = unit.backward
    if not unit.recurrent and unit.own_gradients is not None:
        # Nothing else than the own parameters' gradients would read dv.
        backward = backward._replace(outputs=backward.outputs | {"dv": ()})
    return _Built(registered(source(unit, backward, dtype)), unit, backward)


def _steps(
    settings: Settings, weights: Weights, starts: Starts, inputs: Inputs
) -> tuple[Any, Steps]:
    params, entry = weights.params, starts.state
    name, unit, backward = _built(settings.cell, params.Wx.dtype)
    initial = entry if starts.reset is None else starts.reset
    fields, u = len(entry), len(unit.forward.inputs["u"])
    kept = [sum(sizes) for sizes in _parts(unit, jax.tree.leaves(unit.kept))]
    blocks = (*(1,) * fields, *kept)
    # Not rounded to 16 bits, which would only take time.
    dtype = accumulator_dtype(params.Wx.dtype)
    over = {}
    if dtype == entry[0].dtype:
        # What is kept first goes where u was, if it is as much, or the output does.
        over = {0: fields} if kept[0] == u else {0: 0} if u == 1 else {}
    # Beside u and what goes there: these, and in the reverse v's gradient, u's where it
    # does not lie over what is kept, and the outputs shifted by a step for the weights'
    # gradient, unless a field that the reverse does not read makes room.
    beside = sum(n for k, n in enumerate(blocks) if k not in over.values())
    du, dv = (len(backward.outputs[group]) for group in ("du", "dv"))
    beside += dv + (du if kept[0] != du else 0)
    beside += unit.recurrent and len(reads(backward, unit.own_gradients)) == fields
    unit_bytes = u * dtype.itemsize + beside * entry[0].dtype.itemsize
    units = math.prod(inputs.x.shape[:-1]) * entry[0].shape[-1]
    Wx = _on_large_pages(name, params.Wx, units * unit_bytes)
    input_product = jnp.matmul(inputs.x, Wx, preferred_element_type=dtype)
    final, sequences = _call(
        f"{name}_Forward",
        settings.reverse,
        weights=(weights.forward, weights.vectors),
        states=(*initial, *entry),
        sequences=(input_product,),
        inputs=inputs,
        results=(fields, blocks),
        over=over,
    )
    state = type(entry)
    new, parts = state(*sequences[:fields]), sequences[fields:]
    return state(*final), Steps(new, _as_kept(unit, entry[0].shape[-1], parts))


def _on_large_pages(name: str, Wx: Array, size: int) -> Array:
    """Wx, once the system was asked for large pages for what comes after it.

    XLA lays the arrays of a program into one block, those of other times in the same
    places. So this takes so many bytes for a moment, before the first of the arrays
    that are as large together, which is a product with Wx.
    """
    if not isinstance(size, int) or size < LARGE:  # `jax.export` may leave sizes open
        return Wx
    if jax.device_count() > 1 and not get_abstract_mesh().manual_axes:
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


def _parts(unit: Unit, leaves: Sequence[Any]) -> list[Sequence[Any]]:
    """The leaves of what is kept by the array that they lie in."""
    first, _ = kept_parts(unit)
    return [leaves[:first], leaves[first:]]


def _as_kept(unit: Unit, hidden_size: int, parts: Sequence[Array]) -> Any:
    """What the cell keeps, from the arrays that hold it."""
    sizes, tree = jax.tree.flatten(unit.kept)
    leaves = []
    for part, of in zip(parts, filter(None, _parts(unit, sizes)), strict=True):
        ends = [hidden_size * sum(of[: k + 1]) for k in range(len(of) - 1)]
        split = jnp.split(_as_integers(part), ends, axis=-1)
        leaves.extend(lax.bitcast_convert_type(a, part.dtype) for a in split)
    return jax.tree.unflatten(tree, leaves)


def _from_kept(unit: Unit, kept: Any) -> list[Array]:
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


def _reverse_steps(
    settings: Settings,
    weights: Weights,
    starts: Starts,
    inputs: Inputs,
    steps: Steps,
    dfinal: Any,
    dys: Array,
) -> tuple[Starts, tuple[Any, ...]]:
    name, unit, backward = _built(settings.cell, weights.params.Wx.dtype)
    # What the other steps started from stands in `new` and `reset`.
    first = starts.first(inputs.carried, reverse=settings.reverse)
    reset = first if starts.reset is None else starts.reset
    read = reads(backward, unit.own_gradients)
    kept = _from_kept(unit, steps.kept)
    blocks = [len(backward.outputs[group]) for group in ("du", "dv")]
    # du goes where what is kept first was, if it is as much, or else where dys was.
    over = {0: 0} if blocks[0] == 1 else {}
    if kept and kept[0].shape[-1] == blocks[0] * dys.shape[-1]:
        over = {1 + len(read): 0}
    own = _own_fields(unit)
    states, (du, *dv) = _call(
        f"{name}_Backward",
        settings.reverse,
        weights=(weights.reverse, weights.vectors),
        states=(*dfinal, *(reset[k] for k in read), *(first[k] for k in read)),
        sequences=(dys, *(steps.new[k] for k in read), *kept),
        inputs=inputs,
        results=(2 * len(dfinal), blocks),
        over=over,
        sums=len(own),
    )
    state, fields = type(dfinal), len(dfinal)
    dreset = None
    if starts.reset is not None:
        dreset = state(*states[fields : 2 * fields])
    dz = du, dv[0] if dv else None
    if own:
        dz = *dz, dict(zip(own, states[2 * fields :], strict=True))
    return Starts(state(*states[:fields]), dreset), dz


def _own_fields(unit: Unit) -> tuple[str, ...]:
    """The parameters whose gradients the steps sum over time."""
    return tuple(unit.own) if unit.own_gradients is not None else ()


def _call(
    name: str,
    reverse: bool,
    *,
    weights: Sequence[Array | None],
    states: Sequence[Array],
    sequences: Sequence[Array],
    inputs: Inputs,
    results: tuple[int, Sequence[int]],
    over: dict[int, int],
    sums: int = 0,
) -> tuple[list[Array], list[Array]]:
    """Calls a compiled function, which knows one batch axis; there may be any number.

    Args:
        name: what it is registered as.
        reverse: whether the steps go from the last to the first.
        weights: what has neither a time nor a batch axis; None for what is not there.
        states: (*batch, H) each.
        sequences: (T, *batch, blocks H) each.
        inputs: with the masks.
        results: how many are like the states, and how many blocks the sequences have
            that come after them. There are none of no blocks.
        over: which of these is written over which of `sequences`.
        sums: how many results there are after those like the states, of the same shape
            and at least in float32.
    """
    (*batch, H), T, dtype = states[0].shape, sequences[0].shape[0], states[0].dtype
    B, (states_count, blocks) = math.prod(batch), results
    count = states_count + sums
    sizes = [H * n for n in blocks if n]
    weights = [a for a in weights if a is not None]
    before = len(weights) + len(states)

    def function(*arrays: Array) -> Sequence[Array]:
        *problems, T, B = arrays[-1].shape
        arrays = tuple(
            # As a product has it, or XLA copies it.
            a.reshape(*problems, T * B, a.shape[-1])
            if 0 <= k - before < len(sequences)
            else a
            for k, a in enumerate(arrays)
        )
        shapes = [(B, H)] * count + [(T * B, size) for size in sizes]
        dtypes = [dtype] * len(shapes)
        dtypes[states_count:count] = [accumulator_dtype(dtype)] * sums
        found = jax.ffi.ffi_call(
            name,
            [
                jax.ShapeDtypeStruct((*problems, *shape), of)
                for shape, of in zip(shapes, dtypes, strict=True)
            ],
            vmap_method="broadcast_all",
            input_output_aliases={before + k: count + n for k, n in over.items()},
        )(*arrays, reverse=reverse)
        return [
            *found[:count],
            *(a.reshape(*problems, T, B, a.shape[-1]) for a in found[count:]),
        ]

    masks = (inputs.valid, inputs.carried)
    run = over_batch(
        function,
        (
            *(Axes(a.ndim, None) for a in weights),
            *(Axes(2, 0) for _ in states),
            *(Axes(3, 1) for _ in sequences),
            *(Axes(2, 1) for _ in masks),
        ),
        (*(Axes(2, 0),) * count, *(Axes(3, 1) for _ in sizes)),
    )
    found = run(
        *weights,
        *(state.reshape(B, H) for state in states),
        *(sequence.reshape(T, B, sequence.shape[-1]) for sequence in sequences),
        *(jnp.ones((T, B), bool) if m is None else m.reshape(T, B) for m in masks),
    )
    return (
        [state.reshape(*batch, H) for state in found[:count]],
        [steps.reshape(T, *batch, steps.shape[-1]) for steps in found[count:]],
    )


# --- the runner's two functions -------------------------------------------------------


def _scanned(settings: Settings, weights: Weights, *rest: Any) -> Any:
    return scan.steps(settings, weights.params, *rest)


def _scanned_reverse(
    settings: Settings,
    weights: Weights,
    starts: Starts,
    inputs: Inputs,
    steps: Steps,
    *rest: Any,
) -> Any:
    params, cell = weights.params, settings.cell
    given = settings, params, starts, inputs, steps, *rest
    dstarts, (du, dv) = scan.reverse_steps(*given)
    unit = trace(cell, params.Wx.dtype)
    if own := _own_fields(unit):
        assert isinstance(cell.gradients, GatedGradients)
        old = steps.old(starts, inputs.carried, reverse=settings.reverse)
        found = cell.gradients.own_gradients(params, old, *steps, du, dv)
        dv = dv if unit.recurrent else None
        return dstarts, (du, dv, {name: _sum_over_time(found[name]) for name in own})
    return dstarts, (du, dv)


def _sum_over_time(a: Array) -> Array:
    """At least in float32."""
    return jnp.sum(a, 0, dtype=accumulator_dtype(a.dtype))


steps = compiled_on("cpu", _steps, _scanned)
"""What `scan.steps` says of the same arguments, compiled."""

reverse_steps = compiled_on("cpu", _reverse_steps, _scanned_reverse)
"""Its reverse, as `scan.reverse_steps` has it."""
