"""The gradient of J by three ways that know nothing of the manual one.

A *target* is a value of the forward program that gets a nudge: an argument, a named
quantity, or a quantity at some of its uses alone. J as a function of all nudges is
differentiated at 0: by JAX, by the computation graph, and by central differences.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lstm_jax import graph

DIRECTIONS = 4
"""Random directions of a directional derivative, and of the remainder test."""

DISTANCES = 2.0 ** -np.arange(10, 17)
"""How far the remainder test goes: short enough for the second order to dominate, and
to meet few kinks."""


once = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
"""`jax.jit` for what runs a single time: most of that is its compilation."""


class Numerical(NamedTuple):
    """Central differences.

    Attributes:
        directions: (k, *shape), the directions of the derivatives; None for one
            derivative an entry.
        values: (k,), or the quantity's shape.
        resolution: the rounding error of a difference, eps |J| / step.
    """

    directions: np.ndarray | None
    values: np.ndarray
    resolution: float


class Remainders(NamedTuple):
    """What the remainder test needs of the forward: J around the point.

    Attributes:
        directions: for each target a (DIRECTIONS, *shape) array.
        center: J at the point.
        around: (DISTANCES, DIRECTIONS), J at the point + distance * direction.
    """

    directions: dict[str, np.ndarray]
    center: float
    around: np.ndarray


class Oracles(NamedTuple):
    """The gradients of every target, by its name; float64."""

    automatic: dict[str, np.ndarray]
    graph: dict[str, np.ndarray]
    numerical: dict[str, Numerical]
    remainders: Remainders


def differentiate(
    loss: Callable[[Any], Array],
    at: Mapping[str, Array],
    *,
    difference_step: float,
    max_entries: int,
    inputs: tuple[str, ...],
    seed: int,
) -> Oracles:
    """All three gradients of `loss` with respect to each entry of `at`.

    Args:
        loss: a function of a dictionary of arrays, with a scalar value.
        at: where.
        difference_step: h in D(h) = (J(q + h) - J(q - h)) / 2h.
        max_entries: quantities with more entries than this get directional
            derivatives along `DIRECTIONS` random directions.
        inputs: the targets that the remainder test moves, all at once.
        seed: of the random directions.
    """
    rng = np.random.default_rng(seed)
    at = {name: jnp.asarray(value) for name, value in at.items()}
    bases = {name: _basis(value, max_entries, rng) for name, value in at.items()}
    straight = {name: rng.normal(size=(DIRECTIONS, *at[name].shape)) for name in inputs}
    columns = sum(len(rows) for rows in bases.values())
    moves = _side_by_side(bases)
    factors = difference_step * np.array([1.0, -1.0, 2.0, -2.0])
    everywhere = {
        name: np.concatenate(
            [
                _scaled(moves[name], factors),
                _scaled(
                    straight.get(name, np.zeros((DIRECTIONS, *at[name].shape))),
                    DISTANCES,
                ),
                np.zeros((1, *at[name].shape)),
            ]
        )
        for name in at
    }

    @once
    def ask(at: dict[str, Array], moves: dict[str, Array]) -> tuple[Any, Any, Array]:
        moved = {name: at[name] + moves[name] for name in at}
        return jax.grad(loss)(at), graph.grad(loss)(at), jax.vmap(loss)(moved)

    automatic, by_graph, values = ask(at, everywhere)
    values = np.asarray(values)
    differences, around = (
        values[: 4 * columns].reshape(4, columns),
        values[4 * columns : -1],
    )
    return Oracles(
        automatic=_numpy(automatic),
        graph=_numpy(by_graph),
        numerical=_slopes(differences, at, bases, difference_step),
        remainders=Remainders(
            straight, float(values[-1]), around.reshape(len(DISTANCES), DIRECTIONS)
        ),
    )


def _basis(value: Array, max_entries: int, rng: np.random.Generator) -> np.ndarray:
    """The directions to differentiate along: every entry's, or a few at random."""
    if value.size > max_entries:
        return rng.normal(size=(DIRECTIONS, *value.shape))
    return np.eye(value.size).reshape(-1, *value.shape)


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
    at: dict[str, Array],
    bases: dict[str, np.ndarray],
    step: float,
) -> dict[str, Numerical]:
    """Central differences from J at +h, -h, +2h and -2h, extrapolated to 0.

    Richardson's extrapolation, (4 D(h) - D(2h)) / 3, takes the error from h² to h⁴.
    """
    ahead, behind, far_ahead, far_behind = differences
    near, far = (ahead - behind) / (2 * step), (far_ahead - far_behind) / (4 * step)
    slopes = (4 * near - far) / 3
    resolution = np.finfo(np.float64).eps * float(np.max(np.abs(ahead))) / step
    found, start = {}, 0
    for name, rows in bases.items():
        values = slopes[start : start + len(rows)]
        start += len(rows)
        each = len(rows) == at[name].size
        found[name] = Numerical(
            directions=None if each else rows,
            values=values.reshape(at[name].shape) if each else values,
            resolution=resolution,
        )
    return found


def order(remainders: Remainders, gradients: Mapping[str, np.ndarray]) -> float:
    """The order of J(q + εv) - J(q) - ε <dq, v> in ε: 2 where dq is the gradient.

    A wrong gradient leaves a first-order term. Where J has no second-order term,
    the remainder is nothing but rounding, and the order is 2 by definition.

    Args:
        remainders: J around the point.
        gradients: dq of every target that was moved.
    """
    slopes = sum(
        slope(directions, np.asarray(gradients[name]))
        for name, directions in remainders.directions.items()
    )
    first = remainders.center + DISTANCES[:, None] * slopes
    left = np.linalg.norm(remainders.around - first, axis=1)
    rounding = 64 * np.finfo(np.float64).eps * (1 + abs(remainders.center))
    if not np.all(np.isfinite(left)):
        return float("nan")
    if left[0] < rounding:
        return 2.0
    ratios = np.log2(left[:-1] / np.maximum(left[1:], rounding))
    resolved = ratios[left[1:] > rounding]
    return float(np.median(resolved)) if resolved.size else 2.0


def slope(directions: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """<dq, v> for each of the directions v, (k, *shape)."""
    return np.sum(directions * gradient, axis=tuple(range(1, directions.ndim)))


def _numpy(gradients: Mapping[str, Array]) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in gradients.items()}
