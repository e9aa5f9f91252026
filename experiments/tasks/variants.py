"""Which equations matter? Every cell, and the LSTM less one thing, on six tasks.

A search space odyssey (Greff et al., 2017) in small: the tasks are small, sizes,
learning rate and steps the same for all, with several seeds, and the interval that the
mean over seeds lies in with 95% confidence, by Student's t. A cell marked with an
asterisk differs from the LSTM by more than both intervals.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from rich.console import Console

from experiments import plots
from experiments.confidence import half_width
from experiments.tables import markdown
from experiments.tasks import (
    adding_problem,
    characters,
    copy_memory,
    digits,
    reviews,
    vowels,
)
from experiments.tasks.ablations import ABLATIONS
from experiments.tasks.cells import in_order
from experiments.tasks.experiment import Experiment, draw, run
from experiments.tasks.seeds import Training
from experiments.training import Options, Records
from lstm_jax.cells import CELLS
from lstm_jax.engine.checks import check_choice
from lstm_jax.files import write_whole

TASKS: MappingProxyType[str, tuple[Experiment, Training]] = MappingProxyType(
    {
        "adding_problem": (
            adding_problem.EXPERIMENT,
            adding_problem.Config(length=50, steps=1000, evaluations=10),
        ),
        "copy_memory": (
            copy_memory.EXPERIMENT,
            copy_memory.Config(delay=1, steps=1000, evaluations=10, hidden_size=64),
        ),
        "digits": (
            digits.EXPERIMENT,
            digits.Config(
                reading="permuted",
                steps=1000,
                evaluations=10,
                hidden_size=32,
                learning_rate=1e-2,
            ),
        ),
        "vowels": (
            vowels.EXPERIMENT,
            vowels.Config(hidden_size=32, steps=400, evaluations=8),
        ),
        "characters": (
            characters.EXPERIMENT,
            characters.Config(steps=300, evaluations=3, hidden_size=64, sample=100),
        ),
        "reviews": (reviews.EXPERIMENT, reviews.Config()),
    }
)
"""What cells are compared on, each an experiment at a small size."""

BASE = "lstm"


@dataclass(frozen=True)
class Config:
    """What a comparison follows from.

    Attributes:
        tasks: names of `TASKS`. Several runs with one --name, each with some of the
            tasks, make one comparison.
        cells: names, and your own as ``module:NAME`` or ``file.py:NAME``; none for all
            of the library and the LSTM less one thing.
        seeds: train with the seeds 0, 1, ..., so many.
        steps: of all tasks; None for each task's own.
    """

    tasks: tuple[str, ...] = tuple(TASKS)
    cells: tuple[str, ...] = ()
    seeds: int = 5
    steps: int | None = None


PRESETS = {"default": Config()}


class Interval(NamedTuple):
    """A mean over seeds, and how far from it the truth may be.

    Attributes:
        mean: over the seeds that did not diverge; None if all did.
        half: half the width of the confidence interval; None with one seed.
        diverged: how many seeds did.
        better: whether less or more is better: -1 or 1.
    """

    mean: float | None
    half: float | None
    diverged: int
    better: int


def interval(result: dict[str, Any]) -> Interval:
    """The confidence interval of a cell's measure, by Student's t."""
    measure = result["measure"]
    of_seeds = [v for v in result[f"{measure}_of_seeds"] if v is not None]
    half = None
    if (count := len(of_seeds)) > 1:
        half = half_width(result[f"{measure}_std"], count)
    return Interval(
        mean=result[measure],
        half=half,
        diverged=result["seeds"] - count,
        better=1 if measure == "accuracy" else -1,
    )


def apart(one: Interval, other: Interval) -> bool:
    """Whether two intervals do not meet; one without a mean meets none."""
    if one.mean is None or other.mean is None:
        return True
    return abs(one.mean - other.mean) > (one.half or 0.0) + (other.half or 0.0)


# --- a run ------------------------------------------------------------------------


def compare_cells(
    config: Config, folder: Path, options: Options, console: Console
) -> str | None:
    """Trains every cell on every task, and reports on all that the folder holds.

    Returns:
        The signal that ended it early, or None.

    Raises:
        ValueError: an unknown name, or a number out of range.
    """
    chosen, interrupted = _chosen(config), None
    for name, (experiment, small) in chosen.items():
        if interrupted := run(experiment, small, folder / name, options, console):
            break
    report(folder)
    return interrupted


def draw_comparison(config: Config, folder: Path) -> None:
    """Draws the curves of every task, and intervals.png from the report."""
    for name, (experiment, small) in _chosen(config).items():
        draw(experiment, small, folder / name)
    found = Records(folder).read("result") or {}
    if names := in_order(cell for cells in found.values() for cell in cells):
        plots.interval_chart(folder / "intervals.png", names, BASE, found)


def _chosen(config: Config) -> dict[str, tuple[Experiment, Training]]:
    """The tasks, with the cells, seeds and steps of a comparison."""
    changed: dict[str, Any] = {"seeds": config.seeds}
    changed["cells"] = config.cells or (*CELLS, *ABLATIONS)
    if config.steps is not None:
        changed |= {"steps": config.steps, "evaluations": 1}
    for name in config.tasks:
        check_choice("task", name, tuple(TASKS))
    return {
        name: (TASKS[name][0], dataclasses.replace(TASKS[name][1], **changed))
        for name in config.tasks
    }


def runs_in(folder: Path) -> list[str]:
    """The cells that a task's folder has runs of, those set aside left out."""
    names = (own.name for own in folder.glob("*/"))
    return [name for name in names if not name.endswith(".previous")]


def report(folder: Path) -> None:
    """Writes results.md and result.json from the cells' records.

    What was interrupted is left out, and what was measured on other data.

    Raises:
        ValueError: a record is broken; it is named.
    """
    found = {
        task: {
            name: interval(result)
            for name in in_order(runs_in(folder / task))
            if (result := Records(folder / task / name).read_result())
            and result["interrupted"] is None
            and source.items() <= result.items()
        }
        for task, (experiment, own) in TASKS.items()
        for source in [experiment.source(own)]
    }
    found = {task: cells for task, cells in found.items() if cells}
    if not found:
        return
    content = {
        task: {cell: own._asdict() for cell, own in cells.items()}
        for task, cells in found.items()
    }
    Records(folder).write("result", content)
    write_whole(folder / "results.md", table(found).encode())


def table(found: Mapping[str, Mapping[str, Interval]]) -> str:
    """Cells against tasks, in Markdown."""
    rows = []
    for name in in_order(cell for cells in found.values() for cell in cells):
        cells = [cells.get(name) for cells in found.values()]
        bases = [cells.get(BASE) for cells in found.values()]
        shown = [_shown(c, b) for c, b in zip(cells, bases, strict=True)]
        rows.append((name, *shown))
    heads = [f"{task.replace('_', ' ')} {_unit(task)}" for task in found]
    return markdown(("cell", *heads), rows)


def _unit(task: str) -> str:
    measure = TASKS[task][0].measure
    return f"({measure.replace('_', ' ')})"


def _shown(own: Interval | None, base: Interval | None) -> str:
    if own is None:
        return ""
    if own.mean is None:
        return "diverged *"
    half = "" if own.half is None else f" ± {own.half:.3f}"
    lost = f" ({own.diverged} diverged)" if own.diverged else ""
    mark = " *" if base is not None and apart(own, base) else ""
    return f"{own.mean:.3f}{half}{lost}{mark}"
