"""A function as a flat list of operations: evaluated, nudged, asked what feeds what.

`jax.make_jaxpr` writes a function down as equations, some of which call others. Here
the calls are opened, so that every named quantity (`lstm_jax.named`) is one value in
one list, and questions about it are questions about that list.
"""

import traceback
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array, tree
from jax.extend.core import JaxprEqn, Primitive, jaxprs_in_params

from lstm_jax import jaxprs
from lstm_jax.cell import Name
from lstm_jax.jaxprs import as_array, computed

_JAX = Path(jax.__file__).resolve().parent
_LIBRARY = Path(__file__).resolve().parent.parent
HELPERS = {_LIBRARY / f"{name}.py" for name in ("cell", "gated", "identities")}
"""Files of what cells share: a line of theirs is told only if there is no other."""
_TOOLS = _LIBRARY / "gradcheck", _LIBRARY / "derivation"


class Node(NamedTuple):
    """One operation. Values are numbered in the order in which they arise.

    Attributes:
        equation: its jaxpr equation.
        inputs: the numbers of its operands.
        outputs: the numbers of its results.
        within: the calls that it is in, from the outside.
    """

    equation: JaxprEqn
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    within: tuple[JaxprEqn, ...]

    @property
    def line(self) -> str | None:
        """Where in the user's files it is computed: "file.py:12 (function)".

        What JAX's own functions hold was traced when they were first called, maybe
        somewhere else; so of those, the call counts.
        """
        place = self.place
        if place is None:
            return None
        return f"{Path(place.filename).name}:{place.lineno} ({place.name})"

    @property
    def place(self) -> traceback.FrameSummary | None:
        """The same, with the whole path."""
        calls = (call for call in self.within if of_jax(call))
        return _place(next(calls, self.equation))


class Program(NamedTuple):
    """A traced function.

    Attributes:
        inputs: the numbers of the arguments' leaves.
        outputs: the numbers of the outputs' leaves.
        nodes: its operations in order.
        constants: values that are known from the start, by number.
        shapes: the outputs as a tree of shapes and dtypes.
        avals: the type of every value.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    nodes: tuple[Node, ...]
    constants: dict[int, Any]
    shapes: Any
    avals: dict[int, Any]

    def names(self) -> list[tuple[str, int]]:
        """What is named, as (name, value), in program order."""
        return [
            (node.equation.params["name"], node.outputs[0])
            for node in self.nodes
            if node.equation.primitive.name == "name"
        ]

    def maker(self, value: int) -> int | None:
        """The index of the node that computes a value; None for inputs, constants."""
        for index, node in enumerate(self.nodes):
            if value in node.outputs:
                return index
        return None

    def shape(self, value: int) -> tuple[int, ...]:
        """The shape of a value."""
        return self.avals[value].shape

    def sources(self, value: int, stops: Iterable[int]) -> list[int]:
        """The values among `stops` that `value` is computed from directly.

        "Directly" means along a path that meets no other of the stops.
        """
        stops, found, seen, stack = set(stops), set(), set(), [value]
        makers = {out: node for node in self.nodes for out in node.outputs}
        while stack:
            current = stack.pop()
            for source in makers[current].inputs if current in makers else ():
                if source in stops:
                    found.add(source)
                elif source not in seen:
                    seen.add(source)
                    stack.append(source)
        return sorted(found)

    def entered(self, value: int) -> tuple[int, ...]:
        """The numbers of the first equations that a value enters."""
        named = {v: name for name, v in self.names()}
        own = self.maker(value)
        reached, found = {value}, set()
        for index, node in enumerate(self.nodes):
            if index != own and reached & set(node.inputs):
                output = node.outputs[0]
                number = Name.parse(named[output]).equation if output in named else None
                if number is None:
                    reached |= set(node.outputs)
                else:
                    found.add(number)
        return tuple(sorted(found))

    def line(self, value: int) -> str | None:
        """Where in the user's files a value is computed: "file.py:12 (function)"."""
        index = self.maker(value)
        return None if index is None else self.nodes[index].line


def trace(
    fn: Callable[..., Any],
    *args: Any,
    calls: Mapping[str, str] = jaxprs.CALLS,
    whole: Collection[str] = (),
) -> Program:
    """`fn` at arguments like `args` as a program, with its calls opened.

    Args:
        fn: the function.
        *args: its arguments, arrays or their shapes.
        calls: the calls that are opened; see `lstm_jax.jaxprs`.
        whole: names of JAX's own functions whose calls stay one operation each.
    """
    closed, shapes = jaxprs.jaxpr_of(fn, *args)
    nodes: list[Node] = []
    constants: dict[int, Any] = {}
    avals: dict[int, Any] = {}
    count = iter(range(10**9))

    def constant(value: Any, aval: Any) -> int:
        number = next(count)
        constants[number] = as_array(value, aval)
        return number

    within: list[JaxprEqn] = []

    def evaluated(jaxpr: Any, inputs: Sequence[int]) -> list[int]:
        return jaxprs.evaluate(jaxpr, inputs, node, calls={}, constant=constant)

    def node(equation: JaxprEqn, operands: list[int]) -> list[int]:
        inner = jaxprs.called(equation, calls)
        if inner is not None and not (whole and of_jax(equation) in whole):
            within.append(equation)
            outputs = evaluated(inner, operands)
            within.pop()
            return outputs
        outputs = [next(count) for _ in equation.outvars]
        nodes.append(Node(equation, tuple(operands), tuple(outputs), tuple(within)))
        avals.update(zip(outputs, (v.aval for v in equation.outvars), strict=True))
        return outputs

    inputs = tuple(next(count) for _ in closed.in_avals)
    avals.update(zip(inputs, closed.in_avals, strict=True))
    outputs = tuple(evaluated(closed, inputs))
    return Program(inputs, outputs, tuple(nodes), constants, shapes, avals)


def evaluate(
    program: Program,
    args: Any,
    nudges: Mapping[int, Array] | None = None,
    uses: Mapping[tuple[int, int], Array] | None = None,
    node: jaxprs.Node = computed,
) -> dict[int, Any]:
    """All values of the program.

    Args:
        program: see `trace`.
        args: the arguments, a tuple.
        nudges: what to add to a value, for all that use it.
        uses: what to add to a value where one node uses it: (node's index, value).
        node: says what the outputs of an equation are.
    """
    nudges, uses = nudges or {}, uses or {}
    values = dict(program.constants)

    def put(value: int, found: Any) -> None:
        values[value] = found + nudges[value] if value in nudges else found

    for value, leaf in zip(program.inputs, tree.leaves(args), strict=True):
        put(value, leaf)
    for index, (equation, inputs, outputs, _) in enumerate(program.nodes):
        operands = [
            values[v] + uses[index, v] if (index, v) in uses else values[v]
            for v in inputs
        ]
        for value, found in zip(outputs, node(equation, operands), strict=True):
            put(value, found)
    return values


def evaluate_at_points(program: Program, args: Any) -> dict[int, Any]:
    """All values of the program; arguments and values have a leading axis of points.

    It runs operation by operation: JAX keeps each compiled one, so that a program with
    a line changed needs no compilation but of that line.
    """
    points = tree.leaves(args)[0].shape[0]
    constants = {
        number: np.broadcast_to(value, (points, *value.shape))
        for number, value in program.constants.items()
    }
    node = partial(_at_points, points)
    return evaluate(program._replace(constants=constants), args, node=node)


def _at_points(
    points: int, equation: JaxprEqn, operands: Sequence[Any]
) -> Sequence[Any]:
    primitive, params = equation.primitive, equation.params
    if [*jaxprs_in_params(params)]:  # traced anew each time, so none would be found
        return jax.vmap(partial(computed, equation), axis_size=points)(operands)
    with equation.ctx.manager:
        outputs = _batched(points, primitive, tuple(params.items()), operands)
    return outputs if primitive.multiple_results else [outputs]


@partial(jax.jit, static_argnums=(0, 1, 2))
def _batched(
    points: int, primitive: Primitive, params: tuple, operands: Sequence[Any]
) -> Any:
    """A primitive at all points: JAX finds the compiled one by these arguments."""
    bind = partial(primitive.bind, **dict(params))
    return jax.vmap(bind, axis_size=points)(*operands)


def of_jax(call: JaxprEqn) -> str | None:
    """The name of the function that is called, if it is one of JAX's own."""
    graph, _ = jaxprs.opened(jaxprs.called(call, jaxprs.ALL_CALLS))
    name, _, file = (graph.debug_info.func_src_info or "").partition(" at ")
    return name if file.startswith(str(_JAX)) else None


def _place(equation: JaxprEqn) -> traceback.FrameSummary | None:
    """The innermost line that is neither JAX's nor one of this library's helpers."""
    kept = equation.source_info.traceback
    if kept is None:
        return None
    fallback = None
    # Not `traceback.extract_tb`, which looks at the file of every frame.
    for frame, line in reversed([*traceback.walk_tb(kept.as_python_traceback())]):
        name = frame.f_code.co_filename
        if _is_passed_over(name):
            continue
        place = traceback.FrameSummary(
            name, line, frame.f_code.co_name, lookup_line=False
        )
        if Path(name) not in HELPERS:
            return place
        fallback = fallback or place
    return fallback


@cache
def _is_passed_over(filename: str) -> bool:
    path = Path(filename)
    generated = filename.startswith("<@beartype(")
    return generated or "site-packages" in path.parts or path.parent in _TOOLS
