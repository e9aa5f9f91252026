"""Measuring a row: a process for each library, agreement first, then rounds.

Every round gives each library a turn, in an order drawn anew, so that whatever else
the machine does falls on all alike. A ratio is taken within a round, where the two
times lie seconds apart; reported are the median of the rounds' ratios and their
quartiles.
"""

import os
import random
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np

from benchmarks.peers import PEERS
from benchmarks.problem import Outcome, Row
from benchmarks.processes import WorkerProcess, environment_of

CALLS = ("forward", "value_and_gradient")
REFERENCE = "manual"
PRODUCT_SIZE = 3072

TOLERANCES = {"float64": 1e-9, "float32": 1e-3, "bfloat16": 0.1, "float16": 0.02}
"""Largest difference allowed, as a part of the array's largest value."""


class Settings(NamedTuple):
    """How to measure.

    Attributes:
        rounds: turns each library gets.
        threads: processors each process may use.
        device: "cpu" or "gpu".
        allocator: a key of `benchmarks.processes.ALLOCATORS`.
        product_size: of the square matrices that tell the arithmetic limit.
    """

    rounds: int = 9
    threads: int = 1
    device: str = "cpu"
    allocator: str = "default"
    product_size: int = PRODUCT_SIZE


class Result(NamedTuple):
    """What one row gave.

    Attributes:
        row: its sizes.
        allocator: a key of `benchmarks.processes.ALLOCATORS`.
        gflops: the arithmetic rate of a large product, median of the rounds.
        seconds: by call and peer, the time of each round.
        compile_seconds: by peer, None where nothing is compiled.
        temporary_bytes: by peer, the compiler's figure for the value and gradient.
        peak_bytes: by peer, the growth of the process in one value and gradient.
        differences: by peer, the largest difference from the reference.
    """

    row: Row
    allocator: str
    gflops: float
    seconds: dict[str, dict[str, list[float]]]
    compile_seconds: dict[str, float | None]
    temporary_bytes: dict[str, int | None]
    peak_bytes: dict[str, int | None]
    differences: dict[str, float]


class Spread(NamedTuple):
    """A median and its quartiles."""

    low: float
    median: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """The quartiles of some values."""
    return Spread(*(float(q) for q in np.quantile(values, [0.25, 0.5, 0.75])))


def ratios(result: Result, call: str, name: str) -> Spread:
    """The peer's time over the reference's, round by round."""
    times, own = result.seconds[call][name], result.seconds[call][REFERENCE]
    return spread([a / b for a, b in zip(times, own, strict=True)])


def limit_seconds(result: Result, call: str) -> float:
    """What the LSTM's matrix products alone take at the measured rate."""
    passes = {"forward": 1, "value_and_gradient": 3}[call]
    return passes * result.row.product_flops / (result.gflops * 1e9)


def runs(name: str, row: Row) -> bool:
    """Whether a peer knows the row's cell."""
    return PEERS[name].ours or row.cell == "lstm"


def disagreement(outcome: Outcome, reference: Outcome) -> tuple[float, str]:
    """The largest difference of any array, as a part of its largest value, and which.

    Raises:
        ValueError: shapes differ, or a value is not finite.
    """
    differences = {}
    for name, got, want in zip(Outcome._fields, outcome, reference, strict=True):
        got, want = (np.asarray(a, np.float64) for a in (got, want))
        if got.shape != want.shape:
            raise ValueError(
                f"{name}: expected the shape {want.shape}; got {got.shape}"
            )
        if not np.isfinite(got).all():
            raise ValueError(f"{name} is not finite")
        largest = np.abs(want).max(initial=0.0)
        differences[name] = np.abs(got - want).max(initial=0.0) / (largest or 1.0)
    worst = max(differences, key=differences.__getitem__)
    return float(differences[worst]), worst


def check_agreement(outcomes: dict[str, Outcome], dtype: str) -> dict[str, float]:
    """Each library's difference from the reference.

    Raises:
        ValueError: one is larger than `TOLERANCES` allows.
    """
    found = {}
    for name, outcome in outcomes.items():
        found[name], array = disagreement(outcome, outcomes[REFERENCE])
        if found[name] > TOLERANCES[dtype]:
            raise ValueError(
                f"{name} and {REFERENCE} disagree: {array} by {found[name]:.1e} of its "
                f"largest value, where {TOLERANCES[dtype]:.0e} is allowed in {dtype}"
            )
    return found


def measure(
    row: Row,
    names: Sequence[str],
    settings: Settings,
    say: Callable[[str], None] = print,
) -> Result:
    """Measures a row.

    Args:
        row: what to run.
        names: keys of `PEERS`, "manual" among them.
        settings: how.
        say: gets a line when something has been done.

    Raises:
        ValueError: outputs or gradients disagree, or the reference is left out.
        benchmarks.processes.WorkerError: a library failed.
    """
    if REFERENCE not in names:
        raise ValueError(f'peers must include "{REFERENCE}"; got {list(names)}')
    names = [name for name in names if runs(name, row)]
    environment = environment_of(
        row.dtype, settings.threads, settings.allocator, settings.device
    )
    with ExitStack() as stack, processors(settings.threads):
        workers = {
            name: stack.enter_context(WorkerProcess(environment)) for name in names
        }
        product = stack.enter_context(WorkerProcess(environment))
        for name, worker in workers.items():
            worker.send("load", name)
        for worker in workers.values():
            worker.receive()
        built = {}
        for name, worker in workers.items():  # one by one: compile times are measured
            built[name] = worker.ask("build", name, row, settings.device)
        product.ask("build_product", settings.product_size)
        differences = check_agreement(
            {name: worker.ask("outcome") for name, worker in workers.items()}, row.dtype
        )
        peaks = {name: worker.ask("peak_bytes") for name, worker in workers.items()}
        say(f"{describe(row)}: {len(names)} libraries agree")
        seconds, products = _rounds(workers, product, settings.rounds)
    return Result(
        row=row,
        allocator=settings.allocator,
        gflops=2 * settings.product_size**3 / float(np.median(products)) / 1e9,
        seconds=seconds,
        compile_seconds={name: built[name]["compile_seconds"] for name in names},
        temporary_bytes={name: built[name]["temporary_bytes"] for name in names},
        peak_bytes=peaks,
        differences=differences,
    )


def describe(row: Row) -> str:
    """The row in words."""
    words = f"T={row.T} B={row.B} D={row.D} H={row.H}"
    if row.dtype != "float32":
        words += f" {row.dtype}"
    return words if row.cell == "lstm" else f"{words} {row.cell}"


def _rounds(
    workers: dict[str, WorkerProcess], product: WorkerProcess, rounds: int
) -> tuple[dict[str, dict[str, list[float]]], list[float]]:
    """The times by call and peer, and those of the product."""
    order = random.Random(0)
    seconds: Any = {call: {name: [] for name in workers} for call in CALLS}
    products = []
    for _ in range(rounds):
        products.append(product.ask("time", "product"))
        for call in CALLS:
            for name in order.sample(list(workers), len(workers)):
                seconds[call][name].append(workers[name].ask("time", call))
    return seconds, products


@contextmanager
def processors(count: int) -> Generator[None]:
    """New processes get the first few processors of this one.

    XLA sizes its thread pool by them and has no other switch for it. Where the system
    has none either (macOS), JAX uses all.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
