"""The page: section after section, each with its own failures, in one file."""

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from html import escape
from math import isfinite
from typing import Any

from experiments.cell_page import equations, flow, gradients, learning, speed
from experiments.cell_page.section import Asked, Section, folded, listing
from experiments.cell_source import cell_source
from experiments.legible import one_line
from experiments.pages import fill, part, style
from experiments.training import Records, environment
from lstm_jax.files import write_whole

ROOM = "experiments.cell_page"

SECTIONS: dict[str, tuple[str, Callable[[Asked], Section]]] = {
    "gradients": ("Is every gradient right?", gradients.section),
    "graph": ("The graph of a step", equations.graph),
    "derivation": ("The backward pass, derived", equations.derivation),
    "speed": ("What runs, and how fast", speed.section),
    "flow": ("How gradients travel back", flow.section),
    "learning": ("Does it learn?", learning.section),
}
"""Of the page, in order: by what the record calls them, title and maker."""


def make_page(asked: Asked) -> dict[str, Any]:
    """Writes page.html and result.json into the folder; returns what the latter holds.

    What fails in a section is told there, and the others are made. After Ctrl-C the
    page has those that were.

    Raises:
        OSError: a file could not be written.
    """
    made: dict[str, Section] = {}
    record: dict[str, Any] = {
        "cell": asked.cell.name,
        **cell_source(asked.place),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": environment(),
    }
    folder = asked.folder / asked.cell.name
    say = partial(asked.console.print, highlight=False, markup=False, soft_wrap=True)
    try:
        for name, (title, make) in SECTIONS.items():
            say(f"{title} ...")
            start = time.perf_counter()
            made[name] = attempted(make, asked)
            seconds = time.perf_counter() - start
            say(f"    {made[name].glance} ({seconds:.0f} s)")
            record[name] = {"seconds": seconds, **made[name].record}
    finally:
        Records(folder).write("result", finite(record))
        write_whole(folder / "page.html", page_of(asked, made, record).encode())
    return record


def finite(record: Any) -> Any:
    """A record as JSON can hold it: None for what is no number, or infinite."""
    if isinstance(record, Mapping):
        return {key: finite(value) for key, value in record.items()}
    if isinstance(record, Sequence) and not isinstance(record, str):
        return [finite(value) for value in record]
    return None if isinstance(record, float) and not isfinite(record) else record


def attempted(make: Callable[[Asked], Section], asked: Asked) -> Section:
    """A section, or one that says why there is none."""
    try:
        return make(asked)
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        trace = "".join(traceback.format_exception(error))
        glance = f"failed: {one_line(said, 120)}"
        body = f'<div class="bad">{listing(said)}</div>'
        body += folded("Where it happened", listing(trace))
        return Section(glance, body, {"error": said}, good=False)


def page_of(asked: Asked, made: dict[str, Section], record: dict[str, Any]) -> str:
    """The page's text."""
    sections = "".join(
        f'<section id="{name}"><h2>{escape(SECTIONS[name][0])}</h2>'
        f"{section.body}</section>"
        for name, section in made.items()
    )
    glances = "".join(
        f'<a class="tile {MOODS[section.good]}" href="#{name}"><span>{name}</span>'
        f"<b>{escape(section.glance)}</b></a>"
        for name, section in made.items()
    )
    where = record["environment"]
    versions = where["versions"]
    parts = {
        "style": style(ROOM),
        "name": escape(asked.cell.name),
        "about": escape(asked.place),
        "glances": glances,
        "sections": sections,
        "further": further(asked.place),
        "footer": escape(
            f"Written {record['date']} by python -m experiments.cell_report of "
            f"lstm_jax, with jax {versions['jax']} on {where['device']}, "
            f"{where['cpu_count']} processors."
        ),
    }
    return fill(part(ROOM, "page.html"), parts)


def further(place: str) -> str:
    """What else there is to ask about a cell, as commands."""
    commands = (
        f"experiments.cell_variants --cells lstm {place} --name mine",
        f"experiments.imdb --preset quick --cell {place} --name mine",
        f"experiments.compare_gradients --cells {place}",
        f"benchmarks --cell {place}",
        f"benchmarks.mutation_score --cells {place}",
        f"lstm_jax.engine.compiled --cell {place}",
    )
    return listing("\n".join(f"python -m {command}" for command in commands))


MOODS = {True: "good", False: "bad", None: ""}
