"""One step of a cell: every quantity that its equations name."""

import inspect
from collections.abc import Iterator
from functools import lru_cache
from itertools import count
from typing import Any

import numpy as np
from jax import tree

from lstm_jax.cell import Cell
from lstm_jax.gated import GatedBackward
from lstm_jax.gradcheck.flat_jaxpr import Program, trace
from lstm_jax.gradcheck.oracles import Differencing, Oracles
from lstm_jax.gradcheck.points import (
    Point,
    Sizes,
    advance,
    choose,
    draw,
    each_advanced,
    forward_only,
)
from lstm_jax.gradcheck.quantities import (
    Forward,
    Label,
    Target,
    forward_targets,
    judge,
    know,
    leaf_names,
    partial_targets,
)
from lstm_jax.gradcheck.report import Row

ONE_STEP = "one step"


def check_step(
    cell: Cell,
    backward: Program,
    sizes: Sizes,
    points: Point | None = None,
    where: str = ONE_STEP,
) -> tuple[list[Row], float]:
    """The rows of one step, and the order of its remainder.

    Args:
        cell: a cell with a backward.
        backward: its reverse, traced by `check_form`.
        sizes: of what is drawn.
        points: where, stacked; None for those that `choose` finds.
        where: the name of the check.
    """
    forward = forward_only(cell)
    program, targets = _traced(forward, sizes)
    at = choose(forward, sizes).points if points is None else points
    params, x, state = inputs = at.params, at.xs[:, 0], at.state
    new, _, kept = tree.map(np.asarray, each_advanced(forward)(*inputs))
    args = *inputs, new, kept, at.dstate
    labels: list[Label] = [
        (f"d{label}", label) for label in argument_names(params, x, state)
    ]
    labels += _pre_activations(cell, backward.shapes[-1], targets)
    of_parts = partial_targets(program, targets, backward, labels)
    if points is None:
        oracles = _known_where_chosen(forward, sizes, *of_parts.items())
    else:
        oracles = _known(forward, sizes, points, of_parts)
    known = Forward({**targets, **of_parts}, oracles)
    first = next(_reverses_of(forward, sizes)) == 0
    return judge(backward, args, labels, known, where, whole=first)


@lru_cache(maxsize=64)
def _reverses_of(cell: Cell, sizes: Sizes) -> Iterator[int]:
    """Counts the reverses that are checked against a forward."""
    return count()


def argument_names(params: Any, x: Any, state: Any) -> list[str]:
    """Names of the leaves: of parameters their field, of the old state "h_prev"."""
    return [
        *field_names(params),
        "x",
        *(f"{name}_prev" for name in field_names(state)),
    ]


def field_names(value: Any) -> list[str]:
    """The names of the leaves of parameters or of a state, all of them floating."""
    return [name for name in leaf_names(value, "") if name is not None]


def _pre_activations(cell: Cell, dz: Any, targets: dict[str, Target]) -> list[Label]:
    """Labels for the leaves of dz that are the gradients of the products u and v.

    dz may be anything. It is known to be du and dv in a gated cell, and du where it is
    called so: by the last parameter of `Cell.gradients`, or as a field of dz.
    """
    names: tuple[str, ...] = getattr(dz, "_fields", ())
    if isinstance(cell.backward, GatedBackward):
        names = ("du", "dv")
    elif not isinstance(dz, tuple):
        *_, names_dz = inspect.signature(cell.gradients).parameters
        names, dz = (names_dz,), (dz,)
    labels: list[Label] = []
    for name, part in zip(names, dz if names else (), strict=True):
        product = f"product {name[1:]}"
        known = name in ("du", "dv") and product in targets
        labels += [(name, product) if known else None] * len(tree.leaves(part))
    return labels + [None] * (len(tree.leaves(dz)) - len(labels))


@lru_cache(maxsize=64)
def _known_where_chosen(
    cell: Cell, sizes: Sizes, *of_parts: tuple[str, Target]
) -> Oracles:
    """What the oracles say. It depends on the forward alone, and so is kept."""
    return _known(cell, sizes, choose(cell, sizes).points, dict(of_parts))


def _known(
    cell: Cell, sizes: Sizes, points: Point, of_parts: dict[str, Target]
) -> Oracles:
    program, targets = _traced(cell, sizes)
    args = points.params, points.xs[:, 0], points.state
    return know(
        program,
        {**targets, **of_parts},
        args,
        tree.leaves(points.dstate),
        tuple(argument_names(*args)),
        Differencing(sizes.difference_step, sizes.max_entries, sizes.seed),
    )


@lru_cache(maxsize=64)
def _traced(cell: Cell, sizes: Sizes) -> tuple[Program, dict[str, Target]]:
    """The forward of one step, and its targets: names, arguments, u and v."""
    point = draw(cell, sizes)
    args = point.params, point.xs[0], point.state
    program = trace(lambda *args: advance(cell, *args)[:2], *args)
    targets = forward_targets(program, argument_names(*args))
    products = {
        "product u": _input_product(program),
        "product v": _recurrent_product(program, args),
    }
    known = {target.value for target in targets.values()}
    for name, value in products.items():
        if value is not None and value not in known:
            targets[name] = Target(value, None, program.entered(value))
    return program, targets


def _input_product(program: Program) -> int | None:
    """The value of u = x Wx + b: what `project` returns, or its field of that name."""
    u = program.shapes[-1]
    leaves = program.outputs[-len(tree.leaves(u)) :]
    if not isinstance(u, tuple):
        return leaves[0] if len(leaves) == 1 else None
    fields = getattr(u, "_fields", ())
    whole = len(leaves) == len(fields)
    return leaves[fields.index("u")] if whole and "u" in fields else None


def _recurrent_product(program: Program, args: tuple) -> int | None:
    """The value of v = h_prev Wh: the one product that h_prev enters."""
    params, x, _ = args
    h_prev = program.inputs[len(tree.leaves(params)) + len(tree.leaves(x))]
    found = [
        node.outputs[0]
        for node in program.nodes
        if node.equation.primitive.name == "dot_general" and h_prev in node.inputs
    ]
    return found[0] if len(found) == 1 else None
