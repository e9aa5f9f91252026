"""Step after step: the runner that any cell has, and that the others are held against.

Both directions are a `jax.lax.scan` over one step. See `runners.py` for the arguments.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from lstm_jax.engine import trees
from lstm_jax.engine.sequence import Inputs, Settings, Starts, Steps


def steps(
    settings: Settings, params: Any, starts: Starts, inputs: Inputs
) -> tuple[Any, Steps]:
    """Each step from the one before it: the last state, and what is known of all."""
    cell = settings.cell

    def step(state: Any, step_inputs: Any) -> tuple[Any, Steps]:
        u, valid, carried = step_inputs
        old = trees.select(carried, state, starts.reset)
        new, kept = cell.step(params, old, u)
        new = trees.select(valid, new, state)
        return new, Steps(new, kept)

    return lax.scan(
        settings.checkpoint(step, "states"),
        starts.state,
        (cell.project(params, inputs.x), inputs.valid, inputs.carried),
        reverse=settings.reverse,
    )


def reverse_steps(
    settings: Settings,
    params: Any,
    starts: Starts,
    inputs: Inputs,
    steps: Steps,
    dfinal: Any,
    dys: Any,
) -> tuple[Starts, Any]:
    """Each step's reverse from the one after it: the gradients of `starts`, and dz."""
    cell = settings.cell
    old = steps.old(starts, inputs.carried, reverse=settings.reverse)

    def step(carry: Any, step_inputs: Any) -> tuple[Any, Any]:
        dstate, dreset = carry
        dy, old, (new, kept), valid, carried = step_inputs
        dnew = trees.add_output(dstate, trees.masked(valid, dy))
        dold, dz = cell.backward(params, old, new, kept, trees.masked(valid, dnew))
        if carried is not None:
            dreset = trees.add(dreset, trees.masked(~carried, dold))
            dold = trees.masked(carried, dold)
        return (trees.select(valid, dold, dnew), dreset), dz

    dstarts, dz = lax.scan(
        step,
        (dfinal, jax.tree.map(jnp.zeros_like, starts.reset)),
        (dys, old, steps, inputs.valid, inputs.carried),
        reverse=not settings.reverse,
    )
    return Starts(*dstarts), dz


def fastest_memory(*_: Any) -> str:
    """The memory policy that is the fastest as a rule.

    On a GPU a scan's steps cost little beside what they would keep: "states" takes 0.70
    to 0.77 of the time of "store".
    """
    return "states" if jax.default_backend() == "gpu" else "store"
