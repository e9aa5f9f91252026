"""Forward through a cell's equations: every value, and who uses whose.

`quantities` cuts a step into its equations: each is computed from what it reads as if
that were given. So the gradient that goes from an equation to one quantity that it
reads is a derivative of that equation alone, and the chain rule is a sum over users.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from experiments.explain_page.lines import equations_of, instrumented
from lstm_jax.cell import Cell
from lstm_jax.gated import GatedStep
from lstm_jax.jaxprs import ALL_CALLS, evaluate, jaxpr_of

Named = dict[str, Any]
"""Arrays by the quantity's name. Of an `OrderedDict` JAX keeps the order."""


class Steps(NamedTuple):
    """All steps of a sequence; the arrays have leading axes (T, L), L losses.

    Attributes:
        xs: inputs, (T, L, D).
        old: the states before the steps.
        new: the states after them.
        kept: what `Cell.step` keeps for the reverse.
    """

    xs: Array
    old: Any
    new: Any
    kept: Any


def take_steps(cell: Cell, params: Any, xs: Array, losses: int) -> Steps:
    """Reads a sequence, (T, D), by the cell's equations, from the cell's first state.

    Args:
        cell: the cell.
        params: its parameters.
        xs: the sequence.
        losses: L; every step is there so many times.
    """
    xs = jnp.broadcast_to(xs[:, None], (len(xs), losses, xs.shape[-1]))
    first = cell.initial_state(params, (losses,))

    def step(state: Any, u: Any) -> tuple[Any, Any]:
        new, kept = cell.step(params, state, u)
        return new, (state, new, kept)

    _, (old, new, kept) = jax.lax.scan(step, first, cell.project(params, xs))
    return Steps(xs, old, new, kept)


@partial(jax.jit, static_argnums=(0, 3))
def go_forward(
    cell: Cell, params: Any, xs: Array, losses: int
) -> tuple[Steps, Named, Named]:
    """Reads a sequence, as `take_steps`.

    Returns:
        The steps; every leaf, then every quantity in order; and what else the
        equations compute for each unit.
    """
    steps = take_steps(cell, params, xs, losses)
    given = OrderedDict(leaves(steps.old, steps.xs))
    variables: Named = {}
    given.update(quantities(cell, params, given, variables.update))
    beside = per_unit(variables, steps.new[0])
    return steps, given, {name: beside[name] for name in beside if name not in given}


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


def leaves(old: Any, x: Array) -> Named:
    """What a step begins with: "x", and of the old state "h_prev", "c_prev", ..."""
    fields = zip(old._fields, old, strict=True)
    return {"x": x, **{f"{name}_prev": value for name, value in fields}}


def quantities(
    cell: Cell,
    params: Any,
    given: Named,
    keep: Callable[[Named], None] = lambda variables: None,
) -> Named:
    """Every quantity of a step by its own equation, from what that reads.

    Args:
        cell: a cell whose equations stand in one function.
        params: its parameters.
        given: the quantities as others see them, by name: `leaves`, and whatever is to
            be cut. What is not given, is seen as it is computed.
        keep: gets the variables of the equations.

    Returns:
        The quantities as their equations give them, in order: the products u and v,
        then what the equations name.
    """
    found: Named = {}

    def seen(value: Any, quantity: str, equation: int = 0) -> Any:
        if quantity in found:
            raise ValueError(f"{cell.name}: {quantity} is named twice")
        found[quantity] = value
        return given.get(quantity, value)

    function = instrumented(equations_of(cell), seen, keep)
    step: Any = function
    if isinstance(cell.step, GatedStep):

        def equations(params: Any, state: Any, u: Array, v: Array | None) -> Any:
            return function(params, state, u, None if v is None else seen(v, "v"))

        step = replace(cell.step, equations=equations)
    u = seen(cell.project(params, given["x"]), "u")
    old = _old_state(cell, params, given)
    new, _ = step(params, old, u)
    expected = {name: given.get(name, found.get(name)) for name in new._fields}
    if any(expected[name] is not getattr(new, name) for name in new._fields):
        raise ValueError(
            f"{cell.name}: not every field of its state is a quantity of its equations"
        )
    return found


def _old_state(cell: Cell, params: Any, given: Named) -> Any:
    like = jax.eval_shape(partial(cell.initial_state, params, given["x"].shape[:-1]))
    return like._replace(**{name: given[f"{name}_prev"] for name in like._fields})


def reads(cell: Cell, params: Any, given: Named) -> dict[str, list[str]]:
    """For every quantity, what its equation reads.

    Args:
        cell: as in `quantities`.
        params: its parameters.
        given: every quantity and every leaf.
    """
    names = sorted(given)
    jaxpr, shapes = jaxpr_of(partial(quantities, cell, params), dict(given))
    nothing: frozenset[str] = frozenset()
    read = evaluate(
        jaxpr,
        [frozenset({name}) for name in names],
        lambda equation, operands: [nothing.union(*operands)] * len(equation.outvars),
        calls=ALL_CALLS,
        constant=lambda value, aval: nothing,
    )
    sources = dict(zip(sorted(shapes), read, strict=True))
    return {
        target: [name for name in given if name in sources[target]]
        for target in given
        if target in sources
    }


@partial(jax.jit, static_argnums=0)
def edge_gradients(
    cell: Cell, params: Any, given: Named, arriving: Named
) -> tuple[Named, dict[tuple[str, str], Array]]:
    """The chain rule, from the last equation to the first.

    Args:
        cell: as in `quantities`.
        params: its parameters.
        given: every leaf, then every quantity in order, each (T, L, ...).
        arriving: what reaches the new state from beyond the step, by field.

    Returns:
        The gradient of every quantity and leaf, and for each (source, user) the share
        of the source's that comes back from that user, in the shape of the source.
    """
    found, pull = jax.vjp(partial(quantities, cell, params), given)
    zeros = jax.tree.map(jnp.zeros_like, found)
    gradients = {name: jnp.zeros_like(value) for name, value in given.items()}
    gradients |= arriving
    edges = {}
    read = reads(cell, params, given)
    for user in [name for name in reversed(given) if name in found]:
        [shares] = pull(zeros | {user: gradients[user]})
        for source in read[user]:
            edges[source, user] = shares[source]
            gradients[source] = gradients[source] + shares[source]
    return gradients, edges
