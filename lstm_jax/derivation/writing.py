"""Expressions written out: in plain text, in LaTeX, in Python.

A product of matrices is ``x · W``, an elementwise one ``i * g``. ``[l > z]`` is 1 where
the condition holds and 0 elsewhere. Σ sums over what its index says: n over the
examples, j over the features; a mean is one over the features.
"""

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from lstm_jax.derivation import expressions as ex
from lstm_jax.derivation.chain import Step
from lstm_jax.derivation.expressions import Expression, Number
from lstm_jax.derivation.forward import Forward
from lstm_jax.derivation.letters import OWN, Letters
from lstm_jax.derivation.operations import OPERATIONS

SUM, PRODUCT, POWER, ATOM = range(4)
"""How tightly a text binds; what binds more loosely than it must gets brackets."""


class Piece(NamedTuple):
    """A text, and how tightly it binds."""

    text: str
    binds: int = ATOM


class Names(NamedTuple):
    """What there is to know about the names in a derivation.

    Attributes:
        gradients: of each gradient's name the quantity, and whether it is what comes
            from the next step.
        blocks: of each part of a quantity, (name, start, stop), what it is called.
        unit: H, so that numbers which stand for a size are written so.
    """

    gradients: dict[str, tuple[str, bool]]
    blocks: dict[tuple[str, int, int], str]
    unit: int


def names_of(forward: Forward, steps: Sequence[Step], unit: int) -> Names:
    """The names in a derivation.

    A part of a quantity is named by what it goes to: u_i is that of z_i = u_i + v_i.

    Args:
        forward: the step.
        steps: the derivation of its gradients.
        unit: H.
    """
    gradients = {}
    for step in steps:
        for use in step.uses:
            if not use.name:
                gradients[use.gradient.data[0]] = step.quantity, True
        gradients[step.gradient.data[0]] = step.quantity, False
    return Names(gradients, _parts_named(forward), unit)


def _parts_named(forward: Forward) -> dict[tuple[str, int, int], str]:
    """What the parts of quantities are called, one name for one part."""
    blocks: dict[tuple[str, int, int], str] = {}
    taken: set[tuple[str, str]] = set()
    for equation in forward.equations:
        last = equation.name.partition("_")[2] or equation.name
        for e in _parts(equation.right):
            if e.op != "block" or e.args[0].op != "name":
                continue
            whole, (_, start, stop) = e.args[0].data[0], e.data
            if (whole, start, stop) not in blocks and (whole, last) not in taken:
                blocks[whole, start, stop] = last
                taken.add((whole, last))
    return blocks


def _parts(e: Expression) -> list[Expression]:
    return [e, *(p for a in e.args for p in _parts(a))]


class Writer:
    """Writes expressions in plain text; other languages change a few methods.

    Args:
        names: see `Names`.
        letters: in which quantities are written.
    """

    column = "text"
    times, matrix = " * ", " · "
    minus = "-"

    def __init__(self, names: Names, letters: Letters = OWN) -> None:
        self.names, self.letters = names, letters

    def __call__(self, e: Expression) -> str:
        """The expression's text."""
        return self.piece(ex.rewritten(e, self.as_written)).text

    def as_written(self, e: Expression) -> Expression:
        """An operation in the form in which it is written: exp(x) - 1 for expm1(x)."""
        return ex.difference("exp", e.args[0]) if e.op == "expm1" else e

    def piece(self, e: Expression) -> Piece:
        """The text of an expression, and how tightly it binds."""
        match e.op:
            case "name":
                return Piece(self.name(e.data[0]))
            case "number":
                return self.number(e.data[0])
            case "array":
                return Piece("constant")
            case "add":
                return self.sum(e.args)
            case "mul" | "power" | "sum":
                return self.product(e)
            case "dot":
                return self.dot(e)
            case "concat":
                parts = ", ".join(self(a) for a in e.args)
                return Piece(self.concatenation(parts, e.data[0] - len(e.shape)))
            case "block":
                return Piece(self.block(e))
            case "where":
                return Piece(self.condition(self(e.args[0])))
            case "reshape" | "broadcast":
                return self.piece(e.args[0])
            case "transpose":
                return Piece(self.transposed(self.inside(e.args[0], ATOM)))
        row = OPERATIONS[e.op]
        template = getattr(row, self.column)
        loose = template.startswith("{0} ")
        args = [self(a) for a in e.args]
        return Piece(template.format(*args), SUM if loose else ATOM)

    def inside(self, e: Expression, needed: int) -> str:
        """An expression's text where it must bind so tightly."""
        text, binds = self.piece(e)
        return text if binds >= needed else self.brackets(text)

    def sum(self, terms: Sequence[Expression]) -> Piece:
        """A sum, with a sign between its terms."""
        text = ""
        for k, term in enumerate(terms):
            count = term.args[0].value if _scaled(term) else 1
            count = term.value if term.op == "number" else count
            if count < 0:
                joint = " - " if k else self.minus
                positive = self.inside(ex.negative(term), PRODUCT)
                text += joint + positive
            else:
                text += (" + " if k else "") + self.inside(term, PRODUCT)
        return Piece(text, SUM)

    def product(self, e: Expression) -> Piece:
        """A product or quotient, with a root or a power for what is one."""
        count, above, below = self._quotient(e.args if e.op == "mul" else (e,))
        size, count = self.sizes(count)
        numerator, denominator = _ratio(abs(count))
        tops = [Piece(self._number(numerator))] if numerator != 1 else []
        lows = [self._number(denominator)] if denominator != 1 else []
        tops += above
        lows += [size] if size else []
        lows += [piece.text for piece in below]
        texts = [piece.text for piece in tops]
        if lows:
            whole = self.fraction(texts or ["1"], lows)
        else:
            whole = (
                tops[0] if len(tops) == 1 else Piece(self.times.join(texts), PRODUCT)
            )
        return Piece(self.minus + whole.text, SUM) if count < 0 else whole

    def _quotient(
        self, factors: Sequence[Expression]
    ) -> tuple[Number, list[Piece], list[Piece]]:
        """The factors of a product: its number, what is above, and what is below."""
        count: Number = 1
        above, below = [], []
        for factor in factors:
            size = factor.args[0].shape[-1] if factor.op == "sum" else 0
            exponent = factor.args[1] if factor.op == "power" else ex.ONE
            if factor.op == "number":
                count = factor.value
            elif size and _is_mean(count * size, factor):
                count *= size
                above.append(Piece(self.mean(factor)))
            elif exponent.op == "number" and exponent.value < 0:
                base = factor.args[0]
                below.append(self.factor(ex.power(base, -exponent.value)))
            else:
                above.append(self.factor(factor))
        return count, above, below

    def factor(self, e: Expression) -> Piece:
        """A factor of a product."""
        if e.op == "power":
            return self.power(*e.args)
        return Piece(self.total(e) if e.op == "sum" else self.inside(e, POWER))

    def sizes(self, count: Number) -> tuple[str, Number]:
        """A number that is a simple one over a size, or its root: that, the number."""
        for times in range(1, 9) if is_of_a_size(count) else ():
            size = self.names.unit * times
            for power in (1, 0.5):
                above = count * size**power
                simple = abs(above - round(above)) < 1e-9
                if simple and 0 < abs(round(above)) < self.names.unit:
                    return self.size(times, power), round(above)
        return "", count

    # What depends on the language.

    def size(self, times: int, power: Number) -> str:
        """The text of a multiple of H, or of its root."""
        text = "H" if times == 1 else f"({times}H)"
        return text if power == 1 else f"√{text}"

    def name(self, name: str) -> str:
        """A quantity's letter, or a gradient: in the article's letters ∂J/∂q."""
        quantity, from_next = self.names.gradients.get(name, ("", False))
        if not quantity or from_next or self.letters is OWN:
            return self.letter(name)
        return self.partial(quantity)

    def letter(self, name: str) -> str:
        """A quantity's letter."""
        return self.letters.text.get(name, name)

    def partial(self, quantity: str) -> str:
        """∂J/∂q."""
        return f"∂J/∂{self.letter(quantity)}"

    def local(self, output: str, quantity: str) -> str:
        """∂output/∂quantity."""
        return f"∂{self.letter(output)}/∂{self.letter(quantity)}"

    def per_example(self, text: str) -> str:
        """In the article's letters, where J is the mean over m examples: 1/m of it."""
        return f"1/m{self.times}{text}"

    def math(self, text: str) -> str:
        """A formula among words."""
        return text

    def number(self, value: Number) -> Piece:
        """A number's text."""
        text = self._number(abs(value))
        return Piece(self.minus + text, SUM) if value < 0 else Piece(text)

    def _number(self, value: Number) -> str:
        return f"{value:g}".replace("e-0", "e-")

    def brackets(self, text: str) -> str:
        """The text in brackets."""
        return f"({text})"

    def power(self, base: Expression, exponent: Expression) -> Piece:
        """A power, or a root."""
        if ex.is_number(exponent, 0.5):
            return Piece(f"√{self.inside(base, ATOM)}", POWER)
        if exponent.op == "number" and float(exponent.value).is_integer():
            raised = f"{exponent.value:g}".translate(_RAISED)
            return Piece(self.inside(base, ATOM) + raised, POWER)
        return Piece(f"{self.inside(base, ATOM)}^{self.exponent(exponent)}", POWER)

    def exponent(self, e: Expression) -> str:
        """What stands raised."""
        return f"({Fraction(e.value)})" if _is_half(e) else self.inside(e, ATOM)

    def fraction(self, above: list[str], below: list[str]) -> Piece:
        """A quotient."""
        low = self.times.join(below)
        low = f"({low})" if len(below) > 1 else low
        return Piece(f"{self.times.join(above)} / {low}", PRODUCT)

    def mean(self, e: Expression) -> str:
        """A mean over the features of a row."""
        return f"mean({self(e.args[0])})"

    def total(self, e: Expression) -> str:
        """A sum over the examples, or the features of a row."""
        return f"Σ{_SUB[e.data == (0,)]}({self(e.args[0])})"

    def condition(self, text: str) -> str:
        """A condition as a number."""
        return f"[{text}]"

    def concatenation(self, parts: str, axis: int) -> str:
        """Blocks side by side."""
        return f"[{parts}]"

    def transposed(self, text: str) -> str:
        """A matrix on its side."""
        return f"{text}ᵀ"

    def block(self, e: Expression) -> str:
        """A part of a quantity along the features."""
        whole, (axis, start, stop) = e.args[0], e.data
        if whole.op == "name":
            last = self.names.blocks.get((whole.data[0], start, stop))
            if last is not None:
                return self.part(whole.data[0], last)
        ends = (
            "" if k in (0, whole.shape[axis]) else self.end(k) for k in (start, stop)
        )
        return f"{self.inside(whole, ATOM)}[{':'.join(ends)}]"

    def end(self, index: int) -> str:
        """Where a part begins or ends."""
        times, rest = divmod(index, self.names.unit)
        return str(index) if rest else "H" if times == 1 else f"{times}H"

    def part(self, name: str, last: str) -> str:
        """A part of a quantity that has a letter."""
        return self.letter(f"{name}_{last}")

    def dot(self, e: Expression) -> Piece:
        """A product of matrices; with other axes, in Einstein's notation."""
        sides = matrix_product(e)
        if sides is None:
            a, b = (self(x) for x in e.args)
            letters = ["".join("ijklmnpq"[k] for k in axes) for axes in e.data]
            return Piece(f"Σ {a}_{letters[0]} {b}_{letters[1]}", PRODUCT)
        texts = []
        for operand, turned in reversed(sides) if self.letters.columns else sides:
            text = self.inside(operand, POWER)
            texts.append(self.transposed(text) if turned else text)
        return Piece(self.joined(texts), PRODUCT)

    def joined(self, texts: list[str]) -> str:
        """The product of two matrices."""
        return self.matrix.join(texts)


_RAISED = str.maketrans("0123456789-.", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻·")
_SUB = {True: "ₙ", False: "ⱼ"}


def is_of_a_size(count: Number) -> bool:
    """Whether a number may come from a size: it is below 1, and no short decimal."""
    return abs(count) < 1 and round(count, 4) != count


def _ratio(count: Number) -> tuple[Number, int]:
    """A number as a quotient, if that is the simpler way to write it."""
    found = Fraction(count).limit_denominator(1000)
    exact = abs(float(found) - count) < 1e-12
    simple = found.numerator == 1 or found.denominator in (2, 3)
    return (found.numerator, found.denominator) if exact and simple else (count, 1)


def _is_half(e: Expression) -> bool:
    """Whether it is a number of halves, such as 3/2."""
    return e.op == "number" and float(2 * e.value).is_integer()


def _scaled(e: Expression) -> bool:
    return e.op == "mul" and e.args[0].op == "number"


def _is_mean(count: Number, e: Expression) -> bool:
    """Whether a sum over features with this factor is a plain multiple of a mean."""
    last = len(e.args[0].shape) - 1
    return (
        e.data == (last,)
        and last > 0
        and abs(count - round(count)) < 1e-9
        and round(count) != 0
        and abs(count) < 9
    )


def matrix_product(e: Expression) -> list[tuple[Expression, bool]] | None:
    """The operands of a "dot" as matrices, each with whether it is transposed.

    None if they are no matrices.
    """
    (a, b), (a_axes, b_axes, out) = e.args, e.data
    if len(a_axes) != 2 or len(b_axes) != 2 or len(out) != 2:
        return None
    [*shared] = set(a_axes) & set(b_axes)
    if len(shared) != 1 or shared[0] in out:
        return None
    if out[0] in b_axes:
        (a, b), (a_axes, b_axes) = (b, a), (b_axes, a_axes)
    return [(a, a_axes[0] == shared[0]), (b, b_axes[1] == shared[0])]


# --- LaTeX ----------------------------------------------------------------------------


class Latex(Writer):
    """Writes expressions in LaTeX, without environments."""

    column = "latex"
    matrix = r" \cdot "

    def name(self, name: str) -> str:
        """A quantity's letter, or a gradient: in the article's letters ∂J/∂q."""
        quantity, from_next = self.names.gradients.get(name, ("", False))
        if not quantity or name in self.letters.latex:
            return self.letter(name)
        if self.letters is not OWN:
            return self.partial(quantity)
        text = rf"\mathrm{{d}}{self.letter(quantity)}"
        return rf"{{{text}}}_{{\mathrm{{next}}}}" if from_next else text

    def letter(self, name: str) -> str:
        """A quantity's letter."""
        return self.letters.latex.get(name) or latex_letter(name)

    def partial(self, quantity: str) -> str:
        """∂J/∂q."""
        return rf"\frac{{\partial J}}{{\partial {self.letter(quantity)}}}"

    def local(self, output: str, quantity: str) -> str:
        """∂output/∂quantity."""
        above, below = self.letter(output), self.letter(quantity)
        return rf"\frac{{\partial {above}}}{{\partial {below}}}"

    def per_example(self, text: str) -> str:
        """In the article's letters, where J is the mean over m examples: 1/m of it."""
        return rf"\frac{{1}}{{m}} {text}"

    def math(self, text: str) -> str:
        """A formula among words."""
        return f"${text}$"

    def size(self, times: int, power: Number) -> str:
        """The text of a multiple of H, or of its root."""
        text = "H" if times == 1 else f"{times}H"
        return text if power == 1 else rf"\sqrt{{{text}}}"

    def _number(self, value: Number) -> str:
        text = f"{value:g}"
        if "e" in text:
            digits, _, exponent = text.partition("e")
            first = "" if digits == "1" else rf"{digits} \cdot "
            return rf"{first}10^{{{int(exponent)}}}"
        return text

    def power(self, base: Expression, exponent: Expression) -> Piece:
        """A power, or a root."""
        if ex.is_number(exponent, 0.5):
            return Piece(rf"\sqrt{{{self(base)}}}")
        text = self.inside(base, ATOM)
        return Piece(rf"{{{text}}}^{{{self.exponent(exponent)}}}", POWER)

    def exponent(self, e: Expression) -> str:
        """What stands raised."""
        return str(Fraction(e.value)) if _is_half(e) else self(e)

    def fraction(self, above: list[str], below: list[str]) -> Piece:
        """A quotient."""
        return Piece(
            rf"\frac{{{self.times.join(above)}}}{{{self.times.join(below)}}}", PRODUCT
        )

    def mean(self, e: Expression) -> str:
        """A mean over the features of a row."""
        return rf"\mathrm{{mean}}({self(e.args[0])})"

    def total(self, e: Expression) -> str:
        """A sum over the examples, or the features of a row."""
        index = "n" if e.data == (0,) else "j"
        return rf"\sum_{{{index}}} {self.inside(e.args[0], ATOM)}"

    def concatenation(self, parts: str, axis: int) -> str:
        """Blocks side by side."""
        return rf"\left[ {parts} \right]"

    def transposed(self, text: str) -> str:
        """A matrix on its side."""
        return rf"{{{text}}}^{{T}}"

    def part(self, name: str, last: str) -> str:
        """A part of a quantity that has a letter."""
        known = self.names.gradients.get(name)
        if known is None:
            return self.letter(f"{name}_{last}")
        return rf"\mathrm{{d}}{self.letter(f'{known[0]}_{last}')}"


_LETTER = re.compile(r"([A-Za-z])([a-z0-9]*)((?:_\w+)?)")
_WORDS = {"prev": r"\mathrm{prev}"}


def latex_letter(name: str) -> str:
    """A quantity's name as a letter with what is below it: W_{x} for "Wx"."""
    found = _LETTER.fullmatch(name)
    if found is None:
        return rf"\mathrm{{{name}}}".replace("_", r"\_")
    first, rest, below = found.groups()
    below = [p for p in below.split("_") if p]
    if len(rest) > 2 or (rest and first.islower() and len(rest) > 1):
        first = rf"\mathrm{{{first}{rest}}}"
    else:
        below = [*([rest] if rest else []), *below]
        first = r"\ell" if first == "l" else first
    texts = [_WORDS.get(p, p if len(p) < 3 else rf"\mathrm{{{p}}}") for p in below]
    return first + (rf"_{{{','.join(texts)}}}" if texts else "")
