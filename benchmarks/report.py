"""What a run says: Markdown tables, plots, and a JSON record of all measurements."""

import json
import os
import platform
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import (
    REFERENCE,
    SCAN,
    Result,
    Settings,
    beside_lstm,
    cell_of,
    describe,
    limit_seconds,
    output_bytes,
    ratios,
    spread,
    weight_count,
)
from benchmarks.peers import PEERS
from benchmarks.problem import Row
from experiments.cell_source import cell_source
from experiments.plots import Panel, cost_curves, cost_dots
from lstm_jax.engine.compiled.processor import processor, vector_bytes
from lstm_jax.files import write_whole

CALL_TITLES = {
    "value_and_gradient": "Value and gradient",
    "forward": "Forward only",
}
NOT_MEASURED = "–"
AXES = {
    "T": "time steps T",
    "B": "sequences in a batch B",
    "D": "input size D",
    "H": "hidden size H",
}
"""The fields of a row that are numbers, as an axis names them."""


def write_report(
    folder: Path,
    results: Sequence[Result],
    settings: Settings,
    left_out: dict[str, str],
    axis: str | None = None,
) -> str:
    """Writes ``README.md``, ``record.json`` and a plot for each allocator.

    Args:
        folder: made if it is not there; files of the same names are replaced.
        results: what was measured.
        settings: how.
        left_out: the peers that did not run, and why.
        axis: the field of a row that was swept; None for a list of rows.

    Returns:
        The Markdown text.
    """
    folder.mkdir(parents=True, exist_ok=True)
    machine = describe_machine(settings)
    record = {
        "machine": machine,
        "settings": settings._asdict(),
        "left_out": left_out,
        "axis": axis,
        "results": [r._asdict() | {"row": _recorded(r.row)} for r in results],
    }
    write_whole(folder / "record.json", f"{json.dumps(record, indent=1)}\n".encode())
    plots = {}
    for allocator, own in _by_allocator(results).items():
        plots[allocator] = f"{axis or 'rows'}-{allocator}.png"
        draw(folder / plots[allocator], own, settings, axis)
    text = render(results, machine, left_out, plots)
    write_whole(folder / "README.md", text.encode())
    return text


def _recorded(row: Row) -> dict[str, Any]:
    """A row with the cell's own name, and a hash of its file if it is no known one."""
    return {**row._asdict(), "cell": cell_of(row).name, **cell_source(row.cell)}


def render(
    results: Sequence[Result],
    machine: dict[str, str],
    left_out: dict[str, str],
    plots: dict[str, str],
) -> str:
    """The Markdown text."""
    lines = ["# Benchmarks", ""]
    lines += [f"- {key}: {value}" for key, value in machine.items()]
    lines += [f"- left out: {name} ({why})" for name, why in left_out.items()]
    lines += [
        f"- failed: {name} at {describe(r.row)} ({why})"
        for r in results
        for name, why in r.failures.items()
    ]
    lines += [
        "",
        "Times are medians over rounds. Behind them stands the ratio to "
        f'"{REFERENCE}" of the same round, the median and in brackets the quartiles: '
        "more than 1 is slower than it. The limit of time is what the matrix products "
        "alone take at the rate of a large one, measured in the same rounds; that of "
        "memory is the outputs alone, which the loss keeps.",
    ]
    for allocator, own in _by_allocator(results).items():
        lines += ["", f"## Allocator: {allocator}", ""]
        if allocator in plots:
            lines += [f"![costs]({plots[allocator]})", ""]
        lines += _summary(own)
        for call in CALL_TITLES:
            lines += ["", f"### {CALL_TITLES[call]}, ms", "", *_times(own, call)]
        lines += [
            "",
            "### Memory of the value and gradient, MB",
            "",
            "The compiler's figure for temporaries; behind it the growth of the "
            "process, results included.",
            "",
            *_table(own, _memory_cell, "limit"),
            "",
            "### Compile time of the value and gradient, s",
            "",
            *_table(own, _compile_cell),
        ]
    return "\n".join(lines) + "\n"


def draw(
    path: Path, results: Sequence[Result], settings: Settings, axis: str | None
) -> None:
    """Draws what value and gradient cost: curves over a number, or dots by row."""
    first = results[0]
    threads = f"{settings.threads} thread{'s' * (settings.threads > 1)}"
    title = f"{threads}, allocator: {first.allocator}"
    if axis is not None:
        title = f"{describe(first.row, without=axis)}, {title}"
    panels, lines = costs(results, axis), (*PEERS, "limit")
    if axis in AXES:
        values = [getattr(r.row, axis) for r in results]
        cost_curves(path, title, AXES[axis], values, panels, lines)
    else:
        rows = [getattr(r.row, axis) if axis else describe(r.row) for r in results]
        cost_dots(path, title, rows, panels, lines)


def costs(results: Sequence[Result], axis: str | None) -> list[Panel]:
    """A panel for time, for compile time and for memory; None where there is none."""
    times: dict[str, Any] = {}
    compiling: dict[str, Any] = {}
    memory: dict[str, Any] = {}
    for name in _names(results):
        times[name] = [
            _scaled(_median(r.seconds["value_and_gradient"].get(name)), 1e3)
            for r in results
        ]
        compiling[name] = [r.compile_seconds.get(name) for r in results]
        memory[name] = [_scaled(r.temporary_bytes.get(name), 1e-6) for r in results]
    times["limit"] = [1e3 * limit_seconds(r, "value_and_gradient") for r in results]
    memory["limit"] = [1e-6 * output_bytes(r.row) for r in results]
    return [
        Panel("value and gradient, ms", times, axis == "T", "the matrix products"),
        Panel("compile time, s", compiling),
        Panel("temporary memory, MB", memory, axis == "T", "the outputs"),
    ]


def describe_machine(settings: Settings) -> dict[str, str]:
    """What the numbers depend on."""
    packages = ("jax", "jaxlib", "flax", "equinox", "dm-haiku", "keras", "torch")
    found = []
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{_processor()}, vectors of {vector_bytes()} bytes, "
        f"{settings.threads} of {os.cpu_count()} used",
        "device": settings.device,
        "rounds": str(settings.rounds),
        "system": f"{platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}",
        "packages": ", ".join(found),
    }


Figure = tuple[float, str] | None
"""A number of the summary and a remark behind it; None if it was not measured."""


def _summary(results: Sequence[Result]) -> list[str]:
    """What value and gradient cost beside others, row by row, and the medians."""
    columns = {title: [of(r) for r in results] for title, of in SUMMARY.items()}
    columns = {title: figures for title, figures in columns.items() if any(figures)}
    rows = [
        [describe(r.row), *(_shown(figures[n]) for figures in columns.values())]
        for n, r in enumerate(results)
    ]
    middle = [
        f"**{median(f[0] for f in figures if f):.2f}**" if title != OWN else ""
        for title, figures in columns.items()
    ]
    return _markdown(["row", *columns], [*rows, ["**median**", *middle]])


def _shown(figure: Figure) -> str:
    if figure is None:
        return NOT_MEASURED
    number, remark = figure
    return f"{number:#.3g}{remark}" if remark == " ms" else f"{number:.2f}{remark}"


def _own(result: Result) -> Figure:
    times = result.seconds["value_and_gradient"][REFERENCE]
    return 1e3 * spread(times).median, " ms"


def _limit(result: Result) -> Figure:
    own = spread(result.seconds["value_and_gradient"][REFERENCE]).median
    return limit_seconds(result, "value_and_gradient") / own, ""


def _beside(name: str, result: Result) -> Figure:
    """A peer's time over ours."""
    if name not in result.differences:
        return None
    return ratios(result, "value_and_gradient", name).median, ""


def _fastest(result: Result) -> Figure:
    """The time of the fastest JAX peer over ours."""
    found = [
        (ratios(result, "value_and_gradient", name).median, f" ({name})")
        for name in filter(_is_jax_peer, result.differences)
    ]
    return min(found, default=None)


def _beside_lstm(result: Result) -> Figure:
    found = beside_lstm(result)
    return None if found is None else (found.median, "")


def _each_product_beside_lstm(result: Result) -> Figure:
    found = beside_lstm(result)
    if found is None:
        return None
    of_lstm = weight_count(result.row._replace(cell="lstm"))
    return found.median * of_lstm / weight_count(result.row), ""


def _memory(name: str, result: Result) -> Figure:
    """One of ours' temporaries over those of the leanest JAX peer."""
    known = {n: size for n, size in result.temporary_bytes.items() if size is not None}
    peers = [(size, n) for n, size in known.items() if _is_jax_peer(n)]
    if name not in known or not peers:
        return None
    least, leanest = min(peers)
    return known[name] / least, f" ({leanest})"


OWN = "manual"
SUMMARY: dict[str, Callable[[Result], Figure]] = {
    OWN: _own,
    "limit / manual": _limit,
    "automatic / manual": partial(_beside, "automatic"),
    "scan / manual": partial(_beside, SCAN),
    "fastest JAX peer / manual": _fastest,
    "torch / manual": partial(_beside, "torch"),
    "manual / our LSTM": _beside_lstm,
    "the same a multiply-add": _each_product_beside_lstm,
    "manual's memory / leanest JAX peer's": partial(_memory, REFERENCE),
    'with `memory="states"`': partial(_memory, "manual, states"),
}
"""The columns of the summary; one that has nothing is left out."""


def _times(results: Sequence[Result], call: str) -> list[str]:
    def cell(result: Result, name: str) -> str:
        if name == "limit":
            return f"{1e3 * limit_seconds(result, call):.3g}"
        time = spread(result.seconds[call][name]).median
        if name == REFERENCE:
            return f"{1e3 * time:.3g}"
        low, middle, high = ratios(result, call, name)
        return f"{1e3 * time:.3g} · {middle:.2f} ({low:.2f}–{high:.2f})"

    return _table(results, cell, "limit")


def _memory_cell(result: Result, name: str) -> str:
    if name == "limit":
        figures = (output_bytes(result.row),)
    else:
        figures = (result.temporary_bytes[name], result.peak_bytes[name])
    return " · ".join(NOT_MEASURED if f is None else f"{f / 1e6:.3g}" for f in figures)


def _compile_cell(result: Result, name: str) -> str:
    seconds = result.compile_seconds[name]
    return NOT_MEASURED if seconds is None else f"{seconds:.2f}"


def _table(
    results: Sequence[Result], cell: Callable[[Result, str], str], *first: str
) -> list[str]:
    """A row for each result, a column for each peer, `first` before them."""
    names = _names(results)
    rows = []
    for r in results:
        cells = [cell(r, n) if n in r.differences else NOT_MEASURED for n in names]
        rows.append([describe(r.row), *(cell(r, name) for name in first), *cells])
    return _markdown(["row", *first, *names], rows)


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _names(results: Sequence[Result]) -> list[str]:
    """The peers that ran in any of them, in the order of `PEERS`."""
    return [name for name in PEERS if any(name in r.differences for r in results)]


def _is_jax_peer(name: str) -> bool:
    return not PEERS[name].ours and name != "torch"


def _by_allocator(results: Sequence[Result]) -> dict[str, list[Result]]:
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.allocator, []).append(result)
    return groups


def _median(values: Sequence[float] | None) -> float | None:
    return median(values) if values else None


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else factor * value


def _processor() -> str:
    """The processor's model as Linux tells it, or what Python knows."""
    for line in processor().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
