"""`check_gradients` and `check_vjp`: the doors of the gradient checker."""

import inspect
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import tree

from lstm_jax.cell import Cell
from lstm_jax.engine import MEMORIES, checks
from lstm_jax.gradcheck.claims import check_claims
from lstm_jax.gradcheck.flat_jaxpr import trace
from lstm_jax.gradcheck.form import check_form
from lstm_jax.gradcheck.oracles import DIFFERENCE_STEP, DIRECTIONS, Differencing
from lstm_jax.gradcheck.points import POINTS, Sizes, choose, forward_only
from lstm_jax.gradcheck.quantities import (
    Forward,
    forward_targets,
    judge,
    know,
    leaf_names,
    partial_targets,
)
from lstm_jax.gradcheck.report import TOLERANCES, Report, Row, Tolerances
from lstm_jax.gradcheck.sequence import VARIANTS, check_sequence, steps_of
from lstm_jax.gradcheck.step import ONE_STEP, check_step


def check_gradients(
    cell: Cell,
    *,
    input_size: int = 3,
    hidden_size: int = 4,
    batch: int = 2,
    steps: int = 5,
    seed: int = 0,
    points: int = POINTS,
    variants: Sequence[str] = VARIANTS,
    memory: str = "store",
    difference_step: float = DIFFERENCE_STEP,
    max_entries: int = 128,
    tolerances: Tolerances = TOLERANCES,
) -> Report:
    """Compares a cell's hand-derived gradients with three others, in float64.

    The gradient of a random J is computed four ways: by the cell's own reverse; by
    JAX; by the computation graph (`lstm_jax.graph`); by central differences::

        dq ≈ (J(q + h) - J(q - h)) / 2h

    First what the cell says of itself: its sizes, its initial state, that examples are
    apart, that it is linear. Then one step, where every quantity that the equations
    name is judged; if all that is right, whole sequences, as the engine runs them: what
    comes out, what is handed from step to step, and the sums over time. If only a
    sequence is wrong, each of its steps is looked at for the line. Each check ends with
    a Taylor remainder test: J(q + εv) - J(q) - ε <dq, v> is of order ε² if, and only
    if, dq is right.

    Args:
        cell: a cell with a backward.
        input_size: D.
        hidden_size: H.
        batch: B.
        steps: T; 0 checks one step alone.
        seed: of parameters, inputs, states and J.
        points: how many random points one step is checked at, at least. More are
            drawn where a branch of the forward (a maximum, an absolute value, a case)
            would be seen from one side only; a side that none of a hundred reaches is
            told in the report.
        variants: which sequences: "plain", "reverse", "lengths", "resets".
        memory: the memory policy of `lstm_jax.unroll`.
        difference_step: h.
        max_entries: a quantity with more entries is not differenced entry by entry,
            but along four random directions.
        tolerances: what passes.

    Returns:
        A `Report`; ``print(report)`` shows it whole.

    Raises:
        TypeError: if `cell` is no cell, or one of its functions fails, or returns
            something else than it must.
        ValueError: if it has no backward, or for sizes or names out of range.
    """
    checks.check_cell(cell, "manual")
    _check_positive(
        input_size=input_size, hidden_size=hidden_size, batch=batch, points=points
    )
    if steps < 0:
        raise ValueError(f"steps must be at least 0; got {steps}")
    for variant in variants:
        checks.check_choice("each of variants", variant, VARIANTS)
    _check_differencing(difference_step, max_entries)
    checks.check_choice("memory", memory, MEMORIES)
    sizes = Sizes(
        input_size,
        hidden_size,
        batch,
        steps,
        seed,
        difference_step,
        max_entries,
        points,
    )
    variants = tuple(variants) if steps else ()
    with _as_compared():
        check_form(cell, input_size, hidden_size, batch)
        rows, orders = _check_all(cell, sizes, variants, memory, tolerances)
        chosen = choose(forward_only(cell), sizes)
    return Report(
        f"cell {cell.name!r}",
        rows,
        orders,
        tolerances,
        [variant for variant in variants if variant not in orders],
        points=len(chosen.points.xs),
        unreached=[str(side) for side in chosen.unreached],
    )


def _check_all(
    cell: Cell,
    sizes: Sizes,
    variants: Sequence[str],
    memory: str,
    tolerances: Tolerances,
) -> tuple[list[Row], dict[str, float]]:
    """Claims and one step; sequences, if these are right; rows, and orders by check."""

    def right(rows: Sequence[Row]) -> bool:
        return all(row.judged(tolerances).passed for row in rows)

    claims = check_claims(forward_only(cell), sizes)
    step, order = check_step(cell, sizes)
    rows, orders = [*claims, *step], {ONE_STEP: order}
    if not right(rows):
        return rows, orders
    for variant in variants:
        found, orders[variant] = check_sequence(cell, sizes, variant, memory)
        if not right(found):
            # Which line? The steps of this very sequence tell, if it is a step's.
            of_steps = steps_of(cell, sizes, variant)
            where = f"steps of {variant}"
            closer, order = check_step(cell, sizes, of_steps, where)
            if not right(closer):
                rows += closer
                orders[where] = order
        rows += found
    return rows, orders


def check_vjp(
    fn: Callable[..., Any],
    fwd: Callable[..., tuple[Any, Any]],
    bwd: Callable[[Any, Any], tuple],
    *args: Any,
    seed: int = 0,
    difference_step: float = DIFFERENCE_STEP,
    max_entries: int = 128,
    tolerances: Tolerances = TOLERANCES,
) -> Report:
    """Compares any hand-written reverse with three other gradients, in float64.

    The triple is that of `jax.custom_vjp`. What `fn` and `bwd` name with
    `lstm_jax.named` is judged too: "dq" in `bwd` should be the gradient of the "q"
    of `fn`.

    Args:
        fn: the function, of pytrees of arrays.
        fwd: ``(*args) -> (fn(*args), residuals)``.
        bwd: ``(residuals, cotangent) -> a tuple with the gradient of each argument``.
        *args: where to check; floating leaves are taken as float64.
        seed: of the random cotangent.
        difference_step: as in `check_gradients`.
        max_entries: as in `check_gradients`.
        tolerances: what passes.

    Returns:
        A `Report`.

    Raises:
        ValueError: if `fwd` does not return what `fn` does, or `bwd` not one gradient
            an argument, in its tree.
    """
    _check_differencing(difference_step, max_entries)
    with _as_compared():
        args = tree.map(_as_float64, args)
        names = _argument_names(fn, args)
        out, residuals = fwd(*args)
        _check_same(fn(*args), out)
        rng = np.random.default_rng(seed)
        cotangent = tree.map(lambda o: jnp.asarray(rng.normal(size=o.shape)), out)
        program, backward = trace(fn, *args), trace(bwd, residuals, cotangent)
        _check_one_each(backward.shapes, args)

        labels = [(f"d{name}", name) if name else None for name in names]
        targets = forward_targets(program, names)
        targets |= partial_targets(program, targets, backward, labels)
        a_point = partial(tree.map, lambda a: jnp.asarray(a)[None])
        oracles = know(
            program,
            targets,
            a_point(args),
            a_point(tree.leaves(cotangent)),
            tuple(name for name in names if name),
            Differencing(difference_step, max_entries, seed),
        )
        given = a_point((residuals, cotangent))
        rows, order = judge(backward, given, labels, Forward(targets, oracles), "vjp")
    name = getattr(fn, "__name__", repr(fn))
    return Report(
        f"function {name!r}",
        rows,
        {"vjp": order},
        tolerances,
        missing=oracles.missing,
    )


def _argument_names(fn: Callable[..., Any], args: tuple) -> list[str | None]:
    bound = inspect.signature(fn).bind(*args).arguments
    names: list[str | None] = []
    for name, value in bound.items():
        names += leaf_names(value, name)
    return names


def _as_float64(leaf: Any) -> Any:
    leaf = jnp.asarray(leaf)
    floating = jnp.issubdtype(leaf.dtype, jnp.floating)
    return leaf.astype(jnp.float64) if floating else leaf


@contextmanager
def _as_compared() -> Generator[None]:
    """In float64, whatever the caller's settings are."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        yield


def _check_differencing(difference_step: float, max_entries: int) -> None:
    if not 0 < difference_step < 1:
        raise ValueError(f"difference_step must be in (0, 1); got {difference_step}")
    if max_entries < DIRECTIONS:
        raise ValueError(
            f"max_entries must be at least {DIRECTIONS}; got {max_entries}"
        )


def _check_positive(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1; got {size}")


def _check_same(expected: Any, found: Any) -> None:
    same = tree.structure(expected) == tree.structure(found) and all(
        np.shape(e) == np.shape(f) and np.allclose(e, f, rtol=1e-12, atol=1e-12)
        for e, f in zip(tree.leaves(expected), tree.leaves(found), strict=True)
    )
    if not same:
        raise ValueError("fwd must return (fn(*args), residuals); its first is not")


def _check_one_each(found: Any, args: tuple) -> None:
    if tree.structure(found) != tree.structure(args):
        raise ValueError(
            f"bwd must return one gradient an argument, {tree.structure(args)}; got "
            f"{tree.structure(found)}"
        )
