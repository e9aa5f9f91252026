"""On a GPU, beside torch's cuDNN and beside the scan: ``python -m benchmarks.gpu``.

Value and gradient of one layer in float32, with the products that both libraries take
by default, those of tensor cores (tf32). A call is timed as one waits for it, and also
in a row of calls, without the host's share. LSTM and GRU stand beside ``torch.nn``'s,
whose weights, outputs and gradients are the same; every gated cell beside its own scan.
"""

import dataclasses
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax import Array

import lstm_jax as lj
from benchmarks.command import told
from benchmarks.problem import ROWS, Row
from experiments.checks import at_least
from experiments.tasks import find_cells
from experiments.timing import scanned
from lstm_jax.files import write_whole
from lstm_jax.interop import from_torch

CUDNN_ROWS = (*ROWS, Row(T=300, B=64, D=64, H=64), Row(T=512, B=128, D=128, H=128))
SCAN_ROWS = (ROWS[1],)
IN_A_ROW = 10
AGREEMENT = 0.02
"""tf32 keeps 10 bits of each factor, and T steps multiply what that leaves out."""


@dataclasses.dataclass(frozen=True)
class Config:
    """What to measure.

    Attributes:
        rounds: in each, every program has a turn; the tables have medians.
        scans: also measure gated cells beside their scans.
        cells: which; names, or your own as module:NAME or file.py:NAME; none for all
            of `lstm_jax.CELLS`.
        folder: where the tables and all times go.
    """

    rounds: int = 9
    scans: bool = True
    cells: tuple[str, ...] = ()
    folder: Path = Path("runs/bench/gpu")


class Program(NamedTuple):
    """A line's program: starts it, and waits for what it started.

    Attributes:
        start: runs it once, without waiting.
        wait: waits for what `start` returned.
    """

    start: Callable[[], Any]
    wait: Callable[[Any], Any]


class Seconds(NamedTuple):
    """Medians: a call that is waited for, and each of many in a row."""

    call: float
    row: float


class Measured(NamedTuple):
    """A line of a table.

    Attributes:
        cell: its name.
        row: in words.
        own: the times of ours.
        other: those of what it is compared with.
        blocks: the column blocks of the cell's products.
    """

    cell: str
    row: str
    own: Seconds
    other: Seconds
    blocks: int


def run(config: Config) -> str:
    """Measures and writes; the Markdown text.

    Raises:
        ImportError: torch is not installed.
        ValueError: there is no GPU, or the libraries disagree.
    """
    at_least(1, rounds=config.rounds)
    cells = find_cells(config.cells or lj.CELLS, lj.CELLS)
    # torch needs memory too.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if jax.default_backend() != "gpu":
        raise ValueError("there is no GPU (JAX_PLATFORMS=cuda asks for one)")
    lines = [f"# {_device()}, {datetime.now(UTC):%Y-%m-%d}", ""]
    cudnn = beside_cudnn(config.rounds)
    lines += render_cudnn(cudnn)
    scans = beside_scans(cells, config.rounds) if config.scans else []
    lines += render_scans(scans)
    record = {"device": _device(), "cudnn": cudnn, "scans": scans}
    write_whole(config.folder / "record.json", f"{json.dumps(record)}\n".encode())
    write_whole(config.folder / "README.md", "\n".join(lines).encode())
    return "\n".join(lines)


def beside_cudnn(rounds: int) -> list[Measured]:
    """LSTM and GRU beside torch's, on every row."""
    from benchmarks.peers.torch_layers import TorchLayer

    kinds = [(cell, row) for cell in ("lstm", "gru") for row in CUDNN_ROWS]
    peers = [TorchLayer(cell, row.D, row.H) for cell, row in kinds]
    jobs = []
    for (name, row), peer in zip(kinds, peers, strict=True):
        params = from_torch(lj.CELLS[name], peer.weights())[0].forward
        jobs.append((lj.CELLS[name], params, _inputs(row)))
    found = []
    for kind, job, peer, own in zip(kinds, jobs, peers, compiled(jobs), strict=True):
        (name, row), (_, params, xs) = kind, job
        start, wait, outputs = peer.program(np.asarray(xs))
        _check(f"{name} {_words(row)}", own.wait(own.start()), outputs)
        times = interleaved([own, Program(start, wait)], rounds)
        found.append(Measured(name, _words(row), *times, params.Wx.shape[1] // row.H))
        _tell(found[-1])
    return found


def beside_scans(cells: Sequence[lj.Cell], rounds: int) -> list[Measured]:
    """Those of the cells that have kernels, each beside its scan."""
    kinds, jobs = [], []
    for row in SCAN_ROWS:
        for cell in cells:
            params = cell.init(jax.random.key(0), row.D, row.H)
            if lj.runner_of(cell, params).runner == "CUDA":
                kinds.append((cell.name, row, params.Wx.shape[1] // row.H))
                both = (cell, scanned(cell))
                jobs += [(one, params, _inputs(row)) for one in both]
    programs = compiled(jobs)
    found = []
    for n, (name, row, blocks) in enumerate(kinds):
        times = interleaved(programs[2 * n : 2 * n + 2], rounds)
        found.append(Measured(name, _words(row), *times, blocks))
        _tell(found[-1])
    return found


def render_cudnn(found: Sequence[Measured]) -> list[str]:
    """The first table, and its medians."""
    lines = []
    for m in found:
        lines.append([m.cell, m.row, _ms(m.other.call), _ms(m.own.call)])
        lines[-1] += [_ratio(m.other.call, m.own.call), _ratio(m.other.row, m.own.row)]
    header = ["cell", "row", "torch, ms", "ours, ms", "torch / ours", "in a row"]
    medians = [
        f"{name}: {statistics.median(m.other.call / m.own.call for m in own):.1f}"
        for name in ("lstm", "gru")
        if (own := [m for m in found if m.cell == name])
    ]
    return [*table(header, lines), f"Medians of torch / ours: {', '.join(medians)}", ""]


def render_scans(found: Sequence[Measured]) -> list[str]:
    """The second table: times in a row, and each block's beside one of the LSTM's."""
    lines = []
    of_lstm = {m.row: m.own.row / m.blocks for m in found if m.cell == "lstm"}
    for m in found:
        each = of_lstm.get(m.row)
        share = "" if each is None else f"{m.own.row / m.blocks / each:.2f}"
        lines.append([m.cell, m.row, _ms(m.other.row), _ms(m.own.row)])
        lines[-1] += [_ratio(m.other.row, m.own.row), share]
    header = ["cell", "row", "scan, ms", "ours, ms", "scan / ours", "a block / LSTM's"]
    return table(header, lines) if lines else []


def _tell(m: Measured) -> None:
    print(f"{m.cell} {m.row}: {_ms(m.own.call)} and {_ms(m.other.call)} ms", flush=True)


def compiled(jobs: Sequence[tuple[lj.Cell, Any, Any]]) -> list[Program]:
    """Programs of value and gradient, compiled side by side."""

    def loss(cell: lj.Cell, params: Any, xs: Array) -> Array:
        return jnp.sum(lj.unroll(cell, params, xs)[0] ** 2) / 2

    def program(job: tuple[lj.Cell, Any, Any]) -> Program:
        cell, *arguments = job
        arguments = jax.device_put(arguments)
        run = jax.jit(jax.value_and_grad(partial(loss, cell), (0, 1)))
        made = run.lower(*arguments).compile()
        return Program(lambda: made(*arguments), jax.block_until_ready)

    with ThreadPoolExecutor() as pool:
        return list(pool.map(program, jobs))


def interleaved(programs: Sequence[Program], rounds: int) -> list[Seconds]:
    """The medians of some programs, which have their turns in every round."""
    calls: list[list[float]] = [[] for _ in programs]
    rows: list[list[float]] = [[] for _ in programs]
    for _ in range(rounds + 1):
        for n, (start, wait) in enumerate(programs):
            begin = time.perf_counter()
            wait(start())
            calls[n].append(time.perf_counter() - begin)
            begin = time.perf_counter()
            wait([start() for _ in range(IN_A_ROW)][-1])
            rows[n].append((time.perf_counter() - begin) / IN_A_ROW)
    return [
        Seconds(statistics.median(a[1:]), statistics.median(b[1:]))
        for a, b in zip(calls, rows, strict=True)
    ]


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table's lines, and an empty one."""
    rule = "|---" * len(header) + "|"
    return [_line(header), rule, *map(_line, lines), ""]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _check(name: str, own: Any, peer: Sequence[np.ndarray]) -> None:
    """Raises ValueError if values or input gradients disagree."""
    value, (_, dxs) = own
    for ours, theirs in ((value, peer[0]), (dxs, peer[1])):
        difference = np.max(np.abs(np.asarray(ours) - theirs)) / np.max(np.abs(theirs))
        if not difference <= AGREEMENT:
            raise ValueError(f"{name}: torch and ours disagree by {difference:.1e}")


def _inputs(row: Row) -> Array:
    return jax.random.normal(jax.random.key(1), (row.T, row.B, row.D))


def _words(row: Row) -> str:
    return f"T={row.T} B={row.B} D={row.D} H={row.H}"


def _device() -> str:
    return jax.devices()[0].device_kind


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.2f}"


def _ratio(a: float, b: float) -> str:
    return f"{a / b:.1f}"


if __name__ == "__main__":
    given = tyro.cli(Config, prog="python -m benchmarks.gpu", description=__doc__)
    with told():
        print(run(given))
