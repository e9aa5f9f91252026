"""Runs the comparison: ``python -m benchmarks``, or ``make bench``.

Each library has a process of its own, with the same weights, inputs and number of
threads. Outputs and gradients have to agree before anything is timed. Tables, plots
and a record of all times are written to a folder under ``runs/bench/``.
"""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import tyro

import lstm_jax as lj
from benchmarks.command import choose_peers, told
from benchmarks.measure import (
    SCAN,
    Result,
    Settings,
    cell_of,
    measure,
    processor_count,
    runs,
)
from benchmarks.peers import PEERS
from benchmarks.problem import ROWS, Row
from benchmarks.processes import ALLOCATORS
from benchmarks.report import write_report
from experiments.checks import at_least
from experiments.tasks import find_cells
from lstm_jax.cells import find_cell


class Sweep(NamedTuple):
    """Rows that differ in one field.

    Attributes:
        row: all other fields.
        values: what the field goes through.
    """

    row: Row
    values: tuple[Any, ...]


SWEPT = Row(T=128, B=16, D=64, H=64)

SWEEPS = {
    "T": Sweep(SWEPT, (64, 128, 256, 512, 1024, 2048, 4096, 8192)),
    "B": Sweep(SWEPT, (1, 4, 16, 64, 256)),
    "D": Sweep(SWEPT, (16, 64, 256, 1024)),
    "H": Sweep(SWEPT, (32, 64, 128, 256, 512, 1024)),
    "dtype": Sweep(SWEPT, ("bfloat16", "float32", "float64")),
    "cell": Sweep(SWEPT, tuple(lj.CELLS)),
}
QUICK_ROW = Row(T=7, B=3, D=4, H=5)


@dataclasses.dataclass(frozen=True)
class Config:
    """What to measure.

    Attributes:
        cell: a name of `lstm_jax.CELLS`, or your own as module:NAME or file.py:NAME.
            Beside it run its own scan and automatic gradients, the libraries that have
            it with the same equations, and our LSTM.
        sweep: vary this alone, instead of the table's rows; "cell" goes through all.
        peers: compare only these, "manual" among them; all that can run by default.
        rounds: turns each library gets.
        threads: processors each library may use; all that this process may by default.
        device: "gpu" adds cuDNN; everything else stays the same.
        allocators: how glibc treats freed memory; "kept" is faster for large arrays.
            The table has both by default, a sweep "default" alone.
        quick: see that all works: tiny rows, two at most, two rounds, one allocator.
            Its times say nothing.
        folder: where results go; by default runs/bench/ and then "quick", what is
            swept, or "rows", and the cell if it is not the LSTM.
    """

    cell: str = "lstm"
    sweep: Literal["T", "B", "D", "H", "dtype", "cell"] | None = None
    peers: tuple[str, ...] = ()
    rounds: int = 5
    threads: int | None = None
    device: Literal["cpu", "gpu"] = "cpu"
    allocators: tuple[Literal["default", "kept"], ...] = ()
    quick: bool = False
    folder: Path | None = None


def run(config: Config) -> str:
    """Measures, writes the report, and returns its text.

    Rows that were measured before an error or Ctrl-C are reported too.

    Raises:
        ValueError: a name is not known or a number too small, or ours disagree.
        benchmarks.processes.WorkerError: "manual" failed.
    """
    (cell,) = find_cells((config.cell,), lj.CELLS)
    if not cell.derived:
        raise ValueError(
            f"{cell.name} has no hand-derived backward, whose time all others are "
            "divided by; python -m lstm_jax.derivation CELL --python writes one"
        )
    begin = time.perf_counter()
    names, left_out = choose_peers(config.peers, PEERS, config.device)
    left_out |= without_cell(config, names)
    settings = Settings(
        rounds=2 if config.quick else config.rounds,
        threads=processor_count() if config.threads is None else config.threads,
        device=config.device,
        product_size=256 if config.quick else Settings().product_size,
    )
    at_least(1, rounds=settings.rounds, threads=settings.threads)
    for name, why in left_out.items():
        print(f"left out: {name} ({why})", flush=True)
    results: list[Result] = []
    text = ""
    try:
        for allocator in choose_allocators(config):
            for row in choose_rows(config):
                own = settings._replace(allocator=allocator)
                results.append(measure(row, names, own))
    finally:
        if results:
            text = write_report(
                folder_of(config), results, settings, left_out, config.sweep
            )
    print(f"{(time.perf_counter() - begin) / 60:.1f} minutes in all", flush=True)
    return text


def without_cell(config: Config, names: Sequence[str]) -> dict[str, str]:
    """Those that have no such cell, and so have no part in any row."""
    if config.sweep == "cell":
        return {}
    row = QUICK_ROW._replace(cell=config.cell)
    others = [name for name in names if not runs(name, row, config.device)]
    return {name: f"has no {cell_of(row).name}" for name in others if name != SCAN}


def choose_allocators(config: Config) -> tuple[str, ...]:
    """Those to measure with."""
    usual = ("default",) if config.sweep else tuple(ALLOCATORS)
    chosen = config.allocators or usual
    return chosen[:1] if config.quick else chosen


def choose_rows(config: Config) -> tuple[Row, ...]:
    """The table's rows, or a sweep's."""
    if config.sweep is None:
        rows = (QUICK_ROW,) if config.quick else ROWS
        return tuple(row._replace(cell=config.cell) for row in rows)
    row, values = SWEEPS[config.sweep]
    if config.quick:
        row, values = QUICK_ROW, values[:2]
    row = row._replace(cell=config.cell)
    return tuple(row._replace(**{config.sweep: value}) for value in values)


def folder_of(config: Config) -> Path:
    """Where results go."""
    name = "quick" if config.quick else config.sweep or "rows"
    if config.cell != "lstm":
        name += f"-{find_cell(config.cell, lj.CELLS).name}"
    return config.folder or Path("runs/bench") / name


def main() -> None:
    """The command."""
    config = tyro.cli(Config, prog="python -m benchmarks", description=__doc__)
    with told():
        text = run(config)
    print(f"\n{text}\nWritten to {folder_of(config)}/")


if __name__ == "__main__":
    main()
