"""Is every gradient right? The check's report; of a wrong one, the line."""

import inspect
import linecache
from collections.abc import Sequence
from html import escape
from pathlib import Path
from types import FunctionType

from experiments.cell_page.section import (
    Asked,
    Section,
    folded,
    listing,
    paragraph,
    table,
)
from lstm_jax.cell import Cell
from lstm_jax.gradcheck import Finding, Report, Row, check_gradients

ORACLES = ("automatic", "graph", "forward", "numerical")


def section(asked: Asked) -> Section:
    """The gradient check, as `lstm_jax.check_gradients` makes it by default."""
    if not asked.cell.derived:
        told = "The cell has no hand-derived backward: its gradients are automatic."
        return Section("no backward", paragraph(told), {"derived": False})
    report = check_gradients(asked.cell)
    found = report.first_wrong
    record = {
        "derived": True,
        "ok": report.ok,
        "first_wrong": None if found is None else str(found),
        "line": None if found is None else found.line,
        "orders": report.orders,
        "rows": [row._asdict() for row in report.rows],
    }
    return Section(_glance(report), _body(asked.cell, report), record, good=report.ok)


def _glance(report: Report) -> str:
    if report.ok:
        return f"all {len(report.rows)} agree"
    found = report.first_wrong
    return f"wrong: {found.row.label}" if found else "wrong remainders"


def _body(cell: Cell, report: Report) -> str:
    how = (
        "Every gradient four ways, in float64: by the cell's own reverse, by JAX, by "
        "the local rules on the computation graph, by central differences; of "
        "sequences also carried forward. Numbers are relative errors."
    )
    parts = [paragraph(how, "quiet")]
    if found := report.first_wrong:
        parts.append(_wrong(cell, found))
    elif not report.ok:
        parts.append(paragraph(str(report).splitlines()[-1], "bad"))
    parts += [
        paragraph(f"Never reached, and so unchecked: {side}")
        for side in report.unreached
    ]
    if report.missing:
        parts.append(paragraph(f"No gradients by the graph: {report.missing}"))
    claims, step, rest = _by_check(report.rows)
    if all(row.passed for row in claims):
        held = ", ".join(row.quantity for row in claims)
        parts.append(paragraph(f"What the cell says of itself holds: {held}."))
    else:
        parts.append(_rows(claims))
    if step:
        parts.append(_rows(step))
    if rest:
        checks = ", ".join(dict.fromkeys(row.where for row in rest))
        right = sum(row.passed for row in rest)
        parts.append(
            folded(f"Sequences ({checks}): {right} of {len(rest)} right", _rows(rest))
        )
    if report.skipped:
        told = "Not checked before one step is right: " + ", ".join(report.skipped)
        parts.append(paragraph(told))
    return "".join(parts)


def _by_check(rows: Sequence[Row]) -> tuple[list[Row], list[Row], list[Row]]:
    """Those of the claims, of one step, of sequences."""
    claims = [row for row in rows if row.where == "claims"]
    step = [row for row in rows if row.where == "one step"]
    return claims, step, [row for row in rows if row not in (*claims, *step)]


def _wrong(cell: Cell, found: Finding) -> str:
    """The first wrong quantity, and the line that computes it."""
    said, *_ = str(found).splitlines()
    told = f"<p><b>First wrong:</b> {escape(said)}</p>"
    line = listing(f"{found.line}   {_text_of(cell, found.line)}") if found.line else ""
    return f'<div class="bad">{told}{line}</div>'


def _text_of(cell: Cell, line: str) -> str:
    """What stands on "my_lstm.py:20 (backward)", where that is the cell's own file."""
    file, _, number = line.partition(" ")[0].partition(":")
    own = inspect.unwrap(getattr(cell.backward, "backward", cell.backward))
    path = own.__code__.co_filename if isinstance(own, FunctionType) else ""
    known = Path(path).name == file and number.isdigit()
    return linecache.getline(path, int(number)).strip() if known else ""


def _rows(rows: Sequence[Row]) -> str:
    asked = {oracle for row in rows for oracle in row.errors}
    oracles = [oracle for oracle in ORACLES if oracle in asked]
    lines, last = [], None
    for row in rows:
        through = ", ".join(f"({number})" for number in row.through[:3])
        errors = [_shown(row.errors.get(oracle)) for oracle in oracles]
        verdict = "✓" if row.passed else '<b class="wrong">wrong</b>'
        lines.append(
            [
                escape(row.where) if row.where != last else "",
                f"<code>{escape(row.quantity)}</code>",
                through + (" …" if len(row.through) > 3 else ""),
                *errors,
                verdict + (f" {escape(row.note)}" if row.note else ""),
            ]
        )
        last = row.where
    return table(["check", "gradient", "through", *oracles, ""], lines)


def _shown(error: float | None) -> str:
    if error is None:
        return "–"
    return f"{error:.0e}" if error else "0"
