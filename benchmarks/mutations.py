"""Mistakes, planted automatically: every small corruption of a hand-derived reverse.

A mutant is a cell whose reverse differs in one expression, made by rewriting the
syntax tree of a function. `mutants` goes through all functions behind a cell's
`backward` and `gradients`, `engine_mutants` through the reverse of the engine.
"""

import ast
import dis
import inspect
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import fields, is_dataclass, replace
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.test_util import check_grads

from lstm_jax import engine
from lstm_jax.cell import Cell
from lstm_jax.engine import bptt, runners, scan, sequence, trees, unrolling
from lstm_jax.gradcheck.points import Sizes, draw, forward_only
from lstm_jax.numbered import NAMED, definition

SHARED = "lstm_jax.gated"
# What these contain is about shapes, not about derivatives.
HELPERS = {"named", "no_elementwise", "_recurrent", "_by_head"}
SHAPES = {"split", "reshape", "zeros_like", "shape", "broadcast_to"}


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


class Change(NamedTuple):
    """One expression and what it becomes."""

    kind: str
    node: ast.AST
    new: ast.AST


# --- the rewriting rules -----------------------------------------------------------


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
    name = _called(node)
    if name == "named":
        value = node.args[0]
        negated = ast.UnaryOp(ast.USub(), value)
        yield Change("sign flipped", value, negated)
        if not isinstance(value, ast.BinOp):
            yield Change("factor scaled", value, _scaled(value))
    elif name == "concatenate":
        yield from _swaps(node.args, lambda args: ast.Call(node.func, args, []), node)
    elif name == "bias_gradient":
        yield Change("not summed", node, ast.Call(_name("_last"), node.args, []))
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


def _name(name: str) -> ast.Name:
    return ast.Name(name, ast.Load())


def _called(node: ast.AST) -> str:
    function = getattr(node, "func", None)
    name = getattr(function, "id", getattr(function, "attr", ""))
    return "named" if name == NAMED else name


def _last(d: Array) -> Array:
    """The bias gradient of a single example: the sum forgotten."""
    return d.reshape(-1, d.shape[-1])[-1]


# --- functions as syntax trees -----------------------------------------------------


class Source:
    """A function's syntax tree, in which one node at a time can be replaced."""

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

    def after(self, statement: ast.stmt) -> Iterator[ast.stmt]:
        """The assignments and returns that follow a statement."""
        for node in ast.walk(self.definition):
            simple = isinstance(node, (ast.Assign, ast.Return))
            if simple and node.lineno > statement.lineno:
                yield node

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


def _in_order(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all in it that is not about shapes."""
    if isinstance(node, ast.Call) and _called(node) in SHAPES:
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
    code = dis.get_instructions(plain)
    names = [i.argval for i in code if i.opname in ("LOAD_GLOBAL", "LOAD_DEREF")]
    found = {}
    for name in names:
        value = inspect.unwrap(known[name]) if callable(known.get(name)) else None
        if isinstance(value, types.FunctionType) and _mutable(value):
            found[name] = value
    return found


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
    return Source(plain).compiled(changed) if changed else plain


# --- the mutants of a cell ---------------------------------------------------------


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
        source = Source(function)
        for change in source.changes():
            changed = source.changed(change, {"_last": _last})
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
    names = any(_called(node) == "named" for node in ast.walk(statement))
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
        if isinstance(outer, ast.Call) and _called(outer) == "named":
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
    for later in source.after(statement):
        for use in _uses(later, names, ast.Load):
            quantities, equation = expected(source, use)
            if not quantities:
                return frozenset(), None
            found |= quantities
            equations.add(equation)
        if isinstance(later, ast.Assign):
            names = names - {use.id for use in _uses(later, names, ast.Store)}
    return frozenset(found), equations.pop() if len(equations) == 1 else None


def _uses(node: ast.AST, names: set[str], context: type) -> list[ast.Name]:
    found = [n for n in ast.walk(node) if isinstance(n, ast.Name) and n.id in names]
    return [n for n in found if isinstance(n.ctx, context)]


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


# --- the mutants of the engine -----------------------------------------------------

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
        name = _called(node)
        if name in ("masked", "select"):
            yield "mask ignored", node.args[1]
        elif name in ("add", "add_output"):
            yield "term dropped", node.args[0]
            if name == "add":
                yield "term dropped", node.args[1]
        elif name == "concatenate" and function == "shift":
            yield "off by one", _name("new")
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


# --- the other checker -------------------------------------------------------------


def one_step(cell: Cell) -> Callable[..., Any]:
    """One step of a cell under its manual rule, not compiled, for `check_grads`.

    Arrays may come as NumPy's, of which the cells know nothing.
    """

    @jax.custom_vjp
    def run(*arguments: Any) -> Any:
        return forward(*arguments)[0]

    def forward(*arguments: Any) -> Any:
        params, x, state = jax.tree.map(jnp.array, arguments)
        new, kept = cell.step(params, state, cell.project(params, x))
        return new, (params, x, state, new, kept)

    def reverse(residuals: Any, dnew: Any) -> Any:
        params, x, state, new, kept = residuals
        dstate, dz = cell.backward(params, state, new, kept, dnew)
        dparams, dx = cell.gradients(params, x, state, new, kept, dz)
        return dparams, dx, dstate

    run.defvjp(forward, reverse)
    return run


def passes_check_grads(cell: Cell, sizes: Sizes, dtype: Any) -> bool:
    """Whether `jax.test_util.check_grads` at its defaults lets a cell pass."""
    with jax.enable_x64(True):
        point = draw(forward_only(cell), sizes)
    double = dtype == jnp.float64
    with jax.enable_x64(double), jax.numpy_dtype_promotion("standard"):
        args = jax.tree.map(
            lambda a: jnp.asarray(np.asarray(a), dtype),
            (point.params, point.xs[0], point.state),
        )
        try:
            check_grads(one_step(cell), args, order=1, modes=("rev",))
        except Exception:  # an AssertionError, or JAX's word on a wrong shape
            return False
    return True
