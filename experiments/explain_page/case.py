"""One cell that reads one sequence: everything that the page shows of it."""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np
from jax import Array

import lstm_jax
from experiments.explain_page.backward import Reversed, go_back, one_by_one
from experiments.explain_page.forward import (
    Named,
    edge_gradients,
    go_forward,
    per_unit,
    reads,
)
from experiments.explain_page.lines import (
    Line,
    equations_of,
    lines_of,
    names_read,
    parts_of,
    reverse_of,
    rows_of,
)
from experiments.explain_page.mistakes import Mistake, mistakes_of
from experiments.explain_page.packing import at_units, bfloat16, float32, relative
from experiments.pages import lay_out
from lstm_jax.cell import Cell
from lstm_jax.gated import GatedBackward

OUTPUT, NEXT = "output", "next step"
"""Where a state goes that leaves the step."""


class Reading(NamedTuple):
    """A cell that reads a sequence.

    Attributes:
        cell: a derived cell whose equations stand in one function.
        params: its parameters, in float64.
        xs: the sequence, (T, D).
        dys: by the name of each loss the gradients of the outputs, (T, H).
        words: what stands for each step.
        about: where the parameters come from.
        scores: what a classifier says after each step, (T,), if there is one.
    """

    cell: Cell
    params: Any
    xs: Array
    dys: dict[str, Array]
    words: list[str]
    about: str
    scores: np.ndarray | None = None


class Trace(NamedTuple):
    """All numbers of a reading; the arrays are (T, L, ...), L losses.

    Attributes:
        values: every leaf and quantity, and what else the equations compute.
        reads: for every quantity, what its equation reads.
        gradients: of every leaf and quantity, by the chain rule.
        edges: for each (source, user) the share of the gradient that comes back.
        back: what the cell's own reverse gives.
        wrong: a function from a mistake to what the reverse gives with it.
    """

    values: Named
    reads: dict[str, list[str]]
    gradients: Named
    edges: dict[tuple[str, str], Array]
    back: Reversed
    wrong: Callable[[Mistake], Reversed]


def trace(reading: Reading) -> Trace:
    """Reads the sequence, and goes back for each loss.

    Raises:
        ValueError: the cell has no reverse, or its equations are in several functions.
    """
    cell, params, xs, dys, *_ = reading
    if not cell.derived:
        raise ValueError(f"{cell.name}: expected a cell with a reverse")
    each = np.stack(list(dys.values()), axis=1)
    steps, given, beside = go_forward(cell, params, xs, each.shape[1])
    moments = one_by_one(steps)
    back = go_back(cell, params, steps, moments, each)
    arriving = back.arriving._asdict()
    gradients, edges = edge_gradients(cell, params, given, arriving)
    output, *others = arriving
    edges |= {(output, OUTPUT): each, (output, NEXT): arriving[output] - each}
    edges |= {(name, NEXT): arriving[name] for name in others}

    def wrong(mistake: Mistake) -> Reversed:
        line = mistake.line
        change = line.quantity, line.equation, mistake.value
        return go_back(cell, params, steps, moments, each, change)

    known = reads(cell, params, given)
    return Trace({**given, **beside}, known, gradients, edges, back, wrong)


def manual_gradients(back: Reversed) -> Named:
    """The gradients of whole quantities that a reverse gives, by quantity."""
    found = {
        name[1:]: value
        for name, value in back.variables.items()
        if name.startswith("d") and "." not in name
    }
    output = back.arriving[0]
    # Variables are there by unit alone: a matrix has more gradient than what arrives.
    arriving = per_unit(back.arriving._asdict(), output)
    found = {**arriving, **found, "x": back.dx}
    found |= {f"{name}_prev": d for name, d in back.leaving._asdict().items()}
    return found


def case_of(reading: Reading, units: int) -> dict[str, Any]:
    """A reading as the page takes it.

    Args:
        reading: a reading.
        units: how many units are shown: those that most gradient reaches.
    """
    found = trace(reading)
    output = found.back.arriving[0]
    size = output.shape[-1]
    flow = np.abs(np.asarray(output)).mean(axis=(0, 1))
    chosen = sorted(map(int, np.argsort(-flow, kind="stable")[:units]))
    pack = partial(_packed, chosen, size)
    forward, reverse = equations_of(reading.cell), reverse_of(reading.cell)
    losses = range(len(reading.dys))
    backward = _listing(reverse, lambda line: _reverse_target(line, found))
    own = _own_variables(backward, found)
    return {
        "cell": reading.cell.name,
        "file": _file(reverse),
        "about": reading.about,
        "words": reading.words,
        "scores": None if reading.scores is None else float32(reading.scores),
        "units": chosen,
        "size": size,
        "losses": list(reading.dys),
        "state": list(found.back.arriving._fields),
        "graph": _graph(found),
        "forward": _listing(forward, lambda line: _forward_target(line, found)),
        "backward": backward + _product_rows(reading.cell, found),
        "values": {name: pack(name, v, 0) for name, v in found.values.items()},
        "gradients": [
            {name: pack(name, d, k) for name, d in found.gradients.items()}
            for k in losses
        ],
        "edges": [
            {f"{a}>{b}": pack(a, d, k) for (a, b), d in found.edges.items()}
            for k in losses
        ],
        "variables": [
            {name: pack(name, d, k) for name, d in own.items()} for k in losses
        ],
        "params": [_norms(found.back.params[k]) for k in losses],
        "mistakes": _mistakes(reading.cell, found),
    }


def _packed(units: Sequence[int], size: int, name: str, values: Any, loss: int) -> str:
    """One loss's numbers of a quantity; the features of x are no units."""
    values = np.asarray(values)[:, loss]
    if name == "x":
        return at_units(values, [None] * len(units))
    if values.shape[1] > size and values.shape[1] % size == 0:
        # The blocks of a product: of a share, all but one are 0.
        blocks = values.reshape(len(values), -1, size)
        if (np.abs(blocks).max(axis=(0, 2)) > 0).sum() <= 1:
            values = blocks.sum(axis=1)
    return at_units(values, units if values.shape[1] == size else [None] * len(units))


def _own_variables(listing: list[dict[str, Any]], found: Trace) -> Named:
    """What the lines of the reverse name and read, and is nowhere else in the page."""
    targets = [target for row in listing for target in row["targets"]]
    shown = {target["name"] for target in targets}
    shown |= {t for target in targets for kind, t in target["parts"] if kind == "name"}
    elsewhere = {f"d{name}": d for name, d in found.gradients.items()} | found.values
    return {
        name: value
        for name, value in found.back.variables.items()
        if name in shown and not _same(value, elsewhere.get(name))
    }


def _same(value: Any, other: Any) -> bool:
    """Whether 32 bits can't tell them apart."""
    return np.shape(value) == np.shape(other) and np.allclose(
        value, other, rtol=1e-9, atol=0, equal_nan=True
    )


# --- the graph -----------------------------------------------------------------------


def _graph(found: Trace) -> dict[str, Any]:
    edges = [
        *(
            (source, user)
            for user, sources in found.reads.items()
            for source in sources
        ),
        *(edge for edge in found.edges if edge[1] in (OUTPUT, NEXT)),
    ]
    used = {name for edge in edges for name in edge}
    nodes = [name for name in (*found.values, NEXT, OUTPUT) if name in used]
    places, paths = lay_out(nodes, edges)
    quantities = set(found.reads)
    return {
        "nodes": [
            {
                "name": name,
                "kind": "quantity"
                if name in quantities - {"u", "v"}
                else "product"
                if name in quantities
                else "sink"
                if name in (NEXT, OUTPUT)
                else "leaf",
                "at": [places[name][0], round(places[name][1], 3)],
            }
            for name in nodes
        ],
        "edges": [
            {
                "from": source,
                "to": user,
                "path": [[layer, round(p, 3)] for layer, p in paths[source, user]],
            }
            for source, user in edges
        ],
    }


# --- the listings --------------------------------------------------------------------


def _file(function: FunctionType) -> str:
    """Where a function is: in the library with the folders, of others the name."""
    path = Path(inspect.getfile(function))
    library = Path(lstm_jax.__file__).parent
    inside = path.is_relative_to(library)
    return str(path.relative_to(library.parent)) if inside else path.name


def _listing(
    function: FunctionType, target: Callable[[Line], dict[str, Any]]
) -> list[dict[str, Any]]:
    """The function's lines, and what each of them names."""
    lines = lines_of(function)
    listed = []
    for row in rows_of(function):
        here = [line for line in lines if line.row == row.number]
        listed.append(
            {
                "line": f"{Path(inspect.getfile(function)).name}:{row.number}",
                "code": row.code,
                "comment": row.comment,
                "equation": here[0].equation if here else None,
                "targets": [target(line) for line in here],
            }
        )
    return listed


def _forward_target(line: Line, found: Trace) -> dict[str, Any]:
    """What a line of the equations names, and what lights up with it."""
    name = line.quantity
    unpacked = not any(read in found.values for read in names_read(line.value))
    parts = [] if unpacked else parts_of(line.value, lambda n: n in found.values)
    edges = [[source, name] for source in found.reads[name]]
    return {"name": name, "parts": parts, "nodes": [name], "edges": edges}


def _reverse_target(line: Line, found: Trace) -> dict[str, Any]:
    """What a line of the reverse names, and what lights up with it.

    A line for dq lights q, what else it reads, and the edges from q to those whose
    gradients it reads.
    """
    known = {**found.values, **found.back.variables}
    q = line.quantity.removeprefix("d")
    read = names_read(line.value)
    nodes, edges = [q], []
    for name in read:
        last = name.rpartition(".")[2]
        source = last.removeprefix("d")
        if last in found.values:
            nodes.append(last)
        elif (q, source) in found.edges:
            edges.append([q, source])
        elif last.startswith("d") and source.removesuffix("_next") == q:
            edges.append([q, NEXT])
    return {
        "name": line.quantity,
        "parts": parts_of(line.value, known.__contains__),
        "nodes": list(dict.fromkeys(nodes)),
        "edges": edges,
    }


def _product_rows(cell: Cell, found: Trace) -> list[dict[str, Any]]:
    """The weighted-input rule, which gated cells share."""
    if not isinstance(cell.backward, GatedBackward):
        return []
    rules = [("dx", "x", "u", "du @ Wx.T")]
    if "v" in found.reads:
        beside = "dh_prev + " if _only_use(found) != ("h_prev", "v") else ""
        rules.insert(0, ("dh_prev", "h_prev", "v", f"{beside}dv @ Wh.T"))
    return [
        {
            "line": "gated.py",
            "code": f"{name} = {text}",
            "comment": "# the weighted-input rule",
            "equation": 1,
            "targets": [
                {
                    "name": f"total {name}",
                    "parts": [["text", text]],
                    "nodes": [q, user],
                    "edges": [[q, user]],
                }
            ],
        }
        for name, q, user, text in rules
    ]


def _only_use(found: Trace) -> tuple[str, str] | None:
    uses = [edge for edge in found.edges if edge[0] == "h_prev"]
    return uses[0] if len(uses) == 1 else None


# --- mistakes ------------------------------------------------------------------------


def _mistakes(cell: Cell, found: Trace) -> list[dict[str, Any]]:
    kept = [name for name in found.values if name in _gates(cell)]
    right = manual_gradients(found.back)
    losses = range(len(found.back.params))
    planted = []
    for mistake in mistakes_of(lines_of(reverse_of(cell)), kept):
        wrong = found.wrong(mistake)
        now = manual_gradients(wrong)
        if any(
            name not in now or now[name].shape != right[name].shape for name in right
        ):
            continue  # a number for each unit is missing, which would be noticed
        planted.append(
            {
                "target": mistake.line.quantity,
                "equation": mistake.line.equation,
                "kind": mistake.kind,
                "text": mistake.text,
                "errors": [_errors(now, right, k) for k in losses],
                "flow": [_flow(now, k, found) for k in losses],
                "params": [
                    _param_errors(wrong.params[k], found.back.params[k]) for k in losses
                ],
            }
        )
    return planted


def _gates(cell: Cell) -> list[str]:
    """The names that a reverse unpacks what was kept into."""
    function = reverse_of(cell)
    *_, kept, _ = inspect.signature(function).parameters.values()
    return list(getattr(kept.annotation, "_fields", ()))


def _errors(now: Named, right: Named, loss: int) -> dict[str, str]:
    """The relative error of every gradient that is off, at every step."""
    found = {
        name: relative(np.asarray(now[name])[:, loss], np.asarray(d)[:, loss])
        for name, d in right.items()
    }
    return {name: bfloat16(off) for name, off in found.items() if off.max() > 1e-9}


def _flow(now: Named, loss: int, found: Trace) -> dict[str, str]:
    """The mean |·| of the state's gradients at every step."""
    return {
        name: bfloat16(np.abs(np.asarray(now[name])[:, loss]).mean(axis=1))
        for name in found.back.arriving._fields
    }


def _param_errors(wrong: Any, right: Any) -> dict[str, float | None]:
    """The relative error of every parameter's gradient; None where it is infinite."""
    found = {}
    for name, one, other in zip(right._fields, wrong, right, strict=True):
        off = float(relative(np.asarray(one)[None], np.asarray(other)[None])[0])
        found[name] = float(f"{off:.4g}") if np.isfinite(off) else None
    return found


def _norms(gradients: Any) -> dict[str, dict[str, Any]]:
    """Of every parameter's gradient the shape and the norm."""
    return {
        name: {
            "shape": list(np.shape(leaf)),
            "norm": float(f"{np.linalg.norm(np.asarray(leaf)):.6g}"),
        }
        for name, leaf in zip(gradients._fields, gradients, strict=True)
    }
