"""The gradient of J by three ways that know nothing of the manual one.

A *target* is a value of the forward program that gets a nudge: an argument, a named
quantity, or a quantity at some of its uses alone. J as a function of all nudges is
differentiated at 0: by JAX, by the computation graph, and by central differences.
"""

from collections.abc import Callable, Mapping
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
    loss = jax.jit(loss)
    return Oracles(
        automatic=_numpy(jax.jit(jax.grad(loss))(at)),
        graph=_numpy(jax.jit(graph.grad(loss))(at)),
        numerical=_differences(loss, at, difference_step, max_entries, rng),
        remainders=_remainders(loss, at, inputs, rng),
    )


def _differences(
    loss: Callable[[Any], Array],
    at: dict[str, Array],
    step: float,
    max_entries: int,
    rng: np.random.Generator,
) -> dict[str, Numerical]:
    """Central differences of every target, at h and 2h, extrapolated to 0.

    Richardson's extrapolation, (4 D(h) - D(2h)) / 3, takes the error from h² to h⁴.
    """
    chosen = {
        name: None
        if value.size <= max_entries
        else rng.normal(size=(DIRECTIONS, *value.shape))
        for name, value in at.items()
    }
    basis = {
        name: np.eye(at[name].size).reshape(-1, *at[name].shape)
        if directions is None
        else directions
        for name, directions in chosen.items()
    }
    counts = {name: len(rows) for name, rows in basis.items()}
    moves = {}
    for name, rows in basis.items():
        before = sum(list(counts.values())[: list(counts).index(name)])
        after = sum(counts.values()) - before - len(rows)
        pad = ((before, after), *((0, 0),) * (rows.ndim - 1))
        moves[name] = step * np.pad(rows, pad)
    ahead, behind, far_ahead, far_behind = (
        _along(loss, at, moves, factor) for factor in (1.0, -1.0, 2.0, -2.0)
    )
    near, far = (ahead - behind) / (2 * step), (far_ahead - far_behind) / (4 * step)
    slopes = (4 * near - far) / 3
    resolution = np.finfo(np.float64).eps * float(np.max(np.abs(ahead))) / step
    found, start = {}, 0
    for name, directions in chosen.items():
        values = slopes[start : start + counts[name]]
        start += counts[name]
        if directions is None:
            values = values.reshape(at[name].shape)
        found[name] = Numerical(directions, values, resolution)
    return found


def _remainders(
    loss: Callable[[Any], Array],
    at: dict[str, Array],
    inputs: tuple[str, ...],
    rng: np.random.Generator,
) -> Remainders:
    """J at growing distances from the point, along random directions."""
    directions = {
        name: rng.normal(size=(DIRECTIONS, *at[name].shape)) for name in inputs
    }
    steps = DISTANCES.repeat(DIRECTIONS)
    moves = {name: np.zeros((len(steps), *value.shape)) for name, value in at.items()}
    for name, rows in directions.items():
        tiled = np.tile(rows, (len(DISTANCES), *(1,) * (rows.ndim - 1)))
        moves[name] = steps.reshape(-1, *(1,) * (rows.ndim - 1)) * tiled
    around = _along(loss, at, moves, 1.0).reshape(len(DISTANCES), DIRECTIONS)
    return Remainders(directions, float(loss(at)), around)


def _along(
    loss: Callable[[Any], Array],
    at: dict[str, Array],
    moves: dict[str, np.ndarray],
    factor: float,
) -> np.ndarray:
    moved = {name: at[name] + factor * jnp.asarray(moves[name]) for name in at}
    return np.asarray(jax.jit(jax.vmap(loss))(moved))


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
