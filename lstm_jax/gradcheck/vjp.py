"""`check_vjp`: any function's hand-written reverse against three other gradients."""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, tree

from lstm_jax.gradcheck.branches import sides_of, watcher
from lstm_jax.gradcheck.flat_jaxpr import trace
from lstm_jax.gradcheck.oracles import DIFFERENCE_STEP, Differencing
from lstm_jax.gradcheck.quantities import (
    Forward,
    forward_targets,
    judge,
    know,
    leaf_names,
    partial_targets,
)
from lstm_jax.gradcheck.report import TOLERANCES, Report, Tolerances
from lstm_jax.gradcheck.settings import as_compared, check_differencing
from lstm_jax.jaxprs import ALL_CALLS


def check_vjp(
    fn: Callable[..., Any],
    fwd: Callable[..., tuple[Any, Any]],
    bwd: Callable[..., Any],
    *args: Any,
    nondiff_argnums: Sequence[int] = (),
    seed: int = 0,
    difference_step: float = DIFFERENCE_STEP,
    max_entries: int = 128,
    tolerances: Tolerances = TOLERANCES,
) -> Report:
    """Compares any hand-written reverse with three other gradients, in float64.

    The three functions are those of `jax.custom_vjp`, and whatever it takes is taken.
    What `fn` and `bwd` name with `lstm_jax.named` is judged too: "dq" in `bwd` should
    be the gradient of the "q" of `fn`.

    Args:
        fn: the function, of pytrees of arrays; or the `jax.custom_vjp` of it.
        fwd: ``(*args) -> (fn(*args), residuals)``.
        bwd: ``(residuals, cotangent) -> a tuple with the gradient of each argument``.
            None stands for zero; of an argument of integers nothing is asked.
        *args: where to check; floating leaves are taken as float64.
        nondiff_argnums: as in `jax.custom_vjp`: the arguments that `bwd` gets before
            the residuals, and returns no gradient of.
        seed: of the random cotangent.
        difference_step: as in `check_gradients`.
        max_entries: as in `check_gradients`.
        tolerances: what passes.

    Returns:
        A `Report`. Where the graph has no rule for an operation of `fn`, its column
        is empty and the report says which.

    Raises:
        ValueError: if `fwd` does not return what `fn` does, or `bwd` not one gradient
            an argument, in its tree.

    Example:
        >>> def cube(x):
        ...     return x**3
        >>> forward = lambda x: (cube(x), x)
        >>> check_vjp(cube, forward, lambda x, dy: (3 * x**2 * dy,), 2.0).ok
        True
        >>> check_vjp(cube, forward, lambda x, dy: (2 * x**2 * dy,), 2.0).ok
        False
    """
    check_differencing(difference_step, max_entries)
    if isinstance(fn, jax.custom_vjp):
        fn = fn.fun
    name = getattr(fn, "__name__", repr(fn))
    arguments = _arguments(fn, fwd, args)
    static = {k % len(arguments): None for k in nondiff_argnums}
    static = {k: list(arguments.values())[k] for k in sorted(static)}
    moving = {n: v for k, (n, v) in enumerate(arguments.items()) if k not in static}
    fn, fwd = _without(fn, static), _without(fwd, static)
    bwd = partial(bwd, *static.values())
    with as_compared():
        moving = {n: tree.map(_as_float64, v) for n, v in moving.items()}
        report = _compared(
            fn,
            fwd,
            bwd,
            moving,
            Differencing(difference_step, max_entries, seed),
            tolerances,
        )
    report.name = f"function {name!r}"
    return report


def _compared(
    fn: Callable[..., Any],
    fwd: Callable[..., Any],
    bwd: Callable[..., Any],
    arguments: dict[str, Any],
    differencing: Differencing,
    tolerances: Tolerances,
) -> Report:
    args = tuple(arguments.values())
    names = [n for name, value in arguments.items() for n in leaf_names(value, name)]
    out, residuals = _pair(fwd(*args))
    _check_same(fn(*args), out)
    cotangent = _cotangent(out, differencing.seed)
    given, reverse = _traceable(bwd, args, (residuals, cotangent))
    program, backward = trace(fn, *args), trace(reverse, given)

    labels = [(f"d{name}", name) if name else None for name in names]
    targets = forward_targets(program, names)
    targets |= partial_targets(program, targets, backward, labels)
    a_point = partial(tree.map, lambda a: jnp.asarray(a)[None])
    cotangents = [
        jnp.zeros(d.shape) if _is_float0(d) else d for d in tree.leaves(cotangent)
    ]
    oracles = know(
        program,
        targets,
        a_point(args),
        a_point(cotangents),
        tuple(name for name in names if name),
        differencing,
    )
    forward = Forward(targets, oracles)
    rows, order = judge(backward, (a_point(given),), labels, forward, "vjp")
    return Report(
        "",
        rows,
        {"vjp": order},
        tolerances,
        unreached=_unreached(fn, args, cotangents),
        missing=oracles.missing,
    )


def _arguments(
    fn: Callable[..., Any], fwd: Callable[..., Any], args: tuple
) -> dict[str, Any]:
    """The arguments by name, in their order; defaults among them if `fwd` has them."""
    try:
        bound = inspect.signature(fn).bind(*args)
    except ValueError:  # a function that has no signature
        return {f"argument {k}": value for k, value in enumerate(args)}
    given = dict(bound.arguments)
    bound.apply_defaults()
    try:
        inspect.signature(fwd).bind(*bound.args)
    except (TypeError, ValueError):
        bound.arguments = given
    found: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        if bound.signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL:
            found |= {f"{name}.{k}": v for k, v in enumerate(value)}
        elif name not in bound.kwargs:
            found[name] = value
    return found


def _without(fn: Callable[..., Any], static: dict[int, Any]) -> Callable[..., Any]:
    """The function of the arguments that are left when some are given, by place."""

    def rest(*args: Any) -> Any:
        every = list(args)
        for place, value in static.items():
            every.insert(place, value)
        return fn(*every)

    return rest if static else fn


def _traceable(
    bwd: Callable[..., Any], args: tuple, given: tuple[Any, Any]
) -> tuple[list[Any], Callable[[list[Any]], list[Any]]]:
    """The arrays that a reverse gets, and the reverse as a function of these alone.

    Residuals may be numbers that have to stay what they are, such as sizes. It returns
    one gradient a leaf of `args`, zeros where there is None.
    """
    leaves, structure = tree.flatten(given)
    arrays = [hasattr(a, "dtype") and not _is_float0(a) for a in leaves]

    def reverse(traced: list[Any]) -> list[Any]:
        rest = iter(traced)
        every = [
            next(rest) if array else leaf
            for array, leaf in zip(arrays, leaves, strict=True)
        ]
        return _one_each(bwd(*tree.unflatten(structure, every)), args)

    return [leaf for array, leaf in zip(arrays, leaves, strict=True) if array], reverse


def _one_each(found: Any, args: tuple) -> list[Any]:
    """What a reverse returned, as one gradient a leaf of the arguments."""
    if isinstance(found, list):
        found = tuple(found)
    flat: list[Any] = []

    def put(d: Any, arg: Any) -> None:
        for leaf in tree.leaves(arg):
            floating = jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
            nothing = d is None or not floating
            flat.append(jnp.zeros(jnp.shape(leaf)) if nothing else d)

    try:
        if not isinstance(found, tuple):
            raise ValueError
        tree.map(put, found, args, is_leaf=lambda d: d is None)
    except ValueError:
        raise ValueError(
            f"bwd must return one gradient an argument, {tree.structure(args)}, with "
            f"None for zero; got {tree.structure(found)}"
        ) from None
    return flat


def _unreached(fn: Callable[..., Any], args: tuple, cotangents: list[Any]) -> list[str]:
    """The sides of branches that the arguments are not on."""
    opened = trace(fn, *args, calls=ALL_CALLS)
    sides = sides_of(opened)
    if not sides:
        return []
    first = partial(tree.map, lambda a: jnp.asarray(a)[None])
    [seen] = watcher(opened)(first(args), first(cotangents))
    missing = (str(side) for side, found in zip(sides, seen, strict=True) if not found)
    return list(dict.fromkeys(missing))


def _cotangent(out: Any, seed: int) -> Any:
    """A random cotangent: for integers, as JAX has it, of the dtype float0."""
    rng = np.random.default_rng(seed)

    def draw(leaf: Any) -> Any:
        if jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            return jnp.asarray(rng.normal(size=jnp.shape(leaf)))
        return np.zeros(jnp.shape(leaf), jax.dtypes.float0)

    return tree.map(draw, out)


def _is_float0(leaf: Any) -> bool:
    return getattr(leaf, "dtype", None) == jax.dtypes.float0


def _as_float64(leaf: Any) -> Array:
    leaf = jnp.asarray(leaf)
    floating = jnp.issubdtype(leaf.dtype, jnp.floating)
    return leaf.astype(jnp.float64) if floating else leaf


def _pair(found: Any) -> tuple[Any, Any]:
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        raise ValueError(
            "fwd must return a pair, (fn(*args), residuals); it returned "
            f"{tree.structure(found)}"
        )
    out, residuals = found
    return out, residuals


def _check_same(expected: Any, found: Any) -> None:
    same = tree.structure(expected) == tree.structure(found) and all(
        np.shape(e) == np.shape(f)
        and np.allclose(e, f, rtol=1e-12, atol=1e-12, equal_nan=True)
        for e, f in zip(tree.leaves(expected), tree.leaves(found), strict=True)
    )
    if not same:
        raise ValueError("fwd must return (fn(*args), residuals); its first is not")
