"""`check_gradients` and `check_vjp`: the doors of the gradient checker."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import tree

from lstm_jax.cell import Cell
from lstm_jax.engine import MEMORIES, checks
from lstm_jax.gradcheck.flat_jaxpr import trace
from lstm_jax.gradcheck.oracles import DIRECTIONS
from lstm_jax.gradcheck.quantities import (
    Forward,
    forward_targets,
    judge,
    know,
    leaf_names,
    partial_targets,
)
from lstm_jax.gradcheck.report import TOLERANCES, Report, Tolerances
from lstm_jax.gradcheck.sequence import VARIANTS, check_sequence
from lstm_jax.gradcheck.step import ONE_STEP, Sizes, check_step

DIFFERENCE_STEP = 1e-5
"""h of the central differences: near eps^(1/3), where h² meets eps/h."""


def check_gradients(
    cell: Cell,
    *,
    input_size: int = 3,
    hidden_size: int = 4,
    batch: int = 2,
    steps: int = 5,
    seed: int = 0,
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

    First one step, where every quantity that the equations name is judged; if that is
    right, whole sequences, where what the engine hands from step to step is, and the
    sums over time. Each check ends with a Taylor remainder test:
    J(q + εv) - J(q) - ε <dq, v> is of order ε² if, and only if, dq is right.

    Args:
        cell: a cell with a backward.
        input_size: D.
        hidden_size: H.
        batch: B.
        steps: T; 0 checks one step alone.
        seed: of parameters, inputs, states and J.
        variants: which sequences: "plain", "reverse", "lengths", "resets".
        memory: the memory policy of `lstm_jax.unroll`.
        difference_step: h.
        max_entries: a quantity with more entries is not differenced entry by entry,
            but along four random directions.
        tolerances: what passes.

    Returns:
        A `Report`; ``print(report)`` shows it whole.

    Raises:
        TypeError: if `cell` is no cell.
        ValueError: if it has no backward, or for sizes or names out of range.
    """
    checks.check_cell(cell, "manual")
    _check_positive(input_size=input_size, hidden_size=hidden_size, batch=batch)
    if steps < 0:
        raise ValueError(f"steps must be at least 0; got {steps}")
    for variant in variants:
        checks.check_choice("each of variants", variant, VARIANTS)
    if not 0 < difference_step < 1:
        raise ValueError(f"difference_step must be in (0, 1); got {difference_step}")
    sizes = Sizes(
        input_size, hidden_size, batch, steps, seed, difference_step, max_entries
    )
    if max_entries < DIRECTIONS:
        raise ValueError(
            f"max_entries must be at least {DIRECTIONS}; got {max_entries}"
        )
    checks.check_choice("memory", memory, MEMORIES)
    variants = tuple(variants) if steps else ()
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        rows, order = check_step(cell, sizes, tolerances)
        orders = {ONE_STEP: order}
        right = all(row.passed for row in rows)
        for variant in variants if right else ():
            more, orders[variant] = check_sequence(
                cell, sizes, variant, memory, tolerances
            )
            rows += more
    skipped = () if right else variants
    return Report(f"cell {cell.name!r}", rows, orders, tolerances, skipped)


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
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
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
        partial = partial_targets(program, targets, backward, labels)
        targets |= partial
        oracles = know(
            program,
            targets,
            args,
            tree.leaves(cotangent),
            inputs=tuple(name for name in names if name),
            difference_step=difference_step,
            max_entries=max_entries,
            seed=seed,
        )
        given = residuals, cotangent
        known = Forward(targets, oracles)
        rows, order = judge(backward, given, labels, known, "vjp", tolerances)
    name = getattr(fn, "__name__", repr(fn))
    return Report(f"function {name!r}", rows, {"vjp": order}, tolerances)


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
