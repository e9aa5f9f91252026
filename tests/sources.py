"""Programs made by tests, with a source for whoever looks for it, as a notebook's."""

import linecache
from typing import Any


def execute(text: str, file: str, scope: dict[str, Any]) -> dict[str, Any]:
    """Runs a program in a scope, and returns this; its source is found under `file`."""
    linecache.cache[file] = len(text), None, text.splitlines(keepends=True), file
    exec(compile(text, file, "exec"), scope)
    return scope
