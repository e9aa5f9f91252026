"""Mistakes that one makes when one derives a gradient by hand, each in one line."""

import ast
import copy
from collections.abc import Iterator
from typing import NamedTuple

from experiments.explain_page.lines import Line, text_of


class Mistake(NamedTuple):
    """A line of a reverse, made wrong.

    Attributes:
        line: the line as it is.
        kind: what was done to it.
        value: what it says instead.
    """

    line: Line
    kind: str
    value: ast.expr

    @property
    def text(self) -> str:
        """What it says instead, as one would write it."""
        return text_of(self.value)


def mistakes_of(lines: list[Line], gates: list[str]) -> list[Mistake]:
    """The mistakes in each of a reverse's lines that change what it says.

    Args:
        lines: of the reverse.
        gates: the quantities that may be taken for one another.
    """
    found = []
    for line in lines:
        texts = {text_of(line.value)}
        for kind, value in _mistakes(line.value, gates):
            if (text := text_of(value)) not in texts:
                texts.add(text)
                found.append(Mistake(line, kind, value))
    return found


def _mistakes(value: ast.expr, gates: list[str]) -> Iterator[tuple[str, ast.expr]]:
    yield "sign flipped", ast.UnaryOp(ast.USub(), value)
    yield from _without_a_term(value)
    yield from _without_a_factor(value)
    yield from _without_a_square(value)
    yield from _with_another_gate(value, gates)


def _without_a_term(value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    """Leaves out each term of a sum."""
    if isinstance(value, ast.BinOp) and isinstance(value.op, (ast.Add, ast.Sub)):
        last = value.right
        if isinstance(value.op, ast.Sub):
            last = ast.UnaryOp(ast.USub(), last)
        yield "term forgotten", value.left
        for kind, left in _without_a_term(value.left):
            yield kind, ast.BinOp(left, value.op, value.right)
        if not isinstance(value.left, ast.Constant):
            yield "term forgotten", last


def _without_a_factor(value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    """Leaves out each factor of a product; in a sum, of each of its terms."""
    if not isinstance(value, ast.BinOp):
        return
    left, right = value.left, value.right
    if isinstance(value.op, ast.Mult):
        yield "factor forgotten", left
        for kind, less in _without_a_factor(left):
            yield kind, ast.BinOp(less, value.op, right)
        if not isinstance(left, ast.BinOp):
            yield "factor forgotten", right
    elif isinstance(value.op, ast.Div):
        yield "factor forgotten", left
    elif isinstance(value.op, (ast.Add, ast.Sub)):
        for kind, less in _without_a_factor(left):
            yield kind, ast.BinOp(less, value.op, right)
        for kind, less in _without_a_factor(right):
            yield kind, ast.BinOp(left, value.op, less)


def _without_a_square(value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    for k, node in enumerate(ast.walk(value)):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            yield "square forgotten", _replaced(value, k, node.left)


def _with_another_gate(
    value: ast.expr, gates: list[str]
) -> Iterator[tuple[str, ast.expr]]:
    """Takes the first gate in it for the next one, wherever it stands."""
    names = [n.id for n in ast.walk(value) if isinstance(n, ast.Name)]
    for name in [gate for gate in gates if gate in names][:1]:
        other = gates[(gates.index(name) + 1) % len(gates)]
        if other != name:
            yield "wrong gate", _Renamed({name: other}).visit(copy.deepcopy(value))


class _Renamed(ast.NodeTransformer):
    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(self.names.get(node.id, node.id), node.ctx)


def _replaced(value: ast.expr, place: int, new: ast.expr) -> ast.expr:
    """A copy in which the node at this place of `ast.walk` is another."""
    changed = copy.deepcopy(value)
    old = list(ast.walk(changed))[place]
    for node in ast.walk(changed):
        for field, held in ast.iter_fields(node):
            if held is old:
                setattr(node, field, copy.deepcopy(new))
    return copy.deepcopy(new) if old is changed else changed
