"""Runs the comparison: ``python -m benchmarks``, or ``make bench``.

Each library has a process of its own, with the same weights, inputs and number of
threads. Outputs and gradients have to agree before anything is timed. Tables, plots
and a record of all times are written to a folder under ``runs/bench/``.
"""

import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import tyro

import lstm_jax as lj
from benchmarks.measure import REFERENCE, Result, Settings, measure
from benchmarks.peers import PEERS, missing
from benchmarks.problem import ROWS, Row
from benchmarks.processes import WorkerError
from benchmarks.report import write_report

SWEPT = Row(T=128, B=16, D=64, H=128)
"""The row of which a sweep varies one field."""

SWEEPS: dict[str, Sequence[Any]] = {
    "T": (64, 128, 256, 512, 1024, 2048, 4096, 8192),
    "B": (1, 4, 16, 64, 256),
    "H": (32, 64, 128, 256, 512, 1024),
    "dtype": ("bfloat16", "float32", "float64"),
    "cell": tuple(lj.CELLS),
}
QUICK_ROW = Row(T=7, B=3, D=4, H=5)


@dataclasses.dataclass(frozen=True)
class Config:
    """What to measure.

    Attributes:
        name: results go to the folder of this name under `root`.
        root: the folder of all results.
        sweep: vary this alone, instead of the table's rows.
        peers: compare only these, "manual" among them; all that can run by default.
        rounds: turns each library gets.
        threads: processors each library may use; all that this process may by default.
        device: "gpu" adds cuDNN; everything else stays the same.
        allocators: how glibc treats freed memory; "kept" is faster for large arrays.
        quick: see that all works: one tiny row, two rounds, one allocator. Its times
            say nothing.
    """

    name: str = "latest"
    root: Path = Path("runs/bench")
    sweep: Literal["T", "B", "H", "dtype", "cell"] | None = None
    peers: tuple[str, ...] = ()
    rounds: int = 9
    threads: int | None = None
    device: Literal["cpu", "gpu"] = "cpu"
    allocators: tuple[Literal["default", "kept"], ...] = ("default", "kept")
    quick: bool = False


def run(config: Config) -> str:
    """Measures, writes the report, and returns its text.

    Raises:
        ValueError: a name is not known or a number too small; libraries disagree.
        benchmarks.processes.WorkerError: a library failed.
    """
    names, left_out = _choose(config)
    settings = Settings(
        rounds=2 if config.quick else config.rounds,
        threads=config.threads or _processor_count(),
        device=config.device,
        product_size=256 if config.quick else Settings().product_size,
    )
    for name, number in (("rounds", settings.rounds), ("threads", settings.threads)):
        if number < 1:
            raise ValueError(f"{name} must be at least 1; got {number}")
    for name, why in left_out.items():
        print(f"left out: {name} ({why})", flush=True)
    results: list[Result] = []
    for allocator in config.allocators[: 1 if config.quick else None]:
        for row in _rows(config):
            own = settings._replace(allocator=allocator)
            results.append(measure(row, names, own, _say))
    return write_report(
        config.root / config.name, results, settings, left_out, config.sweep
    )


def _choose(config: Config) -> tuple[list[str], dict[str, str]]:
    """The peers to run, and those that cannot, with the reason."""
    for name in config.peers:
        if name not in PEERS:
            raise ValueError(f"peers must be some of {list(PEERS)}; got {name!r}")
        if why := missing(name, config.device):
            raise ValueError(f"peer {name!r} cannot run: {why}")
    if config.peers:
        if REFERENCE not in config.peers:
            raise ValueError(f'peers must include "{REFERENCE}"; got {config.peers}')
        return [name for name in PEERS if name in config.peers], {}
    reasons = {name: missing(name, config.device) for name in PEERS}
    left_out = {name: why for name, why in reasons.items() if why is not None}
    return [name for name in PEERS if name not in left_out], left_out


def _rows(config: Config) -> tuple[Row, ...]:
    if config.sweep is None:
        return (QUICK_ROW,) if config.quick else ROWS
    swept = QUICK_ROW if config.quick else SWEPT
    values = SWEEPS[config.sweep][:2] if config.quick else SWEEPS[config.sweep]
    return tuple(swept._replace(**{config.sweep: value}) for value in values)


def _processor_count() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _say(line: str) -> None:
    print(line, flush=True)


def main() -> None:
    """The command."""
    config = tyro.cli(Config, prog="python -m benchmarks", description=__doc__)
    try:
        text = run(config)
    except (ValueError, WorkerError) as error:
        sys.exit(f"benchmarks: {error}")
    print(f"\n{text}\nWritten to {config.root / config.name}/")


if __name__ == "__main__":
    main()
