"""Measures the epoch: ``python -m benchmarks.epoch --help``."""

import json
import random
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import tyro

from benchmarks.command import choose_peers, told
from benchmarks.epoch import TRAINERS, Epoch, make_epoch
from benchmarks.measure import (
    REFERENCE,
    Settings,
    Spread,
    processor_count,
    processors,
    spread,
)
from benchmarks.processes import WorkerProcess, environment_of
from benchmarks.report import describe_machine
from experiments.checks import at_least
from lstm_jax.files import write_whole

COMPARED_STEPS = 20
TOLERANCE = 1e-3
"""Losses of the first steps must agree to this; later ones drift by rounding."""


@dataclass(frozen=True)
class Config:
    """Trains the same model for an epoch in each library, in turns.

    Attributes:
        reviews: how many training reviews; all if not given.
        peers: keys of `TRAINERS`; all that are installed if not given.
        threads: processors each library may use; all of this process if not given.
        device: "cpu" or "gpu".
        allocator: how freed memory is treated; see `benchmarks.processes`.
        folder: where the table and the record go.
    """

    reviews: int | None = None
    peers: tuple[str, ...] = ()
    threads: int | None = None
    device: Literal["cpu", "gpu"] = "cpu"
    allocator: Literal["default", "kept"] = "default"
    folder: Path = Path("runs/bench/epoch")


class Result(NamedTuple):
    """What a library did.

    Attributes:
        seconds: of each segment, the first of a bucket with its compilation.
        losses: of each step.
        accuracy: on the validation reviews, after the epoch.
    """

    seconds: list[float]
    losses: list[float]
    accuracy: float


def run(config: Config) -> str:
    """Measures and writes; the Markdown table.

    Raises:
        ValueError: an unknown name, a number too small, or losses that disagree.
        benchmarks.processes.WorkerError: a library failed.
    """
    names, left_out = choose_peers(config.peers, TRAINERS, config.device)
    threads = processor_count() if config.threads is None else config.threads
    at_least(1, threads=threads)
    if config.reviews is not None:
        at_least(1, reviews=config.reviews)
    epoch = make_epoch(config.reviews)
    buckets = [segment.bucket for segment in epoch.segments]
    settings = Settings(
        len(buckets), threads, allocator=config.allocator, device=config.device
    )
    results = measure(names, epoch, settings)
    text = render(results, buckets, describe_machine(settings))
    text += "".join(
        f"\n{name} was left out: {reason}.\n" for name, reason in left_out.items()
    )
    config.folder.mkdir(parents=True, exist_ok=True)
    record: dict[str, Any] = {name: r._asdict() for name, r in results.items()}
    record = {"machine": describe_machine(settings), "buckets": buckets} | record
    write_whole(config.folder / "record.json", f"{json.dumps(record)}\n".encode())
    write_whole(config.folder / "README.md", text.encode())
    return text


def measure(names: list[str], epoch: Epoch, settings: Settings) -> dict[str, Result]:
    """A round for each segment, in which each library has a turn."""
    environment = environment_of(
        "float32", settings.threads, settings.allocator, settings.device
    )
    order = random.Random(0)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    losses: dict[str, list[float]] = {name: [] for name in names}
    with ExitStack() as stack, processors(settings.threads):
        workers = {
            name: stack.enter_context(
                WorkerProcess(environment, "benchmarks.epoch.worker")
            )
            for name in names
        }
        for name, worker in workers.items():
            worker.ask("build", name, epoch, settings.device)
        for number in range(len(epoch.segments)):
            for name in order.sample(names, len(names)):
                took, found = workers[name].ask("train", number)
                seconds[name].append(took)
                losses[name].extend(map(float, found))
            check_agreement(losses)
            print(
                f"\rsegment {number + 1} of {len(epoch.segments)}", end="", flush=True
            )
        print()
        accuracy = {name: worker.ask("accuracy") for name, worker in workers.items()}
    return {n: Result(seconds[n], losses[n], accuracy[n]) for n in names}


def check_agreement(losses: dict[str, list[float]]) -> None:
    """Raises ValueError if the first losses are not the reference's."""
    own = np.array(losses[REFERENCE][:COMPARED_STEPS])
    for name, found in losses.items():
        difference = float(np.max(np.abs(np.array(found[:COMPARED_STEPS]) - own)))
        if not difference <= TOLERANCE:
            raise ValueError(
                f"{name} and {REFERENCE} disagree: a loss of the first "
                f"{COMPARED_STEPS} steps by {difference:.1e}"
            )


def ratio(results: dict[str, Result], buckets: list[int], name: str) -> Spread:
    """A library's time over the reference's, without the segments that compile."""
    settled = [b in buckets[:n] for n, b in enumerate(buckets)]
    times, own = (np.array(results[n].seconds)[settled] for n in (name, REFERENCE))
    return spread(list(times / own))


def render(
    results: dict[str, Result], buckets: list[int], machine: dict[str, str]
) -> str:
    """The Markdown text."""
    lines = ["# An epoch of IMDB", "", *(f"- {k}: {v}" for k, v in machine.items()), ""]
    lines += [
        f"A ratio is a library's time over that of {REFERENCE}, segment by segment: "
        "the median and the quartiles. The segments in which a bucket's program is "
        "compiled are in the epoch's seconds only.",
        "",
        "| library | epoch, s | settled steps/s | ratio | loss | accuracy |",
        "|---|---|---|---|---|---|",
    ]
    steps = len(results[REFERENCE].losses) // len(buckets)
    for name, result in results.items():
        low, median, high = ratio(results, buckets, name)
        settled = [s for n, s in enumerate(result.seconds) if buckets[n] in buckets[:n]]
        lines.append(
            f"| {name} | {sum(result.seconds):.1f} "
            f"| {steps * len(settled) / sum(settled):.1f} "
            f"| {median:.2f} ({low:.2f} to {high:.2f}) "
            f"| {np.mean(result.losses[-10 * steps :]):.4f} | {result.accuracy:.4f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    given = tyro.cli(Config, prog="python -m benchmarks.epoch")
    with told():
        print(run(given))
