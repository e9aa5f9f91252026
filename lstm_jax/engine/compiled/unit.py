"""A gated cell's equations and their reverse, traced for one hidden unit.

The equations of a `gated` cell are elementwise: what a hidden unit computes depends on
that unit's numbers alone, and is the same for all. So they are traced for one unit,
where an array of G gate blocks is G numbers, and what is left is a straight-line
program: one operation a line, without shapes. `trace` also runs the cell with several
units, and refuses one that turns out to mix them.
"""

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from lstm_jax.cell import Cell
from lstm_jax.engine.compiled.expressions import EXPRESSIONS, parameters
from lstm_jax.gated import (
    GatedBackward,
    GatedGradients,
    GatedStep,
    input_product,
    no_elementwise,
    with_zeros,
)
from lstm_jax.identities import accumulator_dtype
from lstm_jax.jaxprs import ALL_CALLS, evaluate

WEIGHTS = ("Wx", "Wh", "b")
"""The parameters of the products; a gated cell's others act element by element."""


class NotUnitByUnit(Exception):
    """A cell that cannot be run unit by unit; the message says why."""


class Value(NamedTuple):
    """One number or truth value of a unit.

    Attributes:
        operation: the primitive's name; "input" or "constant".
        operands: the values that it is computed from, by number.
        attributes: the parameters that the primitive's row reads, by name; an input's
            group and place in it; a constant's value.
        boolean: whether it is a truth value.
    """

    operation: str
    operands: tuple[int, ...]
    attributes: tuple[Any, ...]
    boolean: bool


class Program(NamedTuple):
    """A straight-line program, without anything that no output needs.

    Attributes:
        values: all values; operands come before what is computed from them.
        inputs: what each group of inputs consists of: a name for every number.
        outputs: what each group of outputs consists of: the number of a value each.
        names: the names that the cell gives to a value, such as "c (5)".
        dtype: that of the numbers, float32 or float64.
    """

    values: dict[int, Value]
    inputs: dict[str, tuple[str, ...]]
    outputs: dict[str, tuple[int, ...]]
    names: dict[int, tuple[str, ...]]
    dtype: np.dtype

    def reads(self, group: str) -> tuple[int, ...]:
        """The places of a group of inputs that are read."""
        return tuple(
            sorted(
                value.attributes[1]
                for value in self.values.values()
                if value.operation == "input" and value.attributes[0] == group
            )
        )


class Unit(NamedTuple):
    """What one hidden unit of a gated cell computes at a step, forward and back.

    Attributes:
        state: the names of the state's fields, one number each.
        own: the names of the parameters beside Wx, Wh and b, and the numbers that a
            unit has of each.
        kept: how many numbers a unit keeps in each leaf, as a tree.
        forward: inputs own, old, u, v; outputs new, kept.
        backward: inputs own, old, new, kept, dnew; outputs dold (the path through v
            left out), du, dv; None for a cell without a hand-derived backward. Where
            `one_gradient` is true, dv is left out.
        own_gradients: the same inputs; outputs down, the gradients of the parameters
            that a unit has of its own, at a step. None where they are none, or not so.
        recurrent: whether there is a product v = h Wh. Without one, dv is what the
            cell's `elementwise` needs beside du.
        one_gradient: whether v's gradient is u's, because the equations see u + v.
    """

    state: tuple[str, ...]
    own: dict[str, int]
    kept: Any
    forward: Program
    backward: Program | None
    own_gradients: Program | None
    recurrent: bool
    one_gradient: bool


@cache
def trace(cell: Cell, dtype: DTypeLike) -> Unit:
    """A gated cell's equations and reverse for one hidden unit.

    Args:
        cell: a cell made by `lstm_jax.gated.gated`.
        dtype: the dtype of its parameters; 16 bits are computed in float32.

    Raises:
        NotUnitByUnit: it is none, or its equations mix units, or use an operation that
            `EXPRESSIONS` does not have.
    """
    functions = _Functions.of(cell)
    dtype = accumulator_dtype(dtype)
    try:
        one, several = (_Shapes.of(cell, functions, dtype, n) for n in (1, 3))
        recurrent, one_gradient = one.v is not None, False
        forward = _program(one.forward(), several.forward(), dtype)
        backward = own_gradients = None
        if functions.backward is not None:
            backward = _program(one.backward(), several.backward(), dtype)
            own_gradients = _own_gradients(one, several, dtype)
            outputs = backward.outputs
            if recurrent and outputs["du"] == outputs["dv"]:
                one_gradient = True
                backward = backward._replace(outputs=outputs | {"dv": ()})
    except NotUnitByUnit:
        raise
    except Exception as error:  # whatever a cell may raise where sizes are not its own
        said = str(error).strip().splitlines() or [""]
        raise NotUnitByUnit(
            f"{cell.name} could not be traced: {type(error).__name__}: {said[0]}"
        ) from error
    return Unit(
        state=one.state._fields,
        own={name: a.size for name, a in one.own.items()},
        kept=jax.tree.map(lambda a: a.size, one.kept),
        forward=forward,
        backward=backward,
        own_gradients=own_gradients,
        recurrent=recurrent,
        one_gradient=one_gradient,
    )


def _own_gradients(
    one: "_Shapes", several: "_Shapes", dtype: np.dtype
) -> Program | None:
    elementwise = one.functions.elementwise is not no_elementwise
    if not elementwise or any(a.size > 1 for a in one.own.values()):
        return None
    try:
        return _program(one.own_gradients(), several.own_gradients(), dtype)
    except NotUnitByUnit:  # they are then taken for many steps at once, as in a scan
        return None


# --- the cell's functions, at arrays of a few units -----------------------------------


class _Functions(NamedTuple):
    """The functions that a gated cell is made from."""

    equations: Callable[..., Any]
    backward: Any  # a function, or None
    elementwise: Callable[..., dict[str, Any]]

    @classmethod
    def of(cls, cell: Cell) -> "_Functions":
        if not isinstance(cell.step, GatedStep):
            raise NotUnitByUnit(
                f"{cell.name} is not made by `gated` from its equations"
            )
        if cell.project is not input_product:
            raise NotUnitByUnit(f"{cell.name} projects its input in a way of its own")
        if not isinstance(cell.backward, GatedBackward):
            return cls(cell.step.equations, None, no_elementwise)
        elementwise = no_elementwise
        if isinstance(cell.gradients, GatedGradients):
            elementwise = cell.gradients.elementwise
        return cls(cell.step.equations, cell.backward.backward, elementwise)


class _Call(NamedTuple):
    """A function to trace, its arguments and results by group.

    The numbers of a group of n units are blocks of n, one for each number of a unit.
    """

    function: Callable[..., Any]
    units: int
    inputs: dict[str, dict[str, Any]]
    outputs: tuple[str, ...]


class _Shapes(NamedTuple):
    """A cell's arguments for so many units, as shapes and dtypes."""

    functions: _Functions
    units: int
    params: Any
    state: Any
    u: Any
    v: Any
    kept: Any

    @classmethod
    def of(cls, cell: Cell, functions: _Functions, dtype: Any, units: int) -> "_Shapes":
        def made() -> Any:
            # Steps with a bias are also those without one: they get zeros.
            params = with_zeros(cell.init(jax.random.key(0), 2, units, dtype=dtype))
            u = cell.project(params, jnp.zeros(2, dtype))
            return params, cell.initial_state(params, ()), u

        params, state, u = jax.eval_shape(made)
        v = None
        if "Wh" in params._fields:
            v = jax.ShapeDtypeStruct(params.Wh.shape[1:], dtype)
        _, kept = jax.eval_shape(functions.equations, params, state, u, v)
        return cls(functions, units, params, state, u, v, kept)

    @property
    def own(self) -> dict[str, Any]:
        return {k: a for k, a in self.params._asdict().items() if k not in WEIGHTS}

    def inputs(self, **groups: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """The parameters and the old state, which all functions get, and others."""
        weights = {k: a for k, a in self.params._asdict().items() if k in WEIGHTS}
        shared = {"weights": weights, "own": self.own, "old": self.state._asdict()}
        return shared | groups

    def forward(self) -> _Call:
        def equations(weights: Any, own: Any, old: Any, u: Any, v: Any) -> Any:
            [u], v = u, v[0] if v else None
            params, state = self._params(weights, own), type(self.state)(*old)
            new, kept = self.functions.equations(params, state, u, v)
            return list(new), jax.tree.leaves(kept)

        v = {} if self.v is None else {"v": self.v}
        inputs = self.inputs(u={"u": self.u}, v=v)
        return _Call(equations, self.units, inputs, ("new", "kept"))

    def backward(self) -> _Call:
        leaves, tree = jax.tree.flatten_with_path(self.kept)

        def backward(
            weights: Any, own: Any, old: Any, new: Any, kept: Any, dnew: Any
        ) -> Any:
            params, state = self._params(weights, own), type(self.state)
            kept = jax.tree.unflatten(tree, kept)
            found = self.functions.backward(
                params, state(*old), state(*new), kept, state(*dnew)
            )
            return _gradients(found, self.v is not None, self.state[0])

        state = self.state._asdict()
        kept = {jax.tree_util.keystr(path, simple=True): a for path, a in leaves}
        inputs = self.inputs(new=state, kept=kept, dnew=state)
        return _Call(backward, self.units, inputs, ("dold", "du", "dv"))

    def own_gradients(self) -> _Call:
        reverse = self.backward()
        tree = jax.tree.structure(self.kept)

        def gradients(
            weights: Any, own: Any, old: Any, new: Any, kept: Any, dnew: Any
        ) -> Any:
            params, state = self._params(weights, own), type(self.state)
            kept = jax.tree.unflatten(tree, kept)
            before, after = state(*old), state(*new)
            _, du, *rest = self.functions.backward(
                params, before, after, kept, state(*dnew)
            )
            dv = rest[0] if rest else du if self.v is not None else None
            given = (params, before, after, kept, du, dv)
            found = self.functions.elementwise(*given)
            return ([found[field] for field in self.own],)

        return _Call(gradients, self.units, reverse.inputs, ("down",))

    def _params(self, weights: Sequence[Any], own: Sequence[Any]) -> Any:
        """The parameters, from those that `inputs` parts them into."""
        fields = self.inputs()
        names = (*fields["weights"], *fields["own"])
        return self.params._replace(**dict(zip(names, (*weights, *own), strict=True)))


def _gradients(found: Any, recurrent: bool, output: Any) -> tuple[Any, Any, Any]:
    """(dold, du, dv) of what a gated cell's backward returns, each a list of arrays."""
    dold, du, *rest = found
    dv = rest[0] if rest else None
    dv = du if dv is None and recurrent else dv
    first, *rest = dold
    first = jnp.zeros(output.shape, output.dtype) if first is None else first
    return [first, *rest], [du], [] if dv is None else [dv]


# --- from a jaxpr to values -----------------------------------------------------------

MOVES: dict[str, Callable[..., Any]] = {
    "copy": lambda a: a,
    "copy_p": lambda a: a,
    "stop_gradient": lambda a: a,
    "optimization_barrier": lambda *a: a,
    "reshape": lambda a, *, new_sizes: a.reshape(new_sizes),
    "squeeze": lambda a, *, dimensions: a.squeeze(tuple(dimensions)),
    "expand_dims": lambda a, *, dimensions: np.expand_dims(a, tuple(dimensions)),
    "transpose": lambda a, *, permutation: a.transpose(permutation),
    "rev": lambda a, *, dimensions: np.flip(a, dimensions),
    "concatenate": lambda *a, dimension: np.concatenate(a, dimension),
    "split": lambda a, *, sizes, axis: np.split(a, np.cumsum(sizes)[:-1], axis),
    "slice": lambda a, *, start_indices, limit_indices, strides: a[
        tuple(map(slice, start_indices, limit_indices, strides or (1,) * a.ndim))
    ],
    "broadcast_in_dim": lambda a, *, shape, broadcast_dimensions: np.broadcast_to(
        np.expand_dims(a, tuple({*range(len(shape))} - {*broadcast_dimensions})), shape
    ),
}
"""Primitives that only move elements around, done with the numbers of the values."""


class _Values:
    """Values by number; what is computed twice has one number."""

    def __init__(self, dtype: np.dtype) -> None:
        self.dtype = dtype
        self.all: list[Value] = []
        self.names: dict[int, list[str]] = {}
        self._numbers: dict[Any, int] = {}

    def add(self, value: Value) -> int:
        key = value
        if value.operation == "constant":  # -0.0 is not 0.0, and nan is nan
            key = ("constant", repr(value.attributes[0]))
        if key not in self._numbers:
            self._numbers[key] = len(self.all)
            self.all.append(value)
        return self._numbers[key]

    def constants(self, array: Any, aval: Any = None) -> np.ndarray:
        del aval
        array = np.asarray(array)
        added = [
            self.add(Value("constant", (), (x,), array.dtype.kind == "b"))
            for x in array.ravel().tolist()
        ]
        return np.array(added, int).reshape(array.shape)

    def inputs(self, group: str, places: Sequence[int]) -> list[int]:
        return [self.add(Value("input", (), (group, p), False)) for p in places]

    def outputs(self, equation: Any, operands: list[np.ndarray]) -> Sequence[Any]:
        """The numbers of an equation's outputs, from those of its operands."""
        name, params = equation.primitive.name, equation.params
        if name == "name":
            for number in operands[0].flat:
                self._call(int(number), params["name"])
            return operands
        if name in MOVES:
            move = MOVES[name]
            reads = inspect.signature(move).parameters
            chosen = {k: value for k, value in params.items() if k in reads}
            moved = move(*operands, **chosen)
            return moved if equation.primitive.multiple_results else [moved]
        [out] = equation.outvars
        shape = np.broadcast_shapes(*(o.shape for o in operands))
        if shape != out.aval.shape:
            raise NotUnitByUnit(_mixing(name))
        each = zip(*(np.broadcast_to(o, shape).flat for o in operands), strict=True)
        numbers = [self._operation(equation, tuple(map(int, of))) for of in each]
        return [np.array(numbers, int).reshape(shape)]

    def _operation(self, equation: Any, operands: tuple[int, ...]) -> int:
        """The number of what an elementwise primitive makes of one number each."""
        name, dtype = equation.primitive.name, equation.outvars[0].aval.dtype
        values = [self.all[k] for k in operands]
        if values and all(value.operation == "constant" for value in values):
            return self._folded(equation, values)
        if name not in EXPRESSIONS:
            raise NotUnitByUnit(
                f"there is no row for the primitive {name!r}; add one with "
                f"lstm_jax.engine.compiled.expression({name!r}, ...)"
            )
        boolean = dtype.kind == "b"
        if not boolean and dtype != self.dtype:
            raise NotUnitByUnit(f"{name!r} computes in {dtype}, not {self.dtype}")
        if name == "convert_element_type" and not values[0].boolean:
            if not boolean:
                return operands[0]
            zero = self.add(Value("constant", (), (0.0,), False))
            return self.add(Value("ne", (*operands, zero), (), True))
        attributes = tuple((key, equation.params[key]) for key in parameters(name))
        return self.add(Value(name, operands, attributes, boolean))

    def _folded(self, equation: Any, values: list[Value]) -> int:
        """A constant that is computed from others."""
        with jax.ensure_compile_time_eval():
            found = equation.primitive.bind(
                *(
                    jnp.asarray(value.attributes[0], var.aval.dtype)
                    for value, var in zip(values, equation.invars, strict=True)
                ),
                **equation.params,
            )
        return int(self.constants(found))

    def _call(self, number: int, name: str) -> None:
        names = self.names.setdefault(number, [])
        if name not in names:
            names.append(name)


def _mixing(name: str) -> str:
    return f"the primitive {name!r} is not elementwise: it mixes units or changes sizes"


def _program(call: _Call, several: _Call, dtype: np.dtype) -> Program:
    """The one unit's program, once several turn out to be as many of the same.

    Raises:
        NotUnitByUnit: they don't.
    """
    values = _Values(dtype)
    found = _run(values, call, 0)
    names = {number: tuple(said) for number, said in values.names.items()}
    for unit in range(several.units):
        again = _run(values, several, unit)
        for group in call.outputs:
            if again[group] != found[group]:
                raise NotUnitByUnit(_difference(values, group, again[group]))
    needed = _needed(values, [n for group in found.values() for n in group])
    for number in needed:
        value = values.all[number]
        if value.operation == "input" and value.attributes[0] not in call.inputs:
            raise NotUnitByUnit(f"it reads {value.attributes[0]}, a whole array")
    return Program(
        values={number: values.all[number] for number in needed},
        inputs={
            group: _names(members, call.units)
            for group, members in call.inputs.items()
            if group != "weights"
        },
        outputs=found,
        names={number: names[number] for number in needed if number in names},
        dtype=dtype,
    )


def _names(members: dict[str, Any], units: int) -> tuple[str, ...]:
    names = []
    for name, a in members.items():
        blocks = a.size // units
        names.extend([name] if blocks == 1 else [f"{name}_{k}" for k in range(blocks)])
    return tuple(names)


def _run(values: _Values, call: _Call, unit: int) -> dict[str, tuple[int, ...]]:
    """The outputs of one of several units, where the others' numbers are foreign."""
    arguments = []
    for group, members in call.inputs.items():
        places = 0
        for name, a in members.items():
            if group == "weights":
                [number] = values.inputs(f"params.{name}", [0])
                arguments.append(np.full(a.shape, number))
                continue
            blocks = _blocks(group, a, call.units)
            taken = range(places, places + blocks)
            foreign = values.inputs(f"another unit's {name}", taken)
            numbers = np.repeat(np.array(foreign, int)[:, None], call.units, axis=1)
            numbers[:, unit] = values.inputs(group, taken)
            arguments.append(numbers.ravel())
            places += blocks
    shapes = [list(members.values()) for members in call.inputs.values()]
    closed, tree = jax.make_jaxpr(call.function, return_shape=True)(*shapes)
    outputs = iter(
        evaluate(
            *(closed, arguments, values.outputs),
            calls=ALL_CALLS,
            constant=values.constants,
        )
    )
    found = {}
    for group, members in zip(call.outputs, tree, strict=True):
        numbers = [next(outputs) for _ in members]
        each = [a.reshape(_blocks(group, a, call.units), -1)[:, unit] for a in numbers]
        found[group] = tuple(int(number) for a in each for number in a)
    return found


def _blocks(group: str, a: Any, units: int) -> int:
    """How many numbers of an array are one unit's."""
    if a.ndim != 1 or a.size % units:
        raise NotUnitByUnit(
            f"with {units} units an array of {group} has the shape {a.shape}, which is "
            "not so many numbers a unit"
        )
    return a.size // units


def _needed(values: _Values, outputs: Sequence[int]) -> list[int]:
    """The numbers of all that the outputs are computed from, in order."""
    needed, open_ = set(), list(outputs)
    while open_:
        number = open_.pop()
        if number not in needed:
            needed.add(number)
            open_.extend(values.all[number].operands)
    return sorted(needed)


def _difference(values: _Values, group: str, outputs: tuple[int, ...]) -> str:
    for number in _needed(values, outputs):
        value = values.all[number]
        if value.operation == "input" and "another unit" in value.attributes[0]:
            return f"the equations mix units: {group} depends on {value.attributes[0]}"
    return f"{group} is not the same function in all units, or of any number of units"
