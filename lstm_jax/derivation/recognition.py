"""Recognizing quantities: where an expression is one that has a letter, the letter.

The derivative of tanh c is 1 - tanh² c; on paper one writes 1 - a², if a = tanh c has
been named. The same goes for a power of a quantity that is a power itself, for a
multiple of an exponent, and for whether what a maximum is taken of is above its bound.
"""

from collections.abc import Iterable, Iterator

from lstm_jax.derivation import expressions as ex
from lstm_jax.derivation.expressions import Expression, Number


class Letters:
    """Quantities, and what they stand for.

    Args:
        quantities: each as (its name as an expression, what it is).
    """

    def __init__(self, quantities: Iterable[tuple[Expression, Expression]]) -> None:
        self.exact: dict[Expression, Expression] = {}
        self.powers: list[tuple[Expression, Expression, Number]] = []
        self.exponentials: list[tuple[Expression, Expression]] = []
        self.rectified: dict[tuple[Expression, ...], Expression] = {}
        for name, right in quantities:
            self.add(name, right)

    def add(self, name: Expression, right: Expression) -> None:
        """Adds a quantity."""
        if right.op in ("name", "number", "block"):
            return
        self.exact.setdefault(right, name)
        where, plain = _condition(right)
        if plain.op == "power" and plain.args[1].op == "number":
            self.powers.append(
                (ex.mul(name, *where), plain.args[0], plain.args[1].value)
            )
        if right.op == "max" and right.args[1].op == "number":
            self.rectified[right.args] = name
        if right.op == "exp":
            self.exponentials.append((name, right.args[0]))

    def within(self, e: Expression) -> Expression:
        """The expression, with letters in it."""
        return ex.rewritten(e, self._known)

    def _known(self, e: Expression) -> Expression:
        if e in self.exact:
            return ex.spread(self.exact[e], e.shape)
        if e.op == "exp":
            for name, exponent in self.exponentials:
                if (times := _times(e.args[0], exponent)) is not None:
                    return ex.power(name, times)
        if e.args in self.rectified and e.op == "gt":
            return ex.call("gt", self.rectified[e.args], e.args[1])
        if e.op == "power":
            return next(self._powers(e, ()), e)
        if e.op == "mul":
            conditions = tuple(f for f in e.args if f.op == "where")
            for factor in e.args if conditions else ():
                for found in self._powers(factor, conditions):
                    rest = [f for f in e.args if f is not factor]
                    return ex.mul(*rest, found)
        return e

    def _powers(
        self, e: Expression, conditions: tuple[Expression, ...]
    ) -> Iterator[Expression]:
        """A power as one of a quantity that is a power of the same base."""
        if e.op != "power" or e.args[1].op != "number":
            return
        for name, base, exponent in self.powers:
            where, letter = _condition(name)
            times = e.args[1].value / exponent
            if (
                base == e.args[0]
                and float(times).is_integer()
                and set(where) <= set(conditions)
            ):
                yield ex.power(letter, times)


def _condition(e: Expression) -> tuple[tuple[Expression, ...], Expression]:
    """The conditions among the factors of a product, and the rest."""
    if e.op != "mul":
        return (), e
    conditions = tuple(f for f in e.args if f.op == "where")
    return conditions, ex.mul(*(f for f in e.args if f.op != "where"))


def _times(e: Expression, other: Expression) -> int | None:
    """k, if `e` is k times `other`, for a whole number k."""
    if e.op == "mul" and e.args[0].op == "number" and isinstance(e.args[0].value, int):
        return e.args[0].value if ex.mul(*e.args[1:]) == other else None
    return None
