"""`fit`: epochs of compiled segments, evaluation, the best checkpoint, progress."""

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from lstm_jax.data import BatchSchedule, Bucket
from lstm_jax.train.checkpoints import Checkpoints
from lstm_jax.train.interrupts import Interrupts
from lstm_jax.train.records import Records
from lstm_jax.train.steps import Loss, TrainState, train_segment

Evaluate = Callable[[Any], dict[str, float]]
"""``params -> measures``; the measure "accuracy" decides which epoch is best."""


class Outcome(NamedTuple):
    """How a training run ended.

    Attributes:
        state: the state at the end.
        best: the measures of the best evaluation, with its `step` and `epoch`.
        interrupted: the signal that ended it early, or None.
        steps_per_second: the training steps' own, without compilation, evaluation
            and checkpoints; None where every segment was compiled anew.
    """

    state: TrainState
    best: dict[str, Any]
    interrupted: str | None
    steps_per_second: float | None


def fit(
    state: TrainState,
    *,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    buckets: Sequence[Bucket],
    schedule: BatchSchedule,
    epochs: int,
    evaluate: Evaluate,
    records: Records,
    best: Checkpoints,
    average_decay: float = 0.0,
    console: Console | None = None,
) -> Outcome:
    """Trains for some epochs, evaluating after each, and keeps the best.

    Every step is a line of metrics.jsonl, and so is every evaluation. SIGINT and
    SIGTERM end training after the segment that runs: what was learned by then is
    evaluated, recorded and kept if it is best.

    Args:
        state: as from `init_state`; its memory is taken over.
        loss: what to minimise.
        optimizer: as from `make_optimizer`.
        buckets: the training data; they are put on the device.
        schedule: which of their rows form which batch.
        epochs: at least 1.
        evaluate: measures the averaged parameters.
        records: where the lines go.
        best: where the averaged parameters of the best evaluation go.
        average_decay: see `train_segment`.
        console: where progress is shown; standard error if None.

    Raises:
        FloatingPointError: the loss is no longer finite; the best checkpoint is kept.
        OSError: a record or checkpoint could not be written.
    """
    console = console or Console(stderr=True)
    data = jax.device_put(tuple(buckets))
    speed = _Speed()
    measures: dict[str, Any] = {}
    with (
        Interrupts() as interrupts,
        _progress(console, schedule.total_steps(epochs)) as show,
    ):
        for epoch in range(epochs):
            for bucket, indices in schedule.epoch(epoch):
                with speed.measured(bucket, len(indices)):
                    state, found = train_segment(
                        loss, optimizer, average_decay, state, data[bucket], indices
                    )
                    found = jax.device_get(found)
                rows = _rows(found, int(state.step), epoch)
                _check_finite(rows)
                records.append(rows)
                show(rows[-1]["step"], float(np.mean(found["loss"])), speed.value)
                if interrupts.received:
                    break
            measured = evaluate(state.average)
            now = {"epoch": epoch + 1, "step": int(state.step), **measured}
            records.append([{"kind": "evaluation", **now}])
            console.print(_line(now, interrupts.received), highlight=False)
            if not measures or now["accuracy"] > measures["accuracy"]:
                measures = now
                best.save(now["step"], state.average)
            if interrupts.received:
                break
    return Outcome(state, measures, interrupts.received, speed.value)


class _Speed:
    """Steps a second, over all segments but each shape's first, which compiles."""

    def __init__(self) -> None:
        self._compiled: set[int] = set()
        self._steps = 0
        self._seconds = 0.0

    @contextmanager
    def measured(self, shape: int, steps: int) -> Generator[None]:
        start = time.perf_counter()
        yield
        if shape in self._compiled:
            self._seconds += time.perf_counter() - start
            self._steps += steps
        self._compiled.add(shape)

    @property
    def value(self) -> float | None:
        return self._steps / self._seconds if self._steps else None


@contextmanager
def _progress(
    console: Console, total: int
) -> Generator[Callable[[int, float, float | None], None]]:
    """A bar with steps a second, loss and time left; gives the function to move it."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TextColumn("{task.fields[loss]}"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=console) as progress:
        task: TaskID = progress.add_task("training", total=total, speed="", loss="")

        def show(step: int, loss: float, speed: float | None) -> None:
            shown = "compiling" if speed is None else f"{speed:.1f} steps/s"
            progress.update(task, completed=step, loss=f"loss {loss:.3f}", speed=shown)

        yield show


def _rows(found: dict[str, np.ndarray], last: int, epoch: int) -> list[dict[str, Any]]:
    steps = len(found["loss"])
    return [
        {
            "kind": "step",
            "epoch": epoch + 1,
            "step": last - steps + 1 + number,
            **{name: float(values[number]) for name, values in found.items()},
        }
        for number in range(steps)
    ]


def _check_finite(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        if not np.isfinite(row["loss"]):
            raise FloatingPointError(
                f"the loss of step {row['step']} is {row['loss']}; try a lower "
                "learning rate"
            )


def _line(now: dict[str, Any], interrupted: str | None) -> str:
    measures = (f"{k} {v:.4f}" for k, v in now.items() if k not in ("epoch", "step"))
    ended = f"  (ended by {interrupted})" if interrupted else ""
    return f"epoch {now['epoch']}, step {now['step']}: {', '.join(measures)}{ended}"
