"""The graph of a step, and its backward pass derived from the equations."""

from collections.abc import Iterator
from html import escape
from typing import Any

import jax
import jax.numpy as jnp

from experiments.cell_page.drawing import svg_of
from experiments.cell_page.section import Asked, Section, listing, paragraph, table
from lstm_jax.cell import Cell
from lstm_jax.derivation import Derivation, Row, derive
from lstm_jax.graph import Drawing, render

BATCH, INPUTS, UNITS = 4, 6, 8


def graph(asked: Asked) -> Section:
    """A step, drawn."""
    drawing = step_drawing(asked.cell)
    nodes, edges = len(drawing.diagram.nodes), len(drawing.diagram.edges)
    how = (
        "Boxes are parameters, the old state and the input; ovals the numbered "
        "equations; a thick outline is the new state. On every edge stands the local "
        "derivative that the gradient meets on its way back."
    )
    body = paragraph(how, "quiet") + f'<div class="wide">{svg_of(drawing)}</div>'
    record = {"nodes": nodes, "edges": edges}
    return Section(f"{nodes} quantities, {edges} uses", body, record)


def step_drawing(cell: Cell) -> Drawing:
    """A step of a cell: from its parameters, its state and x to the new state."""
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), INPUTS, UNITS))
    state = jax.eval_shape(lambda p: cell.initial_state(p, (BATCH,)), params)
    x = jax.ShapeDtypeStruct((BATCH, INPUTS), jnp.float32)

    def step(params: Any, state: Any, x: Any) -> Any:
        return cell.step(params, state, cell.project(params, x))[0]

    return render(step, params, state, x)


def derivation(asked: Asked) -> Section:
    """What the chain rule gives, and the lines that compute it."""
    found = derive(asked.cell)
    how = (
        "Made from the equations and the local rules by the chain rule, not from the "
        "hand-written reverse, whose line stands beside each result. dq is ∂J/∂q; "
        "A · B is a product of matrices, A * B one of single elements."
    )
    equations = "\n".join(f"{label:>5}  {text}" for label, text in found.equations())
    rows = [row for row in found.rows if not row.given]
    head = ["goes to", "the chain rule", "in the file"]
    body = [
        paragraph(how, "quiet"),
        listing(equations),
        table(head if asked.cell.derived else head[:2], list(_rows(found, rows))),
        listing(found.verdict()),
    ]
    if not asked.cell.derived:
        body.append(listing(found.python()))
    lines = [line for row in rows for line in row.lines]
    agreeing = sum(line.agrees for line in lines)
    record = {
        "lines": len(lines),
        "agreeing": agreeing,
        "text": found.text(),
        "python": found.python(),
    }
    if not asked.cell.derived:
        return Section("writes the backward", "".join(body), record)
    glance = f"{agreeing} of {len(lines)} lines agree"
    return Section(glance, "".join(body), record, good=agreeing == len(lines))


def _rows(found: Derivation, rows: list[Row]) -> Iterator[list[str]]:
    for row in rows:
        goes, *equalities = found.written(row)
        lines = [
            f'<span class="{"good" if line.agrees else "wrong"}">'
            f"{'✓' if line.agrees else '✗'}</span> "
            f"<code>{escape(line.text or 'the weighted-input rule')}</code>"
            for line in row.lines
        ]
        cells = [
            escape(goes),
            f"<code>{'<br>'.join(map(escape, equalities))}</code>",
            "<br>".join(lines),
        ]
        yield cells if found.cell.derived else cells[:2]
