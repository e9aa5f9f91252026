"""One step of a cell: every quantity that its equations name."""

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, tree

from lstm_jax.cell import Cell
from lstm_jax.gradcheck.flat_jaxpr import Program, trace
from lstm_jax.gradcheck.oracles import Oracles
from lstm_jax.gradcheck.quantities import (
    Forward,
    Label,
    Target,
    first_equations,
    forward_targets,
    judge,
    know,
    leaf_names,
    partial_targets,
)
from lstm_jax.gradcheck.report import Row, Tolerances

ONE_STEP = "one step"


class Sizes(NamedTuple):
    """What is drawn: sizes, the seed, and how the oracles differentiate."""

    input_size: int
    hidden_size: int
    batch: int
    steps: int
    seed: int
    difference_step: float
    max_entries: int


class Point(NamedTuple):
    """Random arguments of a cell in float64.

    Attributes:
        params: drawn by the cell, and moved at random so that no bias is constant.
        xs: (T, B, D).
        state: one that the cell has reached in two steps.
        dys: gradients of the outputs, (T, B, H).
        dstate: gradients of the final state.
    """

    params: Any
    xs: Array
    state: Any
    dys: Array
    dstate: Any


def forward_only(cell: Cell) -> Cell:
    """The cell without its reverse: the oracles look at nothing else."""
    defaults = Cell._field_defaults
    return cell._replace(backward=defaults["backward"], gradients=defaults["gradients"])


@lru_cache(maxsize=64)
def draw(cell: Cell, sizes: Sizes) -> Point:
    """A random point for the forward of a cell."""
    rng = np.random.default_rng(sizes.seed)

    def normal(*shape: int) -> Array:
        return jnp.asarray(rng.normal(size=shape))

    params = cell.init(
        jax.random.key(sizes.seed),
        sizes.input_size,
        sizes.hidden_size,
        dtype=jnp.float64,
    )
    params = tree.map(lambda p: p + 0.2 * normal(*p.shape), params)
    state = cell.initial_state(params, (sizes.batch,))
    for _ in range(2):
        x = normal(sizes.batch, sizes.input_size)
        state, _ = cell.step(params, state, cell.project(params, x))
    return Point(
        params=params,
        xs=normal(max(sizes.steps, 1), sizes.batch, sizes.input_size),
        state=state,
        dys=normal(max(sizes.steps, 1), *state[0].shape),
        dstate=tree.map(lambda s: normal(*s.shape), state),
    )


def check_step(
    cell: Cell, sizes: Sizes, tolerances: Tolerances
) -> tuple[list[Row], float]:
    """The rows of one step, and the order of its remainder."""
    forward = forward_only(cell)
    point = draw(forward, sizes)
    params, x, state = point.params, point.xs[0], point.state
    new, kept = cell.step(params, state, cell.project(params, x))
    args = params, x, state, new, kept, point.dstate

    def reverse(params, x, state, new, kept, dnew):
        dstate, dz = cell.backward(params, state, new, kept, dnew)
        return cell.gradients(params, x, state, new, kept, dz), dstate, dz

    backward = trace(reverse, *args)
    program, targets = _traced(forward, sizes)
    labels: list[Label] = [
        (f"d{label}", label) for label in argument_names(params, x, state)
    ]
    labels += _pre_activations(backward.shapes[-1], targets)
    partial = partial_targets(program, targets, backward, labels)
    known = Forward({**targets, **partial}, _known(forward, sizes, *partial.items()))
    return judge(backward, args, labels, known, ONE_STEP, tolerances)


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


def _pre_activations(dz: Any, targets: dict[str, Target]) -> list[Label]:
    """Labels for the leaves of dz that are the gradients of the products u and v."""
    if not isinstance(dz, tuple):
        fields = [("du", "u")]
    elif hasattr(dz, "_fields"):
        fields = [(f, "u" if f in ("dz", "du") else "") for f in dz._fields]
    else:
        fields = [("du", "u"), ("dv", "v")]
    labels: list[Label] = []
    parts = dz if isinstance(dz, tuple) else (dz,)
    for (name, product), part in zip(fields, parts, strict=False):
        known = f"product {product}" in targets
        label = (name, f"product {product}") if known else None
        labels += [label] * len(tree.leaves(part))
    return labels + [None] * (len(tree.leaves(dz)) - len(labels))


@lru_cache(maxsize=64)
def _known(cell: Cell, sizes: Sizes, *partial: tuple[str, Target]) -> Oracles:
    """What the oracles say. It depends on the forward alone, and so is kept."""
    program, targets = _traced(cell, sizes)
    point = draw(cell, sizes)
    args = point.params, point.xs[0], point.state
    return know(
        program,
        {**targets, **dict(partial)},
        args,
        tree.leaves(point.dstate),
        inputs=tuple(argument_names(*args)),
        difference_step=sizes.difference_step,
        max_entries=sizes.max_entries,
        seed=sizes.seed,
    )


@lru_cache(maxsize=64)
def _traced(cell: Cell, sizes: Sizes) -> tuple[Program, dict[str, Target]]:
    """The forward of one step, and its targets: names, arguments, u and v."""
    point = draw(cell, sizes)

    def advance(params, x, state):
        u = cell.project(params, x)
        new, _ = cell.step(params, state, u)
        return new, u

    args = point.params, point.xs[0], point.state
    program = trace(advance, *args)
    targets = forward_targets(program, argument_names(*args))
    products = {
        "product u": _input_product(program),
        "product v": _recurrent_product(program, args),
    }
    known = {target.value for target in targets.values()}
    for name, value in products.items():
        if value is not None and value not in known:
            targets[name] = Target(value, None, first_equations(program, value))
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
