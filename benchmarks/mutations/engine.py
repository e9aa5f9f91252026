"""The mutants of the engine: masks, the order of time, sums."""

import ast
import inspect
import sys
import types
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple
from unittest import mock

from benchmarks.mutations.rules import called, name_of
from lstm_jax import engine
from lstm_jax.engine import bptt, runners, scan, sequence, trees, unrolling

# What the reverse consists of, in the order in which these modules import each other:
# of each the functions, or methods, that are corrupted.
ENGINE = {
    trees: ("add_output", "shift"),
    sequence: ("without_padding", "old"),
    scan: ("reverse_steps",),
    runners: (),
    bptt: ("_backward",),
    unrolling: (),
}


class EngineMutant(NamedTuple):
    """Copies of the engine's modules with one expression of the reverse changed.

    `module` is the copy of `lstm_jax.engine.unrolling`, which uses the others.
    """

    module: types.ModuleType
    kind: str
    where: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.where}, {self.kind}: {self.before}  ->  {self.after}"


def engine_mutants() -> Iterator[EngineMutant]:
    """Backpropagation through time with a mistake: masks, the order of time, sums."""
    for part, functions in ENGINE.items():
        name = part.__name__.rpartition(".")[2]
        count = len(list(_engine_changes(_parsed(part), functions)))
        for index in range(count):
            tree = _parsed(part)
            function, node, kind, new = list(_engine_changes(tree, functions))[index]
            before, after = ast.unparse(node), ast.unparse(new)
            _Replace(node, new).visit(tree)
            where = f"{name}.py:{node.lineno} ({function})"
            yield EngineMutant(_engine_with(part, tree), kind, where, before, after)


def _engine_with(changed: types.ModuleType, tree: ast.Module) -> types.ModuleType:
    """A copy of `unrolling` that uses copies of the others, one of them changed."""
    with mock.patch.dict(sys.modules), ExitStack() as attributes:
        for part in ENGINE:
            copy = _executed(part, tree if part is changed else _parsed(part))
            sys.modules[part.__name__] = copy
            name = part.__name__.rpartition(".")[2]
            attributes.enter_context(mock.patch.object(engine, name, copy))
        return copy


def _parsed(module: types.ModuleType) -> ast.Module:
    return ast.parse(inspect.getsource(module))


def _executed(original: types.ModuleType, tree: ast.Module) -> types.ModuleType:
    module = types.ModuleType(f"{original.__name__}_mutant")
    module.__file__ = original.__file__
    ast.fix_missing_locations(tree)
    exec(compile(tree, str(original.__file__), "exec"), vars(module))
    return module


def _engine_changes(
    tree: ast.Module, functions: tuple[str, ...]
) -> Iterator[tuple[str, Any, str, ast.AST]]:
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef) and function.name in functions:
            for node in ast.walk(function):
                for kind, new in _engine_change(node, function.name):
                    yield function.name, node, kind, new


def _engine_change(node: ast.AST, function: str) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(node, ast.Call):
        name = called(node)
        if name in ("masked", "select"):
            yield "mask ignored", node.args[1]
        elif name in ("add", "add_output"):
            yield "term dropped", node.args[0]
            if name == "add":
                yield "term dropped", node.args[1]
        elif name == "concatenate" and function == "shift":
            yield "off by one", name_of("new")
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.Invert)):
        yield "time or mask reversed", node.operand
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        yield "term dropped", node.left
        yield "sign flipped", ast.BinOp(node.left, ast.Sub(), node.right)


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.old else self.generic_visit(node)
