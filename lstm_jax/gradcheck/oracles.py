"""The gradient of J by ways that know nothing of the manual one.

A *target* is a value of the forward program that gets a nudge: an argument, a named
quantity, or a quantity at some of its uses alone. J as a function of all nudges is
differentiated at 0: by JAX, by the computation graph, and by central differences.
Everything is asked at several points at once, and has their axis first.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from lstm_jax import graph

DIRECTIONS = 4
"""Random directions of a directional derivative, and of the remainder test."""

DISTANCES = 2.0 ** -np.arange(10, 17)
"""How far from a point the remainder test looks.

Near enough for the second-order term to be the largest one, and for few kinks of J to
lie between.
"""

DIFFERENCE_STEP = 1e-5
"""h of the central differences: near eps^(1/3), where h² meets eps/h."""


once = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
"""`jax.jit` for a function that is called once: it compiles faster and runs slower."""

Loss = Callable[[dict[str, Array], Any], Array]
"""J as a function of the targets, and of what else a point consists of."""


class Differencing(NamedTuple):
    """How central differences and remainders are taken.

    Attributes:
        step: h in D(h) = (J(q + h) - J(q - h)) / 2h.
        max_entries: quantities with more entries than this get directional
            derivatives along `DIRECTIONS` random directions.
        seed: of the random directions.
    """

    step: float = DIFFERENCE_STEP
    max_entries: int = 128
    seed: int = 0


class Numerical(NamedTuple):
    """Central differences.

    Attributes:
        directions: (k, *shape), the directions of the derivatives; None for one
            derivative an entry.
        values: (points, k), or (points, *shape).
        doubt: like `values`, how far each may be from the derivative: the rounding
            error of a difference, eps |J| / step, and how much two steps disagree,
            which is much where J has a kink between them or is steep.
    """

    directions: np.ndarray | None
    values: np.ndarray
    doubt: np.ndarray


class Remainders(NamedTuple):
    """What the remainder test needs of the forward: J around the points.

    Attributes:
        directions: for each target a (DIRECTIONS, *shape) array.
        center: J at the points.
        around: (points, DISTANCES, DIRECTIONS), J at point + distance * direction.
    """

    directions: dict[str, np.ndarray]
    center: np.ndarray
    around: np.ndarray


class Oracles(NamedTuple):
    """The gradients of every target, by its name; float64, (points, *shape).

    Attributes:
        automatic: by JAX.
        graph: by the local rules; empty if one is missing.
        added_up: how large the terms were that they are the sums of; empty as well.
        numerical: by central differences.
        remainders: see there.
        missing: why there is no graph; empty if there is.
        forward: by real-time recurrent learning, for what a whole sequence shares;
            None where that is not asked.
    """

    automatic: dict[str, np.ndarray]
    graph: dict[str, np.ndarray]
    added_up: dict[str, np.ndarray]
    numerical: dict[str, Numerical]
    remainders: Remainders
    missing: str = ""
    forward: dict[str, np.ndarray] | None = None

    def at(self, index: int) -> "Oracles":
        """The same at one of the points, which keeps its axis."""
        point = slice(index, index + 1)

        def taken(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            return {name: gradient[point] for name, gradient in found.items()}

        around = self.remainders
        return self._replace(
            automatic=taken(self.automatic),
            graph=taken(self.graph),
            added_up=taken(self.added_up),
            numerical={
                name: d._replace(values=d.values[point], doubt=d.doubt[point])
                for name, d in self.numerical.items()
            },
            remainders=around._replace(
                center=around.center[point], around=around.around[point]
            ),
            forward=None if self.forward is None else taken(self.forward),
        )


def differentiate(
    loss: Loss,
    at: Mapping[str, np.ndarray],
    given: Any,
    differencing: Differencing,
    inputs: tuple[str, ...],
) -> Oracles:
    """All three gradients of `loss` with respect to each entry of `at`.

    Args:
        loss: see `Loss`; its value is a scalar.
        at: where, (points, *shape) each.
        given: what else it takes, a pytree of arrays with the same leading axis.
        differencing: how.
        inputs: the targets that the remainder test moves, all at once.
    """
    rng = np.random.default_rng(differencing.seed)
    shapes = {name: value.shape[1:] for name, value in at.items()}
    bases = {
        name: _basis(shape, differencing.max_entries, rng)
        for name, shape in shapes.items()
    }
    straight = {name: rng.normal(size=(DIRECTIONS, *shapes[name])) for name in inputs}
    moves = _moves(shapes, bases, straight, differencing.step)

    def values(at: dict[str, Array], given: Any, moves: dict[str, Array]) -> Array:
        def moved(move: dict[str, Array]) -> Array:
            return loss({name: at[name] + move[name] for name in at}, given)

        return jax.vmap(moved)(moves)

    def ask(with_graph: bool) -> Any:
        def one(at: dict[str, Array], given: Any, moves: dict[str, Array]) -> Any:
            found = [jax.grad(loss)(at, given), values(at, given, moves)]
            if with_graph:
                found += [graph.grad(loss)(at, given), graph.added_up(loss)(at, given)]
            return found

        return once(jax.vmap(one, in_axes=(0, 0, None)))(dict(at), given, moves)

    by_graph, added_up, missing = {}, {}, ""
    try:
        automatic, found, by_graph, added_up = ask(with_graph=True)
    except (graph.UnknownPrimitiveError, graph.ComplexNumberError) as error:
        missing = re.split(r", used at|\. ", str(error))[0]
        automatic, found = ask(with_graph=False)
    found = np.asarray(found)
    columns = sum(len(rows) for rows in bases.values())
    count = len(found)
    return Oracles(
        automatic=_numpy(automatic),
        graph=_numpy(by_graph),
        added_up=_numpy(added_up),
        numerical=_slopes(
            found[:, : 4 * columns].reshape(count, 4, columns),
            shapes,
            bases,
            differencing.step,
        ),
        remainders=Remainders(
            straight,
            found[:, -1],
            found[:, 4 * columns : -1].reshape(count, len(DISTANCES), DIRECTIONS),
        ),
        missing=missing,
    )


def _basis(
    shape: tuple[int, ...], max_entries: int, rng: np.random.Generator
) -> np.ndarray:
    """The directions to differentiate along: every entry's, or a few at random."""
    size = int(np.prod(shape))
    if size > max_entries:
        return rng.normal(size=(DIRECTIONS, *shape))
    return np.eye(size).reshape(-1, *shape)


def _moves(
    shapes: dict[str, tuple[int, ...]],
    bases: dict[str, np.ndarray],
    straight: dict[str, np.ndarray],
    step: float,
) -> dict[str, np.ndarray]:
    """All moves, one after the other: differences, remainders, and none at all."""
    singly = _side_by_side(bases)
    factors = step * np.array([1.0, -1.0, 2.0, -2.0])
    return {
        name: np.concatenate(
            [
                _scaled(singly[name], factors),
                _scaled(straight.get(name, np.zeros((DIRECTIONS, *shape))), DISTANCES),
                np.zeros((1, *shape)),
            ]
        )
        for name, shape in shapes.items()
    }


def _side_by_side(bases: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Moves of all quantities at once, in which a single one moves at a time."""
    columns, start, moves = sum(len(rows) for rows in bases.values()), 0, {}
    for name, rows in bases.items():
        moves[name] = np.zeros((columns, *rows.shape[1:]))
        moves[name][start : start + len(rows)] = rows
        start += len(rows)
    return moves


def _scaled(moves: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """All moves times the first factor, all times the second, ..."""
    products = factors.reshape(-1, *(1,) * moves.ndim) * moves
    return products.reshape(-1, *moves.shape[1:])


def _slopes(
    differences: np.ndarray,
    shapes: dict[str, tuple[int, ...]],
    bases: dict[str, np.ndarray],
    step: float,
) -> dict[str, Numerical]:
    """Central differences from J at +h, -h, +2h and -2h, extrapolated to 0.

    Richardson's extrapolation, (4 D(h) - D(2h)) / 3, takes the error from h² to h⁴.

    Args:
        differences: (points, 4, columns).
        shapes: of the targets.
        bases: the directions, a column each.
        step: h.
    """
    ahead, behind, far_ahead, far_behind = np.moveaxis(differences, 1, 0)
    near, far = (ahead - behind) / (2 * step), (far_ahead - far_behind) / (4 * step)
    slopes = (4 * near - far) / 3
    largest = np.max(np.abs(ahead), axis=1, keepdims=True, initial=0)
    doubt = np.finfo(np.float64).eps * largest / step + np.abs(near - far)
    found, start = {}, 0
    for name, rows in bases.items():
        stop = start + len(rows)
        each = len(rows) == int(np.prod(shapes[name]))
        shape = shapes[name] if each else (len(rows),)
        values, its_doubt = (
            a[:, start:stop].reshape(len(a), *shape) for a in (slopes, doubt)
        )
        found[name] = Numerical(None if each else rows, values, its_doubt)
        start = stop
    return found


def order(remainders: Remainders, gradients: Mapping[str, np.ndarray]) -> float:
    """The order of J(q + εv) - J(q) - ε <dq, v> in ε: 2 where dq is the gradient.

    A wrong gradient leaves a first-order term, in every direction. A kink that lies
    close by leaves one in few, so the order at a point is the median over directions.
    Where J has no second-order term, the remainder is nothing but rounding, and the
    order is 2 by definition.

    Args:
        remainders: J around the points.
        gradients: dq of every target that was moved, (points, *shape).

    Returns:
        The order at the point where it is furthest from 2.
    """
    slopes = sum(
        slope(directions, np.asarray(gradients[name]))
        for name, directions in remainders.directions.items()
    )
    center = remainders.center[:, None, None]
    first = center + DISTANCES[:, None] * np.asarray(slopes)[:, None, :]
    left = np.abs(remainders.around - first)
    if not np.all(np.isfinite(left)):
        return float("nan")
    rounding = 64 * np.finfo(np.float64).eps * (1 + np.abs(center))
    left = np.maximum(left, rounding)
    ratios = np.log2(left[:, :-1] / left[:, 1:])
    ratios = np.where(left[:, 1:] > rounding, ratios, np.nan)
    orders = [
        float(np.nanmedian(each)) if np.isfinite(each).any() else 2.0 for each in ratios
    ]
    return max(orders, key=lambda found: abs(found - 2))


def slope(directions: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """<dq, v> for each of the directions v (k, *shape): (points, k)."""
    flat = gradient.reshape(len(gradient), -1)
    return flat @ directions.reshape(len(directions), -1).T


def _numpy(gradients: Mapping[str, Array]) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in gradients.items()}
