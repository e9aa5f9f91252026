"""A run in its folder: new or continued, its checkpoints, its end."""

import dataclasses
import json
import os
import shutil
import time
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import jax
from rich.console import Console

from experiments.checks import at_least
from experiments.training.checkpoints import Checkpoints
from experiments.training.devices import is_first, wait_for_all
from experiments.training.events import EventFiles, require_writer
from experiments.training.locks import locked
from experiments.training.records import Records, environment, read_metrics
from experiments.training.steps import TrainState

KEPT = 2
"""Checkpoints of the state that a run's folder holds."""


@dataclasses.dataclass(frozen=True)
class Options:
    """How a run is carried out; what it finds does not depend on it, but for rounding.

    Attributes:
        resume: keep a finished run of the same name, and continue an unfinished one.
        checkpoint_every: steps between checkpoints.
        tensorboard: also write event files for TensorBoard.
        mesh: devices to train on, as data=4 (batches are split) or data=2,hidden=2
            (weights too); one device if not given.
        processes: programs that train together, each started with the same command.
        process_id: which of them this is, from 0; SLURM and the like tell it.
        coordinator: host:port at which the first one listens; SLURM and the like tell
            it.
    """

    resume: bool = True
    checkpoint_every: int = 100
    tensorboard: bool = False
    mesh: str | None = None
    processes: int = 1
    process_id: int | None = None
    coordinator: str | None = None


class Progress(NamedTuple):
    """How far a run has come, beside its state.

    Attributes:
        step: updates done.
        epoch: epochs finished and evaluated.
        segment: segments trained on since.
        best: the measures of the best evaluation, with its `step` and `epoch`.
        metrics: bytes of metrics.jsonl.
        seconds: spent since the run was opened, in all its lives.
    """

    step: int = 0
    epoch: int = 0
    segment: int = 0
    best: dict[str, Any] | None = None
    metrics: int = 0
    seconds: float = 0.0


class Snapshot(NamedTuple):
    """All that a continued run starts from.

    Attributes:
        state: a pytree of arrays, all that training changes.
        best: another, the averaged parameters of the best evaluation, or whatever
            has their shape before the first one.
        progress: how far it has come.
    """

    state: Any
    best: Any
    progress: Progress = Progress()

    def trained(self, state: Any, steps: int) -> "Snapshot":
        """After one more segment, of so many steps."""
        now = self.progress
        done = now._replace(step=now.step + steps, segment=now.segment + 1)
        return self._replace(state=state, progress=done)


class Outcome(NamedTuple):
    """How a training run ended.

    Attributes:
        state: the state at the end.
        params: the averaged parameters of the best evaluation; None before the first.
        best: its measures, with its `step` and `epoch`; None likewise.
        interrupted: the signal that ended the run early, or None.
        steps_per_second: the training steps' own, without compilation, evaluation
            and checkpoints; None where every segment was compiled anew.
    """

    state: TrainState
    params: Any
    best: dict[str, Any] | None
    interrupted: str | None
    steps_per_second: float | None

    def result(self) -> dict[str, Any]:
        """What result.json says of it: the best measures, `steps` and so on."""
        return {
            **(self.best or {}),
            "steps": int(self.state.step),
            "steps_per_second": self.steps_per_second,
            "interrupted": self.interrupted,
            "parameters": sum(p.size for p in jax.tree.leaves(self.state.params)),
        }


class Run:
    """A run and its folder; `open_run` makes them.

    Attributes:
        folder: config.json, metrics.jsonl, result.json, and `states` and `best`,
            checkpoints of the whole state and of the best averaged parameters.
        config: what the run follows from, ready for JSON.
        options: how it is carried out.
        records: the records in the folder.
        best: the checkpoint of the best parameters.
    """

    def __init__(
        self, folder: Path, config: dict[str, Any], options: Options, console: Console
    ) -> None:
        self.folder = folder.resolve()
        self.config = config
        self.options = options
        self.records = Records(folder)
        self.best = Checkpoints(folder / "best")
        self._states = Checkpoints(folder / "states", KEPT)
        self._console = console
        self._events: EventFiles | None = None
        self._start = time.perf_counter()

    def restore(self, start: Snapshot) -> Snapshot:
        """Where to go on from: the newest sound checkpoint, or the start.

        The lines of metrics.jsonl that came after it are taken away. A checkpoint
        that cannot be read is passed over with a warning and set aside.

        Raises:
            ValueError: there are checkpoints and none of them can be read, or the
                newest is of another config.
        """
        found = self._newest_sound(start)
        self._start = time.perf_counter() - found.progress.seconds
        self.records.cut(found.progress.metrics)
        self._take_back_best(found)
        if self.options.tensorboard and is_first():
            self._events = EventFiles(self.folder / "tensorboard")
            self._events.append(read_metrics(self.folder))
        if found is not start:
            self._console.print(
                f"continuing the run in {self.folder} after step "
                f"{found.progress.step}; --no-resume starts anew",
                highlight=False,
            )
        return found

    def append(self, rows: Sequence[dict[str, Any]]) -> None:
        """Adds lines to the metrics.

        Raises:
            OSError: they could not be written.
        """
        self.records.append(rows)
        if self._events:
            self._events.append(rows)

    def save(self, snapshot: Snapshot) -> None:
        """Writes a checkpoint, unless this step has one.

        Raises:
            OSError: it could not be written; the one before is kept.
        """
        step = snapshot.progress.step
        if step == self._states.step:
            return
        progress = snapshot.progress._replace(
            metrics=self.records.size(), seconds=self.seconds
        )
        note = {"config": self.config, "progress": progress._asdict()}
        self._states.save(step, snapshot[:2], note)

    def save_when_due(self, snapshot: Snapshot, steps: int) -> None:
        """The same, if a multiple of `checkpoint_every` is among the last `steps`."""
        if snapshot.progress.step % self.options.checkpoint_every < steps:
            self.save(snapshot)

    @property
    def seconds(self) -> float:
        """Time since the run was opened, in all its lives."""
        return time.perf_counter() - self._start

    def finish(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """Writes result.json and returns what it says.

        Args:
            result: what was found, as from `Outcome.result` and more; `interrupted`
                must be there. The time, the mesh and what ran where are added.

        Raises:
            OSError: it could not be written.
        """
        mesh = {"mesh": self.options.mesh}
        content = {**result, "seconds": self.seconds, **mesh, **environment()}
        self.records.write("result", content)
        if self._events:
            self._events.close()
        return content

    def _newest_sound(self, start: Snapshot) -> Snapshot:
        damaged: dict[int, ValueError] = {}
        for step in self._states.steps:
            try:
                note = self._states.note(step)
            except ValueError as error:
                damaged[step] = error
                continue
            check_same_config(self.folder, note["config"], self.config)
            try:
                state, best = self._states.restore(start[:2], step)
            except ValueError as error:
                damaged[step] = error
                continue
            for other, error in damaged.items():
                warnings.warn(f"passed over: {error}", stacklevel=2)
                self._states.set_aside(other)
            return Snapshot(state, best, Progress(**note["progress"]))
        if damaged:
            raise ValueError(
                f"no checkpoint can be read; --no-resume starts anew. "
                f"{next(iter(damaged.values()))}"
            )
        return start

    def _take_back_best(self, found: Snapshot) -> None:
        """Removes a checkpoint of the best that is newer than the state found.

        Training comes to it again; the best so far takes its place.
        """
        best = found.progress.best
        if self.best.step == (best and best["step"]):
            return
        if is_first():
            shutil.rmtree(self.best.folder, ignore_errors=True)
        wait_for_all("best taken back")
        if best:
            self.best.save(best["step"], found.best)


@contextmanager
def open_run(
    folder: Path,
    config: Any,
    options: Options | None = None,
    console: Console | None = None,
    data: Mapping[str, str] = MappingProxyType({}),
) -> Generator[Run]:
    """Makes a run's folder, or finds an unfinished run of the same config there.

    A run is unfinished where there is no result.json, or one that tells of an
    interruption. A run that is not to be continued is kept as ``NAME.previous``, which
    holds one run. As long as the run is open, no other process can open it.

    Args:
        folder: the run's.
        config: a dataclass; what the run follows from.
        options: how it is carried out.
        console: where it is told what becomes of an earlier run; standard error if
            None.
        data: see `kept_result`.

    Raises:
        ValueError: a finished run is there, which is kept, or a run of another config.
        BlockingIOError: another process has opened it.
        ModuleNotFoundError: a package that an option needs is not installed.
    """
    options, console = options or Options(), console or Console(stderr=True)
    at_least(1, checkpoint_every=options.checkpoint_every)
    if options.tensorboard:
        require_writer()
    run = Run(folder, _as_json(config), options, console)
    with locked(run.folder) if is_first() else nullcontext():
        found = _find(run.records, run.config, options, data)
        if found == "finished":
            raise ValueError(f"{folder}: the finished run here is kept{_ANEW}")
        wait_for_all("the folder was read")
        if is_first():
            if found == "replaced":
                told = f"the earlier run is kept as {_set_aside(run.folder)}"
                console.print(told, highlight=False)
            (run.folder / "result.json").unlink(missing_ok=True)
            run.records.write("config", run.config)
        wait_for_all("the run is open")
        yield run


def kept_result(
    folder: Path,
    config: Any,
    options: Options,
    console: Console,
    data: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any] | None:
    """The result of a finished run of this config, which is kept, and told so.

    Args:
        folder: the run's.
        config: a dataclass; what the run follows from.
        options: without `resume`, nothing is kept.
        console: where it is told.
        data: what a result says of the data it is of. A result of other data is not
            kept.

    Returns:
        What result.json says; None where there is something to train.

    Raises:
        ValueError: a run of another config is there, or its records are broken.
    """
    records = Records(folder)
    if _find(records, _as_json(config), options, data) != "finished":
        return None
    told = f"{folder}: finished before, and kept{_ANEW}"
    console.print(told, highlight=False)
    return records.read_result()


_ANEW = "; --no-resume trains anew"


def _find(
    records: Records,
    config: dict[str, Any],
    options: Options,
    data: Mapping[str, str],
) -> Literal["nothing", "unfinished", "finished", "replaced"]:
    """What is in a run's folder, and whether it is to be replaced."""
    folder = records.folder
    if not (folder / "config.json").exists():
        return "replaced" if (folder / "metrics.jsonl").exists() else "nothing"
    if not options.resume:
        return "replaced"
    result = records.read_result()
    finished = result is not None and result["interrupted"] is None
    there = records.read("config") or {}
    if not finished and there != config and not _has_lines(folder):
        return "nothing"  # it ended before its first step
    check_same_config(folder, there, config, finished)
    if result is None or not finished:
        return "unfinished"
    return "finished" if data.items() <= result.items() else "replaced"


def _has_lines(folder: Path) -> bool:
    metrics = folder / "metrics.jsonl"
    return metrics.exists() and metrics.stat().st_size > 0


def _as_json(config: Any) -> dict[str, Any]:
    return json.loads(json.dumps(dataclasses.asdict(config)))


def check_same_config(
    folder: Path, there: Any, here: dict[str, Any], finished: bool = False
) -> None:
    """Raises ValueError, naming the fields, where two configs differ."""
    pairs = {
        name: (there.get(name, "nothing"), here.get(name, "nothing"))
        for name in {**there, **here}
    }
    told = [f"{k} ({a!r} there, {b!r} now)" for k, (a, b) in pairs.items() if a != b]
    if told:
        kind = "a finished" if finished else "an unfinished"
        raise ValueError(
            f"{folder}: there is {kind} run of another config: {', '.join(told)}. "
            "Choose another --name; or --no-resume starts anew, and keeps the run as "
            f"{folder.name}.previous"
        )


def _set_aside(folder: Path) -> Path:
    """Renames a run's folder, in the place of one renamed before."""
    previous = folder.with_name(folder.name + ".previous")
    shutil.rmtree(previous, ignore_errors=True)
    os.replace(folder, previous)
    return previous
