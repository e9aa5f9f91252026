"""The gallery: a page for every cell, made from its file, its graph and the tables.

Nothing of it is committed, so that no page can say anything else than the cell's file.
"""

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import lstm_jax as lj
from docs.extensions import drawings, generated

if TYPE_CHECKING:  # the tests have no Sphinx
    from sphinx.application import Sphinx

ROOT = Path(__file__).parent.parent.parent
MUTATIONS = ROOT / "docs" / "mutation_score.md"
SPEED = ROOT / "benchmarks" / "README.md"
EXPERIMENTS = ROOT / "experiments" / "README.md"
HOW_TO_READ = """\
Boxes are parameters, the old state and the input; ovals are the numbered equations; a
thick outline is the new state. On every edge stands the local derivative that the
gradient meets on its way back."""


def write_pages(app: "Sphinx") -> None:
    """Writes cells/index.md, a page for every cell, and the first page's drawing."""
    from sphinx.util.logging import getLogger

    folder = Path(app.srcdir) / "cells"
    pages = {name: _page(cell) for name, cell in lj.CELLS.items()}
    pages["index"] = _index()
    generated.write(folder, pages)
    picture = drawings.svg(drawings.lstm_drawing())
    (folder / "lstm.html").write_text(_figure(picture, "fits"), "utf-8")
    if drawings.README_PICTURE.read_text("utf-8") != drawings.readme_picture():
        getLogger(__name__).warning(
            "%s is old: python -m docs.extensions.drawings writes it anew",
            drawings.README_PICTURE,
        )


# --- the index -----------------------------------------------------------------------


def _index() -> str:
    cards = []
    for name, cell in lj.CELLS.items():
        picture = drawings.svg(drawings.step_drawing(cell))
        cards += [
            f":::{{grid-item-card}} `{name}`",
            f":link: {name}",
            ":link-type: doc",
            "",
            _raw(_figure(picture, "small")),
            "",
            _first_sentence(module_of(cell)),
            ":::",
            "",
        ]
    return "\n".join(
        [
            "# The cells",
            "",
            "Each from its paper, each a file of equations and their hand-derived",
            "reverse. `lj.unroll`, `lj.step`, `lj.check_gradients` and the experiments",
            "take any of them.",
            "",
            "::::{grid} 1 2 2 2",
            ":gutter: 3",
            "",
            *cards,
            "::::",
            "",
            *generated.hidden_contents(lj.CELLS),
        ]
    )


# --- a cell's page -------------------------------------------------------------------


def _page(cell: lj.Cell) -> str:
    module = module_of(cell)
    file = Path(inspect.getfile(module)).relative_to(ROOT)
    sections = [
        f"# {cell.name}",
        "```{eval-rst}\n" + (inspect.getdoc(module) or "") + "\n```",
        "## The graph of a step",
        HOW_TO_READ,
        _raw(_figure(drawings.svg(drawings.step_drawing(cell)))),
        "## The equations and their reverse",
        f"From `{file}`, whole but for what stands above:",
        f"```{{literalinclude}} ../../{file}\n:language: python\n"
        f":lines: {_after_docstring(module)}-\n:lineno-match:\n```",
        *_derivation(cell),
        "## What was measured",
        *_measured(cell.name),
    ]
    return "\n\n".join(sections) + "\n"


def _derivation(cell: lj.Cell) -> Iterator[str]:
    yield "## The derivation"
    yield (
        "Made by `lj.derive` from the equations and the local rules, not from the "
        "reverse above; beside each result stands the line that computes it, and "
        "whether the two agree."
    )
    yield re.sub(r"(?m)^(#+ )", r"##\1", lj.derive(cell).markdown())


def _measured(name: str) -> Iterator[str]:
    yield (
        "**Mistakes planted in the reverse above, and caught** "
        "([how](../mutation_score.md)):"
    )
    yield _as_table(table_row(MUTATIONS, "mutants", name))
    yield (
        "**Speed**, value and gradient of a layer on two CPU cores ([all cells, and "
        "what was measured](../benchmarks.md)):"
    )
    yield _as_table(table_row(SPEED, "time / LSTM's", name))
    yield (
        "**Small tasks**, five seeds, mean and half of the 95% interval; an asterisk "
        "where the LSTM's interval is left ([all cells, and how to read "
        "them](../experiments.md)):"
    )
    yield _as_table(table_row(EXPERIMENTS, "adding problem (mean squared error)", name))


def table_row(path: Path, column: str, name: str) -> dict[str, str]:
    """The row of a cell in the table of a document that has a column of that name.

    Empty if the cell has no row yet.

    Raises:
        LookupError: there is no such table.
    """
    header: list[str] = []
    tables = 0
    for line in path.read_text("utf-8").splitlines():
        cells = [part.strip() for part in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            header = []
        elif not header:
            header = cells
            tables += header[0] == "cell" and column in header
        elif header[0] == "cell" and column in header and cells[0] == name:
            return dict(zip(header[1:], cells[1:], strict=True))
    if not tables:
        raise LookupError(f"{path} has no table of cells with {column!r}")
    return {}


def _as_table(row: dict[str, str]) -> str:
    if not row:
        return "Not measured yet."
    names, values = " | ".join(row), " | ".join(row.values())
    return f"| {names} |\n|{'---|' * len(row)}\n| {values} |"


# --- files ---------------------------------------------------------------------------


def module_of(cell: lj.Cell) -> ModuleType:
    """The module that a cell is written in."""
    inside = [
        m for name, m in sys.modules.items() if name.startswith("lstm_jax.cells.")
    ]
    for module in inside:
        if any(value is cell for value in vars(module).values()):
            return module
    raise LookupError(f"no module of lstm_jax.cells has {cell.name}")


def _first_sentence(module: ModuleType) -> str:
    return (inspect.getdoc(module) or "").partition("\n\n")[0]


def _after_docstring(module: ModuleType) -> int:
    body = ast.parse(inspect.getsource(module)).body
    return body[0].end_lineno + 2  # a blank line between


def _figure(svg: str, kind: str = "") -> str:
    return f'<div class="drawing {kind}">{svg}</div>'


def _raw(text: str) -> str:
    return f"```{{raw}} html\n{text}\n```"


def setup(app: "Sphinx") -> dict[str, Any]:
    """Sphinx's door."""
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
