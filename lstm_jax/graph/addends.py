"""How large the numbers were that a gradient is the sum of.

A gradient is a sum over all paths from the loss. Where its terms cancel, what is left
says nothing of how exactly it can be known: rounding errors are of the size of the
terms. In the sLSTM, for instance, the paths through the stabilizer m cancel: its
gradient is 0 but for rounding, and 1e-17 stands where numbers of size 1 were added.

Rounding errors have random signs, so that their squares add up. `added_up` is what the
gradient would be, on average, if the terms had random signs too: the root of the sum of
their squares. It is found by the same walk back through the graph, with the square of
every local derivative in its place. No gradient can be held to more than the relative
accuracy of its numbers times this.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import tree
from jax.extend.core import JaxprEqn

from lstm_jax.graph.backprop import local_rule
from lstm_jax.graph.intermediates import numbered
from lstm_jax.graph.rules import RULES
from lstm_jax.graph.transforms import flat_cotangent, trace

MULTILINEAR = ("dot_general", "conv_general_dilated")
"""Sums of products: the square of a local derivative is the product of squares."""

DIFFERENCES = ("tanh", "logistic", "expm1")
"""Local derivatives that are differences, 1 - c² for instance, of numbers near 1."""

LEAST_SLOPE = 1e-3
"""What these are taken for where they are less: they are known as exactly as 1 is."""


def added_up(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function that returns how much was added up to each number of a gradient.

    Args:
        fn: a function with a scalar floating output.

    Returns:
        A function of the arguments of `fn`: like `grad(fn)`, the tree of the first
        argument, but with the root of the summed squares of the terms.

    Raises:
        UnknownPrimitiveError: (from the function) as `grad` does.
    """

    def evaluate(*args: Any) -> Any:
        traced = trace(fn, args, [0], local=squared_rule)
        squares, _ = traced.pullback([jnp.ones((), jax.typeof(traced.outputs).dtype)])
        return tree.map(jnp.sqrt, squares[0])

    return evaluate


def named_added_up(
    fn: Callable[..., Any], *args: Any, cotangent: Any
) -> dict[str, jax.Array]:
    """`added_up` for the gradients of `named_cotangents`, whose arguments these are."""
    traced = trace(fn, args, range(len(args)), local=squared_rule)
    flat = flat_cotangent(cotangent, traced.outputs)
    _, squares = traced.pullback([None if d is None else d**2 for d in flat])
    return tree.map(jnp.sqrt, numbered(traced.jaxpr, squares))


def squared_rule(
    equation: JaxprEqn, operands: list[Any], outputs: list[Any], arriving: list[Any]
) -> list[Any]:
    """The chain rule at one node, for squares: each local derivative is squared."""
    name = equation.primitive.name
    if name in DIFFERENCES:
        [square], [least] = arriving, _rooted(equation, operands, outputs, arriving)
        return [jnp.maximum(least, square * LEAST_SLOPE**2)]
    if name in MULTILINEAR:
        operands = [a**2 for a in operands]
    elif name in RULES and RULES[name].elementwise:
        return _rooted(equation, operands, outputs, arriving)
    # What is left only moves, copies or sums: its local derivatives are 0 or 1.
    return local_rule(equation, operands, outputs, arriving)


def _rooted(
    equation: JaxprEqn, operands: list[Any], outputs: list[Any], arriving: list[Any]
) -> list[Any]:
    roots = [None if square is None else jnp.sqrt(square) for square in arriving]
    leaving = local_rule(equation, operands, outputs, roots)
    return [None if d is None else d**2 for d in leaving]
