"""Backward through time by a cell's own reverse, and what each of its lines gives."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from experiments.explain_page.forward import Named, Steps
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
    return [jax.tree.map(lambda a, t=t: a[t], steps) for t in range(len(steps.xs))]


def go_back(
    cell: Cell,
    params: Any,
    steps: Steps,
    moments: list[Steps],
    dys: Array,
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
    backward = _backward(cell, lambda variables: None, change)
    dstate = jax.tree.map(jnp.zeros_like, moments[-1].new)
    arriving = []
    for t, (_, old, new, kept) in reversed(list(enumerate(moments))):
        dnew = dstate._replace(**{dstate._fields[0]: dstate[0] + dys[t]})
        arriving.append(dnew)
        dstate, _ = backward(params, old, new, kept, dnew)
    arrived = jax.tree.map(lambda *a: jnp.stack(a), *reversed(arriving))
    return _at_every_step(cell, params, steps, arrived, change)


def _at_every_step(
    cell: Cell, params: Any, steps: Steps, arriving: Any, change: Any
) -> Reversed:
    """The lines' values at all steps, and the weighted-input rule."""
    kept: Named = {}
    backward = _backward(cell, kept.update, change)
    given = params, steps.old, steps.new, steps.kept
    leaving, dz = backward(*given, arriving)
    like = steps.new[0]
    variables = per_unit(kept, like)
    dparams, dxs = [], []
    for loss in range(like.shape[1]):
        one = jax.tree.map(lambda a, k=loss: a[:, k], (steps, dz))
        (x, old, new, own), dz_of_one = one
        found, dx = cell.gradients(params, x, old, new, own, dz_of_one)
        dparams.append(found)
        dxs.append(dx)
    return Reversed(arriving, leaving, variables, dparams, jnp.stack(dxs, axis=1))


def per_unit(variables: Named, like: Array) -> Named:
    """The variables that have the shape of `like`; with dots the fields of tuples."""
    found = {}
    for name, value in variables.items():
        fields = getattr(value, "_fields", ())
        found |= {f"{name}.{field}": getattr(value, field) for field in fields}
        found |= {} if isinstance(value, (tuple, list)) else {name: value}
    return {
        name: value
        for name, value in found.items()
        if getattr(value, "shape", None) == like.shape
    }


def _backward(cell: Cell, keep: Callable[[Named], None], change: Any) -> Any:
    """`Cell.backward`, whose variables are kept, and one line of which is changed."""

    def hook(value: Any, quantity: str, equation: int) -> Any:
        return value

    function = instrumented(reverse_of(cell), hook, keep, change)
    if isinstance(cell.backward, GatedBackward):
        return replace(cell.backward, backward=function)
    return function
