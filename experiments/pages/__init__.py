"""Pages that need no network: one file, its style and its script inside.

What they share: `base.css`, colours for light and dark screens and the plain elements;
how a page is put together from its parts; `layout`, where a graph's nodes stand.
"""

from collections.abc import Mapping
from importlib.resources import files

from experiments.pages.layout import Layout, lay_out

BASE = "experiments.pages"

__all__ = ["Layout", "fill", "lay_out", "part", "style"]


def part(room: str, name: str) -> str:
    """The text of a file that lies in a room."""
    return files(room).joinpath(name).read_text("utf-8")


def style(room: str) -> str:
    """What all pages look like, and then the room's own page.css."""
    return part(BASE, "base.css") + part(room, "page.css")


def fill(text: str, parts: Mapping[str, str]) -> str:
    """A page's text with each ``{{name}}`` replaced by the part of that name."""
    for name, own in parts.items():
        text = text.replace(f"{{{{{name}}}}}", own)
    return text
