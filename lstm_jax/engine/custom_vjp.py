"""`CustomVJP`: a function with a reverse that is written by hand, in every mode.

`jax.custom_vjp` takes a written reverse too, but then forward mode is refused: from a
reverse alone JAX cannot find a tangent. Here it need not, since the function itself is
there to be linearized. With x the arguments and y the results::

    values                       forward(x), which also gives what the reverse needs
    tangents                     dy = L dx, with L the function linearized at x by JAX
    transpose of the tangents    what is written, from ∂J/∂y to ∂J/∂x

The product ``L dx`` is a primitive whose transposition rule is the written reverse. So
`jax.grad` runs what is written, while `jax.jvp`, `jax.linearize`, `jax.jacfwd` and what
is made of them run L. For derivatives of derivatives, the product is differentiated as
the function of x and dx that it is, and the written reverse as the function *it* is.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import tree
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir


class CustomVJP:
    """Like ``jax.custom_vjp(function, nondiff_argnums=(0,))``, but with forward mode.

    Args:
        function: ``(settings, *arguments) -> results``, trees of arrays; `settings` is
            hashable, and not differentiated.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._rule = jax.custom_jvp(function, nondiff_argnums=(0,))

    def defvjp(
        self,
        forward: Callable[..., tuple[Any, Any]],
        backward: Callable[..., tuple[Any, ...]],
    ) -> None:
        """Defines the reverse.

        Args:
            forward: ``(settings, *arguments) -> (results, residuals)``: what `function`
                gives, and what `backward` needs.
            backward: ``(settings, residuals, dresults) -> darguments``, a tree for each
                argument; None stands for the gradient of what is not of floats.
        """
        rule = partial(_results_and_tangents, self._function, forward, backward)
        self._rule.defjvp(rule, symbolic_zeros=True)

    def __call__(self, settings: Any, *arguments: Any) -> Any:
        """``function(settings, *arguments)``."""
        return self._rule(settings, *arguments)


def _results_and_tangents(
    function: Callable[..., Any],
    forward: Callable[..., tuple[Any, Any]],
    backward: Callable[..., tuple[Any, ...]],
    settings: Any,
    primals: tuple[Any, ...],
    tangents: tuple[Any, ...],
) -> tuple[Any, Any]:
    """The results, and their tangents as a product that knows its transpose."""
    results, residuals = forward(settings, *primals)
    x, of_arguments = tree.flatten(primals)
    points, of_points = tree.flatten((x, residuals))
    dx = tree.leaves(tangents, is_leaf=lambda t: isinstance(t, SymbolicZero))
    moving = [n for n, t in enumerate(dx) if not isinstance(t, SymbolicZero)]

    def linear(*operands: Any) -> list[Any]:
        x, _ = tree.unflatten(of_points, operands[: len(points)])

        def run(*x: Any) -> list[Any]:
            return tree.leaves(function(settings, *tree.unflatten(of_arguments, x)))

        return jvp_along(run, x, moving, operands[len(points) :])

    def transposed(*operands: Any) -> list[Any]:
        _, residuals = tree.unflatten(of_points, operands[: len(points)])
        dresults = tree.unflatten(tree.structure(results), operands[len(points) :])
        darguments = backward(settings, residuals, dresults)
        # None may stand for a whole tree.
        like = tree.unflatten(of_arguments, x)
        every = tree.broadcast(darguments, like, is_leaf=lambda d: d is None)
        found = of_arguments.flatten_up_to(every)
        return [found[n] for n in moving]

    dresults = product_p.bind(
        *points,
        *(dx[n] for n in moving),
        points=len(points),
        linear=linear,
        transposed=transposed,
        types=tuple(map(jax.typeof, tree.leaves(results))),
    )
    return results, tree.unflatten(tree.structure(results), dresults)


def jvp_along(
    function: Callable[..., list[Any]],
    x: Sequence[Any],
    moving: Sequence[int],
    dx: Sequence[Any],
) -> list[Any]:
    """The tangents of ``function(*x)`` where only the arguments `moving` move."""

    def run(*moved: Any) -> list[Any]:
        changed = dict(zip(moving, moved, strict=True))
        return function(*(changed.get(n, value) for n, value in enumerate(x)))

    return jax.jvp(run, tuple(x[n] for n in moving), tuple(dx))[1]


# --- the product of a linearized function and a tangent -------------------------------

product_p = Primitive("linearized")
"""``L dx``, from arrays that L depends on, so many `points`, and those of dx.

`linear` is the product as a function, `transposed` that with the transpose: from
the same points and ∂J/∂(L dx). `types` are those of the results; None to find them.
"""

product_p.multiple_results = True


@product_p.def_impl
def _run(*operands: Any, linear: Callable[..., list[Any]], **_: Any) -> list[Any]:
    return linear(*operands)


mlir.register_lowering(product_p, mlir.lower_fun(_run, multiple_results=True))


@product_p.def_abstract_eval
def _types(*operands: Any, linear: Any, types: Any, **_: Any) -> Any:
    return jax.make_jaxpr(linear)(*operands).out_avals if types is None else types


def _transpose(
    dresults: Sequence[Any],
    *operands: Any,
    points: int,
    transposed: Callable[..., list[Any]],
    **_: Any,
) -> list[Any]:
    known, dx = operands[:points], operands[points:]
    found = transposed(*known, *map(ad.instantiate_zeros, dresults))
    wanted = map(ad.is_undefined_primal, dx)
    pairs = zip(wanted, found, strict=True)
    return [None] * points + [
        gradient if sought else None for sought, gradient in pairs
    ]


ad.primitive_transposes[product_p] = _transpose


def _derivative(
    primals: Sequence[Any], tangents: Sequence[Any], *, points: int, **params: Any
) -> tuple[list[Any], list[Any]]:
    """The product is linear in dx; how it depends on the points is left to JAX."""
    bind = partial(product_p.bind, points=points, **params)
    moving = [n for n, t in enumerate(tangents) if type(t) is not ad.Zero]
    terms = []
    if any(n >= points for n in moving):
        ddx = map(ad.instantiate_zeros, tangents[points:])
        terms.append(bind(*primals[:points], *ddx))
    if at := [n for n in moving if n < points]:
        along = [tangents[n] for n in at]
        terms.append(jvp_along(params["linear"], primals, at, along))
    return bind(*primals), [sum(of[1:], of[0]) for of in zip(*terms, strict=True)]


ad.primitive_jvps[product_p] = _derivative


def _batched(
    axis: Any,
    operands: Sequence[Any],
    dims: Sequence[int | None],
    *,
    points: int,
    linear: Callable[..., list[Any]],
    transposed: Callable[..., list[Any]],
    types: Any,
) -> tuple[list[Any], list[int]]:
    """So many products: of the points, what is batched; dx as a whole."""

    def with_axis_first(n: int, a: Any, dim: int | None) -> Any:
        if dim is not None:
            return jnp.moveaxis(a, dim, 0)
        return a if n < points else jnp.broadcast_to(a, (axis.size, *a.shape))

    known = [None if dim is None else 0 for dim in dims[:points]]

    def of_each(function: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
        def run(*operands: Any) -> list[Any]:
            axes = (*known, *(0,) * (len(operands) - points))
            options = {"axis_size": axis.size, "spmd_axis_name": axis.spmd_name}
            return jax.vmap(function, in_axes=axes, **options)(*operands)

        return run

    results = product_p.bind(
        *map(with_axis_first, range(len(operands)), operands, dims),
        points=points,
        linear=of_each(linear),
        transposed=of_each(transposed),
        types=None,
    )
    return results, [0] * len(results)


batching.fancy_primitive_batchers[product_p] = _batched
