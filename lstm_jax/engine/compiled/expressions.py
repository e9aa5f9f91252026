"""The table of expressions: how each primitive operation is written in C++ and CUDA.

A row is the operation's text, with its operands at ``{a}``, ``{b}``, ``{c}`` and the
primitive's own parameters by name. The same text serves both languages: `Real` is a
vector of numbers in C++ and one number in CUDA, `Mask` the truth values beside it, and
the functions that rows call stand in `numbers.h` for C++ and in the header of the CUDA
kernels. Operations that only move elements around have no row: of one hidden unit they
leave nothing to compute.

A primitive that is missing is added with `expression`::

    lstm_jax.engine.compiled.expression("erf_inv", "ErfInv({a})")

with a function of that name in both headers; or in terms of those that are there, where
``Real(1)`` is the number 1::

    expression("one_minus_square", "Real(1) - Square({a})")
"""

import re
from string import Formatter
from typing import Any

EXPRESSIONS: dict[str, str] = {
    # arithmetic
    "add": "{a} + {b}",
    "add_any": "{a} + {b}",
    "sub": "{a} - {b}",
    "mul": "{a} * {b}",
    "div": "{a} / {b}",
    "neg": "-{a}",
    "abs": "Abs({a})",
    "sign": "Sign({a})",
    "max": "Max({a}, {b})",
    "min": "Min({a}, {b})",
    "clamp": "Max({a}, Min({b}, {c}))",
    "floor": "Floor({a})",
    "ceil": "Ceil({a})",
    # powers
    "square": "Square({a})",
    "integer_pow": "Power<{y}>({a})",
    "pow": "Pow({a}, {b})",
    "sqrt": "Sqrt({a})",
    "rsqrt": "Rsqrt({a})",
    "cbrt": "Cbrt({a})",
    # exponentials
    "exp": "Exp({a})",
    "exp2": "Exp2({a})",
    "expm1": "Expm1({a})",
    "log": "Log({a})",
    "log1p": "Log1p({a})",
    "logistic": "Sigmoid({a})",
    "tanh": "Tanh({a})",
    "sinh": "Sinh({a})",
    "cosh": "Cosh({a})",
    "erf": "Erf({a})",
    "erfc": "Erfc({a})",
    # angles
    "sin": "Sin({a})",
    "cos": "Cos({a})",
    "tan": "Tan({a})",
    "atan": "Atan({a})",
    "atan2": "Atan2({a}, {b})",
    # comparisons, and what follows from them
    "eq": "{a} == {b}",
    "ne": "{a} != {b}",
    "lt": "{a} < {b}",
    "le": "{a} <= {b}",
    "gt": "{a} > {b}",
    "ge": "{a} >= {b}",
    "is_finite": "IsFinite({a})",
    "and": "{a} & {b}",
    "or": "{a} | {b}",
    "xor": "{a} ^ {b}",
    "not": "!{a}",
    "select_n": "Where({a}, {c}, {b})",
    "convert_element_type": "Number({a})",  # of a truth value: 0 or 1
}
"""Primitive name to row."""


def expression(primitive: str, text: str) -> None:
    """Adds a row to `EXPRESSIONS`, or puts it in an older row's place.

    Args:
        primitive: the name that the jaxpr prints.
        text: see the module's text.
    """
    EXPRESSIONS[primitive] = text


def parameters(primitive: str) -> tuple[str, ...]:
    """The primitive's own parameters that its row reads."""
    fields = {field for _, field, _, _ in Formatter().parse(EXPRESSIONS[primitive])}
    return tuple(sorted(f for f in fields if f and f not in "abc"))


ATOM = 9
"""How tightly a name or a call binds; an operator binds as `BINDING` says."""

BINDING = {
    **dict.fromkeys("|^&", 1),
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">="), 2),
    **dict.fromkeys("+-", 3),
    **dict.fromkeys("*/", 4),
}
_UNARY = 5
_INFIX = re.compile(r"\{a\} (\S+) \{b\}")
_CALL = re.compile(r"[\w<>{}]+\(\{a\}(, \{[bc]\})*\)")


def written(
    primitive: str, operands: list[tuple[str, int]], attributes: dict[str, Any]
) -> tuple[str, int]:
    """An operation's text, and how tightly it binds.

    Args:
        primitive: the name of a row.
        operands: each operand's text, and how tightly that binds.
        attributes: the parameters that the row reads.
    """
    row = EXPRESSIONS[primitive]
    if infix := _INFIX.fullmatch(row):
        binds = BINDING[infix[1]]
        # a - (b - c) keeps its brackets, and so does what is joined by & or |.
        needs = (_UNARY, _UNARY) if binds == 1 else (binds, binds + 1)
    elif row in ("-{a}", "!{a}"):
        binds, needs = _UNARY, (ATOM,)
    elif _CALL.fullmatch(row):
        binds, needs = ATOM, (0,) * len(operands)
    else:
        row, binds, needs = f"({row})", ATOM, (ATOM,) * len(operands)
    texts = (
        text if strength >= need else f"({text})"
        for (text, strength), need in zip(operands, needs, strict=True)
    )
    return row.format(**dict(zip("abc", texts, strict=False)), **attributes), binds
