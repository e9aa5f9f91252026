"""From an equation to the line that runs: the way of a cell, shown.

`python -m lstm_jax.engine.compiled --cell lstm` prints it.
"""

import inspect
import re
from collections.abc import Callable

import jax.numpy as jnp
from jax.typing import DTypeLike

from lstm_jax.cell import Cell
from lstm_jax.engine.compiled.unit import Program, trace
from lstm_jax.engine.compiled.writing import write
from lstm_jax.gated import GatedBackward, GatedStep

_COMMENT = re.compile(r"  (?:#|//) (.*\(\d+\).*)$")
_NUMBER = re.compile(r"\((\d+)\)")
_NAMED = re.compile(r'named\(.*"[^"]+", (\d+)\)')


def explain(cell: Cell, dtype: DTypeLike) -> str:
    """For each equation of a cell its lines of Python, and of what is written of them.

    Args:
        cell: a gated cell.
        dtype: that of its arrays.

    Returns:
        The text, in which a function's lines are grouped by the equations' numbers; at
        the end the functions as they are compiled, in C++ and in CUDA.

    Raises:
        NotUnitByUnit: there is no such way; the message says why.
    """
    unit = trace(cell, jnp.dtype(dtype))
    assert isinstance(cell.step, GatedStep)
    parts = [_beside(f"{cell.name}, forward", cell.step.equations, unit.forward)]
    texts = [write(unit.forward, "Step")]
    if unit.backward is not None:
        assert isinstance(cell.backward, GatedBackward)
        back = cell.backward.backward
        parts.append(_beside(f"{cell.name}, its reverse", back, unit.backward))
        texts.append(write(unit.backward, "Reverse"))
    if unit.own_gradients is not None:
        texts.append(write(unit.own_gradients, "OwnGradients"))
    return "\n".join((*parts, "What is compiled\n", "\n".join(texts)))


def _beside(title: str, function: Callable[..., object], program: Program) -> str:
    """The numbered lines of a function, each with what is written of it."""
    python = _numbered(inspect.getsource(function))
    written = _numbered(write(program, "written"))
    lines = [title, ""]
    for number, equations in python.items():
        if number in written:
            first, *more = equations
            label = f"({number})"
            lines.append(f"{label:5}{first}")
            lines.extend(f"     {line}" for line in more)
            lines.extend(f"         {line}" for line in written[number])
    return "\n".join((*lines, ""))


def _numbered(text: str) -> dict[int, list[str]]:
    """The lines of a text by the number of the equation that they say they are.

    Those that compute something "again" are left out, as they name nothing, and so are
    those that are a comment alone.
    """
    found: dict[int, list[str]] = {}
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            continue
        said = _COMMENT.search(line)
        number = _NUMBER.search(said[1]) if said else _NAMED.search(line)
        if number and not (said and " again" in said[1]):
            found.setdefault(int(number[1]), []).append(_COMMENT.sub("", line).strip())
    return found
