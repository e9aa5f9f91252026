"""The walk: forward through a computation graph, then back through its local rules.

JAX writes any function down as a *jaxpr*, a list of equations in the order in which
they are computed. That list is the computation graph: an equation is a node, the
variable on its left is the edge that leaves the node, those on its right are the
edges that enter it. Reverse-mode differentiation is two passes over the list:

* forward: every node is computed, and its operands and its output are kept;
* backward: the nodes are visited in reverse. A node's local rule turns dC, the
  gradient of the loss with respect to its output, into those of its operands (the
  chain rule, dA = dC * ∂C/∂A); where a quantity enters several nodes, the gradients
  that come back from them are summed (fan-out).

Source: Mukul Rathi, "Demystifying Deep Learning: Part 11. Backpropagation through,
well, anything!" (2018). The local rules are the table in `lstm_jax.graph.rules`; the
nodes that hold a graph of their own (`scan`, `cond`) are in `lstm_jax.graph.control`.
Nothing here calls JAX's own differentiation.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.extend import source_info_util
from jax.extend.core import JaxprEqn, Literal

from lstm_jax.cell import Name
from lstm_jax.graph.rules import RULES
from lstm_jax.identities import fan_out_backward
from lstm_jax.jaxprs import ALL_CALLS, Values, computed, opened

Named = dict[str, list[Any]]
"""What was found for each name, in program order: a loop's body may repeat a name."""

Pullback = Callable[[list[Any]], tuple[list[Any], Named]]
"""From the gradients of the outputs to those of the inputs; None stands for zero.

Beside them, the gradients of the quantities that are named on the way.
"""

Local = Callable[[JaxprEqn, list[Any], list[Any], list[Any]], list[Any]]
"""What comes back through one node: ``(equation, operands, outputs, arriving)``."""


class Walked(NamedTuple):
    """A graph, or one node of it, after the forward pass.

    Attributes:
        outputs: the values.
        active: for each output, whether it depends on a differentiated input.
        pullback: the backward pass.
    """

    outputs: list[Any]
    active: list[bool]
    pullback: Pullback


class UnknownPrimitiveError(NotImplementedError):
    """A gradient reached a node whose primitive has no row in the table of rules."""


class ComplexNumberError(TypeError):
    """A gradient reached a complex number, for which the table has no rules."""


def forward(
    jaxpr: Any, inputs: Sequence[Any], active: Sequence[bool], local: Local
) -> Walked:
    """Computes every node of `jaxpr`, and keeps what the backward pass will need.

    Args:
        jaxpr: the graph, with or without its constants attached.
        inputs: one value an input variable.
        active: for each input, whether its gradient is wanted. Only nodes that depend
            on such an input are visited on the way back.
        local: what is done at each of them; `local_rule` for gradients.
    """
    graph, _ = opened(jaxpr)
    values = Values(jaxpr, inputs)
    moving = {v for v, moves in zip(graph.invars, active, strict=True) if moves}
    visited = []
    for equation in graph.eqns:
        operands = [values[atom] for atom in equation.invars]
        moves = [is_in(atom, moving) for atom in equation.invars]
        node = visit(equation, operands, moves, local)
        values.put(equation, node.outputs)
        moving.update(
            v for v, m in zip(equation.outvars, node.active, strict=True) if m
        )
        if any(node.active):
            visited.append((equation, node.pullback))

    return Walked(
        outputs=[values[atom] for atom in graph.outvars],
        active=[is_in(atom, moving) for atom in graph.outvars],
        pullback=lambda cotangents: backward(graph, visited, moving, cotangents),
    )


def backward(
    graph: Any,
    visited: Sequence[tuple[JaxprEqn, Pullback]],
    moving: set[Any],
    cotangents: Sequence[Any],
) -> tuple[list[Any], Named]:
    """Visits the nodes in reverse, from the gradients of the outputs to the inputs'.

    Args:
        graph: the jaxpr.
        visited: its nodes that depend on a differentiated input, in forward order.
        moving: its variables that do.
        cotangents: the gradient of each output, None for zero.
    """
    gradients: dict[Any, Any] = {}
    named: Named = {}

    def accumulate(atoms: Sequence[Any], arriving: Sequence[Any]) -> None:
        for atom, d in zip(atoms, arriving, strict=True):
            if d is not None and is_in(atom, moving):
                uses = [gradients[atom], d] if atom in gradients else [d]
                gradients[atom] = fan_out_backward(*uses)

    accumulate(graph.outvars, cotangents)
    for equation, pullback in reversed(visited):
        arriving = [gradients.pop(v, None) for v in equation.outvars]
        if any(d is not None for d in arriving):
            try:
                leaving, inner = pullback(arriving)
            except UnknownPrimitiveError as error:
                if equation.primitive.name in STRUCTURES:
                    error.add_note(f"in a {equation.primitive}{_used_at(equation)}")
                raise
            accumulate(equation.invars, leaving)
            named = merged(inner, named)
    return [gradients.get(v) for v in graph.invars], named


def visit(
    equation: JaxprEqn, operands: list[Any], moves: list[bool], local: Local
) -> Walked:
    """The forward pass of one node, and its way back."""
    structure = STRUCTURES.get(equation.primitive.name) if any(moves) else None
    if structure is not None:
        return structure(equation.params, operands, moves, local)

    outputs = computed(equation, operands)
    active = [any(moves) and differentiable(v.aval) for v in equation.outvars]

    def pullback(arriving: list[Any]) -> tuple[list[Any], Named]:
        return local(equation, operands, outputs, arriving), {}

    return Walked(outputs, active, pullback)


def local_rule(
    equation: JaxprEqn, operands: list[Any], outputs: list[Any], arriving: list[Any]
) -> list[Any]:
    """The chain rule at one node: looks its primitive up in the table and applies it.

    Raises:
        UnknownPrimitiveError: if the table has no such row.
        ValueError: if the row returns something other than one gradient an operand,
            each in its operand's shape and dtype.
    """
    name = equation.primitive.name
    if name not in RULES:
        raise UnknownPrimitiveError(_how_to_add_a_rule(equation))
    rule = RULES[name]
    read = {key: equation.params[key] for key in rule.reads}
    if equation.primitive.multiple_results:
        dcs = [
            zeros(v.aval) if d is None else d
            for v, d in zip(equation.outvars, arriving, strict=True)
        ]
        leaving = rule.backward(dcs, outputs, *operands, **read)
    else:
        leaving = rule.backward(arriving[0], outputs[0], *operands, **read)

    leaving = list(leaving) if isinstance(leaving, (tuple, list)) else [leaving]
    if len(leaving) != len(operands):
        raise ValueError(
            f"the rule for {name!r} must return one gradient for each of its "
            f"{len(operands)} operands, got {len(leaving)}"
        )
    for atom, d in zip(equation.invars, leaving, strict=True):
        if d is not None and differentiable(atom.aval):
            _check_gradient(f"the rule for {name!r}", atom.aval, d)
    return leaving


# --- nodes that hold a graph: looked through, or walked by a function of their own ---

Visit = Callable[[dict[str, Any], list[Any], list[bool], Local], Walked]

STRUCTURES: dict[str, Visit] = {}
"""Primitive name to its visit, ``(params, operands, moves, local) -> Walked``."""


def structure(primitive: str) -> Callable[[Visit], Visit]:
    """Declares how a primitive that holds a graph is visited."""

    def declare(visit_structure: Visit) -> Visit:
        STRUCTURES[primitive] = visit_structure
        return visit_structure

    return declare


def _call(parameter: str) -> Visit:
    return lambda params, *given: forward(params[parameter], *given)


# The derivative rules that some of them have are not used: what is differentiated is
# the function that they belong to, by the table.
STRUCTURES |= {
    primitive: _call(parameter) for primitive, parameter in ALL_CALLS.items()
}


@structure("name")
def _name(
    params: dict[str, Any], operands: list[Any], moves: list[bool], local: Local
) -> Walked:
    """A name is the identity; the gradient that arrives is the named quantity's.

    Both are named in what is computed here, "c (5)" and "dc", so that a drawing of a
    gradient has them.
    """
    name = params["name"]
    gradient = f"d{Name.parse(name).quantity}"

    def pullback(arriving: list[Any]) -> tuple[list[Any], Named]:
        return [checkpoint_name(d, gradient) for d in arriving], {name: arriving}

    return Walked([checkpoint_name(c, name) for c in operands], moves, pullback)


# --- what flows ---


def is_in(atom: Any, variables: Any) -> bool:
    """Whether `atom` is one of `variables`; a constant in an equation never is."""
    return not isinstance(atom, Literal) and atom in variables


def differentiable(aval: Any) -> bool:
    """Whether gradients flow through values of this type: the real floating ones.

    Raises:
        TypeError: for complex numbers, whose rules the table doesn't have.
    """
    if jnp.issubdtype(aval.dtype, jnp.complexfloating):
        raise ComplexNumberError(
            f"the graph's rules are for real numbers; got {aval.dtype}"
        )
    return jnp.issubdtype(aval.dtype, jnp.floating)


def zeros(aval: Any) -> jax.Array:
    """The gradient of something that the loss doesn't depend on."""
    return jnp.zeros(aval.shape, aval.dtype)


def merged(first: Named, second: Named) -> Named:
    """Both tables; the quantities of `first` precede those of `second`."""
    names = [*first, *(name for name in second if name not in first)]
    return {name: [*first.get(name, ()), *second.get(name, ())] for name in names}


def _check_gradient(whose: str, aval: Any, d: Any) -> None:
    if (jnp.shape(d), jnp.result_type(d)) != (aval.shape, aval.dtype):
        raise ValueError(
            f"{whose} returned a gradient {jnp.result_type(d)}{list(jnp.shape(d))} "
            f"for an operand {aval.dtype}{list(aval.shape)}"
        )


def _how_to_add_a_rule(equation: JaxprEqn) -> str:
    name, count = equation.primitive.name, len(equation.invars)
    letters = "ab"[:count] if count < 3 else [f"a{k}" for k in range(1, count + 1)]
    outputs = "the list of its outputs" if len(equation.outvars) > 1 else "its output"
    return (
        f"no rule for the primitive {name!r}{_used_at(equation)}. Add a row to the "
        f"table; c is {outputs} and dc the gradient of the loss with respect to c:\n\n"
        f'    @lstm_jax.graph.rule("{name}")\n'
        f"    def _(dc, c, {', '.join(letters)}):\n"
        f"        return {', '.join('d' + a for a in letters)}  # None for zero\n\n"
        "The primitive's parameters come as keyword-only arguments, those that the "
        f"rule names. Here there are: {', '.join(sorted(equation.params)) or 'none'}."
    )


def _used_at(equation: JaxprEqn) -> str:
    """The line of the user's program, where JAX has kept it."""
    line = source_info_util.summarize(equation.source_info)
    return f", used at {line}" if line else ""
