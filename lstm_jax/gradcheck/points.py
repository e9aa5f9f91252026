"""Where a cell is checked: random points, enough of them to see every branch.

One point doesn't see both sides of a ``max``. So there are several, and more are drawn,
wilder ones, until every branch of the forward has been taken to either side with a
gradient passing through, or until it is plain that a side can't be reached.
"""

import math
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, tree

from lstm_jax.cell import Cell, Init
from lstm_jax.gradcheck.branches import Side, sides_of, watcher
from lstm_jax.gradcheck.flat_jaxpr import trace
from lstm_jax.gradcheck.oracles import once
from lstm_jax.jaxprs import ALL_CALLS

POINTS = 3
"""How many points every cell is checked at."""

ROUNDS, A_ROUND = 4, 24
"""How often more are tried where a side has not been reached, and about how many."""


class Sizes(NamedTuple):
    """What is drawn: sizes, the seed, and how the oracles differentiate."""

    input_size: int
    hidden_size: int
    batch: int
    steps: int
    seed: int
    difference_step: float
    max_entries: int
    points: int = POINTS


class Point(NamedTuple):
    """Random arguments of a cell in float64; or several of them, stacked.

    Attributes:
        params: drawn by the cell, and moved at random so that no bias is constant.
        xs: (T, B, D).
        state: one that the cell has reached in a few steps.
        dys: gradients of the outputs, (T, B, H).
        dstate: gradients of the final state.
    """

    params: Any
    xs: np.ndarray | Array
    state: Any
    dys: np.ndarray | Array
    dstate: Any

    def at(self, index: int) -> "Point":
        """One of several points that are stacked."""
        return tree.map(lambda a: a[index], self)


class Chosen(NamedTuple):
    """The points of a cell.

    Attributes:
        points: stacked.
        unreached: the sides of branches that none of them reaches.
    """

    points: Point
    unreached: tuple[Side, ...]


def forward_only(cell: Cell) -> Cell:
    """The cell without its reverse: the oracles look at nothing else."""
    defaults = Cell._field_defaults
    return cell._replace(backward=defaults["backward"], gradients=defaults["gradients"])


def draw(cell: Cell, sizes: Sizes) -> Point:
    """The first of the random points for the forward of a cell."""
    return _tame(cell, sizes).at(0)


def advance(cell: Cell, params: Any, x: Array, state: Any) -> tuple[Any, Any, Any]:
    """One step: the new state, what the input is projected to, and what is kept."""
    u = cell.project(params, x)
    new, kept = cell.step(params, state, u)
    return new, u, kept


@lru_cache(maxsize=64)
def each_advanced(cell: Cell) -> Callable[[Any, Any, Any], tuple[Any, Any, Any]]:
    """`advance` at several points, compiled once for a cell."""
    return once(jax.vmap(partial(advance, cell)))


@lru_cache(maxsize=64)
def choose(cell: Cell, sizes: Sizes) -> Chosen:
    """Points for the forward of a cell, until each of its branches has been seen.

    Args:
        cell: as `forward_only` makes it.
        sizes: of what is drawn.
    """
    chosen = _tame(cell, sizes)
    first = chosen.at(0)
    args = first.params, first.xs[0], first.state
    forward = trace(partial(advance, cell), *args, calls=ALL_CALLS)
    sides = sides_of(forward)
    if not sides:
        return Chosen(chosen, ())

    watch = watcher(forward)

    def reached(points: Point) -> np.ndarray:
        args = points.params, points.xs[:, 0], points.state
        return watch(args, tree.leaves(points.dstate))

    seen = np.any(reached(chosen), axis=0)
    for wild in _wild(cell, sizes):
        if seen.all():
            break
        for index, here in enumerate(reached(wild)):
            if np.any(here & ~seen):
                seen |= here
                chosen = tree.map(
                    lambda a, b, k=index: np.concatenate([a, b[k : k + 1]]),
                    chosen,
                    wild,
                )
    missing = (side for side, found in zip(sides, seen, strict=True) if not found)
    return Chosen(chosen, tuple(dict.fromkeys(missing)))


@lru_cache(maxsize=64)
def _tame(cell: Cell, sizes: Sizes) -> Point:
    return _drawn(cell, sizes, range(sizes.points), 2)


def _wild(cell: Cell, sizes: Sizes) -> Iterator[Point]:
    """More points, wilder ones.

    As many at a time as there are tame ones: for so many, all is compiled.
    """
    start = sizes.points
    for number in range(ROUNDS):
        for _ in range(math.ceil(A_ROUND / sizes.points)):
            indices = range(start, start + sizes.points)
            yield _drawn(cell, sizes, indices, 2 ** (number + 1))
            start = indices.stop


def _drawn(cell: Cell, sizes: Sizes, indices: range, steps: int) -> Point:
    """Points by their numbers: the first are tame, those after them wild.

    Args:
        cell: its forward is used.
        sizes: of what is drawn.
        indices: the numbers.
        steps: how many the cell has made when it gets to the state.
    """
    first = initial(cell.init, sizes.input_size, sizes.hidden_size, sizes.seed)

    def begin(params: Any) -> Any:
        return cell.initial_state(params, (sizes.batch,))

    state = jax.eval_shape(begin, first)
    draws = [_numbers(first, state, sizes, index, steps) for index in indices]
    moves, inputs, xs, dys, dstate = tree.map(lambda *a: np.stack(a), *draws)
    params = tree.map(np.add, first, moves)
    states = jax.vmap(begin)(params)
    for number in range(steps):
        states, *_ = each_advanced(cell)(params, inputs[:, number], states)
    return tree.map(np.asarray, Point(params, xs, states, dys, dstate))


@lru_cache(maxsize=64)
def initial(init: Init, input_size: int, hidden_size: int, seed: int) -> Any:
    """The parameters that a cell begins with, in float64, as NumPy's arrays."""
    params = init(jax.random.key(seed), input_size, hidden_size, dtype=jnp.float64)
    return tree.map(np.asarray, params)


def _numbers(
    params: Any, state: Any, sizes: Sizes, index: int, steps: int
) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, Any]:
    """The random numbers of a point: moves of parameters, inputs, gradients."""
    rng = np.random.default_rng([sizes.seed, index] if index else sizes.seed)
    spread, scale = 0.2, 1.0
    if index >= sizes.points:
        spread, scale = rng.choice([0.2, 0.5, 1.0]), 10 ** rng.uniform(-1, 1)
    moves = tree.map(lambda p: spread * rng.normal(size=p.shape), params)
    inputs = scale * rng.normal(size=(steps, sizes.batch, sizes.input_size))
    count = max(sizes.steps, 1)
    xs = scale * rng.normal(size=(count, sizes.batch, sizes.input_size))
    dys = rng.normal(size=(count, *state[0].shape))
    return moves, inputs, xs, dys, tree.map(lambda s: rng.normal(size=s.shape), state)
