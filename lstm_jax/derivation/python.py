"""Expressions written as Python, with `jnp` and `lstm_jax.identities`."""

from collections.abc import Iterator
from fractions import Fraction

from lstm_jax.derivation import expressions as ex
from lstm_jax.derivation.expressions import Expression, Number
from lstm_jax.derivation.writing import (
    ATOM,
    POWER,
    Names,
    Piece,
    Writer,
    is_of_a_size,
    matrix_product,
)


class Python(Writer):
    """Writes expressions as Python.

    Args:
        names: see `Names`.
        known: how a name is written that is no local variable.
    """

    column = "python"
    matrix = " @ "

    def __init__(self, names: Names, known: dict[str, str]) -> None:
        super().__init__(names)
        self.known = known
        self.sized: Expression | None = None

    def as_written(self, e: Expression) -> Expression:
        """An operation in the form in which it is written: here, as it is."""
        return e

    def name(self, name: str) -> str:
        """A local variable, or where the name is found."""
        return self.known.get(name, name)

    def product(self, e: Expression) -> Piece:
        """A product or quotient; one with a condition is a `jnp.where`."""
        conditions = [f for f in e.args if f.op == "where"]
        if e.op == "mul" and conditions:
            rest = self(ex.mul(*(f for f in e.args if f.op != "where")))
            for condition in conditions:
                rest = f"jnp.where({self(condition.args[0])}, {rest}, 0)"
            return Piece(rest)
        whole = [n for f in e.args for n in _names(f) if n.shape[-1:] == e.shape[-1:]]
        self.sized = whole[0] if whole else None
        return super().product(e)

    def sizes(self, count: Number) -> tuple[str, Number]:
        """A number as one over the size of a row, or its root, if it is that."""
        if self.sized is None or not is_of_a_size(count):
            return "", count
        size = self.sized.shape[-1]
        text = f"{self.name(self.sized.data[0])}.shape[-1]"
        for power in (1, 0.5) if size % self.names.unit == 0 else ():
            above = count * size**power
            if abs(above - round(above)) < 1e-9 and round(above):
                return text if power == 1 else f"{text}**0.5", round(above)
        return "", count

    def _number(self, value: Number) -> str:
        return repr(value)

    def power(self, base: Expression, exponent: Expression) -> Piece:
        """A power, or a root."""
        if ex.is_number(exponent, 0.5):
            return Piece(f"jnp.sqrt({self(base)})")
        return Piece(f"{self.inside(base, ATOM)}**{self.inside(exponent, ATOM)}", POWER)

    def condition(self, text: str) -> str:
        """A condition as a number."""
        return f"jnp.where({text}, 1, 0)"

    def mean(self, e: Expression) -> str:
        """A mean over the features of a row."""
        return f"jnp.mean({self(e.args[0])}, axis=-1, keepdims=True)"

    def total(self, e: Expression, keep: str = ", keepdims=True") -> str:
        """A sum over the features of a row."""
        inner = e.args[0]
        axes = tuple(axis - len(inner.shape) for axis in e.data)
        axis = axes[0] if len(axes) == 1 else axes
        return f"jnp.sum({self(inner)}, axis={axis}{keep})"

    def concatenation(self, parts: str, axis: int) -> str:
        """Blocks side by side."""
        return f"concatenate({parts})"

    def transposed(self, text: str) -> str:
        """A matrix on its side."""
        return f"{text}.T"

    def block(self, e: Expression) -> str:
        """A part of a quantity along the features."""
        whole, (axis, start, stop) = e.args[0], e.data
        text, size = self.inside(whole, ATOM), whole.shape[axis]
        count, rest = divmod(size, stop - start)
        place, shift = divmod(start, stop - start)
        if not rest and not shift:
            return f"jnp.split({self(whole)}, {count}, axis=-1)[{place}]"
        ends = (Fraction(start, size), Fraction(stop, size))
        size = f"{text}.shape[-1]"
        first, last = (
            "" if at in (0, 1) else f"{at.numerator} * {size} // {at.denominator}"
            for at in ends
        )
        return f"{text}[..., {first}:{last}]"

    def piece(self, e: Expression) -> Piece:
        """The text of an expression, and how tightly it binds."""
        if e.op == "reshape":
            return self.reshaped(e.args[0], e.shape)
        if e.op == "concat":
            like = next((self(a) for a in e.args if not ex.is_zero(a)), "")
            zeros = f"jnp.zeros_like({like})"
            parts = [zeros if ex.is_zero(a) else self(a) for a in e.args]
            return Piece(self.concatenation(", ".join(parts), -1))
        return super().piece(e)

    def reshaped(self, e: Expression, shape: tuple[int, ...]) -> Piece:
        """Axes of size 1 that are added, or dropped."""
        if e.op == "sum" and len(shape) == len(e.shape) - len(e.data):
            return Piece(self.total(e, keep=""))
        dropped, index, sizes = [], [], list(e.shape)
        for size in reversed(shape):
            while sizes and sizes[-1] == 1 != size:
                dropped.append(len(sizes) - len(e.shape) - 1)
                sizes.pop()
            same = bool(sizes) and sizes[-1] == size
            index.append(":" if same else "None")
            sizes = sizes[:-1] if same else sizes
        text = self.inside(e, ATOM)
        if dropped or sizes:
            axes = tuple(dropped)
            text = f"{text}.squeeze({axes[0] if len(axes) == 1 else axes})"
        while index and index[-1] == ":":
            index.pop()
        if index:
            text = f"{text}[{', '.join(['...', *reversed(index)])}]"
        return Piece(text)

    def dot(self, e: Expression) -> Piece:
        """A product of matrices; over the examples, `weight_gradient`."""
        sides = matrix_product(e)
        if sides is None:
            axes = ["".join("ijklmnpq"[k] for k in group) for group in e.data]
            texts = ", ".join(self(a) for a in e.args)
            return Piece(f'jnp.einsum("{axes[0]},{axes[1]}->{axes[2]}", {texts})')
        if not sides[0][1]:
            return super().dot(e)
        (a, _), (b, _) = sides  # over the examples: the weighted-input rule
        return Piece(f"weight_gradient({self(b)}, {self(a)})")


def _names(e: Expression) -> Iterator[Expression]:
    if e.op == "name":
        yield e
    for a in e.args:
        yield from _names(a)
