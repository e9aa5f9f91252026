"""`grad`, `value_and_grad` and `vjp` by the walk: the public door of the graph.

They are called as their namesakes in JAX and give the same numbers; only the way is
another. Real floating-point quantities are differentiated. Integers, booleans and PRNG
keys have no gradient: where JAX gives them zeros of its dtype float0, so do these.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import tree

from lstm_jax.graph.backprop import (
    Local,
    Walked,
    differentiable,
    forward,
    local_rule,
    zeros,
)
from lstm_jax.jaxprs import as_array, jaxpr_of


def vjp(fn: Callable[..., Any], *args: Any) -> tuple[Any, Callable[[Any], tuple]]:
    """Values of `fn` and its pullback, ∂J/∂outputs -> ∂J/∂args, by the table of rules.

    Args:
        fn: any JAX function of pytrees.
        *args: where to differentiate; pytrees of arrays.

    Returns:
        ``(fn(*args), pullback)``. The pullback takes the gradient of the loss with
        respect to the outputs, in their tree, shapes and dtypes, and returns a tuple
        with that of each argument.

    Raises:
        UnknownPrimitiveError: (from the pullback) if a gradient reaches a primitive
            without a rule; the message names it and shows how to add one.
        TypeError: for complex arguments.
        ValueError: (from the pullback) if the gradient doesn't fit the outputs.
    """
    traced = trace(fn, args, range(len(args)))

    def pullback(cotangent: Any) -> tuple:
        return traced.pullback(flat_cotangent(cotangent, traced.outputs))[0]

    return traced.outputs, pullback


def value_and_grad(
    fn: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
) -> Callable[..., tuple[Any, Any]]:
    """The function that returns the value of the loss `fn` and its gradient.

    Args:
        fn: a function with a scalar floating output; with `has_aux`, of a pair of it
            and of anything else that is to be returned beside it.
        argnums: which positional arguments to differentiate, one or several.
        has_aux: see `fn`.

    Returns:
        A function of the arguments of `fn` that returns ``(value, gradient)``, or
        ``((value, aux), gradient)``. The gradient has the tree of the argument, or is
        a tuple if `argnums` is a sequence. Keyword arguments are not differentiated.

    Raises:
        TypeError: (from the function) for arguments to be differentiated that are
            not floating, and for an output that is not a floating scalar.
        ValueError: (from the function) for `argnums` out of range.
        UnknownPrimitiveError: (from the function) if a gradient reaches a primitive
            without a rule; the message names it and shows how to add one.
    """

    @wraps(fn)
    def evaluate(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        wanted = _positions(argnums, len(args))
        for position in wanted:
            _check_floating(position, args[position])
        traced = trace(lambda *args: fn(*args, **kwargs), args, wanted)
        value = _scalar(traced.outputs, has_aux)
        rest = tree.leaves(traced.outputs)[1:]
        seed = [jnp.ones((), value.dtype), *(None for _ in rest)]
        gradients, _ = traced.pullback(seed)
        picked = tuple(gradients[position] for position in wanted)
        return traced.outputs, picked[0] if isinstance(argnums, int) else picked

    return evaluate


def grad(
    fn: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
) -> Callable[..., Any]:
    """The function that returns the gradient of the loss `fn`.

    Args:
        fn: as in `value_and_grad`.
        argnums: as in `value_and_grad`.
        has_aux: as in `value_and_grad`; then ``(gradient, aux)`` is returned.

    Returns:
        A function of the arguments of `fn`.

    Raises:
        TypeError: as `value_and_grad` does, and so the others.
    """
    with_value = value_and_grad(fn, argnums, has_aux)

    @wraps(fn)
    def evaluate(*args: Any, **kwargs: Any) -> Any:
        value, gradient = with_value(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return evaluate


class Traced(NamedTuple):
    """A function after its forward pass.

    Attributes:
        jaxpr: its graph.
        outputs: its values, in their tree.
        pullback: from a flat list of the outputs' gradients (None for zero) to a tuple
            with each argument's, and the gradients of the named quantities.
    """

    jaxpr: Any
    outputs: Any
    pullback: Callable[[list[Any]], tuple[tuple, dict[str, list[Any]]]]


def trace(
    fn: Callable[..., Any],
    args: tuple,
    wanted: Sequence[int],
    local: Local = local_rule,
) -> Traced:
    """Runs `fn` forward, keeping the way back to the arguments at `wanted`."""
    jaxpr, shapes = jaxpr_of(fn, *args)
    sizes = [len(tree.leaves(arg)) for arg in args]
    owners = np.repeat(np.arange(len(args)), sizes)
    active = [
        bool(owner in wanted and differentiable(aval))
        for owner, aval in zip(owners, jaxpr.in_avals, strict=True)
    ]
    inputs = map(as_array, tree.leaves(args), jaxpr.in_avals)
    walked: Walked = forward(jaxpr, list(inputs), active, local)

    def pullback(cotangents: list[Any]) -> tuple[tuple, dict[str, list[Any]]]:
        flat, named = walked.pullback(cotangents)
        filled = [
            _no_gradient(aval) if d is None else d
            for d, aval in zip(flat, jaxpr.in_avals, strict=True)
        ]
        return tree.unflatten(tree.structure(args), filled), named

    outputs = tree.unflatten(tree.structure(shapes), walked.outputs)
    return Traced(jaxpr, outputs, pullback)


def _no_gradient(aval: Any) -> Any:
    """Zeros in the dtype of a gradient: float0 for what is not differentiable."""
    if differentiable(aval):
        return zeros(aval)
    return np.zeros(aval.shape, jax.dtypes.float0)


def flat_cotangent(cotangent: Any, outputs: Any) -> list[Any]:
    """The leaves of a gradient that fits `outputs`; None for integer outputs."""
    if tree.structure(cotangent) != tree.structure(outputs):
        raise ValueError(
            f"the gradient must have the tree of the outputs, "
            f"{tree.structure(outputs)}; got {tree.structure(cotangent)}"
        )
    flat = []
    for d, output in zip(tree.leaves(cotangent), tree.leaves(outputs), strict=True):
        if not differentiable(jax.typeof(output)):
            flat.append(None)
            continue
        if (jnp.shape(d), jnp.result_type(d)) != (output.shape, output.dtype):
            raise ValueError(
                f"the gradient of an output {output.dtype}{list(output.shape)} must "
                f"be like it; got {jnp.result_type(d)}{list(jnp.shape(d))}"
            )
        flat.append(jnp.asarray(d))
    return flat


def _positions(argnums: int | Sequence[int], count: int) -> list[int]:
    positions = [argnums] if isinstance(argnums, int) else list(argnums)
    for position in positions:
        if not -count <= position < count:
            raise ValueError(
                f"argnums {argnums} is out of range: there are {count} positional "
                "arguments"
            )
    return [position % count for position in positions]


def _check_floating(position: int, argument: Any) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(argument):
        aval = jax.typeof(leaf)
        if not differentiable(aval):
            where = jax.tree_util.keystr(path)
            raise TypeError(
                f"grad needs floating-point arguments; argument {position}{where} is "
                f"{aval.dtype}. Leave it out of argnums, or use vjp, which gives it a "
                "float0 gradient"
            )


def _scalar(outputs: Any, has_aux: bool) -> jax.Array:
    """The value of the loss among the outputs, if it is one."""
    if has_aux and not (isinstance(outputs, tuple) and len(outputs) == 2):
        raise TypeError(
            f"with has_aux the function must return (value, aux); got {outputs}"
        )
    value = outputs[0] if has_aux else outputs
    described = tree.map(jax.typeof, value)
    if not hasattr(value, "shape") or value.shape or not differentiable(value):
        raise TypeError(
            f"grad needs a function with one floating scalar output; got {described}"
        )
    return value
