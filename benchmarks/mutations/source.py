"""Functions as syntax trees, in which one node at a time can be replaced."""

import ast
import dis
import inspect
import types
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Any

from benchmarks.mutations.rules import SHAPES, Change, called, changes
from lstm_jax.cell import Cell
from lstm_jax.numbered import definition

SHARED = "lstm_jax.gated"
"""Where the reverse is that cells share."""

# What these contain is not about derivatives.
HELPERS = {"named", "no_elementwise", "_recurrent", "_by_head"}


class Source:
    """A function's syntax tree, in which one node at a time can be replaced.

    `statements` are its assignments and returns, each with the names in it.
    """

    def __init__(self, function: types.FunctionType) -> None:
        self.function = function
        self.definition = definition(function)
        self.definition.decorator_list = []
        self.tree = ast.Module([self.definition], [])
        self.parents = {
            child: parent
            for parent in ast.walk(self.tree)
            for child in ast.iter_child_nodes(parent)
        }
        self.statements = {
            node: [n for n in ast.walk(node) if isinstance(n, ast.Name)]
            for node in ast.walk(self.definition)
            if isinstance(node, (ast.Assign, ast.Return))
        }

    def changes(self) -> Iterator[Change]:
        """Every corruption of the function."""
        gates = self.gates()
        for statement in self.definition.body:
            for node in _in_order(statement):
                yield from changes(node, gates)

    def gates(self) -> list[str]:
        """The names that what the cell kept is unpacked into."""
        for node in ast.walk(self.definition):
            unpacks = isinstance(node, ast.Assign) and isinstance(node.value, ast.Name)
            if unpacks and isinstance(node.targets[0], ast.Tuple):
                names = (
                    n for n in ast.walk(node.targets[0]) if isinstance(n, ast.Name)
                )
                return [n.id for n in names if n.id != "_"]
        return []

    def behind(self, node: ast.AST) -> Iterator[ast.AST]:
        """The node and what it is in, outward."""
        while node is not self.definition:
            yield node
            node = self.parents[node]

    def statement(self, node: ast.AST) -> ast.stmt:
        """The statement that a node is part of."""
        return next(n for n in self.behind(node) if isinstance(n, ast.stmt))

    def after(self, statement: ast.stmt) -> Iterator[tuple[ast.stmt, list[ast.Name]]]:
        """The assignments and returns that follow a statement, and their names."""
        for later, names in self.statements.items():
            if later.lineno > statement.lineno:
                yield later, names

    def changed(self, change: Change, namespace: dict[str, Any]) -> Any:
        """The function with one node replaced."""
        parent = self.parents[change.node]
        field, place = next(
            (field, index)
            for field, value in ast.iter_fields(parent)
            for index, item in enumerate(value if isinstance(value, list) else [value])
            if item is change.node
        )
        value = getattr(parent, field)
        try:
            if isinstance(value, list):
                value[place] = change.new
            else:
                setattr(parent, field, change.new)
            return self.compiled(namespace)
        finally:
            if isinstance(value, list):
                value[place] = change.node
            else:
                setattr(parent, field, change.node)

    def compiled(self, namespace: dict[str, Any]) -> Any:
        """The function as it now stands, in the globals and closure of the original."""
        file = self.function.__code__.co_filename
        located = ast.fix_missing_locations(self.tree)
        scope = {**self.function.__globals__, **_closure(self.function), **namespace}
        exec(compile(located, file, "exec"), scope)
        return scope[self.function.__name__]


@cache
def source_of(function: types.FunctionType) -> Source:
    """Its source, read once: each mutant of a cell compiles it again."""
    return Source(function)


def _in_order(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all in it that is not about shapes."""
    if isinstance(node, ast.Call) and called(node) in SHAPES:
        return
    if isinstance(node, ast.Subscript) or SHAPES & _attributes(node):
        return
    if isinstance(node, ast.keyword) and node.arg in ("axis", "keepdims"):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _in_order(child)


def _attributes(node: ast.AST) -> set[str]:
    """The attributes that an assignment's right side ends in."""
    value = getattr(node, "value", None) if isinstance(node, ast.Assign) else None
    return {value.attr} if isinstance(value, ast.Attribute) else set()


def _closure(function: types.FunctionType) -> dict[str, Any]:
    return dict(inspect.getclosurevars(function).nonlocals)


def parts(function: Any) -> dict[str, types.FunctionType]:
    """The functions of the cells, or shared by them, that a function calls by name."""
    plain = inspect.unwrap(function)
    known = {**plain.__globals__, **_closure(plain)}
    found = {}
    for name in _names(plain.__code__):
        value = inspect.unwrap(known[name]) if callable(known.get(name)) else None
        if isinstance(value, types.FunctionType) and _mutable(value):
            found[name] = value
    return found


@cache
def _names(code: types.CodeType) -> list[str]:
    """What a function's code reads of what lies around it."""
    loads = ("LOAD_GLOBAL", "LOAD_DEREF")
    return [i.argval for i in dis.get_instructions(code) if i.opname in loads]


def _mutable(function: types.FunctionType) -> bool:
    module = function.__module__ or ""
    helper = function.__name__ in HELPERS
    ours = module == SHARED or module.startswith(("lstm_jax.cells.", "test_", "tests."))
    return ours and not helper


def taken_apart(function: Any) -> tuple[types.FunctionType, dict[str, Any]]:
    """A function of a cell as a plain one, and the functions that it holds by field."""
    function = inspect.unwrap(function)
    if not is_dataclass(function):
        return function, {}
    held = {field.name: getattr(function, field.name) for field in fields(function)}
    return inspect.unwrap(type(function).__call__), held


def reverse_functions(cell: Cell) -> list[types.FunctionType]:
    """The functions behind a cell's reverse, each once."""
    found: dict[Any, None] = {}
    stack = [cell.backward, cell.gradients]
    while stack:
        function, held = taken_apart(stack.pop())
        if function not in found and function.__name__ not in HELPERS:
            found[function] = None
            stack += [*held.values(), *parts(function).values()]
    return list(found)


def with_function(function: Any, old: types.FunctionType, new: Any) -> Any:
    """`function` with `new` in the place of `old`, wherever it is called from."""
    plain, held = taken_apart(function)
    changed = {name: with_function(f, old, new) for name, f in held.items()}
    whole = replace(function, **changed) if held else function
    replaced = _replaced(plain, old, new)
    if replaced is plain:
        return whole if held else plain
    return types.MethodType(replaced, whole) if held else replaced


def _replaced(plain: types.FunctionType, old: types.FunctionType, new: Any) -> Any:
    if plain is old:
        return new
    changed = {name: _replaced(part, old, new) for name, part in parts(plain).items()}
    changed = {n: f for n, f in changed.items() if f is not parts(plain)[n]}
    return source_of(plain).compiled(changed) if changed else plain
