"""A cell's equations and their reverse as lines of its file, run one by one.

A function under `lstm_jax.numbered` says which of its lines is which equation. Here its
syntax tree is compiled once more, so that every value that a line names passes through
our hands, and so that one line can be changed.
"""

import ast
import copy
import inspect
import re
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any, NamedTuple

from lstm_jax.cell import Cell
from lstm_jax.gated import GatedBackward, GatedStep
from lstm_jax.numbered import NAMED, definition

KEEP = "__explain_page_keep__"
"""The global that a changed function hands its variables to when it returns."""

ACROSS_UNITS = {"concatenate", "normalize", "normalize_backward", "split"} | {
    "weighted_input"
}
"""Calls whose result at one unit needs their arguments at others."""

Hook = Callable[[Any, str, int], Any]
"""``(value, quantity, equation) -> value``: what `lstm_jax.named` is replaced by."""


class Line(NamedTuple):
    """What a function names on a line.

    Attributes:
        quantity: "c", or in a reverse "dc".
        equation: its number.
        row: the line of the file where the statement ends.
        value: the expression that is named; that of a whole tuple where it is unpacked.
    """

    quantity: str
    equation: int
    row: int
    value: ast.expr


class Row(NamedTuple):
    """A line of the file.

    Attributes:
        number: where it stands in the file, from 1.
        code: what it says, without indentation and without the equation's number.
        comment: the rest of it.
    """

    number: int
    code: str
    comment: str


def equations_of(cell: Cell) -> FunctionType:
    """The function that holds a cell's equations."""
    step = cell.step.equations if isinstance(cell.step, GatedStep) else cell.step
    return _plain(cell, step)


def reverse_of(cell: Cell) -> FunctionType:
    """The function that holds a cell's reverse."""
    backward = cell.backward
    if isinstance(backward, GatedBackward):
        backward = backward.backward
    return _plain(cell, backward)


def _plain(cell: Cell, function: Any) -> FunctionType:
    plain = inspect.unwrap(function)
    if not isinstance(plain, FunctionType):
        raise ValueError(
            f"{cell.name}: expected its equations and their reverse as functions; got "
            f"{function!r}"
        )
    return plain


def lines_of(function: FunctionType) -> list[Line]:
    """What a numbered function names, in the order of its file."""
    found = []
    unpacked: dict[str, ast.expr] = {}
    for statement in definition(function).body:
        for call in _named_calls(statement):
            value, quantity, equation = call.args
            assert isinstance(quantity, ast.Constant)
            assert isinstance(equation, ast.Constant)
            name = str(quantity.value)
            if isinstance(value, ast.Name) and value.id == name:
                value = unpacked.get(name, value)
            row = statement.end_lineno or statement.lineno
            found.append(Line(name, int(str(equation.value)), row, value))
        if isinstance(statement, ast.Assign):
            names = {n.id for t in statement.targets for n in _names(t)}
            unpacked |= dict.fromkeys(names, statement.value)
    return found


def _named_calls(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == NAMED:
            yield node


def _names(node: ast.AST) -> Iterator[ast.Name]:
    return (n for n in ast.walk(node) if isinstance(n, ast.Name))


def rows_of(function: FunctionType) -> list[Row]:
    """The lines of a function's file from below its docstring to its end."""
    lines, first = inspect.getsourcelines(function)
    body = definition(function).body
    start = body[0].lineno - first
    if ast.get_docstring(definition(function)):
        start = (body[0].end_lineno or body[0].lineno) - first + 1
    kept = [line.rstrip() for line in lines[start:]]
    depth = len(kept[0]) - len(kept[0].lstrip())
    return [_row(first + start + k, line[depth:]) for k, line in enumerate(kept)]


def _row(number: int, text: str) -> Row:
    code, _, comment = text.partition("#")
    if code.strip():
        comment = re.sub(r"^ *\(\d+\)(?! again)[,:]? *", "", comment)
    return Row(number, code.rstrip(), f"# {comment.strip()}" if comment.strip() else "")


def instrumented(
    function: FunctionType,
    hook: Hook,
    keep: Callable[[dict[str, Any]], None] = lambda variables: None,
    change: tuple[str, int, ast.expr] | None = None,
) -> FunctionType:
    """The function, with `hook` around every value that it names.

    Args:
        function: a numbered function.
        hook: gets each value, and gives what goes on in its place.
        keep: gets the function's variables when it returns.
        change: a quantity, its equation's number, and what its line says instead.
    """
    tree = definition(function)
    tree.decorator_list = []
    for call in _named_calls(tree):
        given = tuple(ast.literal_eval(argument) for argument in call.args[1:])
        if change is not None and given == change[:2]:
            call.args[0] = copy.deepcopy(change[2])
    tree = _Keeping().visit(tree)
    closure = inspect.getclosurevars(function).nonlocals
    scope: dict[str, Any] = {**function.__globals__, **closure, NAMED: hook, KEEP: keep}
    module = ast.fix_missing_locations(ast.Module([tree], []))
    exec(compile(module, function.__code__.co_filename, "exec"), scope)
    return scope[function.__name__]


class _Keeping(ast.NodeTransformer):
    """Hands all variables on before every return."""

    def visit_Return(self, node: ast.Return) -> list[ast.stmt]:
        variables = ast.Call(ast.Name("locals", ast.Load()), [], [])
        call = ast.Call(ast.Name(KEEP, ast.Load()), [variables], [])
        return [ast.Expr(call), node]


# --- an expression and the numbers in it ---------------------------------------------


def parts_of(value: ast.expr, known: Callable[[str], bool]) -> list[list[str]]:
    """An expression in pieces: ["text", " * "] and ["name", "c_prev"].

    Args:
        value: the expression.
        known: whether a name, maybe with dots, has a number at every unit. Where other
            units' numbers enter (products, norms), names are text.
    """
    marks: list[str] = []
    marked = _Marking(known, marks).visit(copy.deepcopy(value))
    pieces = re.split(r"__(\d+)__", text_of(marked))
    return [
        ["name", marks[int(piece)]] if k % 2 else ["text", piece]
        for k, piece in enumerate(pieces)
        if piece
    ]


def text_of(value: ast.expr) -> str:
    """An expression as one would write it."""
    return ast.unparse(value).replace(" ** ", "**").replace("1.0", "1")


def names_read(value: ast.expr) -> list[str]:
    """The variables in an expression, with dots: ["dnew.h", "o"]."""
    found: list[str] = []
    _Marking(lambda name: True, found, everywhere=True).visit(copy.deepcopy(value))
    return list(dict.fromkeys(found))


class _Marking(ast.NodeTransformer):
    """Puts __0__, __1__, ... in the places of known names, and collects these."""

    def __init__(
        self, known: Callable[[str], bool], marks: list[str], everywhere: bool = False
    ) -> None:
        self.known, self.marks, self.everywhere = known, marks, everywhere

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return self._marked(node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        return self._marked(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        if name in ACROSS_UNITS and not self.everywhere:
            return node
        node.args = [self.visit(argument) for argument in node.args]
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        if isinstance(node.op, ast.MatMult) and not self.everywhere:
            return node
        return self.generic_visit(node)

    def _marked(self, node: ast.expr) -> ast.AST:
        name = ast.unparse(node)
        if not self.known(name):
            return node
        self.marks.append(name)
        return ast.Name(f"__{len(self.marks) - 1}__", ast.Load())
