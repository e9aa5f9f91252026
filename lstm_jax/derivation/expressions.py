"""Expressions: what stands on the right of an equation, put into one form.

An expression is a name, a number, or an operation on other expressions. Those that are
made here (`add`, `mul`, `power`, `call` and so on) are simplified on the way, by what
one does on paper without thinking: 1 * x is x, like terms are added up, a factor that
all terms share is put before the bracket. Two that differ only in the order of their
terms or factors are equal.

Operations are elementwise if not stated otherwise. As in NumPy, what has size 1 along
an axis is combined with every element of the other.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

Shape = tuple[int, ...]
Number = int | float


@dataclass(frozen=True, eq=False, repr=False)
class Expression:
    """A name, a number, or an operation.

    Attributes:
        op: "name", "number", "add", "mul", "power", "dot", "sum", "concat", "block",
            "place", "reshape", "transpose", "broadcast", "where" (a condition as 1 or
            0), or the name of a row of `lstm_jax.derivation.operations.OPERATIONS`.
        args: the operands.
        data: what else says which operation it is.
        shape: of the arrays that it stands for.
    """

    op: str
    args: tuple["Expression", ...] = ()
    data: tuple[Any, ...] = ()
    shape: Shape = ()

    @cached_property
    def key(self) -> Any:
        """What equal expressions have in common."""
        keys = [a.key for a in self.args]
        if self.op in ("add", "mul"):
            keys.sort(key=repr)
        return self.op, self.data, tuple(keys)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expression) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        inner = ", ".join(map(repr, (*self.data, *self.args)))
        return f"{self.op}({inner})"

    @property
    def value(self) -> Number:
        """A number's value."""
        return self.data[0]

    def names(self) -> dict[str, None]:
        """The names in it, in the order of appearance."""
        if self.op == "name":
            return {self.data[0]: None}
        return {name: None for a in self.args for name in a.names()}


def name(text: str, shape: Shape) -> Expression:
    """A quantity."""
    return Expression("name", data=(text,), shape=shape)


def number(value: Number) -> Expression:
    """A number, whatever the shape of what it is combined with."""
    value = float(value)
    return Expression("number", data=(int(value) if value.is_integer() else value,))


ZERO, ONE = number(0), number(1)


def is_number(e: Expression, value: Number) -> bool:
    """Whether an expression is this number."""
    return e.op == "number" and e.value == value


# --- sums and products ----------------------------------------------------------------


def add(*terms: Expression) -> Expression:
    """The sum, like terms added up, and what all share before the bracket."""
    flat = [t for term in terms for t in (term.args if term.op == "add" else (term,))]
    shape = broadcast_shape(flat)
    for together in (_blocks_together, _sums_together):
        whole = together(flat)
        if whole is not None:
            return whole
    counts: dict[Expression, Number] = {}
    for term in map(stripped, flat):
        count, rest = _coefficient(term)
        counts[rest] = counts.get(rest, 0) + count
    counts = _exponentials({rest: n for rest, n in counts.items() if n})
    parts = [_scaled(n, rest) for rest, n in counts.items()]
    if not parts:
        return spread(ZERO, shape)
    if len(parts) == 1:
        return spread(parts[0], shape)
    shared = _shared(parts)
    if shared:
        rests = [_without(part, shared) for part in parts]
        return spread(mul(*shared, add(*rests)), shape)
    parts.sort(key=_is_negative)  # the first term has no sign, if there is such a one
    return spread(Expression("add", tuple(parts), shape=broadcast_shape(parts)), shape)


def mul(*factors: Expression) -> Expression:
    """The product, powers of the same base put together."""
    flat = [f for given in factors for f in _factors(given)]
    shape = broadcast_shape(factors)
    count: Number = 1
    powers: dict[Expression, Any] = {}
    for factor in map(stripped, flat):
        if factor.op == "number":
            count *= factor.value
        elif factor.op == "where":
            powers[factor] = 1
        else:
            base, exponent = factor.args if factor.op == "power" else (factor, ONE)
            powers[base] = add(powers.get(base, ZERO), exponent)
    if count == 0:
        return spread(ZERO, shape)
    parts = [b if p == 1 else power(b, p) for b, p in powers.items()]
    parts = _where_it_holds([p for p in parts if not is_number(p, 1)])
    if not parts:
        return spread(number(count), shape)
    if count == -1 and len(parts) == 1 and parts[0].op == "add":
        return spread(add(*map(negative, parts[0].args)), shape)
    if count != 1:
        parts = [number(count), *parts]
    if len(parts) == 1:
        return spread(parts[0], shape)
    side_by_side = _part_by_part(parts, shape)
    if side_by_side is not None:
        return side_by_side
    made = Expression("mul", tuple(parts), shape=broadcast_shape(parts))
    return spread(made, shape)


def _part_by_part(factors: Sequence[Expression], shape: Shape) -> Expression | None:
    """A product with a concatenation as the concatenation of products.

    None if there is no such factor, or if another one has no parts but by being cut.
    """
    found = [f for f in factors if f.op == "concat"]
    if len(found) != 1 or found[0].shape != shape:
        return None
    [whole], (axis, *ends) = found, found[0].data
    back, parts, start = len(shape) - axis, [], 0
    for part, end in zip(whole.args, ends, strict=True):
        others = []
        for factor in factors:
            alone = len(factor.shape) < back or factor.shape[-back] == 1
            if factor is not whole and alone and factor.op != "number":
                return None
            if factor is not whole:
                at = len(factor.shape) - back
                others.append(factor if alone else block(factor, at, start, end))
        if any(other.op == "block" for other in others):
            return None
        parts.append(mul(part, *others))
        start = end
    return concat(parts, axis, shape)


def power(base: Expression, exponent: Expression | Number) -> Expression:
    """The base to the power of the exponent."""
    exponent = exponent if isinstance(exponent, Expression) else number(exponent)
    if is_number(exponent, 0):
        return ONE
    if is_number(exponent, 1):
        return base
    whole = exponent.op == "number" and float(exponent.value).is_integer()
    if base.op == "number" and exponent.op == "number" and base.value > 0:
        return number(base.value**exponent.value)
    if base.op == "number" and whole and base.value:
        return number(base.value**exponent.value)
    if whole and base.op == "broadcast":
        return spread(power(base.args[0], exponent), base.shape)
    if whole and base.op == "mul":
        return mul(*(power(factor, exponent) for factor in base.args))
    if whole and base.op == "where" and exponent.value > 0:
        return base
    if base.op == "power" and (whole or _is_half_integer(base, exponent)):
        return power(base.args[0], mul(base.args[1], exponent))
    shape = broadcast_shape([base, exponent])
    return Expression("power", (base, exponent), shape=shape)


def difference(op: str, a: Expression) -> Expression:
    """op(a) - 1, which `add` would turn back where it has a name of its own."""
    return Expression("add", (call(op, a), number(-1)), shape=a.shape)


def negative(e: Expression) -> Expression:
    """-e."""
    return mul(number(-1), e)


def _is_half_integer(base: Expression, exponent: Expression) -> bool:
    """Whether (aᵇ)ᶜ is a root of a, to some power: there is no sign to be lost."""
    inner = base.args[1]
    return inner.op == exponent.op == "number" and not float(inner.value).is_integer()


def _factors(e: Expression) -> tuple[Expression, ...]:
    if e.op == "broadcast":
        return tuple(_factors(e.args[0]))
    return e.args if e.op == "mul" else (e,)


def _coefficient(term: Expression) -> tuple[Number, Expression]:
    """A term as a number times the rest."""
    if term.op == "number":
        return term.value, ONE
    if term.op == "mul" and term.args[0].op == "number":
        return term.args[0].value, mul(*term.args[1:])
    return 1, term


def _scaled(count: Number, rest: Expression) -> Expression:
    if is_number(rest, 1):
        return number(count)
    return rest if count == 1 else mul(number(count), rest)


def _is_negative(term: Expression) -> bool:
    return _coefficient(term)[0] < 0


def _shared(parts: Sequence[Expression]) -> list[Expression]:
    """The factors that all terms have; not numbers, which stay where they are."""
    every = [[f for f in _factors(part) if f.op != "number"] for part in parts]
    return [f for f in every[0] if all(f in others for others in every[1:])]


def _without(part: Expression, shared: Sequence[Expression]) -> Expression:
    return mul(*(f for f in _factors(part) if f not in shared))


def _exponentials(counts: dict[Expression, Number]) -> dict[Expression, Number]:
    """A sum's terms, where exp(x) - 1 and 1 make exp(x)."""
    for term, count in list(counts.items()):
        if term.op == "expm1" and counts.get(ONE, 0) == count:
            counts = {t: n for t, n in counts.items() if t not in (term, ONE)}
            counts[call("exp", *term.args)] = count
    return counts


# --- conditions -----------------------------------------------------------------------


def where(condition: Expression) -> Expression:
    """A condition as a number: 1 where it holds, 0 elsewhere.

    That two numbers are equal holds almost nowhere, and is left out: the rule for a
    maximum has a part of its own for that, and some divisions a guard.
    """
    if condition.op == "broadcast":
        return spread(where(condition.args[0]), condition.shape)
    if condition.op in ("eq", "ne"):
        return spread(ONE if condition.op == "ne" else ZERO, condition.shape)
    return Expression("where", (condition,), shape=condition.shape)


def opposite(condition: Expression) -> Expression:
    """The condition that holds where the given one doesn't."""
    a = condition.args
    match condition.op:
        case "broadcast":
            return spread(opposite(a[0]), condition.shape)
        case "not":
            return a[0]
        case "gt":
            return call("gt", a[1], a[0])
        case "eq":
            return call("ne", *a)
        case "ne":
            return call("eq", *a)
    return call("not", condition)


def select(condition: Expression, yes: Expression, no: Expression) -> Expression:
    """`yes` where the condition holds, `no` elsewhere."""
    return add(mul(where(condition), yes), mul(where(opposite(condition)), no))


def _where_it_holds(factors: list[Expression]) -> list[Expression]:
    """The factors of a product, simplified by the conditions among them."""
    for condition in [f for f in factors if f.op == "where"]:
        known = {condition: ONE, where(opposite(condition.args[0])): ZERO}
        others = [f for f in factors if f != condition]
        factors = [condition]
        for other in others:
            factors += _factors(_element_by_element(other, known))
    return factors


def _element_by_element(
    e: Expression, known: dict[Expression, Expression]
) -> Expression:
    """The expression with some parts replaced that belong to the same element."""
    if e in known:
        return known[e]
    if not is_elementwise(e) and e.op != "broadcast":
        return e
    args = [_element_by_element(a, known) for a in e.args]
    same = all(a is b for a, b in zip(args, e.args, strict=True))
    return e if same else rebuilt(e, args)


# --- operations -----------------------------------------------------------------------


def call(
    op: str, *args: Expression, data: tuple = (), shape: Shape | None = None
) -> Expression:
    """An operation of the table; elementwise if no shape is given."""
    if op in ("lt", "le"):  # the larger one first; see `where`
        return call("gt", args[1], args[0])
    if op == "ge":
        op = "gt"
    if shape is not None:
        return Expression(op, args, data, shape)
    inner = tuple(map(stripped, args))
    made = Expression(op, inner, data, broadcast_shape(inner))
    return spread(made, broadcast_shape(args))


def dot(
    a: Expression, b: Expression, axes: tuple[Shape, Shape, Shape], shape: Shape
) -> Expression:
    """A product with sums, as in Einstein's notation.

    The operand whose axes come first in the result stands first: (dzᵀ x)ᵀ is xᵀ dz.

    Args:
        a: the first operand.
        b: the second.
        axes: a number for each axis of a, of b, and of the result.
        shape: of the result.
    """
    for e in (a, b):
        if is_zero(e):
            return spread(ZERO, shape)
    a_axes, b_axes, out = axes
    if a.op == "transpose":
        a_axes = tuple(a_axes[i] for i in np.argsort(a.data))
        return dot(a.args[0], b, (a_axes, b_axes, out), shape)
    if b.op == "transpose":
        b_axes = tuple(b_axes[i] for i in np.argsort(b.data))
        return dot(a, b.args[0], (a_axes, b_axes, out), shape)
    of_one = [axis for axis in out if (axis in a_axes) != (axis in b_axes)]
    if of_one and of_one[0] in b_axes:
        return dot(b, a, (b_axes, a_axes, out), shape)
    renumbered: dict[int, int] = {}
    for axis in (*a_axes, *b_axes):
        renumbered.setdefault(axis, len(renumbered))
    numbers = tuple(tuple(renumbered[k] for k in g) for g in (a_axes, b_axes, out))
    return Expression("dot", (a, b), numbers, shape)


def total(e: Expression, axes: Iterable[int]) -> Expression:
    """The sum over axes, which are kept with size 1."""
    axes = tuple(axis for axis in sorted(axes) if e.shape[axis] != 1)
    shape = tuple(1 if k in axes else n for k, n in enumerate(e.shape))
    count = 1
    if e.op == "broadcast":
        inner = e.args[0]
        rank = len(e.shape) - len(inner.shape)
        single = [k for k in axes if k < rank or inner.shape[k - rank] == 1]
        count = int(np.prod([e.shape[k] for k in single], dtype=int))
        rest = tuple(k for k in axes if k not in single)
        smaller = tuple(1 if k in single else n for k, n in enumerate(e.shape))
        if single:
            return spread(
                mul(number(count), total(spread(inner, smaller), rest)), shape
            )
    if not axes or is_zero(e):
        return spread(ZERO, shape) if axes else e
    if e.op == "sum":
        return total(e.args[0], (*e.data, *axes))
    outside = [f for f in _factors(e) if _constant_along(f, axes, len(e.shape))]
    if e.op == "mul" and outside:
        inside = mul(*(f for f in e.args if f not in outside))
        return spread(mul(*outside, total(spread(inside, e.shape), axes)), shape)
    return Expression("sum", (e,), axes, shape)


def _constant_along(e: Expression, axes: Iterable[int], rank: int) -> bool:
    missing = rank - len(e.shape)
    return all(k < missing or e.shape[k - missing] == 1 for k in axes)


def concat(parts: Sequence[Expression], axis: int, shape: Shape) -> Expression:
    """The parts side by side."""
    parts = [
        inner
        for part in parts
        for inner in (
            part.args if part.op == "concat" and part.data[0] == axis else (part,)
        )
    ]
    if len(parts) == 1:
        return parts[0]
    first, *others = map(stripped, parts)
    if first.op == "number" and all(other == first for other in others):
        return spread(first, shape)
    ends = tuple(np.cumsum([p.shape[axis] for p in parts]).tolist())
    for factor in _factors(parts[0]):
        if factor.op == "block":
            divided = _divided(parts, factor.args[0], len(shape) - axis, ends)
            if divided is not None:
                rest = spread(concat(divided, axis, shape), shape)
                return mul(rest, factor.args[0])
    return Expression("concat", tuple(parts), (axis, *ends), shape)


def _divided(
    parts: Sequence[Expression], whole: Expression, back: int, ends: Sequence[int]
) -> list[Expression] | None:
    """The parts of a concatenation without their common factor, [a y_1, b y_2] / y.

    None if it is none. The axis is the one that is so many axes from the last.
    """
    axis = len(whole.shape) - back
    if axis < 0 or whole.shape[axis] != ends[-1]:
        return None
    rests = []
    for part, start, end in zip(parts, (0, *ends), ends, strict=False):
        factors = list(_factors(part))
        factor = block(whole, axis, start, end)
        if factor in factors:
            factors.remove(factor)
            rests.append(spread(mul(*factors), part.shape))
        elif is_zero(part):
            rests.append(part)
        else:
            return None
    return rests


def _blocks_together(terms: Sequence[Expression]) -> Expression | None:
    """A sum of concatenations along one axis as the concatenation of the sums."""
    if len(terms) < 2 or any(t.op != "concat" for t in terms):
        return None
    axis, *_ = terms[0].data
    if any(t.data[0] != axis or t.shape != terms[0].shape for t in terms):
        return None
    ends = sorted({end for t in terms for end in t.data[1:]})
    pairs = list(zip((0, *ends), ends, strict=False))
    parts = [add(*(block(t, axis, *pair) for t in terms)) for pair in pairs]
    return concat(parts, axis, terms[0].shape)


def _sums_together(terms: Sequence[Expression]) -> Expression | None:
    """A sum of sums over the same axes is one sum over them."""
    inner = [t.args[0] if t.op == "reshape" else t for t in terms]
    if len(terms) < 2 or any(t.op != "sum" for t in inner):
        return None
    if len({(t.data, t.args[0].shape) for t in inner}) > 1:
        return None
    whole = total(add(*(t.args[0] for t in inner)), inner[0].data)
    return reshape(whole, terms[0].shape)


def block(e: Expression, axis: int, start: int, stop: int) -> Expression:
    """A slice along one axis, taken of every operand of an elementwise operation."""
    shape = (*e.shape[:axis], stop - start, *e.shape[axis + 1 :])
    if shape == e.shape:
        return e
    if e.op == "block" and e.data[0] == axis:
        shift = e.data[1]
        return block(e.args[0], axis, start + shift, stop + shift)
    if e.op == "concat" and e.data[0] == axis:
        found, end = [], 0
        for part in e.args:
            first, end = end, end + part.shape[axis]
            if first < stop and start < end:
                shift = max(start - first, 0), min(stop, end) - first
                found.append(block(part, axis, *shift))
        return concat(found, axis, shape)
    if is_elementwise(e) or e.op == "broadcast":
        back = len(e.shape) - axis

        def taken(a: Expression) -> Expression:
            alone = len(a.shape) < back or a.shape[-back] == 1
            return a if alone else block(a, len(a.shape) - back, start, stop)

        args = tuple(map(taken, e.args))
        if e.op == "broadcast":
            return spread(args[0], shape)
        return spread(rebuilt(e, args), shape)
    return Expression("block", (e,), (axis, start, stop), shape)


def reshape(e: Expression, shape: Shape) -> Expression:
    """The same numbers in another shape."""
    if e.op == "reshape":
        return reshape(e.args[0], shape)
    if e.shape == shape:
        return e
    missing = len(shape) - len(e.shape)
    if missing > 0 and shape == (1,) * missing + e.shape:
        return spread(e, shape)
    if missing < 0 and e.shape == (1,) * -missing + shape:
        return _without_first_axes(e, -missing)
    return (
        spread(e, shape) if e.op == "number" else Expression("reshape", (e,), (), shape)
    )


def _without_first_axes(e: Expression, count: int) -> Expression:
    """The same without so many first axes of size 1."""
    shape = e.shape[count:]
    if e.op == "broadcast":
        inner = stripped(e)
        more = len(inner.shape) - len(shape)
        return spread(_without_first_axes(inner, more) if more > 0 else inner, shape)
    if is_elementwise(e):
        return rebuilt(
            e,
            [
                _without_first_axes(a, len(a.shape) - len(shape))
                if len(a.shape) > len(shape)
                else a
                for a in e.args
            ],
        )
    return Expression("reshape", (e,), (), shape)


def transpose(e: Expression, order: Shape) -> Expression:
    """The axes in another order."""
    if list(order) == list(range(len(order))):
        return e
    shape = tuple(e.shape[k] for k in order)
    if e.op == "dot":
        a_axes, b_axes, out = e.data
        axes = a_axes, b_axes, tuple(out[k] for k in order)
        return dot(*e.args, axes, shape)
    if e.op == "transpose":
        return transpose(e.args[0], tuple(e.data[k] for k in order))
    return Expression("transpose", (e,), tuple(order), shape)


def spread(e: Expression, shape: Shape) -> Expression:
    """The expression as an array of this shape, to which it is broadcast."""
    if e.shape == shape:
        return e
    if e.op == "broadcast":
        return spread(e.args[0], shape)
    return Expression("broadcast", (e,), (shape,), shape)


def stripped(e: Expression) -> Expression:
    """What is broadcast, by itself."""
    return e.args[0] if e.op == "broadcast" else e


def is_elementwise(e: Expression) -> bool:
    """Whether every element of it is made of one element of each operand."""
    moves = ("sum", "dot", "block", "concat", "reshape", "transpose", "broadcast")
    return bool(e.args) and e.op not in moves


def is_zero(e: Expression) -> bool:
    """Whether it is 0 everywhere."""
    return is_number(stripped(e), 0)


def broadcast_shape(parts: Iterable[Expression]) -> Shape:
    """The shape of an elementwise operation on these."""
    return np.broadcast_shapes(*(p.shape for p in parts))


# --- going through an expression ------------------------------------------------------


def contains(e: Expression, op: str) -> bool:
    """Whether an operation is anywhere in it."""
    return e.op == op or any(contains(a, op) for a in e.args)


def rebuilt(e: Expression, args: Sequence[Expression]) -> Expression:
    """The same operation on other operands, simplified again."""
    match e.op:
        case "name" | "number":
            return e
        case "add":
            return add(*args)
        case "mul":
            return mul(*args)
        case "power":
            return power(*args)
        case "dot":
            return dot(args[0], args[1], e.data, e.shape)
        case "sum":
            return total(args[0], e.data)
        case "concat":
            return concat(args, e.data[0], e.shape)
        case "block":
            return block(args[0], *e.data)
        case "reshape":
            return reshape(args[0], e.shape)
        case "transpose":
            return transpose(args[0], e.data)
        case "broadcast":
            return spread(args[0], e.shape)
        case "where":
            return where(args[0]) if args[0].op not in ("number",) else args[0]
    same = e.shape == broadcast_shape(e.args)
    return call(e.op, *args, data=e.data, shape=None if same else e.shape)


def rewritten(e: Expression, change: Callable[[Expression], Expression]) -> Expression:
    """The expression with every part of it changed, the innermost first."""
    args = [rewritten(a, change) for a in e.args]
    same = all(a is b for a, b in zip(args, e.args, strict=True))
    return change(e if same else rebuilt(e, args))


def substituted(e: Expression, known: dict[str, Expression]) -> Expression:
    """The expression with names replaced by what they stand for, all the way."""

    def change(part: Expression) -> Expression:
        if part.op == "name" and part.data[0] in known:
            return spread(substituted(known[part.data[0]], known), part.shape)
        return part

    return rewritten(e, change)


def expanded(e: Expression) -> list[Expression]:
    """The terms of an expression after all brackets are multiplied out."""
    e = stripped(e)
    if e.op == "add":
        return [t for a in e.args for t in expanded(a)]
    if e.op == "mul":
        terms = [ONE]
        for factor in e.args:
            terms = [mul(t, f) for t in terms for f in expanded(factor)]
        return terms
    if e.op == "power" and e.args[0].op == "add" and e.args[1].op == "number":
        count = e.args[1].value
        if isinstance(count, int) and 1 < count <= 4:
            return expanded(Expression("mul", (e.args[0],) * count, shape=e.shape))
    return [e]
