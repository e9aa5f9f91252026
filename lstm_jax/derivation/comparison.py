"""The hand-written reverse beside the derived one, line by line.

A line of the file is read as any equation is: as an expression of quantities and of
gradients that were named before it. It agrees if it is the same expression as the
derived one, or, where that can't be decided, if both have the same value at several
random points. The gradients that a line is computed from are the derived ones there, so
that a mistake is the fault of its own line and of none that follows.
"""

import ast
import linecache
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import tree

from lstm_jax.cell import Cell, Name
from lstm_jax.derivation import expressions as ex
from lstm_jax.derivation.chain import Step
from lstm_jax.derivation.evaluation import Values, evaluated
from lstm_jax.derivation.expressions import Expression
from lstm_jax.derivation.forward import Forward
from lstm_jax.derivation.operations import WHOLE
from lstm_jax.derivation.reading import constant, read
from lstm_jax.derivation.recognition import Letters
from lstm_jax.gated import GatedBackward
from lstm_jax.gradcheck.flat_jaxpr import HELPERS, Node, Program, trace
from lstm_jax.gradcheck.step import argument_names
from lstm_jax.jaxprs import ALL_CALLS

POINTS = 3
ROUNDS = 4
TOLERANCE = 1e-9
"""Of the deviation, relative to the largest number in the derived gradient."""


class Line(NamedTuple):
    """A line of the hand-written reverse.

    Attributes:
        place: "lstm.py:109".
        text: what stands there; empty for a rule that all cells share, in
            `lstm_jax.gated`, and where no source can be had.
        number: of the equation that it says it goes through; None for none.
        written: what it computes.
        derived: what it should compute: the derived gradient or, where the line says
            so, the part of it that comes through equation `number`.
        same: whether both are the same expression.
        error: the largest deviation at the points, relative to the gradient.
    """

    place: str
    text: str
    number: int | None
    written: Expression
    derived: Expression
    same: bool
    error: float

    @property
    def agrees(self) -> bool:
        """Whether the line computes the derived gradient."""
        return self.error < TOLERANCE


class Written(NamedTuple):
    """A gradient that the reverse names, or returns.

    Attributes:
        quantity: the quantity that it is the gradient of.
        number: the equation's, as the line says.
        right: what it is computed as.
        value: its number in the traced reverse.
        part: "" for all of the gradient; "equation" for what comes through the one that
            the line names; "elementwise" for what doesn't come through a product.
    """

    quantity: str
    number: int | None
    right: Expression
    value: int
    part: str


def compared(
    cell: Cell, forward: Forward, steps: tuple[Step, ...], points: list[Values]
) -> dict[str, list[Line]]:
    """The lines of a cell's reverse by the quantity whose gradient they compute.

    Args:
        cell: the cell; without a reverse there are no lines.
        forward: its step.
        steps: the derivation of its gradients.
        points: all values at some points; see `random_values`.
    """
    if not cell.derived:
        return {}
    program = _traced(cell, forward)
    by_name = {step.quantity: step for step in steps}
    definitions = _definitions(forward, steps)
    found: dict[str, list[Line]] = {}
    for written in _Reverse(cell, forward, program, by_name).read():
        derived, right = _claimed(by_name[written.quantity], written)
        line = _line(program, written, right, derived, definitions, points)
        found.setdefault(written.quantity, []).append(line)
    return found


def random_values(
    cell: Cell, forward: Forward, steps: tuple[Step, ...]
) -> list[Values]:
    """All quantities and their gradients at several random points of the cell."""
    params, x, _ = forward.args
    sizes = cell.sizes(tree.map(lambda s: np.broadcast_to(0.0, s.shape), params))
    drawn = cell.init(jax.random.key(0), **sizes, dtype=float)
    first = cell.initial_state(drawn, x.shape[:1])
    rng = np.random.default_rng(0)
    return [_at_random(rng, forward, steps, drawn, first) for _ in range(POINTS)]


def _at_random(
    rng: np.random.Generator,
    forward: Forward,
    steps: tuple[Step, ...],
    drawn: Any,
    first: Any,
) -> Values:
    """Parameters that are moved at random, and a state that is reached in two steps."""
    leaves = [np.asarray(p) for p in tree.leaves(drawn)]
    moved = [p + 0.2 * rng.normal(size=p.shape) for p in leaves]
    known = dict(zip(forward.parameters, moved, strict=True))
    state = [np.asarray(s) for s in tree.leaves(first)]
    for _ in range(3):
        known |= zip(forward.inputs[-len(state) :], state, strict=True)
        known["x"] = rng.normal(size=forward.shape("x"))
        for equation in forward.equations:
            value = evaluated(equation.right, known)
            shape = forward.shape(equation.name)
            known[equation.name] = np.broadcast_to(value, shape)
        state = [known[name] for name in forward.state.values()]
    for step in steps:
        for use in step.uses:
            if not use.name:
                known[use.gradient.data[0]] = rng.normal(size=use.gradient.shape)
        known[step.gradient.data[0]] = _value(step.result, known)
    return known


def _value(e: Expression, known: Values) -> Any:
    return np.broadcast_to(evaluated(e, known), e.shape)


def _traced(cell: Cell, forward: Forward) -> Program:
    params, x, state = forward.args

    def reverse(params: Any, x: Any, state: Any, new: Any, kept: Any, dnew: Any) -> Any:
        dstate, dz = cell.backward(params, state, new, kept, dnew)
        return cell.gradients(params, x, state, new, kept, dz), dstate, dz

    new, _, kept = forward.program.shapes
    args = params, x, state, new, kept, new
    return trace(reverse, *args, calls=ALL_CALLS, whole=WHOLE)


class _Reverse:
    """Reads the traced reverse of a cell."""

    def __init__(
        self, cell: Cell, forward: Forward, program: Program, steps: dict[str, Step]
    ) -> None:
        self.program, self.steps = program, steps
        new = [ex.name(n, forward.shape(n)) for n in forward.state.values()]
        kept = tree.leaves(forward.kept, is_leaf=lambda e: isinstance(e, Expression))
        arguments = [ex.name(n, forward.shape(n)) for n in forward.inputs]
        arriving = [steps[n].uses[0].gradient for n in forward.state.values()]
        given = zip(program.inputs, (*arguments, *new, *kept, *arriving), strict=True)
        self.values = dict(given)
        for value, array in program.constants.items():
            self.values[value] = constant(array)
        self.letters = Letters((e.letter, e.right) for e in forward.equations)
        self.outputs = dict(
            zip(self._output_names(cell, forward), program.outputs, strict=False)
        )
        self.judged: set[int] = set()
        self.names = Counter(Name.parse(n).quantity for n, _ in program.names())

    def _output_names(self, cell: Cell, forward: Forward) -> list[str]:
        names = argument_names(*forward.args)
        return [*names, "u", "v"] if isinstance(cell.backward, GatedBackward) else names

    def read(self) -> Iterator[Written]:
        """The gradients that are named, or returned, in the order of the reverse."""
        yield from self._returned(*self.program.inputs)
        for node in self.program.nodes:
            if node.equation.primitive.name == "name":
                yield from self._named(node)
            else:
                operands = [self.values[v] for v in node.inputs]
                found = map(self.letters.within, read(node.equation, operands))
                self.values.update(zip(node.outputs, found, strict=True))
            yield from self._returned(*node.outputs)

    def _named(self, node: Node) -> Iterator[Written]:
        [value], right = node.outputs, self.values[node.inputs[0]]
        self.values[value] = right
        name, number, _ = Name.parse(node.equation.params["name"])
        if name[:1] == "d" and name[1:] in self.steps:
            yield from self._found(name[1:], number, right, value)

    def _returned(self, *values: int) -> Iterator[Written]:
        for quantity, value in self.outputs.items():
            if value in values and quantity in self.steps:
                yield from self._found(quantity, None, self.values[value], value)

    def _found(
        self, quantity: str, number: int | None, right: Expression, value: int
    ) -> Iterator[Written]:
        """A gradient; for what follows, it is the derived one."""
        gradient = self.steps[quantity].gradient
        if right == gradient:
            return
        part = ""
        if number is not None and self.names[gradient.data[0]] > 1:
            part = "equation"
        elif (
            self.outputs.get(quantity, value) != value and right.shape == gradient.shape
        ):
            part = "elementwise"
        yield Written(quantity, number, right, value, part)
        known = value in self.judged  # one value may be two gradients
        if not part and not known and right.shape == gradient.shape:
            self.values[value] = gradient
            self.judged.add(value)


def _claimed(step: Step, written: Written) -> tuple[Expression, Expression]:
    """What a line should compute, and what it does, in the same shape."""
    whole, right = step.result, written.right
    if written.part:
        through = written.part == "equation"
        parts = (
            use.term
            for use in step.uses
            if (use.number == written.number if through else use.term.op != "dot")
        )
        whole = ex.spread(ex.add(*parts), step.gradient.shape)
    more = len(right.shape) - len(step.gradient.shape)
    if more > 0 and right.shape[more:] == step.gradient.shape:
        # At every example, before they are summed.
        right = ex.reshape(ex.total(right, range(more)), step.gradient.shape)
    return whole, right


def _definitions(forward: Forward, steps: tuple[Step, ...]) -> dict[str, Expression]:
    """What names stand for that aren't given, what comes last in the step first."""
    back = {s.gradient.data[0]: s.result for s in steps if s.result != s.gradient}
    return {
        **dict(reversed(back.items())),
        **{e.name: e.right for e in reversed(forward.equations)},
    }


def _line(
    program: Program,
    written: Written,
    right: Expression,
    derived: Expression,
    definitions: dict[str, Expression],
    points: list[Values],
) -> Line:
    fits = right.shape == derived.shape
    error = max(_error(right, derived, known) for known in points) if fits else np.inf
    place, text = _source(program, written)
    same = error < TOLERANCE and _same(right, derived, definitions)
    return Line(place, text, written.number, right, derived, same, error)


def _error(found: Expression, wanted: Expression, known: Values) -> float:
    """The largest deviation, relative to the largest number."""
    right = _value(wanted, known)
    scale = np.max(np.abs(right)) or 1.0
    return float(np.max(np.abs(_value(found, known) - right)) / scale)


def _same(a: Expression, b: Expression, definitions: dict[str, Expression]) -> bool:
    """Whether two are the same expression.

    Where only one of them has some name in it, that is replaced by what it stands for.
    """
    for _ in range(ROUNDS):
        if ex.stripped(a) == ex.stripped(b):
            return True
        apart = a.names().keys() ^ b.names().keys()
        found = next((name for name in definitions if name in apart), None)
        if found is None:
            break
        known = {found: definitions[found]}
        a, b = ex.substituted(a, known), ex.substituted(b, known)
    one, other = (ex.add(*ex.expanded(e)) for e in (a, b))
    return one == other


def _source(program: Program, written: Written) -> tuple[str, str]:
    """Where a gradient is computed, and what stands there.

    That is the statement that names it; if none does, the line.
    """
    maker = program.maker(written.value)
    place = None if maker is None else program.nodes[maker].place
    if place is None:
        return "", ""
    path, number = Path(place.filename), place.lineno or 0
    name = f"{path.name}:{number}"
    if path in HELPERS:
        return name, ""
    linecache.checkcache(place.filename)
    lines = linecache.getlines(place.filename)
    if written.number is None:
        return name, "".join(lines[number - 1 : number]).strip().rstrip(",")
    start, end = _statements("".join(lines)).get(number, (number, number))
    return name, " ".join(line.strip() for line in lines[start - 1 : end])


@lru_cache(maxsize=16)
def _statements(text: str) -> dict[int, tuple[int, int]]:
    """For every line of a file the first and the last of the statement it is in."""
    try:
        module = ast.parse(text)
    except SyntaxError:  # a notebook's cell with a command of the notebook's own
        return {}
    found = {}
    for node in ast.walk(module):
        if isinstance(node, ast.stmt) and not hasattr(node, "body"):
            ends = node.lineno, node.end_lineno or node.lineno
            found.update(dict.fromkeys(range(ends[0], ends[1] + 1), ends))
    return found
