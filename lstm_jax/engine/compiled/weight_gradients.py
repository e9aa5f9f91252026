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


def weight_gradients(
    settings: Settings,
    starts: Starts,
    inputs: Inputs,
    steps: Steps,
    dz: tuple[Array, Array | None],
    *,
    name: str | None = None,
) -> dict[str, Array]:
    """The gradients by field, summed over all steps; at least float32.

    Args:
        settings: of the unrolling.
        starts: what the steps started from.
        inputs: the inputs, (T, *batch, D), and where resets are.
        steps: what is known of the steps, states (T, *batch, H).
        dz: the gradient of u, (T, *batch, N), and that of v if it is another.
        name: what the cell's library is registered as; None for XLA's products.
    """
    du, dv = dz
    dv = du if dv is None else dv
    if name is None or not sees_one_device():
        h = steps.old(starts, inputs.carried, reverse=settings.reverse)[0]
        return {"Wx": weight_gradient(du, inputs.x), "Wh": weight_gradient(dv, h)}
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
