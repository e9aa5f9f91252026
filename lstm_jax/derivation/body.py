"""The body of a function of a cell: its lines, and where their names come from."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
from jax import tree

from lstm_jax.derivation.chain import Step
from lstm_jax.derivation.expressions import Expression
from lstm_jax.derivation.forward import Equation, Forward
from lstm_jax.derivation.python import Python
from lstm_jax.derivation.writing import Names


class Body:
    """The lines of one function.

    Quantities are taken out of the function's arguments; those that are not there are
    computed again, by their own equation.

    Args:
        forward: the step.
        steps: the derivation of its gradients, by quantity.
        names: see `Names`.
        arguments: the function's.
        by_unit: whether parameters come as rows, as in the functions of `gated`.
        known: how names are written that are none of these.

    Attributes:
        lines: what `assign` has added, and what the caller adds.
        missing: quantities that can neither be taken nor computed; ``kept.q`` is
            written for them.
    """

    def __init__(
        self,
        forward: Forward,
        steps: Mapping[str, Step],
        names: Names,
        arguments: Sequence[str],
        by_unit: bool,
        known: Mapping[str, str],
    ) -> None:
        self.forward, self.arguments = forward, arguments
        self.lines: list[str] = []
        self.missing: dict[str, None] = {}
        self._found = dict(_found_in(forward, steps, arguments))
        self._known = {**known, **self._parameters(by_unit)}
        self._write = Python(names, self._known)
        self._taken: set[str] = set()
        self._local: set[str] = set()
        self._again: list[str] = []

    def _parameters(self, by_unit: bool) -> dict[str, str]:
        """How parameters are written; those of one axis as rows to be combined."""
        like = "x" if "x" in self.arguments else "dnew[0]"
        shapes = tree.leaves(self.forward.args[0])
        pairs = zip(self.forward.parameters, shapes, strict=True)
        return {
            name: f"across(params.{name}, {like})"
            if a.ndim == 1 and not by_unit
            else f"params.{name}"
            for name, a in pairs
        }

    def use(self, e: Expression) -> str:
        """The text of an expression; its names are defined before it."""
        for name in e.names():
            self._define(name)
        return self._write(e)

    def assign(
        self, name: str, e: Expression, through: Sequence[int] = (), call: str = "{}"
    ) -> None:
        """Adds a line.

        Args:
            name: what is assigned.
            e: what it is.
            through: the equations that are gone through; the last one is told.
            call: what is done with the expression, at ``{}``.
        """
        number = f"  # ({through[0]})" if through else ""
        self.lines.append(f"{name} = {call.format(self.use(e))}{number}")
        self._local.add(name)

    def _define(self, name: str) -> None:
        if name in self._local or name in self._known:
            return
        equation = self.forward.equation(name)
        if name in self._found:
            self._taken.add(name)
        elif equation is not None and self._can_be_had(equation.right):
            self._compute(equation, equation.right)
        elif equation is not None and (parts := self._parts(equation)) is not None:
            self._compute(equation, parts)
        elif equation is not None:
            self.missing[name] = None
            self._found[name] = f"kept.{name}"
            self._taken.add(name)

    def _compute(self, equation: Equation, right: Expression) -> None:
        """Adds a line that computes a quantity again."""
        for inner in right.names():
            self._define(inner)
        number = f"  # ({equation.number}) again" if equation.number else ""
        self._again.append(f"{equation.name} = {self._write(right)}{number}")
        self._local.add(equation.name)

    def _parts(self, equation: Equation) -> Expression | None:
        """A quantity put together again from the parts that have names of their own."""
        whole = equation.letter
        parts = [
            e
            for e in self.forward.equations
            if e.right.op == "block" and e.right.args[0] == whole
        ]
        parts.sort(key=lambda e: e.right.data)
        ends = [0, *(e.right.data[2] for e in parts)]
        if not parts or ends[-1] != whole.shape[-1]:
            return None
        if [e.right.data[1] for e in parts] != ends[:-1]:
            return None
        again = Expression(
            "concat",
            tuple(e.letter for e in parts),
            (parts[0].right.data[0], *ends[1:]),
            whole.shape,
        )
        return again if self._can_be_had(again) else None

    def _can_be_had(self, e: Expression) -> bool:
        """Whether an expression's names can be taken or computed."""
        for name in e.names():
            equation = self.forward.equation(name)
            known = name in self._known or name in self._found or name in self._local
            if not known and (equation is None or not self._can_be_had(equation.right)):
                return False
        return True

    def function(self, name: str) -> str:
        """The function's text."""
        lines = [*self._unpacked(), *self._again, *self.lines]
        body = "\n".join(f"    {line}" if line else "" for line in lines)
        return f"@numbered\ndef {name}({', '.join(self.arguments)}):\n{body}"

    def _unpacked(self) -> Iterator[str]:
        """Assignments that take quantities out of the arguments, one for each."""
        groups: dict[str, dict[str, str]] = {}
        for name, place in self._found.items():
            argument, _, _ = re.split(r"([.\[]|$)", place, maxsplit=1)
            groups.setdefault(argument, {})[name] = place
        for argument, places in groups.items():
            used = {
                name: place
                for name, place in places.items()
                if name in self._taken and name != place
            }
            whole = len(places) == self._fields(argument) and all(
                place in (f"{argument}[{k}]", f"{argument}.{place.rpartition('.')[2]}")
                for k, place in enumerate(places.values())
            )
            if len(used) > 1 and whole:
                left = ", ".join(name if name in used else "_" for name in places)
                yield f"{left} = {argument}"
            elif used:
                yield f"{', '.join(used)} = {', '.join(used.values())}"

    def _fields(self, argument: str) -> int:
        """How many fields an argument has."""
        kept = argument == "kept"
        return len(_leaves(self.forward.kept)) if kept else len(self.forward.state)


def _found_in(
    forward: Forward, steps: Mapping[str, Step], arguments: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """Quantities, and where they are found in a function's arguments."""
    for path, e in _leaves(forward.kept):
        if e.op == "name":
            yield e.data[0], "kept" + jax.tree_util.keystr(path)
    for field, quantity in forward.state.items():
        if "dnew" in arguments:
            arriving = steps[quantity].uses[0].gradient
            yield arriving.data[0], f"dnew.{field}"
    yield from ((q, f"new_state.{field}") for field, q in forward.state.items())
    yield from ((f"{field}_prev", f"state.{field}") for field in forward.state)
    if "x" in arguments:
        yield "x", "x"


def _leaves(kept: Any) -> list[tuple[Any, Expression]]:
    return tree.leaves_with_path(kept, is_leaf=lambda e: isinstance(e, Expression))
