"""What a gradient check found: a row for each quantity, and the first that is wrong."""

import html
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
        exact: relative error against automatic, graph and forward gradients.
        numerical: relative error against central differences.
        order: of the remainder's order, from 2.
    """

    exact: float = 1e-12
    numerical: float = 1e-6
    order: float = 0.1


TOLERANCES = Tolerances()
"""What the right cells of this library stay within."""


RESOLVED = 1e-6
"""Central differences that are known less well than this, relatively, say nothing."""


class Row(NamedTuple):
    """One quantity, or one claim.

    Attributes:
        where: the check it belongs to: "claims", "one step", "lengths", ...
        quantity: its name, "df".
        through: the equations that its gradient goes through.
        errors: relative error against each oracle that knows it: the largest
            deviation over the largest number that was added up to the gradient.
        worst: the index of the largest deviation.
        point: the number of the point that it is at.
        needs: the quantities that it was computed from directly.
        line: where it is computed, "my_lstm.py:20 (backward)".
        note: what is wrong beside numbers, such as the shape or the name.
        steps: the relative error at each step of a sequence, on the way back.
        passed: whether there is no note and all errors are within the tolerances.
    """

    where: str
    quantity: str
    through: tuple[int, ...]
    errors: dict[str, float]
    worst: tuple[int, ...] = ()
    point: int = 0
    needs: tuple[str, ...] = ()
    line: str | None = None
    note: str = ""
    steps: tuple[tuple[int, float], ...] = ()
    passed: bool = True

    def judged(self, tolerances: Tolerances) -> "Row":
        """The row, with the verdict."""
        limits = {"numerical": tolerances.numerical}
        within = all(
            error <= limits.get(oracle, tolerances.exact)
            for oracle, error in self.errors.items()
        )
        return self._replace(passed=within and not self.note)

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
        step: in a sequence, the first step on the way back at which it is wrong, and
            the error there; None elsewhere.
    """

    row: Row
    agreeing: tuple[str, ...]
    step: tuple[int, float] | None = None

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
        """Where it is computed, "my_lstm.py:20 (backward)"."""
        return self.row.line

    def __str__(self) -> str:
        row = self.row
        place = "" if row.where == "one step" else f" in {row.where!r}"
        said = row.note or f"relative error {max(row.errors.values()):.1e}"
        if self.step is not None:
            number, error = self.step
            said = (
                f"relative error {error:.1e} at step {number} of {len(row.steps)}, "
                "the first that is wrong on the way back"
            )
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
        points: at how many points one step was checked.
        unreached: the sides of branches that none of them reaches, as texts. The
            derivation is unchecked there; it is for the reader to say if it matters.
        missing: why there is no column "graph"; empty if there is one.
    """

    def __init__(
        self,
        name: str,
        rows: Sequence[Row],
        orders: dict[str, float],
        tolerances: Tolerances,
        skipped: Sequence[str] = (),
        *,
        points: int = 1,
        unreached: Sequence[str] = (),
        missing: str = "",
    ) -> None:
        self.name = name
        self.rows = tuple(row.judged(tolerances) for row in rows)
        self.orders = orders
        self.tolerances = tolerances
        self.skipped = tuple(skipped)
        self.points = points
        self.unreached = tuple(unreached)
        self.missing = missing

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
                agreeing = tuple(q for q in same if q in needed)
                return Finding(row, agreeing, self._first_step(row))
        return None

    def _first_step(self, row: Row) -> tuple[int, float] | None:
        limit = self.tolerances.exact
        wrong = (step for step in row.steps if not step[1] <= limit)
        return next(wrong, None)

    def worst_error(self, oracle: str) -> float:
        """The largest relative error against an oracle: "automatic", "graph", ..."""
        errors = (r.errors[oracle] for r in self.rows if oracle in r.errors)
        return max(errors, default=float("nan"))

    def table(self) -> Any:
        """A `rich.table.Table`: a line for each quantity, a section for each check."""
        from rich.table import Table

        from lstm_jax.gradcheck.rendering import fill

        return fill(Table(title=f"Gradients of {self.name}"), self)

    def __str__(self) -> str:
        from rich.console import Console

        text = io.StringIO()
        console = Console(
            file=text,
            width=100,
            color_system=None,
            legacy_windows=False,
            force_jupyter=False,  # where it would display, and write nothing
        )
        console.print(self.table())
        for where in self._wrong_orders():
            console.print(
                f"{where}: the remainder is of order {self.orders[where]:.2f}, not 2"
            )
        if self.skipped:
            console.print(
                f"Not checked before one step is right: {_listed(self.skipped)}"
            )
        for side in self.unreached:
            console.print(f"Never reached: {side}")
        if self.missing:
            console.print(f"No gradients by the graph: {self.missing}")
        found = self.first_wrong
        print(f"First wrong: {found}" if found else self._verdict(), file=text)
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines())

    def __repr__(self) -> str:
        failed = sum(not row.passed for row in self.rows)
        return f"Report({self.name!r}, {len(self.rows)} quantities, {failed} wrong)"

    def _repr_html_(self) -> str:
        """What a notebook shows: the report, with what is wrong in bold."""
        text = html.escape(str(self)).replace("WRONG", "<b>WRONG</b>")
        return f'<pre style="line-height: 1.25">{text}</pre>'

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
    **rest: Any,
) -> Row:
    """The row of one quantity: its manual gradient against what is known of `target`.

    Args:
        where: as in `Row`, and so `quantity` and `through`.
        quantity: its name.
        through: its equations.
        manual: the gradient to judge, (points, *shape).
        oracles: what is known.
        target: the quantity's name among the oracles.
        **rest: further fields of the row.
    """
    manual = np.asarray(manual)
    known = oracles.automatic if target in oracles.automatic else oracles.graph
    expected = known[target]
    if manual.shape != expected.shape:
        note = f"shape {manual.shape[1:]}, expected {expected.shape[1:]}"
        rest["note"] = rest.get("note") or note
        return Row(where, quantity, through, {"automatic": float("inf")}, **rest)
    scale = scales(expected, oracles.added_up.get(target))
    errors = {}
    for oracle in ("automatic", "graph", "forward"):
        gradient = (getattr(oracles, oracle) or {}).get(target)
        if gradient is not None:
            errors[oracle] = float(np.max(relative_errors(manual, gradient, scale)))
    if target in oracles.numerical:
        error = _numerical_error(manual, oracles.numerical[target], scale)
        if error is not None:
            errors["numerical"] = error
    point, *worst = _worst(manual, expected, scale)
    return Row(where, quantity, through, errors, tuple(worst), point, **rest)


def scales(expected: np.ndarray, added_up: np.ndarray | None = None) -> np.ndarray:
    """What errors are relative to, (points,): the largest number of a gradient.

    Or, where more was added up and cancelled, the largest that was.
    """
    rows = [expected] if added_up is None else [expected, np.nan_to_num(added_up)]
    flat = [np.abs(a).reshape(len(a), -1) for a in rows]
    return np.max(np.concatenate(flat, axis=1), axis=1, initial=0)


def relative_errors(
    found: np.ndarray, expected: np.ndarray, scale: np.ndarray
) -> np.ndarray:
    """The largest deviation over the scale, at each point; not finite is infinite."""
    deviation = np.abs(found - expected).reshape(len(found), -1)
    largest = np.max(deviation, axis=1, initial=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = np.where(largest == 0, 0, largest / scale)
    return np.where(np.isfinite(largest), errors, np.inf)


def _worst(
    found: np.ndarray, expected: np.ndarray, scale: np.ndarray
) -> tuple[int, ...]:
    """The point and the index of the largest relative deviation."""
    if not found.size:
        return (0,)
    deviation = np.abs(np.nan_to_num(found - expected, nan=np.inf))
    scale = np.where(scale > 0, scale, 1).reshape(-1, *(1,) * (found.ndim - 1))
    index = np.unravel_index(np.argmax(deviation / scale), found.shape)
    return tuple(map(int, index))


def _numerical_error(
    manual: np.ndarray, known: Numerical, scale: np.ndarray
) -> float | None:
    """The relative error where differences can tell it; None if nowhere."""
    if known.directions is not None:
        manual = slope(known.directions, manual)
        scale = np.maximum(scale, scales(known.values))
    deviation = np.abs(manual - known.values)
    scale = scale.reshape(-1, *(1,) * (deviation.ndim - 1))
    resolved = 8 * known.doubt <= RESOLVED * scale
    if not np.isfinite(manual).all():
        return float("inf")
    if not np.any(resolved):
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = np.where(deviation == 0, 0, deviation / scale)
    return float(np.max(errors[resolved]))


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
