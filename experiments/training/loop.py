"""`fit`: epochs of compiled segments, evaluation, checkpoints."""

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console

from experiments.data import BatchSchedule
from experiments.training.devices import place, replicate
from experiments.training.interrupts import Interrupts
from experiments.training.progress import progress_bar
from experiments.training.runs import Outcome, Run, Snapshot
from experiments.training.steps import Loss, TrainState, train_segment

Evaluate = Callable[[Any], dict[str, float]]
"""``params -> measures`` of averaged parameters."""


def fit(
    run: Run,
    state: TrainState,
    *,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    data: Sequence[Any],
    schedule: BatchSchedule,
    epochs: int,
    evaluate: Evaluate,
    score: Callable[[dict[str, float]], float] = itemgetter("accuracy"),
    average_decay: float = 0.0,
    console: Console | None = None,
) -> Outcome:
    """Trains for some epochs, evaluating after each, and keeps the best.

    Every step is a line of metrics.jsonl, and so is every evaluation. A run that was
    ended early goes on from its newest checkpoint, and on a CPU comes to the same
    bits as one that was not. SIGINT and SIGTERM end training after the segment that
    runs, with a checkpoint.

    Args:
        run: as from `open_run`.
        state: as from `init_state`; its memory is taken over.
        loss: what to minimise.
        optimizer: as from `make_optimizer`.
        data: what a segment's number picks, each a pytree of arrays with one row an
            example; they are put on the device.
        schedule: which rows form which batch.
        epochs: at least 1.
        evaluate: measures the averaged parameters.
        score: of its measures, higher for better ones.
        average_decay: see `train_segment`.
        console: where progress is shown; standard error if None.

    Raises:
        FloatingPointError: the loss is no longer finite; the last checkpoint is kept.
        OSError: a record or checkpoint could not be written; likewise.
        ValueError: the checkpoints cannot be read, or are of another config.
    """
    console = console or Console(stderr=True)
    data, state = replicate(tuple(data)), place(state)
    now = run.restore(Snapshot(state, _copy(state.average)))
    speed, ended = _Speed(), None
    bar = progress_bar(console, "training", schedule.total_steps(epochs))
    with Interrupts() as interrupts, bar as show:
        for epoch in range(now.progress.epoch, epochs):
            for part, indices in schedule.epoch(epoch)[now.progress.segment :]:
                with speed.measured(part, len(indices)):
                    state, found = train_segment(
                        loss, optimizer, average_decay, now.state, data[part], indices
                    )
                    # Blocks: steps that queue up on several devices of a CPU time out.
                    found = jax.device_get(found)
                now = now.trained(state, len(indices))
                rows = _rows(found, now.progress.step, epoch)
                _check_finite(rows)
                run.append(rows)
                show(rows[-1]["step"], f"loss {np.mean(found['loss']):.3f}")
                if ended := interrupts.anywhere():
                    break
                run.save_when_due(now, len(indices))
            if not ended:
                now = _evaluated(run, now, evaluate, score, console)
                ended = interrupts.anywhere() if epoch + 1 < epochs else None
            run.save(now)
            if ended:
                break
    best = now.progress.best
    return Outcome(now.state, now.best if best else None, best, ended, speed.value)


def _evaluated(
    run: Run,
    now: Snapshot,
    evaluate: Evaluate,
    score: Callable[[dict[str, Any]], float],
    console: Console,
) -> Snapshot:
    """Measures the averaged parameters; records them, and keeps them if best."""
    epoch, step = now.progress.epoch + 1, now.progress.step
    measures = {"epoch": epoch, "step": step, **evaluate(now.state.average)}
    run.append([{"kind": "evaluation", **measures}])
    console.print(_line(measures), highlight=False)
    progress = now.progress._replace(epoch=epoch, segment=0)
    if progress.best and score(measures) <= score(progress.best):
        return now._replace(progress=progress)
    run.best.save(step, now.state.average)
    best = _copy(now.state.average)  # the state's own memory is given away
    return Snapshot(now.state, best, progress._replace(best=measures))


@jax.jit
def _copy(tree: Any) -> Any:
    return jax.tree.map(jnp.copy, tree)


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


def _line(now: dict[str, Any]) -> str:
    measures = (f"{k} {v:.4f}" for k, v in now.items() if k not in ("epoch", "step"))
    return f"epoch {now['epoch']}, step {now['step']}: {', '.join(measures)}"
