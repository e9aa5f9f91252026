"""Values and gradients of the quantities that a function names on its way.

A quantity is named by `lstm_jax.cell.named`: ``c = named(i * g + f * c_prev, "c", 5)``
is known as ``"c (5)"`` here. In a `scan` it has a leading axis for the steps. A name
that occurs again in the program, in an unrolled loop for instance, is followed by its
count: ``"c (5)"``, ``"c (5) [2]"``, ``"c (5) [3]"``.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax import lax, tree
from jax.extend.core import JaxprEqn, jaxprs_in_params

from lstm_jax.cell import Name
from lstm_jax.graph.backprop import Named
from lstm_jax.graph.control import scan_parts
from lstm_jax.graph.transforms import flat_cotangent, trace
from lstm_jax.jaxprs import ALL_CALLS, computed, evaluate, jaxpr_of, opened


def named_values(fn: Callable[..., Any], *args: Any) -> dict[str, jax.Array]:
    """The value of every quantity that ``fn(*args)`` names, in program order.

    Works for backward passes too, whose named quantities are gradients ("dc (6)").
    Names inside the branches of a `cond` and the steps of a `while` are left out.
    """
    jaxpr, _ = jaxpr_of(fn, *args)
    _, named = _evaluate(jaxpr, tree.leaves(args))
    return numbered(jaxpr, named)


def named_cotangents(
    fn: Callable[..., Any], *args: Any, cotangent: Any
) -> dict[str, jax.Array]:
    """The gradient dq of every quantity q that ``fn(*args)`` names, by the graph.

    Args:
        fn: any JAX function.
        *args: where to differentiate; pytrees of arrays.
        cotangent: the gradient with respect to the outputs, in their tree.

    Returns:
        The gradients under the *quantity's* name, in program order: the gradient of
        "c (5)" is summed over all uses of c. Quantities that don't depend on `args`,
        or that the outputs don't depend on, are left out.

    Raises:
        UnknownPrimitiveError: if a gradient reaches a primitive without a rule.
        ValueError: if `cotangent` doesn't fit the outputs.
    """
    traced = trace(fn, args, range(len(args)))
    _, named = traced.pullback(flat_cotangent(cotangent, traced.outputs))
    return numbered(traced.jaxpr, named)


def _evaluate(jaxpr: Any, inputs: list[Any]) -> tuple[list[Any], Named]:
    """The outputs, and what is named on the way."""
    named: Named = defaultdict(list)

    def node(equation: JaxprEqn, operands: list[Any]) -> list[Any]:
        if equation.primitive.name == "scan":
            outputs, inner = _evaluate_scan(equation.params, operands)
            for name, values in inner.items():
                named[name] += values
            return outputs
        outputs = computed(equation, operands)
        if equation.primitive.name == "name":
            named[equation.params["name"]] += outputs
        return outputs

    return evaluate(jaxpr, inputs, node, calls=ALL_CALLS), dict(named)


def _evaluate_scan(params: dict[str, Any], operands: list) -> tuple[list, Named]:
    constants, initial, xs = scan_parts(params, operands)

    def step(carry: list[Any], x: list[Any]) -> tuple[list[Any], Any]:
        outputs, named = _evaluate(params["jaxpr"], [*constants, *carry, *x])
        return outputs[: len(carry)], (outputs[len(carry) :], named)

    length, reverse = params["length"], params["reverse"]
    final, (ys, named) = lax.scan(step, initial, xs, length=length, reverse=reverse)
    return [*final, *ys], named


def numbered(jaxpr: Any, named: Named) -> dict[str, jax.Array]:
    """One entry a quantity, in program order, which a scan's dictionaries lose."""
    flat = {}
    for name in dict.fromkeys(names_in(jaxpr)):
        for count, value in enumerate(named.get(name, ()), start=1):
            flat[str(Name.parse(name)._replace(count=count))] = value
    return flat


def names_in(jaxpr: Any) -> Iterator[str]:
    """The names in a graph and in the graphs that its nodes hold, in program order."""
    for equation in opened(jaxpr)[0].eqns:
        if equation.primitive.name == "name":
            yield equation.params["name"]
        for inner in jaxprs_in_params(equation.params):
            yield from names_in(inner)
