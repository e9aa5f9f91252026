"""Whole sequences by their equations alone: what should come out of the engine.

A step after another, with lengths and resets as equations of the step; nothing of the
engine is in here but its functions on trees. What makes a variant is an argument, so
that all variants are points of one program, which is traced and compiled once.
"""

from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax, tree

from lstm_jax import rtrl
from lstm_jax.cell import Cell
from lstm_jax.engine import trees
from lstm_jax.gradcheck.oracles import Differencing, Oracles, differentiate, once
from lstm_jax.gradcheck.points import Point, Sizes, draw
from lstm_jax.gradcheck.step import argument_names, field_names

VARIANTS = ("plain", "reverse", "lengths", "resets")

MOST_COLUMNS = 512
"""Numbers to differentiate by, up to which real-time recurrent learning is quick."""


class Options(NamedTuple):
    """What makes a variant, as arguments of `lstm_jax.unroll`."""

    lengths: Array | None
    resets: Array | None
    reverse: bool


class Schedule(NamedTuple):
    """What makes a variant, as arrays of the same shapes for each.

    Attributes:
        valid: whether a step is within its sequence's length, (T, B).
        carried: whether a step starts from the state before it, (T, B).
        reverse: whether the steps go from the last to the first, ().
    """

    valid: Any
    carried: Any
    reverse: Any

    def in_order(self, steps: Any) -> Any:
        """What the steps have, by time, in the order in which they run; or back."""
        return tree.map(lambda a: jnp.where(self.reverse, a[::-1], a), steps)


class Known(NamedTuple):
    """What is known of a sequence.

    Attributes:
        oracles: the gradients, (1, *shape): of the arguments by their names, and of
            the states after the steps, "h_t" for instance, (1, T, B, H).
        results: the outputs and the final state, as a flat list.
        new: the states after the steps, (T, B, ...).
    """

    oracles: Oracles
    results: list[np.ndarray]
    new: Any


@lru_cache(maxsize=64)
def options_of(sizes: Sizes, variant: str) -> Options:
    """Lengths with T - 1, 0, T and 1 among them; resets at about every third step."""
    rng = np.random.default_rng(sizes.seed)
    steps, batch = sizes.steps, sizes.batch
    lengths = np.resize([steps - 1, 0, steps, 1], batch)
    resets = rng.random((steps, batch)) < 0.3
    resets[steps // 2, 0] = True
    return Options(
        lengths=jnp.asarray(lengths) if variant == "lengths" else None,
        resets=jnp.asarray(resets) if variant == "resets" else None,
        reverse=variant == "reverse",
    )


def point_of(cell: Cell, sizes: Sizes, variant: str) -> Point:
    """The random point; past a sequence's length the inputs are NaN, as they may be."""
    point = draw(cell, sizes)
    padding = ~_schedule(sizes, variant).valid
    return point._replace(xs=np.where(padding[..., None], np.nan, point.xs))


def _schedule(sizes: Sizes, variant: str) -> Schedule:
    lengths, resets, reverse = options_of(sizes, variant)
    all_steps = np.ones((sizes.steps, sizes.batch), bool)
    times = np.arange(sizes.steps)[:, None]
    return Schedule(
        valid=all_steps if lengths is None else times < np.asarray(lengths),
        carried=all_steps if resets is None else ~np.asarray(resets),
        reverse=np.asarray(reverse),
    )


@lru_cache(maxsize=64)
def known(cell: Cell, sizes: Sizes) -> dict[str, Known]:
    """What the oracles say of every variant, by its name.

    Args:
        cell: as `lstm_jax.gradcheck.points.forward_only` makes it.
        sizes: of what is drawn.
    """
    drawn = [
        (point_of(cell, sizes, variant), _schedule(sizes, variant))
        for variant in VARIANTS
    ]
    point, schedule = tree.map(lambda *a: np.stack(a), *drawn)
    moved = tree.map(
        lambda s: np.zeros((*point.dys.shape[:2], *s.shape[1:])), point.state
    )
    args = point.params, point.xs, point.state, moved
    oracles = _gradients(cell, sizes, args, schedule, (point.dys, point.dstate))
    outputs = once(jax.vmap(partial(_run, cell)))(*args, schedule)
    found = {}
    for number, variant in enumerate(VARIANTS):
        ys, final, new = tree.map(lambda a, k=number: np.asarray(a)[k], outputs)
        results = tree.leaves((ys, final))
        found[variant] = Known(oracles.at(number), results, new)
    return found


def _gradients(
    cell: Cell, sizes: Sizes, args: tuple, schedule: Schedule, cotangents: Any
) -> Oracles:
    """The oracles' gradients at several points."""
    params, xs, state, _ = args
    inputs = argument_names(params, xs, state)
    names = [*inputs, *(f"{name}_t" for name in field_names(state))]

    def loss(at: dict[str, Array], given: Any) -> Array:
        schedule, cotangents = given
        leaves = [at[name] for name in names]
        ys, final, _ = _run(
            cell, *tree.unflatten(tree.structure(args), leaves), schedule
        )
        pairs = zip(tree.leaves(cotangents), tree.leaves((ys, final)), strict=True)
        return sum((jnp.sum(d * out) for d, out in pairs), jnp.zeros(()))

    oracles = differentiate(
        loss,
        dict(zip(names, tree.leaves(args), strict=True)),
        (schedule, cotangents),
        Differencing(sizes.difference_step, sizes.max_entries, sizes.seed),
        tuple(inputs),
    )
    columns = sum(leaf[0].size for leaf in tree.leaves((params, state)))
    if columns > MOST_COLUMNS:
        return oracles
    carried = once(jax.vmap(partial(_carried_forward, cell)))
    dparams, dstate = carried(*args, schedule, *cotangents)
    shared = [name for name in inputs if name != "x"]
    found = map(np.asarray, tree.leaves((dparams, dstate)))
    return oracles._replace(forward=dict(zip(shared, found, strict=True)))


def _run(
    cell: Cell, params: Any, xs: Array, first: Any, moved: Any, schedule: Schedule
) -> tuple[Array, Any, Any]:
    """The outputs, the final state, and the states after the steps."""

    def step(state: Any, step_inputs: Any) -> tuple[Any, Any]:
        new = _step(cell, (params, first), state, step_inputs)
        return new, new

    valid, carried, _ = schedule
    step_inputs = schedule.in_order((xs, moved, valid, carried))
    final, new = lax.scan(step, first, step_inputs)
    new = schedule.in_order(new)
    return trees.masked(valid, new[0]), final, new


def _step(cell: Cell, theta: Any, state: Any, step_inputs: Any) -> Any:
    """One step; what its new state is moved by has the gradient of this state."""
    (params, first), (x, moved, valid, carried) = theta, step_inputs
    old = trees.select(carried, state, first)
    new, _ = cell.step(params, old, cell.project(params, trees.masked(valid, x)))
    return trees.select(valid, tree.map(jnp.add, new, moved), state)


def _carried_forward(
    cell: Cell,
    params: Any,
    xs: Array,
    first: Any,
    moved: Any,
    schedule: Schedule,
    dys: Array,
    dfinal: Any,
) -> tuple[Any, Any]:
    """By real-time recurrent learning: the gradients of parameters and first state."""
    valid, carried, _ = schedule
    step_inputs = schedule.in_order((xs, moved, valid, carried))
    dys = schedule.in_order(trees.masked(valid, dys))
    dstates = tree.map(lambda d: jnp.zeros((len(dys), *d.shape)).at[-1].set(d), dfinal)
    theta = params, first
    begun = rtrl.begin(theta, lambda theta: theta[1])
    dtheta, _ = rtrl.learn(
        partial(_step, cell), theta, begun, step_inputs, trees.add_output(dstates, dys)
    )
    return dtheta
