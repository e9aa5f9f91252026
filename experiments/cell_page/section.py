"""A section of the page: what it found, as HTML and as a record."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from lstm_jax.cell import Cell


class Asked(NamedTuple):
    """What a page is asked for.

    Attributes:
        cell: what it is about.
        place: as `lstm_jax.cells.find_cell` takes the cell.
        shape: T, B, D and H of what is timed.
        tasks: names of `experiments.tasks.variants.TASKS` to train on.
        steps: of each training; None for the task's own.
        seeds: train with the seeds 0, 1, ..., so many.
        folder: for the page, its record and the trainings.
        console: for progress.
    """

    cell: Cell
    place: str
    shape: tuple[int, int, int, int]
    tasks: tuple[str, ...]
    steps: int | None
    seeds: int
    folder: Path
    console: Console


class Section(NamedTuple):
    """What one section found.

    Attributes:
        glance: the finding in a few words; letters alone, no HTML.
        body: HTML.
        record: the same for JSON.
        good: whether the finding is good or bad; None if it is neither.
    """

    glance: str
    body: str
    record: dict[str, Any]
    good: bool | None = None


def paragraph(text: str, kind: str = "") -> str:
    """Plain text as a paragraph."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def listing(text: str) -> str:
    """Text as it stands, in letters of one width."""
    return f'<pre class="listing">{escape(text)}</pre>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table, of cells that are HTML."""
    return (
        f'<div class="wide"><table><thead>{_row("th", head)}</thead>'
        f"<tbody>{''.join(_row('td', row) for row in rows)}</tbody></table></div>"
    )


def _row(tag: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{cell}</{tag}>' for cell in cells)}</tr>"


def folded(summary: str, body: str) -> str:
    """HTML that is shown when one asks for it."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"
