"""The gradients of Wx and Wh after compiled steps.

`weight_gradients.h` reads what they are products of as it lies. Where several devices
have parts of the batch, and where heads have weights of their own, XLA takes them.
"""

from typing import Any

import jax
from jax import Array

from lstm_jax.cell import Cell
from lstm_jax.engine.meshes import sees_one_device, share_varying_axes
from lstm_jax.engine.sequence import Inputs, Settings, Starts, Steps
from lstm_jax.gated import GatedGradients
from lstm_jax.identities import accumulator_dtype, weight_gradient


def are_taken(cell: Cell, params: Any) -> bool:
    """Whether these functions take the gradients of a cell's weights."""
    gated = isinstance(cell.gradients, GatedGradients)
    return gated and "Wh" in params._fields and params.Wh.ndim == 2


def scanned(
    settings: Settings,
    starts: Starts,
    inputs: Inputs,
    steps: Steps,
    du: Array,
    dv: Array,
) -> dict[str, Array]:
    """The gradients by field, summed over all steps; at least float32.

    Args:
        settings: of the unrolling.
        starts: what the steps started from.
        inputs: the inputs, (T, *batch, D), and where resets are.
        steps: what is known of the steps, states (T, *batch, H).
        du: the gradient of u, (T, *batch, N).
        dv: that of v, (T, *batch, M).
    """
    h = steps.old(starts, inputs.carried, reverse=settings.reverse)[0]
    return {"Wx": weight_gradient(du, inputs.x), "Wh": weight_gradient(dv, h)}


def compiled(
    name: str,
    settings: Settings,
    starts: Starts,
    inputs: Inputs,
    steps: Steps,
    du: Array,
    dv: Array,
) -> dict[str, Array]:
    """What `scanned` says, by the library that is registered as `name`."""
    if not sees_one_device():
        return scanned(settings, starts, inputs, steps, du, dv)
    entry, h = starts.state[0], steps.new[0]
    before = entry.reshape(-1, entry.shape[-1])
    if inputs.carried is not None:  # what resets return to lies among the others
        h = steps.old(starts, inputs.carried, reverse=settings.reverse)[0]
        before = before[:0]
    x, *rest = (a.reshape(-1, a.shape[-1]) for a in (inputs.x, h, du, dv))
    rows = share_varying_axes([x, before, *rest])
    dtype = accumulator_dtype(du.dtype)
    found = jax.ffi.ffi_call(
        f"{name}_WeightGradients",
        [
            jax.ShapeDtypeStruct((a.shape[-1], d.shape[-1]), dtype)
            for a, d in ((inputs.x, du), (h, dv))
        ],
        vmap_method="broadcast_all",
    )(*rows, reverse=settings.reverse)
    _, (dWx, dWh) = share_varying_axes((rows, list(found)))
    return {"Wx": dWx, "Wh": dWh}
