"""The mutants of a cell, and what a report should say of each."""

import ast
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.mutations.rules import Change, called, last
from benchmarks.mutations.source import (
    SHARED,
    Source,
    reverse_functions,
    source_of,
    with_function,
)
from lstm_jax.cell import Cell, Name
from lstm_jax.gradcheck import Finding
from lstm_jax.gradcheck.points import Sizes, draw, forward_only


class Mutant(NamedTuple):
    """A corrupted cell.

    Attributes:
        cell: it.
        kind: what was done, in two words.
        where: "lstm.py:170", the statement.
        before: the expression.
        after: what it became.
        quantities: the quantities that a report may name first; empty if the mutant
            touches several equations, or the program's outputs only.
        equation: the number of the equation that it touches, if there is one.
        lines: the first and the last line where a report may say that it is computed:
            those of the statement, or from there on if it names nothing.
    """

    cell: Cell
    kind: str
    where: str
    before: str
    after: str
    quantities: frozenset[str]
    equation: int | None
    lines: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.where}, {self.kind}: {self.before}  ->  {self.after}"

    def is_named_by(self, found: Finding | None) -> bool:
        """Whether what a report calls wrong first is what was touched."""
        if found is None:
            return False
        quantity = Name.parse(found.quantity).quantity  # "df" of "df [2]"
        right = self.equation is None or self.equation in found.equations
        return right and quantity in self.quantities


def mutants(cell: Cell, *, shared: bool = False) -> Iterator[Mutant]:
    """All mutants of a cell.

    Args:
        cell: a right one.
        shared: those of the weighted-input rule in `lstm_jax.gated`, which all cells
            share, instead of those in the cell's own file.
    """
    for function in reverse_functions(cell):
        if (function.__module__ == SHARED) != shared:
            continue
        source = source_of(function)
        for change in source.changes():
            changed = source.changed(change, {"_last": last})
            yield Mutant(
                cell._replace(
                    backward=with_function(cell.backward, function, changed),
                    gradients=with_function(cell.gradients, function, changed),
                ),
                change.kind,
                *_described(source, change),
            )


def _described(source: Source, change: Change) -> tuple:
    statement = source.statement(change.node)
    file = source.function.__code__.co_filename.rpartition("/")[2]
    quantities, equation = expected(source, change.node)
    names = any(called(node) == "named" for node in ast.walk(statement))
    last = (statement if names else source.definition).end_lineno
    lines = statement.lineno, last or statement.lineno
    return (
        f"{file}:{statement.lineno}",
        ast.unparse(change.node),
        ast.unparse(change.new),
        quantities,
        equation,
        lines,
    )


def expected(source: Source, node: ast.AST) -> tuple[frozenset[str], int | None]:
    """What a report should name first: the named quantity that the node is part of.

    An expression without a name of its own is part of the quantities that it enters;
    its mutant touches one equation only if that is one quantity.
    """
    for outer in source.behind(node):
        if isinstance(outer, ast.Call) and called(outer) == "named":
            name, equation = map(ast.literal_eval, outer.args[1:3])
            return frozenset([name]), equation
        if isinstance(outer, ast.keyword) and isinstance(node, ast.expr) and outer.arg:
            field = outer.arg
            return frozenset([f"d{field}", f"d{field}_prev"]), None
    statement = source.statement(node)
    if isinstance(statement, ast.Assign):
        names = {
            n.id for n in ast.walk(statement.targets[0]) if isinstance(n, ast.Name)
        }
        return _entered(source, statement, names)
    return frozenset(), None


def _entered(
    source: Source, statement: ast.stmt, names: set[str]
) -> tuple[frozenset[str], int | None]:
    """The quantities that the local names of a statement enter first."""
    found: set[str] = set()
    equations: set[int | None] = set()
    for later, read_or_set in source.after(statement):
        uses = [use for use in read_or_set if use.id in names]
        for use in _in(uses, ast.Load):
            quantities, equation = expected(source, use)
            if not quantities:
                return frozenset(), None
            found |= quantities
            equations.add(equation)
        if isinstance(later, ast.Assign):
            names = names - {use.id for use in _in(uses, ast.Store)}
    return frozenset(found), equations.pop() if len(equations) == 1 else None


def _in(uses: list[ast.Name], context: type) -> list[ast.Name]:
    return [use for use in uses if isinstance(use.ctx, context)]


def is_equivalent(cell: Cell, mutant: Cell, sizes: Sizes) -> bool:
    """Whether a mutant gives the same gradients, to rounding, at ten random points."""
    return all(
        _same(gradients(cell, point), gradients(mutant, point))
        for point in (
            draw(forward_only(cell), sizes._replace(seed=seed)) for seed in range(10)
        )
    )


def gradients(cell: Cell, point: Any) -> Any:
    """All gradients of one step."""
    params, x, state = point.params, point.xs[0], point.state
    new, kept = cell.step(params, state, cell.project(params, x))
    dstate, dz = cell.backward(params, state, new, kept, point.dstate)
    return cell.gradients(params, x, state, new, kept, dz), dstate


def _same(first: Any, second: Any) -> bool:
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return all(
        a.shape == b.shape and np.allclose(a, b, rtol=1e-13, atol=1e-15)
        for a, b in pairs
    )
