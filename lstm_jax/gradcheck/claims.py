"""What a cell says of itself, checked like its equations.

The engine believes a cell: that its sizes are those that `init` was called with, that
examples do not see each other, that a cell that calls itself linear is linear. Where
one of these is not true, every equation may be right and the results are wrong.
"""

from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, tree

from lstm_jax.cell import Cell
from lstm_jax.gated import GatedStep, by_unit
from lstm_jax.gradcheck.oracles import once
from lstm_jax.gradcheck.points import Point, Sizes, advance, choose, each_advanced
from lstm_jax.gradcheck.report import Row, relative_errors, scales
from lstm_jax.gradcheck.step import field_names

CLAIMS = "claims"


@lru_cache(maxsize=64)
def check_claims(cell: Cell, sizes: Sizes) -> tuple[Row, ...]:
    """A row for each claim.

    Args:
        cell: as `forward_only` makes it.
        sizes: of what is drawn.
    """
    points = choose(cell, sizes).points
    rows = [
        _claim("sizes", _sizes(cell, sizes, points)),
        _claim("initial", _initial_state(cell, points)),
        _examples_apart(cell, points),
    ]
    if isinstance(cell.step, GatedStep):
        rows += _unit_by_unit(cell, points)
    if cell.linear:
        rows.append(check_linear(cell, points))
    return tuple(rows)


def _claim(name: str, note: str, **rest: Any) -> Row:
    return Row(CLAIMS, name, (), rest.pop("errors", {}), (), note=note, **rest)


def _measured(name: str, errors: dict[str, float], said: str) -> Row:
    """A claim that holds to rounding; `said` has the place of what is wrong."""
    field, error = max(errors.items(), key=lambda item: item[1])
    note = f"{said.format(field)}: off by {error:.1e}" if error > 1e-9 else ""
    return _claim(name, note, errors={"itself": error})


def _sizes(cell: Cell, sizes: Sizes, points: Point) -> str:
    """What is wrong with the sizes that a cell reads off its parameters."""
    params = points.at(0).params
    wanted = {"input_size": sizes.input_size, "hidden_size": sizes.hidden_size}
    told = cell.sizes(params)
    if {name: told.get(name) for name in wanted} != wanted:
        return f"init was called with {wanted}; sizes says {told}"
    init = partial(cell.init, jax.random.key(0), **told, dtype=jnp.float64)
    again = tree.map(jnp.shape, jax.eval_shape(init))
    if again != tree.map(jnp.shape, params):
        return f"init with the sizes that sizes says, {told}, makes other parameters"
    return ""


def _initial_state(cell: Cell, points: Point) -> str:
    """What is wrong with the state that a cell starts from."""
    params, _, state, *_ = points.at(0)
    for shape in ((), (5,), (2, 3)):
        found = jax.eval_shape(lambda p, b=shape: cell.initial_state(p, b), params)
        expected = tree.map(lambda s, b=shape: (*b, *s.shape[1:]), state)
        if tree.map(jnp.shape, found) != expected:
            made = tree.map(jnp.shape, found)
            return f"for the batch {shape}: {made}; after a step it is {expected}"
        for name, leaf in zip(field_names(found), tree.leaves(found), strict=True):
            if leaf.dtype != jnp.float64:
                return f"{name} is {leaf.dtype}, the parameters are float64"
    return ""


def _examples_apart(cell: Cell, points: Point) -> Row:
    """Whether a step of a batch is the step of each example by itself."""
    args = points.params, points.xs[:, 0], points.state
    together, *_ = each_advanced(cell)(*args)
    of_one = jax.vmap(lambda *a: advance(cell, *a)[0], in_axes=(None, 0, 0))
    errors = _errors(together, once(jax.vmap(of_one))(*args))
    return _measured("examples", errors, "{} of an example depends on others")


def _unit_by_unit(cell: Cell, points: Point) -> list[Row]:
    """Whether the equations of a gated cell let a unit see itself alone.

    One unit after another gets other numbers; the others must not notice. There is no
    row where u or a state is not made of blocks of H numbers.
    """
    assert isinstance(cell.step, GatedStep)
    equations = cell.step.equations
    units = points.state[0].shape[-1]
    params, (x, *_), state, *_ = points.at(0)
    u = jax.eval_shape(cell.project, params, x)
    fits = [u.shape[-1] % units == 0, *(s.shape[-1:] == (units,) for s in state)]
    if not all(fits) or any(s.ndim != x.ndim for s in state):
        return []
    numbers = jnp.arange(units)

    def without(unit: Array, state: Any) -> Any:
        return tree.map(lambda a: jnp.where(numbers == unit, 0, a), state)

    def others(params: Any, x: Array, state: Any) -> tuple[Any, Any]:
        u = cell.project(params, x)
        v = jnp.cos(u) if "Wh" in params._fields else None
        rows = by_unit(params, u)

        def elsewhere(unit: Array) -> Any:
            def moved(a: Array) -> Array:
                of_unit = jnp.arange(a.shape[-1]) % units == unit
                return jnp.where(of_unit, a + 0.1, a)

            new, _ = equations(rows, *tree.map(moved, (state, u, v)))
            return without(unit, new)

        new, _ = equations(rows, state, u, v)
        still = jax.vmap(lambda unit: without(unit, new))(numbers)
        return jax.vmap(elsewhere)(numbers), still

    errors = _errors(*once(others)(params, x, state))
    said = "{} of a unit depends on other units, and not through v"
    return [_measured("units", errors, said)]


def check_linear(cell: Cell, points: Point) -> Row:
    """Whether every number of the new state is a * h_prev + b of the same number."""

    def at(params: Any, x: Array, state: Any) -> tuple[Any, Any]:
        step = lambda old: advance(cell, params, x, old)[0]  # noqa: E731
        zeros = tree.map(jnp.zeros_like, state)
        ones = tree.map(jnp.ones_like, state)
        b, a = jax.jvp(step, (zeros,), (ones,))
        return step(state), tree.map(lambda a, b, h: a * h + b, a, b, state)

    found, expected = once(jax.vmap(at))(points.params, points.xs[:, 0], points.state)
    errors = _errors(found, expected)
    return _measured("linear", errors, "{0} is not a * {0}_prev + b, number by number")


def _errors(found: Any, expected: Any) -> dict[str, float]:
    """The relative error of each field; all arrays have an axis of cases first."""
    pairs = zip(tree.leaves(found), tree.leaves(expected), strict=True)
    errors = [
        float(np.max(relative_errors(f, e, scales(e))))
        for f, e in (tuple(map(np.asarray, pair)) for pair in pairs)
    ]
    return dict(zip(field_names(found), errors, strict=True))
