"""Measuring a row: a process for each library, agreement first, then rounds.

Every round gives each library a turn, in an order drawn anew, so that whatever else
the machine does falls on all alike. A ratio is taken within a round, where the two
times lie seconds apart; reported are the median of the rounds' ratios and their
quartiles.
"""

import os
import random
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from benchmarks.peers import PEERS
from benchmarks.problem import Outcome, Row, numpy_dtype
from benchmarks.processes import Crew, WorkerProcess, environment_of
from lstm_jax.cell import Cell
from lstm_jax.cells import CELLS, find_cell
from lstm_jax.gated import GatedStep

CALLS = ("forward", "value_and_gradient")
REFERENCE = "manual"
SCAN = "manual, scan"
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
        failures: by peer, why it has no figures: too slow, too big, or an error.
        lstm_seconds: of another cell's row, the time of value and gradient of our LSTM
            in each round.
    """

    row: Row
    allocator: str
    gflops: float
    seconds: dict[str, dict[str, list[float]]]
    compile_seconds: dict[str, float | None]
    temporary_bytes: dict[str, int | None]
    peak_bytes: dict[str, int | None]
    differences: dict[str, float]
    failures: dict[str, str]
    lstm_seconds: Sequence[float] = ()


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


def beside_lstm(result: Result) -> Spread | None:
    """Our time over our LSTM's of the same sizes, round by round; None of an LSTM."""
    own = result.seconds["value_and_gradient"][REFERENCE]
    both = zip(own, result.lstm_seconds, strict=False)
    return spread([a / b for a, b in both]) if result.lstm_seconds else None


def cell_of(row: Row) -> Cell:
    """The cell that a row runs.

    Raises:
        ValueError: there is none of this name.
    """
    return find_cell(row.cell, CELLS)


def weight_count(row: Row) -> int:
    """How many weights each step of each sequence is multiplied with.

    Those of an LSTM are 4H (D + H).
    """
    cell = cell_of(row)
    params = jax.eval_shape(lambda key: cell.init(key, row.D, row.H), jax.random.key(0))
    return sum(a.size for a in jax.tree.leaves(params) if a.ndim > 1)


def output_bytes(row: Row) -> int:
    """The size of all outputs."""
    cell = cell_of(row)

    def outputs(key: Array) -> Array:
        params = cell.init(key, row.D, row.H)
        return cell.initial_state(params, (row.T, row.B))[0]

    shape = jax.eval_shape(outputs, jax.random.key(0))
    return shape.size * numpy_dtype(row.dtype).itemsize


def limit_seconds(result: Result, call: str) -> float:
    """What a cell's matrix products alone take at the measured rate.

    A multiplication and an addition for each weight, step and sequence. The reverse
    does twice as much: once for the gradients of inputs and states, once for those of
    the weights.
    """
    passes = {"forward": 1, "value_and_gradient": 3}[call]
    additions = result.row.T * result.row.B * weight_count(result.row)
    return passes * 2 * additions / (result.gflops * 1e9)


def runs(name: str, row: Row, device: str) -> bool:
    """Whether a peer knows the row's cell, and is not another peer by a second name.

    "manual, scan" does without the compiled steps of `lstm_jax.engine.compiled`, so it
    differs from "manual" only where there are such steps.
    """
    cell = cell_of(row)
    compiled = device == "cpu" and isinstance(cell.step, GatedStep) and not cell.linear
    if row.cell not in PEERS[name].cells and not PEERS[name].ours:
        return False
    return name != SCAN or compiled


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


def check_agreement(outcome: Outcome, reference: Outcome, dtype: str) -> float:
    """The largest difference from the reference, as a part of an array's largest value.

    Raises:
        ValueError: it is larger than `TOLERANCES` allows.
    """
    found, array = disagreement(outcome, reference)
    if found > TOLERANCES[dtype]:
        raise ValueError(
            f"{array} differs from {REFERENCE}'s by {found:.1e} of its largest value, "
            f"where {TOLERANCES[dtype]:.0e} is allowed in {dtype}"
        )
    return found


def agreeing(crew: Crew, outcomes: dict[str, Outcome], dtype: str) -> dict[str, float]:
    """The differences of those that agree with the reference; others leave the crew.

    Raises:
        ValueError: one of ours does not agree.
    """
    found = {}
    for name, outcome in outcomes.items():
        try:
            found[name] = check_agreement(outcome, outcomes[REFERENCE], dtype)
        except ValueError as error:
            if PEERS[name].ours:
                raise ValueError(f"{name} disagrees: {error}") from None
            crew.dismiss(name, f"disagrees: {error}")
    return found


def measure(row: Row, names: Sequence[str], settings: Settings) -> Result:
    """Measures a row, and prints a line on what became of it.

    Args:
        row: what to run.
        names: keys of `PEERS`, "manual" among them.
        settings: how.

    Raises:
        ValueError: outputs or gradients of ours disagree.
        benchmarks.processes.WorkerError: the reference failed. Others that fail are
            among the result's `failures`.
    """
    environment = environment_of(
        row.dtype, settings.threads, settings.allocator, settings.device
    )
    with ExitStack() as stack, processors(settings.threads):
        own = [name for name in names if runs(name, row, settings.device)]
        crew = Crew(
            {name: stack.enter_context(WorkerProcess(environment)) for name in own},
            REFERENCE,
        )
        product = stack.enter_context(WorkerProcess(environment))
        lstm = None
        if row.cell != "lstm":
            lstm = stack.enter_context(WorkerProcess(environment))
            lstm.ask("load", REFERENCE)
            lstm.ask("build", row._replace(cell="lstm"), settings.device)
        crew.load()
        # One after another: compile times are measured.
        built = crew.ask_all("build", row, settings.device)
        product.ask("build_product", settings.product_size, row.dtype)
        differences = agreeing(crew, crew.ask_all("outcome"), row.dtype)
        peaks = crew.ask_all("peak_bytes")
        print(f"{describe(row)}: {len(crew.workers)} agree", flush=True)
        seconds, products, of_lstm = _rounds(crew, product, lstm, settings.rounds)
    for name, why in crew.failures.items():
        print(f"{describe(row)}: {name} failed ({why})", flush=True)
    left = list(crew.workers)
    return Result(
        row=row,
        allocator=settings.allocator,
        gflops=2 * settings.product_size**3 / float(np.median(products)) / 1e9,
        seconds={call: {n: seconds[call][n] for n in left} for call in CALLS},
        compile_seconds={name: built[name][0] for name in left},
        temporary_bytes={name: built[name][1] for name in left},
        peak_bytes={name: peaks[name] for name in left},
        differences={name: differences[name] for name in left},
        failures=crew.failures,
        lstm_seconds=of_lstm,
    )


def describe(row: Row, without: str | None = None) -> str:
    """The row in words, all its fields or all but one."""
    usual = {"dtype": "float32", "cell": "lstm"}
    own = row._asdict() | {"cell": cell_of(row).name}
    words = [
        value if name in usual else f"{name}={value}"
        for name, value in own.items()
        if name != without and value != usual.get(name)
    ]
    return " ".join(words)


def _rounds(
    crew: Crew, product: WorkerProcess, lstm: WorkerProcess | None, rounds: int
) -> tuple[dict[str, dict[str, list[float]]], list[float], list[float]]:
    """The times by call and peer, and those of the product and of the LSTM, if any."""
    order = random.Random(0)
    seconds: Any = {call: {name: [] for name in crew.workers} for call in CALLS}
    products, of_lstm = [], []
    for _ in range(rounds):
        products.append(product.ask("time", "product"))
        for call in CALLS:
            for name in order.sample(list(crew.workers), len(crew.workers)):
                seconds[call][name].append(crew.ask(name, "time", call))
        if lstm is not None:
            of_lstm.append(lstm.ask("time", "value_and_gradient"))
    return seconds, products, of_lstm


def processor_count() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
