"""A unit's program as the text of a function, in C++ and CUDA alike.

Every line keeps what the cell calls it: ``c = named(i * g + f * c_prev, "c", 5)`` is
written as ``const Real c = i * g + f * c_prev;  // (5)``. What has no name is written
where it is used, or in a line of its own if that is in several places.
"""

import re
from collections import Counter

import numpy as np

from lstm_jax.cell import Name
from lstm_jax.engine.compiled.expressions import ATOM, written
from lstm_jax.engine.compiled.unit import Program, Value

_WORDS = """
alignas alignof and asm auto bool break case catch char class const constexpr continue
default delete do double else enum explicit export extern false float for friend goto if
inline int long mutable namespace new not operator or private protected public register
return short signed sizeof static struct switch template this throw true try typedef
typeid typename union unsigned using virtual void volatile while xor kInfinity kNaN
"""
_TAKEN = frozenset(_WORDS.split())
# How a group's numbers are called where nothing else calls them so.
_INPUTS = {
    "old": "{}_prev",
    "new": "{}_new",
    "dnew": "dnew_{}",
    "own": "{}",
    "kept": "{}",
}


def write(program: Program, function: str) -> str:
    """A program as a function of arrays of numbers, one array for each group.

    The text needs the macro `FUNCTION` for what stands before `void`, the types `Real`
    and `Mask`, the constants `kInfinity` and `kNaN`, and the functions that
    `EXPRESSIONS` calls.

    Args:
        program: of a unit.
        function: what to call it.

    Returns:
        ``FUNCTION void name(const Real* own, ..., Real* new_, Real* kept) {...}``, with
        `Program.inputs` and then `Program.outputs` as its arguments; `new` is a word of
        the language, and called `new_`.
    """
    lines = _Lines(program)
    body = lines.written()
    arguments = [f"const Real* {_word(group)}" for group in program.inputs]
    arguments += [f"Real* {_word(group)}" for group in program.outputs]
    indent = " " * len(f"FUNCTION void {function}(")
    joined = f",\n{indent}".join(
        ", ".join(arguments[k : k + 3]) for k in range(0, len(arguments), 3)
    )
    return "\n".join((f"FUNCTION void {function}({joined}) {{", *body, "}", ""))


class _Lines:
    """The lines of a program, and how each value is referred to in them."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.uses = Counter(
            n for value in program.values.values() for n in value.operands
        ) + Counter(n for group in program.outputs.values() for n in group)
        self.used = {*_TAKEN, *map(_word, (*program.inputs, *program.outputs))}
        self.texts: dict[int, tuple[str, int]] = {}  # and how tightly it binds

    def written(self) -> list[str]:
        lines = []
        for number, value in self.program.values.items():
            said = self.program.names.get(number, ())
            text = self._expression(value)
            named = said or (value.operation == "input" and self._input(value))
            if value.operation == "constant":
                self.texts[number] = text
            elif named or (value.operation != "input" and self.uses[number] > 1):
                name = self._fresh(value, said)
                kind = "Mask" if value.boolean else "Real"
                comment = _comment(name, said)
                lines.append(f"  const {kind} {name} = {text[0]};{comment}")
                self.texts[number] = (name, ATOM)
            else:
                self.texts[number] = text
        for group, numbers in self.program.outputs.items():
            lines.extend(
                f"  {_word(group)}[{place}] = {self.texts[number][0]};"
                for place, number in enumerate(numbers)
            )
        return lines

    def _expression(self, value: Value) -> tuple[str, int]:
        if value.operation == "input":
            group, place = value.attributes
            return f"{_word(group)}[{place}]", ATOM
        if value.operation == "constant":
            return _constant(value, self.program.dtype), ATOM
        operands = [self.texts[number] for number in value.operands]
        return written(value.operation, operands, dict(value.attributes))

    def _input(self, value: Value) -> str:
        """What an input is called if the cell does not name it; u and v are not."""
        group, place = value.attributes
        if group not in _INPUTS:
            return ""
        return _INPUTS[group].format(self.program.inputs[group][place])

    def _fresh(self, value: Value, said: tuple[str, ...]) -> str:
        wanted = "t"
        if value.operation == "input":
            wanted = self._input(value) or wanted
        if said:
            wanted = Name.parse(said[0]).quantity
        wanted = _word(wanted)
        if wanted == "t" or wanted in self.used:
            count = 1
            while (name := f"{wanted}{count}") in self.used:
                count += 1
            wanted = name
        self.used.add(wanted)
        return wanted


def _word(name: str) -> str:
    """A name that both languages take, and no macro has: none is in capitals alone."""
    name = re.sub(r"\W", "_", name, flags=re.ASCII)
    if name[0].isdigit():  # the place in a tuple of what is kept, for instance
        return f"n{name}"
    return f"{name}_" if name in _TAKEN or name == name.upper() else name


def _comment(name: str, said: tuple[str, ...]) -> str:
    """The equations' numbers, and what else the value is called."""
    each = (
        str(n)[len(name) :].lstrip() if n.quantity == name else str(n)
        for n in map(Name.parse, said)
    )
    return f"  // {', '.join(each)}" if said else ""


def _constant(value: Value, dtype: np.dtype) -> str:
    [number] = value.attributes
    if value.boolean:
        return "Mask(true)" if number else "Mask(false)"
    number = dtype.type(number)
    if np.isnan(number):
        return "kNaN"
    if np.isinf(number):
        return "kInfinity" if number > 0 else "(-kInfinity)"
    text = str(number)
    if not set(text) & set(".e"):
        text += ".0"
    text += "f" if dtype == np.float32 else ""
    return f"({text})" if text.startswith("-") else text
