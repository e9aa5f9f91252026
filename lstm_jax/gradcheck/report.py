"""What a gradient check found: a row for each quantity, and the first that is wrong."""

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lstm_jax.gradcheck.oracles import Numerical, Oracles, slope

ORDER = 2.0
"""What the remainder of a right gradient shrinks with."""


class Tolerances(NamedTuple):
    """How far a manual gradient may be from each oracle, in float64.

    Attributes:
        exact: relative error against automatic and graph gradients.
        numerical: relative error against central differences.
        order: of the remainder's order, from 2.
    """

    exact: float = 1e-12
    numerical: float = 1e-6
    order: float = 0.1


TOLERANCES = Tolerances()
"""What the right cells of this library stay within."""


class Row(NamedTuple):
    """One quantity.

    Attributes:
        where: the check it belongs to: "one step", "lengths", ...
        quantity: its name, "df".
        through: the equations that its gradient goes through.
        errors: relative error against each oracle that knows it, the largest
            deviation over the largest gradient.
        worst: the index of the largest deviation.
        passed: whether all errors are within their tolerances.
        needs: the quantities that it was computed from directly.
        line: where it is computed, "lstm.py:170 (backward)".
        note: what else there is to say, such as a wrong shape.
    """

    where: str
    quantity: str
    through: tuple[int, ...]
    errors: dict[str, float]
    worst: tuple[int, ...]
    passed: bool
    needs: tuple[str, ...] = ()
    line: str | None = None
    note: str = ""

    @property
    def label(self) -> str:
        """The quantity and its equations: "df (through (5))"."""
        if not self.through:
            return self.quantity
        listed = ", ".join(f"({number})" for number in self.through)
        return f"{self.quantity} (through {listed})"


class Finding(NamedTuple):
    """The first quantity that is wrong while everything it depends on is right.

    Attributes:
        row: its row.
        agreeing: the quantities that it depends on, all of them right.
    """

    row: Row
    agreeing: tuple[str, ...]

    @property
    def quantity(self) -> str:
        """Its name, "df"."""
        return self.row.quantity

    @property
    def equations(self) -> tuple[int, ...]:
        """The numbers of the equations that its gradient goes through."""
        return self.row.through

    @property
    def line(self) -> str | None:
        """Where it is computed, "lstm.py:170 (backward)"."""
        return self.row.line

    def __str__(self) -> str:
        row = self.row
        place = "" if row.where == "one step" else f" in {row.where!r}"
        said = row.note or f"relative error {max(row.errors.values()):.1e}"
        text = f"{row.label}{place}: {said}"
        if self.agreeing:
            verb = "agrees" if len(self.agreeing) == 1 else "agree"
            text += f"; {_listed(self.agreeing)} {verb}"
        return text + (f"\n  computed in {row.line}" if row.line else "")


class Report:
    """The outcome of `check_gradients` or `check_vjp`.

    Attributes:
        name: what was checked.
        rows: one for each quantity, in backward order, check after check.
        orders: the order of the Taylor remainder of each check.
        tolerances: what passes.
        skipped: the checks that were not made because one step is already wrong.
    """

    def __init__(
        self,
        name: str,
        rows: Sequence[Row],
        orders: dict[str, float],
        tolerances: Tolerances,
        skipped: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.rows = tuple(rows)
        self.orders = orders
        self.tolerances = tolerances
        self.skipped = tuple(skipped)

    @property
    def ok(self) -> bool:
        """Whether every row passed and every remainder is of order 2."""
        return all(row.passed for row in self.rows) and not self._wrong_orders()

    @property
    def first_wrong(self) -> Finding | None:
        """The first quantity that is wrong while all that it needs is right.

        None if every row passed.
        """
        for row in self.rows:
            same = {r.quantity: r for r in self.rows if r.where == row.where}
            if not row.passed and all(same[need].passed for need in row.needs):
                needed = _everything_behind(row, same)
                return Finding(row, tuple(q for q in same if q in needed))
        return None

    def worst_error(self, oracle: str) -> float:
        """The largest relative error against an oracle: "automatic", "graph", ..."""
        return max(r.errors[oracle] for r in self.rows if oracle in r.errors)

    def table(self) -> Any:
        """A `rich.table.Table`: a line for each quantity, a section for each check."""
        from rich.table import Table

        from lstm_jax.gradcheck.rendering import fill

        return fill(Table(title=f"Gradients of {self.name}"), self)

    def __str__(self) -> str:
        from rich.console import Console

        text = io.StringIO()
        console = Console(file=text, width=88, color_system=None, legacy_windows=False)
        console.print(self.table())
        for where in self._wrong_orders():
            console.print(
                f"{where}: the remainder is of order {self.orders[where]:.2f}, not 2"
            )
        if self.skipped:
            console.print(
                f"Not checked before one step is right: {_listed(self.skipped)}"
            )
        found = self.first_wrong
        print(f"First wrong: {found}" if found else self._verdict(), file=text)
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines())

    def __repr__(self) -> str:
        failed = sum(not row.passed for row in self.rows)
        return f"Report({self.name!r}, {len(self.rows)} quantities, {failed} wrong)"

    def _verdict(self) -> str:
        return "All gradients agree." if self.ok else "The remainders are wrong."

    def _wrong_orders(self) -> list[str]:
        within = self.tolerances.order
        return [w for w, o in self.orders.items() if not abs(o - ORDER) <= within]


def compare(
    where: str,
    quantity: str,
    through: tuple[int, ...],
    manual: Any,
    oracles: Oracles,
    target: str,
    tolerances: Tolerances,
    **rest: Any,
) -> Row:
    """The row of one quantity: its manual gradient against what is known of `target`.

    Args:
        where: as in `Row`, and so `quantity` and `through`.
        quantity: its name.
        through: its equations.
        manual: the gradient to judge.
        oracles: what is known.
        target: the quantity's name among the oracles.
        tolerances: what passes.
        **rest: further fields of the row.
    """
    manual = np.asarray(manual)
    known = oracles.automatic if target in oracles.automatic else oracles.graph
    expected = known[target]
    if manual.shape != expected.shape:
        note = f"shape {manual.shape}, expected {expected.shape}"
        errors = {"automatic": float("inf")}
        return Row(
            where, quantity, through, errors, (), passed=False, note=note, **rest
        )

    errors, passed = {}, True
    for oracle in ("automatic", "graph"):
        gradient = getattr(oracles, oracle).get(target)
        if gradient is not None:
            errors[oracle] = relative_error(manual, gradient)
            passed &= errors[oracle] <= tolerances.exact
    if target in oracles.numerical:
        error, within = _numerical_error(manual, oracles.numerical[target], tolerances)
        errors["numerical"] = error
        passed &= within
    deviation = np.abs(np.nan_to_num(manual - expected, nan=np.inf))
    worst = np.unravel_index(np.argmax(deviation), manual.shape) if manual.size else ()
    return Row(
        where, quantity, through, errors, tuple(map(int, worst)), bool(passed), **rest
    )


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest deviation over the largest expected entry; not finite is infinite."""
    if not found.size:
        return 0.0
    deviation = float(np.max(np.abs(found - expected)))
    scale = float(np.max(np.abs(expected)))
    if not np.isfinite(deviation):
        return float("inf")
    if deviation == 0:
        return 0.0
    return deviation / scale if scale else float("inf")


def _numerical_error(
    manual: np.ndarray, known: Numerical, tolerances: Tolerances
) -> tuple[float, bool]:
    """The relative error, and whether it passes: what is below rounding does."""
    if known.directions is not None:
        manual = slope(known.directions, manual)
    error = relative_error(manual, known.values)
    if not manual.size:
        return error, True
    unresolved = np.max(np.abs(manual - known.values)) <= 8 * known.resolution
    return error, bool(error <= tolerances.numerical or unresolved)


def _everything_behind(row: Row, rows: dict[str, Row]) -> set[str]:
    """The quantities that a row was computed from, directly or not."""
    found: set[str] = set()
    stack = list(row.needs)
    while stack:
        need = stack.pop()
        if need not in found:
            found.add(need)
            stack += rows[need].needs
    return found


def _listed(names: Sequence[str]) -> str:
    *rest, last = names
    return f"{', '.join(rest)} and {last}" if rest else last
