"""`derive`: from a cell to the derivation of its backward pass."""

from functools import lru_cache

from lstm_jax.cell import Cell
from lstm_jax.derivation.chain import Step, chain
from lstm_jax.derivation.comparison import compared, random_values
from lstm_jax.derivation.evaluation import Values
from lstm_jax.derivation.forward import Forward, forward_of
from lstm_jax.derivation.letters import ARTICLE, LETTERS
from lstm_jax.derivation.result import Derivation, Row
from lstm_jax.derivation.writing import names_of
from lstm_jax.engine import checks
from lstm_jax.gradcheck.points import forward_only
from lstm_jax.gradcheck.settings import as_compared

INPUT_SIZE, BATCH = 5, 3


def derive(
    cell: Cell | str, *, letters: str = "own", hidden_size: int = 11
) -> Derivation:
    """Derives the backward pass of a cell from its equations.

    A step is traced in float64, with three examples, and read as numbered equations.
    For every quantity, from the last equation to the first, its gradient is the sum
    over its immediate outputs of their gradients times the local derivatives, which are
    those of `lstm_jax.graph.RULES`. If the cell has a hand-written reverse, each
    gradient that it names or returns is compared with the derived one: as an
    expression, and in its values at three random points.

    Args:
        cell: a cell, or the name of one of `CELLS`. It need not have a reverse.
        letters: "own" for the names that the equations have, "article" for those of the
            article, which are the LSTM's (Γ, c̃, a⟨t⟩).
        hidden_size: H of the arrays that are traced. Numbers that are 1/H or √H, or of
            a small multiple of H, are written so; it should be one that the equations
            don't have otherwise, and a multiple of their heads.

    Returns:
        The derivation; ``print(derive(cell))`` shows it.

    Raises:
        TypeError: `cell` is neither a cell nor a name.
        ValueError: there is no cell of this name, or no such letters for it.
        NotDerivable: an operation can't be written; the message says how to add it.
        lstm_jax.graph.UnknownPrimitiveError: the table has no rule for an operation;
            the message says how to add one.

    Example:
        >>> import lstm_jax as lj
        >>> row = lj.derive("lstm").row("c")
        >>> [use.name or "next step" for use in row.uses], row.agrees
        (['next step', 'a'], True)
        >>> row.lines[0].text
        'dc = dc_next + da * (1 - a**2)  # (6)'
    """
    cell = checks.as_cell(cell)
    checks.check_choice("letters", letters, tuple(LETTERS))
    with as_compared():
        forward, steps, points = _from_equations(forward_only(cell), hidden_size)
        lines = compared(cell, forward, steps, points)
    _check_letters(letters, forward)
    return Derivation(
        cell=cell,
        forward=forward,
        steps=steps,
        rows=tuple(
            Row(step, forward.equation(q := step.quantity), tuple(lines.get(q, ())))
            for step in steps
        ),
        names=names_of(forward, steps, hidden_size),
        letters=LETTERS[letters],
    )


@lru_cache(maxsize=32)
def _from_equations(
    cell: Cell, hidden_size: int
) -> tuple[Forward, tuple[Step, ...], list[Values]]:
    """What depends on a cell's forward alone: a reverse may change and be compared."""
    forward = forward_of(cell, INPUT_SIZE, hidden_size, BATCH)
    steps = chain(forward)
    return forward, steps, random_values(cell, forward, steps)


def _check_letters(letters: str, forward: Forward) -> None:
    """Raises ValueError if a set of letters lacks one for a quantity."""
    quantities = [*forward.inputs, *(e.name for e in forward.equations)]
    missing = [q for q in quantities if q not in ARTICLE.latex]
    if letters == ARTICLE.name and missing:
        raise ValueError(
            f"the article's letters are the LSTM's; there is none for "
            f"{', '.join(missing)}"
        )
