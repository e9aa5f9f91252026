"""The runner for GPUs: a gated cell's steps as CUDA, written from its equations.

`kernel.py` writes a kernel for each direction, `tiles.py` says how its work is divided,
`nvrtc.py` compiles it, `launch.py` runs it, and this lays out what it reads and writes.
One kernel goes through all of time. The products with the input, before the steps, and
all weights' gradients, after them, stay products of JAX. Derivatives of both directions
are the scan's.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from lstm_jax.cell import Cell
from lstm_jax.engine import scan, trees
from lstm_jax.engine.compiled.batches import Axes, over_batch
from lstm_jax.engine.compiled.build import NotBuilt, say_once, switched_off
from lstm_jax.engine.compiled.choice import compiled_on
from lstm_jax.engine.compiled.cuda import tiles
from lstm_jax.engine.compiled.cuda.kernel import DTYPES, Job, Kernel
from lstm_jax.engine.compiled.cuda.launch import device, image, launch
from lstm_jax.engine.compiled.unit import NotUnitByUnit, Unit, trace
from lstm_jax.engine.sequence import Inputs, Settings, Starts, Steps
from lstm_jax.gated import with_zeros

PLATFORM = "cuda"


def why_not(cell: Cell, params: Any) -> str | None:
    """Why no kernel takes this cell and these parameters, here and now.

    None if one does.
    """
    if jax.default_backend() != "gpu":
        return f"there are no CUDA kernels for {jax.default_backend()}"
    if switched_off():
        return "LSTM_JAX_NATIVE says so"
    if "Wh" not in getattr(params, "_fields", ()):
        return f"{cell.name} has no recurrent product"
    if params.Wh.dtype.name not in DTYPES:
        return f"there are no CUDA kernels for {params.Wh.dtype}"
    try:
        if trace(cell, params.Wh.dtype).backward is None:
            return f"{cell.name} has no hand-derived backward"
        for direction in ("forward", "reverse"):
            job = _job(direction, cell, params)
            tiles.choose(job, 1, device())
    except (NotUnitByUnit, tiles.TooLarge) as error:
        return str(error)
    except NotBuilt as error:
        say_once(f"steps run as scans, which are slower: {error}")
        return f"kernels cannot be had: {error}"
    return None


# --- what a kernel reads and writes ---------------------------------------------------


def _steps(
    settings: Settings, params: Any, starts: Starts, inputs: Inputs
) -> tuple[Any, Steps]:
    entry = starts.state
    unit = trace(settings.cell, entry[0].dtype)
    counts, tree = jax.tree.flatten(unit.kept)
    found = _call(
        "forward",
        settings,
        params,
        inputs,
        sequences=(settings.cell.project(params, inputs.x),),
        states=(*entry, *(starts.reset or ())),
        results=(0, (1,) * (len(entry) + sum(counts))),
    )
    new, kept = type(entry)(*found[: len(entry)]), found[len(entry) :]
    kept = jax.tree.unflatten(tree, _joined(kept, counts))
    return trees.last(new, reverse=settings.reverse), Steps(new, kept)


def _reverse_steps(
    settings: Settings,
    params: Any,
    starts: Starts,
    inputs: Inputs,
    steps: Steps,
    dfinal: Any,
    dys: Array,
) -> tuple[Starts, tuple[Array, Array | None]]:
    unit = trace(settings.cell, dys.dtype)
    # What the other steps started from stands in `new` and `reset`.
    first = starts.first(inputs.carried, reverse=settings.reverse)
    groups = "u" if unit.one_gradient else "uv"
    fields = len(dfinal)
    count = fields if starts.reset is None else 2 * fields
    kept = _parted(jax.tree.leaves(steps.kept), jax.tree.leaves(unit.kept))
    found = _call(
        "reverse",
        settings,
        params,
        inputs,
        sequences=(dys, *steps.new, *kept),
        states=(*first, *(starts.reset or ()), *dfinal),
        results=(count, [len(unit.forward.inputs[group]) for group in groups]),
    )
    state = type(dfinal)
    dreset = None if starts.reset is None else state(*found[fields:count])
    du, dv = found[count], None if unit.one_gradient else found[-1]
    return Starts(state(*found[:fields]), dreset), (du, dv)


def _call(
    direction: str,
    settings: Settings,
    params: Any,
    inputs: Inputs,
    *,
    sequences: Sequence[Array],
    states: Sequence[Array],
    results: tuple[int, Sequence[int]],
) -> list[Array]:
    """Runs a kernel, which knows one batch axis; there may be any number.

    Args:
        direction: "forward" or "reverse".
        settings: of the unrolling.
        params: the parameters.
        inputs: with the masks.
        sequences: (T, *batch, blocks H) each.
        states: (*batch, H) each.
        results: how many results are like the states, and how many blocks the
            sequences have that come after them.
    """
    (*batch, H), T, dtype = states[0].shape, sequences[0].shape[0], states[0].dtype
    B, (count, blocks) = math.prod(batch), results
    masks = [mask for mask in (inputs.valid, inputs.carried) if mask is not None]
    job = _job(direction, settings.cell, params, inputs)
    own = _own(params, trace(settings.cell, dtype))

    def run(*arrays: Array) -> list[Array]:
        *problems, T, B, _ = arrays[0].shape
        shapes = [(B, H)] * count + [(T, B, H * n) for n in blocks]
        varying = jax.typeof(arrays[0]).manual_axis_type
        tile = tiles.choose(job, B, device())
        like = [
            jax.ShapeDtypeStruct((*problems, *shape), dtype, manual_axis_type=varying)
            for shape in shapes
        ]
        return launch(Kernel(job, tile, settings.reverse), arrays, like)

    axes = (
        *(Axes(3, 1) for _ in sequences),
        Axes(params.Wh.ndim, None),
        *(Axes(1, None) for _ in own),
        *(Axes(2, 0) for _ in states),
        *(Axes(2, 1) for _ in masks),
    )
    of_results = (*(Axes(2, 0),) * count, *(Axes(3, 1) for _ in blocks))
    found = over_batch(run, axes, of_results)(
        *(a.reshape(T, B, a.shape[-1]) for a in sequences),
        params.Wh,
        *own,
        *(a.reshape(B, H) for a in states),
        *(mask.reshape(T, B) for mask in masks),
    )
    states = [a.reshape(*batch, H) for a in found[:count]]
    return [*states, *(a.reshape(T, *batch, a.shape[-1]) for a in found[count:])]


def _job(direction: str, cell: Cell, params: Any, inputs: Inputs | None = None) -> Job:
    return Job(
        direction,
        cell,
        _head_size(params.Wh),
        params.Wh.dtype.name,
        masked=inputs is not None and inputs.valid is not None,
        resets=inputs is not None and inputs.carried is not None,
        exact=_exact(),
        heads=_heads(params.Wh),
    )


def _exact() -> bool:
    """Whether JAX's matmul precision asks for more than tensor cores give float32."""
    precision = jax.config.jax_default_matmul_precision  # ty: ignore[missing-attribute]
    return precision not in (None, "default", "tensorfloat32", "bfloat16", "fastest")


def _heads(Wh: Array) -> int:
    return Wh.shape[1] if Wh.ndim == 4 else 1


def _head_size(Wh: Array) -> int:
    return Wh.shape[2] if Wh.ndim == 4 else Wh.shape[0]


def _own(params: Any, unit: Unit) -> list[Array]:
    """The elementwise parameters, (H,) each."""
    whole = with_zeros(params)  # a bias that is absent adds nothing
    own = [getattr(whole, field) for field in unit.own]
    return _parted(own, list(unit.own.values()))


def _parted(arrays: Sequence[Array], counts: Sequence[int]) -> list[Array]:
    """Arrays with one number a unit, from arrays with several."""
    pairs = zip(arrays, counts, strict=True)
    return [part for a, count in pairs for part in jnp.split(a, count, -1)]


def _joined(parts: Sequence[Array], counts: Sequence[int]) -> list[Array]:
    """The reverse of `_parted`."""
    each = iter(parts)
    groups = ([next(each) for _ in range(count)] for count in counts)
    return [g[0] if len(g) == 1 else jnp.concatenate(g, -1) for g in groups]


# --- the runner's two functions -------------------------------------------------------


def _steps_or_scan(
    settings: Settings, params: Any, starts: Starts, inputs: Inputs
) -> tuple[Any, Steps]:
    taken = _takes("forward", settings, params, starts, inputs)
    run = _steps if taken else scan.steps
    return run(settings, params, starts, inputs)


def _reverse_steps_or_scan(
    settings: Settings, params: Any, starts: Starts, inputs: Inputs, *rest: Any
) -> tuple[Starts, Any]:
    taken = _takes("reverse", settings, params, starts, inputs)
    run = _reverse_steps if taken else scan.reverse_steps
    return run(settings, params, starts, inputs, *rest)


def _takes(
    direction: str, settings: Settings, params: Any, starts: Starts, inputs: Inputs
) -> bool:
    """Whether there is a kernel for this batch, and it is faster than the scan."""
    batch = math.prod(starts.state[0].shape[:-1])
    if not isinstance(batch, int):  # a size that `jax.export` leaves open
        return False
    job = _job(direction, settings.cell, params, inputs)
    if not tiles.pays(job, batch, device()):
        return False
    try:
        image(job, tiles.choose(job, batch, device()))
    except NotBuilt as error:  # an expression of the user's own, say
        say_once(f"{settings.cell.name} runs as a scan, which is slower: {error}")
        return False
    return True


steps = compiled_on(PLATFORM, _steps_or_scan, scan.steps)
"""What `scan.steps` says of the same arguments, compiled."""

reverse_steps = compiled_on(PLATFORM, _reverse_steps_or_scan, scan.reverse_steps)
"""Its reverse, as `scan.reverse_steps` has it."""
