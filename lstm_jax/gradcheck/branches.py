"""The branches of a forward, and which of their sides a point sees.

Where a forward takes a maximum, an absolute value, or one of two cases, its derivative
is another on either side, and a reverse that is right on one may be wrong on the other.
So a derivation is covered only where every such operation has gone either way, at an
element that the loss depends on.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.extend.core import JaxprEqn, jaxprs_in_params

from lstm_jax.gradcheck.flat_jaxpr import Node, Program, evaluate, of_jax
from lstm_jax.gradcheck.oracles import once
from lstm_jax.jaxprs import RULED_CALLS

NAMES = {
    "max": ("max", ("the first is larger", "the second is larger")),
    "min": ("min", ("the first is smaller", "the second is smaller")),
    "abs": ("abs", ("positive", "negative")),
    "sign": ("sign", ("positive", "negative")),
    "clamp": ("clip", ("below", "within", "above")),
    "convert_element_type": ("a mask", ("true", "false")),
}
"""Primitives that branch at every element: what they are called, and their sides."""

KINKED = ("relu",)
"""JAX's functions with a derivative rule of their own that branch all the same.

The others, `jax.numpy.logaddexp` for instance, are smooth whatever they are made of.
"""

PASSED_ON = ("broadcast_in_dim", "reshape", "squeeze", "not", "copy", "transpose")


class Side(NamedTuple):
    """One side of a branch.

    Attributes:
        operation: "max", "where", ...
        side: "the first is larger", "true", ...
        equations: the numbers of the equations that it is part of.
        line: where it is computed, "slstm.py:117 (equations)".
    """

    operation: str
    side: str
    equations: tuple[int, ...]
    line: str | None

    def __str__(self) -> str:
        listed = ", ".join(f"({number})" for number in self.equations)
        place = f" in {listed}" if listed else ""
        line = f", {self.line}" if self.line else ""
        return f"{self.operation}{place}: {self.side}{line}"


def sides_of(program: Program) -> list[Side]:
    """The sides of all branches of a program, in its order.

    Args:
        program: traced with all its calls opened.
    """
    found = []
    for node in _branching(program):
        operation, sides = _described(node)
        value = node.outputs[0]
        equations, line = program.entered(value), node.line
        found += [Side(operation, side, equations, line) for side in sides]
    return found


def watcher(program: Program) -> Callable[[Any, Sequence[Array]], np.ndarray]:
    """A function that says which points see which sides, (points, sides).

    A point sees a side where an element is on it, and J depends on that element. The
    function takes the arguments of the program, with a leading axis of points, and the
    cotangents of its first outputs, with the same axis: J = Σ cotangents * outputs.

    Args:
        program: the forward.
    """
    nodes = _branching(program)
    watched = [node.outputs[0] for node in nodes]

    def loss(nudges: dict[int, Array], args: Any, cotangents: Any) -> tuple[Array, Any]:
        values = evaluate(program, args, nudges)
        pairs = zip(cotangents, program.outputs, strict=False)
        total = sum((jnp.sum(d * values[v]) for d, v in pairs), jnp.zeros(()))
        return total, [_taken(node, [values[v] for v in node.inputs]) for node in nodes]

    def at(args: Any, cotangents: Any) -> Array:
        nudges = {
            v: jnp.zeros(program.shape(v), program.avals[v].dtype) for v in watched
        }
        d, taken = jax.grad(loss, has_aux=True)(nudges, args, cotangents)
        # A gradient that is no number, in a guarded case, passes as well.
        seen = [
            jnp.any(side & (d[v] != 0))
            for v, sides in zip(watched, taken, strict=True)
            for side in sides
        ]
        return jnp.stack(seen)

    compiled = once(jax.vmap(at))
    return lambda args, cotangents: np.asarray(compiled(args, list(cotangents)))


def _branching(program: Program) -> list[Node]:
    makers = {v: node for node in program.nodes for v in node.outputs}
    return [node for node in program.nodes if _branches(node, program, makers)]


def _branches(node: Node, program: Program, makers: dict[int, Node]) -> bool:
    name = node.equation.primitive.name
    if not jnp.issubdtype(program.avals[node.outputs[0]].dtype, jnp.floating):
        return False
    if any(map(_is_smooth, node.within)):
        return False
    if name == "select_n":
        return not _is_guard(node.inputs[0], makers)
    if name == "convert_element_type":
        return getattr(node.equation.invars[0].aval, "dtype", None) == jnp.bool_
    return name in NAMES or name == "cond"


def _is_smooth(call: JaxprEqn) -> bool:
    name = of_jax(call)
    ruled = call.primitive.name in RULED_CALLS
    return ruled and name is not None and name not in KINKED


def _is_guard(value: int, makers: dict[int, Node]) -> bool:
    """Whether a condition asks only if a number is one."""
    node = makers.get(value)
    while node is not None and node.equation.primitive.name in PASSED_ON:
        node = makers.get(node.inputs[0])
    if node is None:
        return False
    itself = node.equation.primitive.name == "ne" and len(set(node.inputs)) == 1
    return itself or node.equation.primitive.name == "is_finite"


def _described(node: Node) -> tuple[str, tuple[str, ...]]:
    name = node.equation.primitive.name
    if name in NAMES:
        return NAMES[name]
    if name == "cond":
        count = len(list(jaxprs_in_params(node.equation.params)))
    else:
        count = len(node.inputs) - 1
    if count == 2:
        return "where" if name == "select_n" else name, ("false", "true")
    return name, tuple(f"case {k}" for k in range(count))


def _taken(node: Node, operands: list[Array]) -> list[Array]:
    """For each side, the elements that are on it."""
    name, (a, *rest) = node.equation.primitive.name, operands
    if name in ("max", "min"):
        larger = a > rest[0]
        return [larger, a < rest[0]] if name == "max" else [a < rest[0], larger]
    if name in ("abs", "sign"):
        return [a > 0, a < 0]
    if name == "clamp":
        x, high = rest
        return [x < a, (a < x) & (x < high), x > high]
    if name == "convert_element_type":
        return [a, ~a]
    return [a.astype(jnp.int32) == k for k in range(len(_described(node)[1]))]
