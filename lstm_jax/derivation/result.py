"""A derivation: its rows as data, and as text, Markdown, LaTeX and Python."""

from dataclasses import dataclass
from typing import NamedTuple

from lstm_jax.cell import Cell
from lstm_jax.derivation import pages
from lstm_jax.derivation.chain import Step, Use
from lstm_jax.derivation.comparison import Line
from lstm_jax.derivation.expressions import Expression
from lstm_jax.derivation.forward import Equation, Forward
from lstm_jax.derivation.letters import OWN, Letters
from lstm_jax.derivation.program import program
from lstm_jax.derivation.writing import Names
from lstm_jax.gated import GatedStep


class Row(NamedTuple):
    """The derivation of one gradient, dq = ∂J/∂q, and what it is compared with.

    Attributes:
        step: the derivation.
        equation: that q is the left-hand side of; None for an argument of the step.
        lines: the lines of the cell's file that compute dq; none if they don't name it,
            or if there is no hand-written reverse.
    """

    step: Step
    equation: Equation | None
    lines: tuple[Line, ...]

    @property
    def quantity(self) -> str:
        """The letter, "c"."""
        return self.step.quantity

    @property
    def gradient(self) -> Expression:
        """The name of dq."""
        return self.step.gradient

    @property
    def uses(self) -> tuple[Use, ...]:
        """The immediate outputs of q, and what comes back from each."""
        return self.step.uses

    @property
    def result(self) -> Expression:
        """What dq is: the sum of what comes back, simplified."""
        return self.step.result

    @property
    def through(self) -> tuple[int, ...]:
        """The numbers of the equations that are gone through."""
        return self.step.through

    @property
    def given(self) -> bool:
        """Whether the gradient comes from outside: the output's, from what follows."""
        return self.result == self.gradient

    @property
    def agrees(self) -> bool | None:
        """Whether all lines compute the derived gradient; None without a line."""
        return all(line.agrees for line in self.lines) if self.lines else None


@dataclass(frozen=True)
class Derivation:
    """The backward pass of a cell, derived from its equations.

    `str` and `print` give it in plain text; a notebook shows it with its formulas.

    Attributes:
        cell: the cell.
        forward: its equations; see `lstm_jax.derivation.forward.Forward`.
        steps: the derivation of every gradient, from the last equation to the first,
            those of the parameters and of the input at the end.
        rows: the same, each with the lines that it is compared with.
        names: see `lstm_jax.derivation.writing.Names`.
        letters: in which formulas are written.
    """

    cell: Cell
    forward: Forward
    steps: tuple[Step, ...]
    rows: tuple[Row, ...]
    names: Names
    letters: Letters = OWN

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the parameters."""
        return self.forward.parameters

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

    def equations(self) -> tuple[tuple[str, str], ...]:
        """The equations in plain text: ("(3)", "c = tanh(z_c)")."""
        return pages.equations(self)

    def written(self, row: Row) -> tuple[str, ...]:
        """A row in plain text: where its quantity goes, then each form of its gradient.

        "c goes to h (4)", "∂J/∂c = ∂J/∂h * ∂h/∂c", "      = dh * (1 - g)".
        """
        return pages.written(self, row)

    def verdict(self) -> str:
        """Whether the hand-written reverse agrees; what of it doesn't, line by line."""
        return pages.verdict(self)

    def python(self) -> str:
        """The reverse as Python, in the form of a cell's file."""
        gated = isinstance(self.cell.step, GatedStep)
        return program(self.forward, self.steps, self.names, gated=gated)

    def __str__(self) -> str:
        return self.text()

    def _repr_markdown_(self) -> str:
        return self.markdown()

    def _repr_latex_(self) -> str:
        return f"$$\n{self.latex()}\n$$"
