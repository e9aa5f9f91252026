"""The rules: what a single node of a syntax tree can be corrupted to."""

import ast
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from jax import Array

from lstm_jax.numbered import NAMED

SHAPES = {
    "across",
    "by_unit",
    "split",
    "reshape",
    "zeros_like",
    "shape",
    "broadcast_to",
}
"""Calls that are about shapes, not about derivatives."""


class Change(NamedTuple):
    """One expression and what it becomes."""

    kind: str
    node: ast.AST
    new: ast.AST


def changes(node: ast.AST, gates: list[str]) -> Iterator[Change]:
    """Every corruption of a single node of a syntax tree."""
    if isinstance(node, ast.BinOp):
        yield from _binary(node)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield Change("sign flipped", node, node.operand)
    elif isinstance(node, ast.Call):
        yield from _call(node)
    elif isinstance(node, ast.Name) and node.id in gates:
        other = gates[(gates.index(node.id) + 1) % len(gates)]
        if isinstance(node.ctx, ast.Load) and other != node.id:
            yield Change("gates swapped", node, ast.Name(other, ast.Load()))
    elif isinstance(node, ast.Tuple):
        yield from _tuple(node)


def _binary(node: ast.BinOp) -> Iterator[Change]:
    left, right = node.left, node.right
    negative = ast.UnaryOp(ast.USub(), right)
    one = isinstance(left, ast.Constant)
    match node.op:
        case ast.Add():
            yield Change("term dropped", node, left)
            yield Change("term dropped", node, right)
            yield Change("sign flipped", node, ast.BinOp(left, ast.Sub(), right))
        case ast.Sub():
            missing = "1 - x dropped" if one else "term dropped"
            yield Change(missing, node, ast.Constant(1.0) if one else left)
            yield Change("term dropped", node, negative)
            yield Change("sign flipped", node, ast.BinOp(left, ast.Add(), right))
        case ast.Mult() | ast.Div():
            yield Change("factor dropped", node, left)
            if isinstance(node.op, ast.Mult):
                yield Change("factor dropped", node, right)
            yield Change("factor scaled", node, _scaled(node))
        case ast.MatMult():
            yield Change("factor scaled", node, _scaled(node))
            yield Change("sign flipped", node, ast.UnaryOp(ast.USub(), node))
        case ast.Pow():
            yield Change("factor dropped", node, left)


def _call(node: ast.Call) -> Iterator[Change]:
    name = called(node)
    if name == "named":
        value = node.args[0]
        negated = ast.UnaryOp(ast.USub(), value)
        yield Change("sign flipped", value, negated)
        if not isinstance(value, ast.BinOp):
            yield Change("factor scaled", value, _scaled(value))
    elif name == "concatenate":
        yield from _swaps(node.args, lambda args: ast.Call(node.func, args, []), node)
    elif name == "bias_gradient":
        yield Change("not summed", node, ast.Call(name_of("_last"), node.args, []))
        yield Change("factor scaled", node, _scaled(node))
    elif name == "weight_gradient":
        yield Change("sign flipped", node, ast.UnaryOp(ast.USub(), node))
        yield Change("factor scaled", node, _scaled(node))
    elif name == "where":
        yield Change("mask ignored", node, node.args[1])
    elif name.endswith("_backward") and name != "step_backward":
        yield Change("derivative dropped", node, node.args[0])


def _tuple(node: ast.Tuple) -> Iterator[Change]:
    """Swaps what is unpacked or returned, where it has names."""
    if all(isinstance(e, ast.Name) for e in node.elts):
        yield from _swaps(node.elts, lambda elts: ast.Tuple(elts, node.ctx), node)


def _swaps(items: list[Any], make: Callable, node: ast.AST) -> Iterator[Change]:
    texts = [ast.unparse(item) for item in items]
    for j in range(len(items)):
        for k in range(j + 1, len(items)):
            if texts[j] != texts[k]:
                order = list(items)
                order[j], order[k] = order[k], order[j]
                yield Change("blocks swapped", node, make(order))


def _scaled(node: Any) -> ast.BinOp:
    return ast.BinOp(node, ast.Mult(), ast.Constant(1.001))


def name_of(name: str) -> ast.Name:
    """A variable of this name."""
    return ast.Name(name, ast.Load())


def called(node: ast.AST) -> str:
    """The name of the function that a call is of; "" of what is no call."""
    function = getattr(node, "func", None)
    name = getattr(function, "id", getattr(function, "attr", ""))
    return "named" if name == NAMED else name


def last(d: Array) -> Array:
    """The bias gradient of a single example: the sum forgotten."""
    return d.reshape(-1, d.shape[-1])[-1]
