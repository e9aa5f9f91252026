"""The gradients of Wx and Wh of compiled steps, where u and v have the same gradient.

`weight_gradients.h` reads what they are products of as it lies. Where several devices
have parts of the batch, and where the two gradients differ, XLA takes the products.
"""

from typing import Any

import jax
from jax import Array

from lstm_jax.cell import Cell
from lstm_jax.engine.compiled.unit import Unit
from lstm_jax.engine.meshes import sees_one_device, share_varying_axes
from lstm_jax.engine.sequence import Inputs, Settings, Starts, Steps
from lstm_jax.gated import GatedGradients
from lstm_jax.identities import accumulator_dtype, weight_gradient


def are_taken(cell: Cell, unit: Unit, params: Any) -> bool:
    """Whether these functions take the gradients of a cell's weights."""
    if not isinstance(cell.gradients, GatedGradients) or not unit.one_gradient:
        return False
    return "Wh" in params._fields and params.Wh.ndim == 2


def scanned(
    settings: Settings, starts: Starts, inputs: Inputs, steps: Steps, dz: Array
) -> dict[str, Array]:
    """The gradients by field, summed over all steps; at least float32.

    Args:
        settings: of the unrolling.
        starts: what the steps started from.
        inputs: the inputs, (T, *batch, D), and where resets are.
        steps: what is known of the steps, states (T, *batch, H).
        dz: the gradient of u + v, (T, *batch, N).
    """
    h = steps.old(starts, inputs.carried, reverse=settings.reverse)[0]
    return {"Wx": weight_gradient(dz, inputs.x), "Wh": weight_gradient(dz, h)}


def compiled(
    name: str,
    settings: Settings,
    starts: Starts,
    inputs: Inputs,
    steps: Steps,
    dz: Array,
) -> dict[str, Array]:
    """What `scanned` says, by the library that is registered as `name`."""
    if not sees_one_device():
        return scanned(settings, starts, inputs, steps, dz)
    entry, h = starts.state[0], steps.new[0]
    if inputs.carried is not None:  # what resets return to lies among the others
        h = steps.old(starts, inputs.carried, reverse=settings.reverse)[0]
        entry = entry[:0] if entry.ndim > 1 else entry[None][:0]
    rows = [a.reshape(-1, a.shape[-1]) for a in (inputs.x, entry, h, dz)]
    rows = share_varying_axes(rows)
    dtype = accumulator_dtype(dz.dtype)
    found = jax.ffi.ffi_call(
        f"{name}_WeightGradients",
        [
            jax.ShapeDtypeStruct((a.shape[-1], dz.shape[-1]), dtype)
            for a in (inputs.x, h)
        ],
        vmap_method="broadcast_all",
    )(*rows, reverse=settings.reverse)
    _, (dWx, dWh) = share_varying_axes((rows, list(found)))
    return {"Wx": dWx, "Wh": dWh}
