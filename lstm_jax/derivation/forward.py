"""A cell's step as numbered equations, one expression each.

What the cell names is a quantity (`lstm_jax.numbered`): "c (5)". So are the products
of the input, u, and of the state, v, which have no number; and a part of an equation
that is used more than once in it gets a letter too, "n_1" for the first part of n.
"""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
from jax import tree

from lstm_jax.cell import Cell, Name
from lstm_jax.derivation import expressions as ex
from lstm_jax.derivation.expressions import Expression
from lstm_jax.derivation.operations import WHOLE
from lstm_jax.derivation.reading import NotDerivable, constant, pulled_back, read
from lstm_jax.derivation.recognition import Letters
from lstm_jax.gated import GatedStep
from lstm_jax.gradcheck.flat_jaxpr import Node, Program, trace
from lstm_jax.gradcheck.points import advance
from lstm_jax.gradcheck.step import argument_names, field_names
from lstm_jax.graph.backprop import differentiable
from lstm_jax.jaxprs import ALL_CALLS

MOVES = {
    *("broadcast_in_dim", "convert_element_type", "copy", "reshape", "squeeze"),
    *("expand_dims", "slice", "split", "transpose", "concatenate", "name"),
}
"""Primitives that only move elements around."""


class Equation(NamedTuple):
    """A quantity and what it is.

    Attributes:
        name: the letter, "c".
        number: of the equation, also of one that this is a part of; None for products.
        right: the right-hand side.
        value: the number of the value in the traced program, before it is named; None
            for a part of the new state that is something else again.
        shape: its shape.
        owner: the name of the equation that this is a part of; "" for none.
    """

    name: str
    number: int | None
    right: Expression
    value: int | None
    shape: tuple[int, ...]
    owner: str = ""

    @property
    def letter(self) -> Expression:
        """The left-hand side."""
        return ex.name(self.name, self.shape)


class Forward(NamedTuple):
    """One step of a cell.

    Attributes:
        program: as it was traced.
        equations: in the order of the program.
        values: the expression of every value; a name, if it has one.
        inputs: names of the arguments: parameters, "x", and the old state's "c_prev".
        state: for each field of the state, the name of the new one.
        projected: the leaves of what the input is projected to.
        kept: what the step keeps, a tree of expressions.
        args: the shapes of the arguments, (params, x, state).
    """

    program: Program
    equations: tuple[Equation, ...]
    values: dict[int, Expression]
    inputs: tuple[str, ...]
    state: dict[str, str]
    projected: tuple[Expression, ...]
    kept: Any
    args: tuple[Any, Any, Any]

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the parameters."""
        return tuple(field_names(self.args[0]))

    def equation(self, name: str) -> Equation | None:
        """The equation of a quantity; None for an input."""
        return next((e for e in self.equations if e.name == name), None)

    def shape(self, name: str) -> tuple[int, ...]:
        """A quantity's shape."""
        found = self.equation(name)
        if found is not None:
            return found.shape
        return self.program.shape(self.program.inputs[self.inputs.index(name)])


def forward_of(cell: Cell, input_size: int, hidden_size: int, batch: int) -> Forward:
    """Traces a step of a cell, and reads it.

    Raises:
        NotDerivable: an operation can't be written, or a letter stands for two things.
    """

    def arguments() -> Any:
        params = cell.init(jax.random.key(0), input_size, hidden_size, dtype=float)
        x = jax.numpy.zeros((batch, input_size))
        return params, x, cell.initial_state(params, (batch,))

    args = jax.eval_shape(arguments)
    program = trace(partial(advance, cell), *args, calls=ALL_CALLS, whole=WHOLE)
    return _Reading(program, args, isinstance(cell.step, GatedStep)).read()


class _Reading:
    """Goes through a program, and gives letters to what needs one."""

    def __init__(self, program: Program, args: Any, gated: bool) -> None:
        self.program, self.args, self.gated = program, args, gated
        self.inputs = tuple(argument_names(*args))
        pairs = zip(self.inputs, program.inputs, strict=True)
        self.values = {v: ex.name(n, program.shape(v)) for n, v in pairs}
        for v, array in program.constants.items():
            self.values[v] = constant(array)
        new, projected, _ = program.shapes
        fields = field_names(new)
        self.new = dict(zip(fields, program.outputs, strict=False))
        count = len(tree.leaves(projected))
        self.projected = program.outputs[len(fields) : len(fields) + count]
        self.consumers = Counter(
            v
            for node in program.nodes
            if node.equation.primitive.name not in MOVES
            for v in set(node.inputs)
        )
        self.labels = self._labels()
        self.numbers = dict(self.labels.values())
        self.taken = {*self.inputs, *(name for name, _ in self.labels.values())}
        self.equations: list[Equation] = []

    def read(self) -> Forward:
        for node in self.program.nodes:
            if node.equation.primitive.name == "name":
                if node.outputs[0] not in self.values:
                    self.values[node.outputs[0]] = self.values[node.inputs[0]]
                continue
            operands = [self.values[v] for v in node.inputs]
            found = read(node.equation, operands)
            for value, right in zip(node.outputs, found, strict=True):
                if value not in self.values:
                    self.values[value] = self._named(node, value, right)
        kept = self.program.outputs[len(self.new) + len(self.projected) :]
        structure = tree.structure(self.program.shapes[2])
        letters = Letters((e.letter, e.right) for e in self.equations)
        state = self._state()
        return Forward(
            self.program,
            tuple(self.equations),
            self.values,
            self.inputs,
            state,
            tuple(self.values[v] for v in self.projected),
            tree.unflatten(structure, [letters.within(self.values[v]) for v in kept]),
            self.args,
        )

    def _state(self) -> dict[str, str]:
        """The quantities that are the new state, each a different one."""
        found: dict[str, str] = {}
        for field, value in self.new.items():
            e = self.values[value]
            if e.op != "name" or e.data[0] in (*self.inputs, *found.values()):
                name = _free(field, self.taken)
                self.taken.add(name)
                right, shape = ex.stripped(e), self.program.shape(value)
                self.equations.append(Equation(name, None, right, None, shape))
                found[field] = name
            else:
                found[field] = e.data[0]
        return found

    def _labels(self) -> dict[int, tuple[str, int | None]]:
        """The names and numbers of values that are named, before they are."""
        found: dict[int, tuple[str, int | None]] = {}
        raw: dict[int, int] = {}
        for node in self.program.nodes:
            if node.equation.primitive.name == "name":
                source = raw.get(node.inputs[0], node.inputs[0])
                raw[node.outputs[0]] = source
                quantity, number, _ = Name.parse(node.equation.params["name"])
                if quantity in self.inputs and source not in self.program.inputs:
                    raise NotDerivable(
                        f"an argument of the step is called {quantity}, and so is "
                        f"{Name(quantity, number)}; give one another letter"
                    )
                found[source] = quantity, number  # a later name takes the place
        taken = {*self.inputs, *(name for name, _ in found.values())}
        # A cell without numbers has names in what it keeps, at least.
        kept = () if found else self._kept()
        for name, value in (*self._products(), *self.new.items(), *kept):
            value = raw.get(value, value)
            if value not in found and value not in self.program.inputs:
                found[value] = _free(name, taken), None
                taken.add(found[value][0])
        return found

    def _products(self) -> Iterator[tuple[str, int]]:
        """Names for what the input is projected to."""
        leaves = tree.leaves_with_path(self.program.shapes[1])
        for (path, _), value in zip(leaves, self.projected, strict=True):
            yield jax.tree_util.keystr(path, simple=True, separator="_") or "u", value

    def _kept(self) -> Iterator[tuple[str, int]]:
        """The fields of what is kept, if they have names."""
        leaves = tree.leaves_with_path(self.program.shapes[2])
        values = self.program.outputs[len(self.new) + len(self.projected) :]
        for (path, _), value in zip(leaves, values, strict=True):
            if path and isinstance(path[-1], jax.tree_util.GetAttrKey):
                yield path[-1].name, value

    def _named(self, node: Node, value: int, right: Expression) -> Expression:
        """The name that a value has or gets; otherwise what it is."""
        name, number, owner = *self.labels.get(value, (None, None)), ""
        if name is None:
            owners = self._owners(value)
            if not self._needs_a_letter(node, value, right, owners):
                return right
            if self._is_recurrent(node) and "v" not in self.taken:
                name = "v"
            else:
                owner = owners[0]
                number = self.numbers[owner]
                name = _free(f"{owner}_1", self.taken)
        self.taken.add(name)
        shape = self.program.shape(value)
        right = ex.stripped(right)
        self.equations.append(Equation(name, number, right, value, shape, owner))
        return self.equations[-1].letter

    def _needs_a_letter(
        self, node: Node, value: int, right: Expression, owners: list[str]
    ) -> bool:
        primitive = node.equation.primitive.name
        if primitive in MOVES or not owners or not right.names() or not _real(node):
            return False
        if not set(right.names()) - set(field_names(self.args[0])):
            return False  # of parameters alone
        if primitive == "dot_general":
            return len(owners) > 1 or (self.gated and self._is_recurrent(node))
        if _is_plain(right):
            return False
        of_rows = ex.contains(right, "sum") and not _is_linear_sum(right)
        return self.consumers[value] > 1 or (of_rows and right.shape[-1] == 1)

    def _is_recurrent(self, node: Node) -> bool:
        """Whether it is a product with the recurrent weights, v = h_prev Wh."""
        weights = self.values[node.inputs[-1]]
        return node.equation.primitive.name == "dot_general" and "Wh" in weights.data

    def _owners(self, value: int) -> list[str]:
        """The names of the equations that a value without a name enters."""
        reached, found = {value}, {}
        for node in self.program.nodes:
            if reached & set(node.inputs) and node.equation.primitive.name != "name":
                for output in node.outputs:
                    if output in self.labels:
                        found[self.labels[output][0]] = None
                    else:
                        reached.add(output)
        return list(found)


def _free(name: str, taken: set[str]) -> str:
    """The name, or the next one that is free."""
    base, _, last = name.rpartition("_")
    base, count = (base, int(last)) if last.isdigit() else (name, 1)
    while name in taken:
        name, count = f"{base}_{count}", count + 1
    return name


def _real(node: Node) -> bool:
    return all(differentiable(v.aval) for v in node.equation.outvars)


def _is_plain(e: Expression) -> bool:
    """Whether it is a name with numbers, or names that are only added up."""
    if e.op in ("name", "number"):
        return True
    moves = e.op in ("block", "broadcast", "reshape")
    scaled = e.op == "mul" and len(e.names()) == 1
    return (moves or scaled or e.op == "add") and all(map(_is_plain, e.args))


def _is_linear_sum(e: Expression) -> bool:
    """Whether it is a sum over an axis, or a mean."""
    if e.op == "mul":
        return all(a.op == "number" or _is_linear_sum(a) for a in e.args)
    return e.op in ("sum", "reshape", "broadcast", "name")


def leaving(
    forward: Forward, equation: Equation, arriving: Expression
) -> dict[str, Expression]:
    """What comes back through one equation, by the name of what it comes to.

    Args:
        forward: the step.
        equation: the equation that is gone through.
        arriving: the gradient of its left-hand side.
    """
    if equation.value is None:
        return dict.fromkeys(equation.right.names(), arriving)
    letters = {e.value: e.letter for e in forward.equations if e.value is not None}
    values = forward.values | letters
    gradients: dict[int, Expression] = {equation.value: arriving}
    found: dict[str, list[Expression]] = {}
    for node in reversed(forward.program.nodes):
        come = [gradients.pop(v, None) for v in node.outputs]
        if all(d is None for d in come):
            continue
        back = come
        if node.equation.primitive.name != "name":
            operands, outputs = ([values[v] for v in g] for g in node[1:3])
            back = pulled_back(node.equation, operands, outputs, come)
        for v, atom, d in zip(node.inputs, node.equation.invars, back, strict=True):
            constant = v in forward.program.constants or not differentiable(atom.aval)
            if d is None or constant or ex.is_zero(d):
                continue
            if values[v].op == "name":
                found.setdefault(values[v].data[0], []).append(d)
            else:
                gradients[v] = ex.add(gradients[v], d) if v in gradients else d
    return {
        name: ex.spread(ex.add(*parts), forward.shape(name))
        for name, parts in found.items()
    }
