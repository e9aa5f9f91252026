"""The page: one file that holds its style, its script and its numbers."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.explain_page.case import Reading, case_of
from experiments.pages import fill, part, style
from lstm_jax.files import write_whole

ROOM = "experiments.explain_page"

FOOTER = (
    "Written by <code>python -m experiments.explain</code> of lstm_jax. The numbers "
    "are what the cell's own equations and their hand-derived reverse gave, in 64 bits."
)


def write_page(path: Path, readings: Sequence[Reading], units: int = 8) -> int:
    """Writes the page, whole or not at all; returns its size in bytes.

    Args:
        path: the file.
        readings: at least one.
        units: of each reading so many are shown.

    Raises:
        ValueError: a cell that cannot be stepped through; see `trace`.
        OSError: the file could not be written.
    """
    data = {"cases": [case_of(reading, units) for reading in readings]}
    content = page_of(data).encode()
    write_whole(path, content)
    return len(content)


def page_of(data: dict[str, Any]) -> str:
    """The page's text, from what its script reads."""
    # Within a script "</script" would end it, and "<!--" begin a comment.
    numbers = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    parts = {
        "style": style(ROOM),
        "script": part(ROOM, "page.js"),
        "footer": FOOTER,
        "data": numbers.replace("<", "\\u003c"),
    }
    return fill(part(ROOM, "page.html"), parts)
