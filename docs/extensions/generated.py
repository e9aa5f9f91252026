"""Pages that are made while the site is built; none of them is committed."""

from collections.abc import Iterable, Mapping
from pathlib import Path


def hidden_contents(pages: Iterable[str]) -> list[str]:
    """The lines of a table of contents that only the sidebar shows."""
    return ["```{toctree}", ":hidden:", "", *pages, "```", ""]


def write(folder: Path, pages: Mapping[str, str]) -> None:
    """Makes a folder hold these pages and no others; those that changed are written."""
    folder.mkdir(exist_ok=True)
    for name, text in pages.items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
    for path in folder.glob("*.md"):
        if path.stem not in pages:
            path.unlink()
