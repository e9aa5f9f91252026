"""The reference: a page for every door of the library, made from its docstrings.

A name has its place on the page of the first door that exports it, and is a link on the
others. A public name without a place, or without a docstring, is a warning.
"""

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from sphinx.application import Sphinx
from sphinx.domains.python import PyObject
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

from docs.extensions import generated
from docs.extensions.doors import doors, places, public, said_below, says_something
from docs.extensions.gallery import module_of
from lstm_jax import CELLS, Cell

LOGGER = logging.getLogger(__name__)

# --- pages ---------------------------------------------------------------------------


def write_pages(app: Sphinx) -> None:
    """Writes reference/index.md and a page for every door."""
    where = places()
    pages = {door: "\n".join(_page(door, where)) + "\n" for door in doors()}
    rows = [f"| {{py:mod}}`{door}` | {_first_line(door)} |" for door in pages]
    pages["index"] = "\n".join(
        [
            "# Reference",
            "",
            "`import lstm_jax as lj` has what most programs need; the rest is in the",
            "module that its subject names. All of it is made from the docstrings.",
            "",
            "| module | what it has |",
            "|---|---|",
            *rows,
            "",
            *generated.hidden_contents(pages),
        ]
    )
    generated.write(Path(app.srcdir) / "reference", pages)


def _first_line(door: str) -> str:
    said = inspect.getdoc(importlib.import_module(door)) or ""
    line = said.split("\n\n")[0].replace("\n", " ")
    return line.partition(": ")[2] if line.startswith("`") else line


def _page(door: str, where: dict[str, str]) -> Iterator[str]:
    module = importlib.import_module(door)
    elsewhere = []
    yield from (f"# {door}", "", "```{eval-rst}", f".. automodule:: {door}", "")
    for name in public(door):
        full = f"{door}.{name}"
        if where[full] == full and full not in doors():
            yield from (*_described(module, name), "")
        else:
            elsewhere.append(where[full])
    yield "```"
    if elsewhere:
        yield from ("", "Described on other pages:", "")
        for target in elsewhere:
            role = "py:mod" if target in doors() else "py:obj"
            yield f"- {{{role}}}`{target}`"


def _described(module: ModuleType, name: str) -> list[str]:
    """The directive that describes a name."""
    value, full = getattr(module, name), f"{module.__name__}.{name}"
    if inspect.isclass(value):
        kind = "exception" if issubclass(value, BaseException) else "class"
        lines = [f".. auto{kind}:: {full}"]
        if members := _members(value):
            lines.append(f"   :members: {', '.join(members)}")
        return lines
    if inspect.isfunction(value):
        return [f".. autofunction:: {full}"]
    if isinstance(value, Cell) and value.name in CELLS:
        said = (
            f"The cell ``lstm_jax.CELLS[{value.name!r}]``: :doc:`/cells/{value.name}`."
        )
    elif isinstance(value, Cell):  # no page in the gallery: its file says what it is
        said = inspect.getdoc(module_of(value)) or ""
    else:
        said = said_below(module, name)
    lines = [f".. py:data:: {name}", f"   :module: {module.__name__}", ""]
    return [*lines, *(f"   {line}" for line in said.splitlines())]


def _members(value: type) -> list[str]:
    """What a class defines itself, its fields aside: those are in its docstring."""
    fields = {*getattr(value, "_fields", ()), *getattr(value, "__annotations__", ())}
    return [
        name
        for name, member in vars(value).items()
        if name not in fields
        and (not name.startswith("_") or name == "__call__")
        and inspect.getdoc(member)
    ]


COLON = "\ue000"
"""Stands for the colons in a property's text while napoleon reads it: to napoleon, what
is before one is the type."""


def escape(
    app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]
) -> None:
    """An asterisk in a docstring is one, and so is a bar: (*batch, H), |z|."""
    literal = None  # the indentation of the text around a literal block
    example = False
    lines[:] = [line.replace(COLON, ":") for line in lines]
    for number, line in enumerate(lines):
        depth = len(line) - len(line.lstrip())
        example = line.lstrip().startswith(">>> ") or (example and bool(line.strip()))
        if literal is not None and line.strip() and depth <= literal:
            literal = None
        if literal is None and not example:
            bullet = re.match(r"(?:\s*\* )?", line)[0]
            text = line.removeprefix(bullet)
            parts = re.split(r"(`+[^`]*`+)", text)
            parts[::2] = [re.sub(r"(?<!\\)([*|])", r"\\\1", p) for p in parts[::2]]
            lines[number] = bullet + "".join(parts)
            literal = depth if line.endswith("::") else None


def hide_colons(
    app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]
) -> None:
    """Before napoleon; `escape` brings them back."""
    if what == "property":
        lines[:] = [line.replace(":", COLON) for line in lines]


def resolve(app: Sphinx, env: BuildEnvironment, node: Any, content: Any) -> Any | None:
    """A name that is described on another page: `check_gradients` in gradcheck's."""
    if node.get("refdomain") != "py":
        return None
    target, where = node["reftarget"], places()
    for full in (target, f"{node.get('py:module')}.{target}"):
        place = where.get(full.replace("lj.", "lstm_jax.", 1))
        if place is not None and place != target:
            python = env.get_domain("py")
            where_it_is = env, node["refdoc"], app.builder
            return python.resolve_xref(*where_it_is, "obj", place, node, content)
    return None


# --- the check -----------------------------------------------------------------------


def warn(app: Sphinx, env: BuildEnvironment) -> None:
    """Warns of public names that the pages don't describe, or that say nothing."""
    described = {name for name, *_ in env.get_domain("py").get_objects()}
    for exported, place in places().items():
        if place not in described:
            LOGGER.warning("%s is public and has no place in the reference", exported)
        if not says_something(place):
            LOGGER.warning("%s is public and has no docstring", exported)


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx's door."""
    [variables] = (f for f in PyObject.doc_field_types if f.name == "variable")
    variables.label = "Attributes"
    app.connect("builder-inited", write_pages)
    app.connect("missing-reference", resolve)
    app.connect("autodoc-process-docstring", hide_colons, priority=100)
    app.connect("autodoc-process-docstring", escape, priority=900)  # after napoleon
    app.connect("env-check-consistency", warn)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
