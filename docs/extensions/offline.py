"""The pages need no network: a page that would fetch something is a warning."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the tests, which have no Sphinx, look at `fetched`
    from sphinx.application import Sphinx

# What a browser fetches by itself. Links that a reader follows are no such thing.
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|video)\b[^>]*\bsrc=["'](?:https?:)?//[^"']+"""
    r"""|<link\b(?![^>]*rel=["']canonical)[^>]*\bhref=["'](?:https?:)?//[^"']+"""
    r"""|@import\s+(?:url\()?["']?(?:https?:)?//[^"')]+"""
    r"""|url\(["']?(?:https?:)?//[^"')]+""",
    re.IGNORECASE,
)


def fetched(folder: Path) -> list[str]:
    """What the pages and styles of a folder would fetch, each with its file."""
    return [
        f"{path.relative_to(folder)}: {match[0]}"
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".html", ".css")
        for match in FETCHED.finditer(path.read_text("utf-8", errors="replace"))
    ]


def warn(app: "Sphinx", exception: Exception | None) -> None:
    """Warns of every fetch, after a build that went well."""
    from sphinx.util.logging import getLogger

    if exception is None and app.builder.format == "html":
        for found in fetched(Path(app.outdir)):
            getLogger(__name__).warning("needs a network: %s", found)


def setup(app: "Sphinx") -> dict[str, Any]:
    """Sphinx's door."""
    app.connect("build-finished", warn)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
