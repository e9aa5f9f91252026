"""The chain rule, from the last equation of a step to the first.

A quantity's gradient is the sum, over its immediate outputs, of their gradients times
their derivatives with respect to it. Immediate outputs are the equations that it is
used in; and, of the new state, the step that comes next.
"""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from lstm_jax.derivation import expressions as ex
from lstm_jax.derivation.expressions import Expression
from lstm_jax.derivation.forward import Equation, Forward, leaving
from lstm_jax.derivation.recognition import Letters


class Use(NamedTuple):
    """An immediate output of a quantity, and what comes back from it.

    Attributes:
        name: the output, "c"; "" for the next step.
        number: of its equation, if it has one.
        gradient: ∂J/∂output, a name; of the next step, what comes from there.
        local: ∂output/∂quantity; None where it is no factor, as in matrix products.
        term: what comes back.
    """

    name: str
    number: int | None
    gradient: Expression
    local: Expression | None
    term: Expression


class Step(NamedTuple):
    """The derivation of one gradient.

    Attributes:
        quantity: the letter, "c".
        gradient: the name of ∂J/∂quantity, "dc".
        uses: its immediate outputs, the next step first.
        result: the sum of what comes back from them, simplified.
    """

    quantity: str
    gradient: Expression
    uses: tuple[Use, ...]
    result: Expression

    @property
    def through(self) -> tuple[int, ...]:
        """The numbers of the equations that are gone through."""
        return tuple(sorted({u.number for u in self.uses if u.number is not None}))


def gradient_name(quantity: str) -> str:
    """What ∂J/∂quantity is called: "dc"."""
    return f"d{quantity}"


def chain(forward: Forward) -> tuple[Step, ...]:
    """The derivation of the gradients of all quantities and arguments of a step."""
    back = _Backward(forward)
    return tuple(back.step(q) for q in _order(forward, back.reached))


class _Backward:
    """What comes back through each equation, and the sums of it."""

    def __init__(self, forward: Forward) -> None:
        self.forward = forward
        self.letters = Letters((e.letter, e.right) for e in forward.equations)
        self.concatenations: dict[Expression, Expression] = {}
        self.new = set(forward.state.values())
        self.uses: dict[str, list[Use]] = {}
        self.reached: dict[str, None] = {}
        for equation in reversed(forward.equations):
            if equation.name in self.uses or equation.name in self.new:
                self._through(equation)

    def _through(self, equation: Equation) -> None:
        arriving = self.gradient(equation.name)
        back = leaving(self.forward, equation, arriving)
        for quantity, term in back.items():
            term = self.letters.within(term)
            use = Use(
                equation.name, equation.number, arriving, _factor(term, arriving), term
            )
            self.uses.setdefault(quantity, []).append(use)
        names = equation.right.names()
        self.reached[equation.name] = None
        self.reached.update(dict.fromkeys(q for q in names if q in back))

    def gradient(self, quantity: str) -> Expression:
        """The name of ∂J/∂quantity."""
        return ex.name(gradient_name(quantity), self.forward.shape(quantity))

    def step(self, quantity: str) -> Step:
        """The sum of what comes back to a quantity."""
        gradient = self.gradient(quantity)
        uses = self.uses.get(quantity, [])
        if quantity in self.new:
            given = f"{gradient.data[0]}_next" if uses else gradient.data[0]
            arriving = ex.name(given, gradient.shape)
            uses = [Use("", None, arriving, ex.ONE, arriving), *uses]
        result = self.letters.within(ex.add(*(use.term for use in uses)))
        result = ex.rewritten(result, lambda e: self.concatenations.get(e, e))
        if result.op == "concat":
            self.concatenations[result] = gradient
        return Step(quantity, gradient, tuple(uses), ex.spread(result, gradient.shape))


def _factor(term: Expression, arriving: Expression) -> Expression | None:
    """A term without the factor that arrives; None if it isn't one."""
    plain = ex.stripped(term)
    if plain == arriving:
        return ex.ONE
    if plain.op == "mul" and arriving in plain.args:
        return ex.mul(*(f for f in plain.args if f != arriving))
    return None


def _order(forward: Forward, reached: dict[str, None]) -> Iterator[str]:
    """The quantities, each when all that it goes to has been gone through.

    The parameters and the input, whose gradients nothing else needs, come last.
    """
    passed = [e for e in _grouped_back(forward.equations) if e.name in reached]
    open_ = Counter(q for e in passed for q in e.right.names() if q in reached)
    yield from (q for q in forward.state.values() if not open_[q])
    last = [*forward.parameters, "x"]
    for equation in passed:
        for quantity in equation.right.names():
            open_[quantity] -= 1
            if open_[quantity] == 0 and quantity not in last:
                yield quantity
    yield from (q for q in last if q in reached)


def _grouped_back(equations: tuple[Equation, ...]) -> Iterator[Equation]:
    """From the last to the first; those of one number in the order of the file."""
    groups: list[list[Equation]] = []
    for equation in equations:
        group = groups[-1] if groups else []
        names = {e.name for e in group}
        same = bool(group) and group[0].number == equation.number is not None
        if same and not names & set(equation.right.names()):
            group.append(equation)
        else:
            groups.append([equation])
    for group in reversed(groups):
        yield from group
