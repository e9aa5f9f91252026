"""Backward through time by a cell's own reverse, and what each of its lines gives."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.explain_page.forward import Named, Steps, per_unit
from experiments.explain_page.lines import instrumented, reverse_of
from lstm_jax.cell import Cell
from lstm_jax.gated import GatedBackward


class Reversed(NamedTuple):
    """What came back.

    Attributes:
        arriving: the gradients of the states after the steps, each (T, L, H): all that
            reaches them, from the output and from later steps.
        leaving: those of the states before the steps.
        variables: everything that the reverse computes on its way, by its own names,
            (T, L, H); with dots what it reads in place, "dnew.h".
        params: for each loss the parameters' gradients, summed over the steps.
        dx: (T, L, D).
    """

    arriving: Any
    leaving: Any
    variables: Named
    params: list[Any]
    dx: Array


def one_by_one(steps: Steps) -> list[Steps]:
    """The steps, each by itself: arrays without the axis of time."""
    steps = jax.tree.map(np.asarray, steps)
    each = range(len(steps.xs))
    return [jax.tree.map(lambda a, t=t: jax.device_put(a[t]), steps) for t in each]


def go_back(
    cell: Cell,
    params: Any,
    steps: Steps,
    moments: list[Steps],
    dys: np.ndarray,
    change: Any = None,
) -> Reversed:
    """The reverse, from the last step to the first.

    Args:
        cell: a derived cell.
        params: its parameters.
        steps: as they were taken.
        moments: the same `one_by_one`.
        dys: the gradients of the outputs, (T, L, H).
        change: a mistake to plant in one line, as for `instrumented`.
    """
    kept: Named = {}
    backward = _backward(cell, kept.update, change)
    dstate = jax.tree.map(jnp.zeros_like, moments[-1].new)
    found = []
    for t, (_, old, new, own) in reversed(list(enumerate(moments))):
        dnew = dstate._replace(**{dstate._fields[0]: dstate[0] + dys[t]})
        dstate, dz = backward(params, old, new, own, dnew)
        found.append((dnew, dstate, per_unit(kept, new[0]), dz))
    arriving, leaving, variables, dz = jax.tree.map(
        lambda *a: jax.device_put(np.stack(a)), *reversed(found)
    )
    dparams, dx = _gradients(cell, params, *steps, dz)
    dparams = jax.tree.map(np.asarray, dparams)
    losses = range(dys.shape[1])
    each = [jax.tree.map(lambda a, k=k: a[k], dparams) for k in losses]
    return Reversed(arriving, leaving, variables, each, dx)


@partial(jax.jit, static_argnums=0)
def _gradients(cell: Cell, params: Any, *of_steps: Any) -> tuple[Any, Array]:
    """The parameters' and inputs' gradients, by the rule that takes all steps at once.

    For each loss; the other axes are as `Reversed` has them.
    """
    of_one = partial(cell.gradients, params)
    return jax.vmap(of_one, in_axes=1, out_axes=(0, 1))(*of_steps)


def _backward(cell: Cell, keep: Callable[[Named], None], change: Any) -> Any:
    """`Cell.backward`, whose variables are kept, and one line of which is changed."""

    def hook(value: Any, quantity: str, equation: int) -> Any:
        return value

    function = instrumented(reverse_of(cell), hook, keep, change)
    if isinstance(cell.backward, GatedBackward):
        return replace(cell.backward, backward=function)
    return function
