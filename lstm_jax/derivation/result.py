"""A derivation: its rows as data, and as text, Markdown, LaTeX and Python."""

from dataclasses import dataclass
from typing import NamedTuple

from lstm_jax.derivation import pages
from lstm_jax.derivation.chain import Use
from lstm_jax.derivation.comparison import Line
from lstm_jax.derivation.expressions import Expression
from lstm_jax.derivation.forward import Equation
from lstm_jax.derivation.letters import OWN, Letters
from lstm_jax.derivation.writing import Names


class Row(NamedTuple):
    """The derivation of one gradient, dq = ∂J/∂q.

    Attributes:
        quantity: q.
        gradient: dq, a name.
        equation: that q is the left-hand side of; None for an argument of the step.
        uses: the immediate outputs of q, and what comes back from each.
        result: their sum, simplified: what dq is.
        lines: the lines of the cell's file that compute it; none if they don't name it,
            or if there is no hand-written reverse.
    """

    quantity: str
    gradient: Expression
    equation: Equation | None
    uses: tuple[Use, ...]
    result: Expression
    lines: tuple[Line, ...]

    @property
    def given(self) -> bool:
        """Whether the gradient comes from outside: the output's, from what follows."""
        return self.result == self.gradient

    @property
    def through(self) -> tuple[int, ...]:
        """The numbers of the equations that are gone through."""
        return tuple(sorted({u.number for u in self.uses if u.number is not None}))

    @property
    def agrees(self) -> bool | None:
        """Whether all lines compute the derived gradient; None without a line."""
        return all(line.agrees for line in self.lines) if self.lines else None


@dataclass(frozen=True)
class Derivation:
    """The backward pass of a cell, derived from its equations.

    `str` and `print` give it in plain text; a notebook shows it with its formulas.

    Attributes:
        cell: the cell's name.
        equations: the step's, in order; see `lstm_jax.derivation.forward.Equation`.
        rows: the gradients, from the last equation to the first, those of the
            parameters and of the input at the end.
        parameters: the names of the parameters, and "x".
        state: for each field of the state the quantity that is its new value.
        derived: whether the cell has a hand-written reverse.
        names: see `lstm_jax.derivation.writing.Names`.
        program: what `python` gives, or the reason why it can't.
        letters: in which formulas are written.
    """

    cell: str
    equations: tuple[Equation, ...]
    rows: tuple[Row, ...]
    parameters: tuple[str, ...]
    state: dict[str, str]
    derived: bool
    names: Names
    program: str
    letters: Letters = OWN

    def row(self, quantity: str) -> Row:
        """The row of a quantity's gradient.

        Raises:
            KeyError: it has none.
        """
        for row in self.rows:
            if row.quantity == quantity:
                return row
        raise KeyError(quantity)

    @property
    def disagreeing(self) -> tuple[Row, ...]:
        """The rows with a line that computes something else."""
        return tuple(row for row in self.rows if row.agrees is False)

    def text(self) -> str:
        """The derivation in plain text."""
        return pages.text(self)

    def markdown(self) -> str:
        """The derivation in Markdown, with formulas between dollar signs."""
        return pages.markdown(self)

    def latex(self) -> str:
        """The formulas alone in LaTeX, one `aligned` environment."""
        return pages.latex(self)

    def verdict(self) -> str:
        """Whether the hand-written reverse agrees; what of it doesn't, line by line."""
        return pages.verdict(self)

    def python(self) -> str:
        """The reverse as Python, in the form of a cell's file."""
        return self.program

    def __str__(self) -> str:
        return self.text()

    def _repr_markdown_(self) -> str:
        return self.markdown()

    def _repr_latex_(self) -> str:
        return f"$$\n{self.latex()}\n$$"
