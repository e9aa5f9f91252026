"""The runner for CPUs: a gated cell's steps as C++, written from its equations.

`source.py` writes the library, `build.py` compiles it, and this calls it: the products
with the input, before the steps, stay products of JAX, and after them the gradients of
the inputs, and of the weights those that `weight_gradients.py` leaves. Derivatives of
both directions are the scan's.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from lstm_jax.cell import Cell
from lstm_jax.engine import scan
from lstm_jax.engine.compiled.batches import Axes, over_batch
from lstm_jax.engine.compiled.build import NotBuilt, registered, switched_off
from lstm_jax.engine.compiled.choice import compiled_on
from lstm_jax.engine.compiled.panels import Weights
from lstm_jax.engine.compiled.source import TYPES, reads, source
from lstm_jax.engine.compiled.storage import (
    as_kept,
    from_kept,
    kept_blocks,
    on_large_pages,
    over_u,
    sequence_bytes,
)
from lstm_jax.engine.compiled.unit import NotUnitByUnit, Program, Unit, trace
from lstm_jax.engine.compiled.weight_gradients import are_taken, weight_gradients
from lstm_jax.engine.sequence import Inputs, Settings, Starts, Steps
from lstm_jax.gated import GatedGradients
from lstm_jax.identities import accumulator_dtype, bias_gradient

RETURNED, SMALL_LAYER, LARGE_CHUNK = 2**25, 128, 1024
"""Bytes of a sequence's arrays, D + H, rows of a chunk: see `fastest_memory`."""


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


@cache
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
    fields = len(entry)
    # Not rounded to 16 bits, which would only take time.
    dtype = accumulator_dtype(params.Wx.dtype)
    over = over_u(unit, dtype, entry[0].dtype)
    size = sequence_bytes(unit, backward, inputs.x, entry)
    Wx = on_large_pages(name, params.Wx, size)
    input_product = jnp.matmul(inputs.x, Wx, preferred_element_type=dtype)
    final, sequences = _call(
        f"{name}_Forward",
        settings.reverse,
        weights=(weights.forward, weights.vectors),
        states=(*initial, *entry),
        sequences=(input_product,),
        inputs=inputs,
        results=(fields, (*(1,) * fields, *kept_blocks(unit))),
        over=over,
    )
    state = type(entry)
    new, parts = state(*sequences[:fields]), sequences[fields:]
    return state(*final), Steps(new, as_kept(unit, entry[0].shape[-1], parts))


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
    kept = from_kept(unit, steps.kept)
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
    known = dict(zip(own, map(bias_gradient, states[2 * fields :]), strict=True))
    dz = du, dv[0] if dv else None
    if are_taken(settings.cell, weights.params):
        known |= weight_gradients(settings, starts, inputs, steps, dz, name=name)
    return Starts(state(*states[:fields]), dreset), (*dz, known)


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
    unit, known = trace(cell, params.Wx.dtype), {}
    if own := _own_fields(unit):
        assert isinstance(cell.gradients, GatedGradients)
        old = steps.old(starts, inputs.carried, reverse=settings.reverse)
        found = cell.gradients.own_gradients(params, old, *steps, du, dv)
        known = {field: bias_gradient(found[field]) for field in own}
        dv = dv if unit.recurrent else None
    if are_taken(cell, params):
        known |= weight_gradients(settings, starts, inputs, steps, (du, dv))
    return dstarts, (du, dv, known)


def fastest_memory(
    settings: Settings, params: Any, starts: Starts, inputs: Inputs
) -> str:
    """The memory policy that is the fastest as a rule; docs/engine.md has the times.

    glibc gives blocks of over 32 MB back after every call, and the system clears them
    for the next. Where the layer is small, so that computing again costs less than
    that, and a chunk of "recompute" has rows enough, that policy is the faster.
    """
    (T, *batch, D), H = inputs.x.shape, starts.state[0].shape[-1]
    if not all(isinstance(n, int) for n in inputs.x.shape):
        return "store"  # `jax.export` may leave sizes open
    _, unit, backward = _built(settings.cell, params.Wx.dtype)
    size = sequence_bytes(unit, backward, inputs.x, starts.state)
    several_blocks = len(unit.forward.inputs["u"]) > 1  # or little is kept
    rows = math.isqrt(T) * math.prod(batch)
    small = D + H <= SMALL_LAYER
    if several_blocks and small and rows >= LARGE_CHUNK and size > RETURNED:
        return "recompute"
    return "store"


steps = compiled_on("cpu", _steps, _scanned)
"""What `scan.steps` says of the same arguments, compiled."""

reverse_steps = compiled_on("cpu", _reverse_steps, _scanned_reverse)
"""Its reverse, as `scan.reverse_steps` has it."""
