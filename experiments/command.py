"""What the experiments share on the outside: command line, records, table, picture.

An experiment is a config, its presets, its data and its task; `command` makes a
program of it. A run is a folder, ``runs/EXPERIMENT/NAME``, with a folder for each cell
(config.json, metrics.jsonl, result.json) and what compares them: results.md and
curves.png.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from experiments.ablations import ABLATIONS
from experiments.networks import gradient_of
from experiments.seeds import Data, Task, Trained, Training, summary, train_seeds
from lstm_jax import plotting
from lstm_jax.cell import Cell
from lstm_jax.cells import CELLS
from lstm_jax.data import write_whole
from lstm_jax.train import Records, environment, read_metrics

C = TypeVar("C", bound=Training)

KNOWN_CELLS: dict[str, Cell] = {**CELLS, **ABLATIONS}
"""All cells that an experiment can be run with, by name."""


class Experiment(NamedTuple):
    """What `command` needs to know.

    Attributes:
        name: the module's, and the folder's under runs/.
        presets: configs by name, "default" among them.
        load: ``config -> data``.
        make_task: ``(config, cell, data) -> task``.
        measure: the key of `Task.evaluate` that tables and pictures show.
        references: ``config -> {label: value}``, what to hold the measure against.
        finish: ``(config, cell, data, trained, folder) -> None``, for what a cell's
            folder holds beside the records.
    """

    name: str
    presets: Mapping[str, Any]
    load: Callable[[Any], Data]
    make_task: Callable[[Any, Cell, Data], Task]
    measure: str
    references: Callable[[Any], dict[str, float]] = lambda config: {}
    finish: Callable[[Any, Cell, Data, Trained, Path], None] = lambda *_: None


@dataclass(frozen=True)
class Arguments(Generic[C]):
    """The command line of an experiment.

    Attributes:
        config: the run.
        preset: where the values not given come from.
        name: the run's folder; the preset's name if not given.
        runs: where runs are.
    """

    config: Annotated[C, tyro.conf.arg(name="")]
    preset: str = "default"
    name: str | None = None
    runs: Path = Path("runs")


def find_cell(name: str) -> Cell:
    """The cell of this name.

    Raises:
        ValueError: there is none.
    """
    if name not in KNOWN_CELLS:
        known = ", ".join(KNOWN_CELLS)
        raise ValueError(f"cells: expected some of {known}; got {name!r}")
    return KNOWN_CELLS[name]


# --- a run ------------------------------------------------------------------------


def run(
    experiment: Experiment, config: Training, folder: Path, console: Console
) -> str | None:
    """Trains every cell with every seed; the folder then holds the whole record.

    Returns:
        The signal that ended it early, or None.

    Raises:
        ValueError: the config cannot be run.
        OSError: a record could not be written.
    """
    cells = [find_cell(name) for name in config.cells]
    data = experiment.load(config)
    interrupted = None
    for cell in cells:
        records = Records(folder / cell.name)
        (records.folder / "metrics.jsonl").unlink(missing_ok=True)
        records.write("config", dataclasses.asdict(config))
        task = experiment.make_task(config, cell, data)
        label = f"{experiment.name}, {cell.name}"
        with progress(console, label, config) as show:
            trained = train_seeds(task, data, config, records, show)
        records.write("result", result_of(experiment, cell, config, trained))
        experiment.finish(config, cell, data, trained, records.folder)
        if interrupted := trained.interrupted:
            break
    compare(experiment, config, folder)
    return interrupted


def result_of(
    experiment: Experiment, cell: Cell, config: Training, trained: Trained
) -> dict[str, Any]:
    """What result.json says of a cell."""
    first = jax.tree.map(lambda p: p[0], trained.params)
    measures = {name: summary(values) for name, values in trained.test.items()}
    return {
        "experiment": experiment.name,
        "cell": cell.name,
        "gradient": gradient_of(cell),
        "measure": experiment.measure,
        **measures,
        "seeds": config.seeds,
        "steps": trained.steps,
        "seconds": trained.seconds,
        "steps_per_second": trained.steps * config.seeds / trained.seconds,
        "parameters": sum(np.size(p) for p in jax.tree.leaves(first)),
        "interrupted": trained.interrupted,
        **environment(),
    }


def read_results(folder: Path) -> list[dict[str, Any]]:
    """What is in the result.json of every cell's folder, in no order."""
    files = folder.glob("*/result.json")
    return [json.loads(file.read_text("utf-8")) for file in files]


def compare(experiment: Experiment, config: Training, folder: Path) -> None:
    """Writes results.md and curves.png from the records of the cells."""
    found = {result["cell"]: result for result in read_results(folder)}
    results = [found[name] for name in config.cells if name in found]
    if not results:
        return
    references = experiment.references(config)
    write_whole(folder / "results.md", table(results, references).encode())
    curves = {
        result["cell"]: [
            row
            for row in read_metrics(folder / result["cell"])
            if row["kind"] == "evaluation"
        ]
        for result in results
    }
    plotting.seed_curves(
        folder / "curves.png", experiment.name, experiment.measure, curves, references
    )


# --- the table --------------------------------------------------------------------


def table(results: Sequence[dict[str, Any]], references: Mapping[str, float]) -> str:
    """Results as a table in Markdown, one row a cell, and the references below."""
    measure = results[0]["measure"]
    head = ("cell", "parameters", measure.replace("_", " "), "seeds", "steps", "time")
    rows = [
        (
            result["cell"],
            f"{result['parameters']:,}",
            shown(result[measure]),
            str(result["seeds"]),
            f"{result['steps']:,}",
            f"{result['seconds']:.0f} s",
        )
        for result in results
    ]
    rows += [
        (label, "", f"{value:.4f}", "", "", "") for label, value in references.items()
    ]
    return markdown(head, rows)


def shown(found: dict[str, Any]) -> str:
    """Mean ± standard deviation over seeds, and how many of them diverged."""
    if found["mean"] is None:
        return "diverged"
    spread = "" if found["std"] is None else f" ± {found['std']:.4f}"
    lost = f" ({found['diverged']} diverged)" if found["diverged"] else ""
    return f"{found['mean']:.4f}{spread}{lost}"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, its columns aligned for whoever reads the text."""
    widths = [max(len(row[n]) for row in (head, *rows)) for n in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        return f"| {' | '.join(padded)} |\n"

    rule = "|".join("-" * (width + 2) for width in widths)
    return line(head) + f"|{rule}|\n" + "".join(line(row) for row in rows)


# --- the command line -------------------------------------------------------------


def command(
    experiment: Experiment, description: str, arguments: Sequence[str] | None = None
) -> int:
    """Runs an experiment's command line; returns the exit status."""
    given = parse(experiment, description, arguments)
    folder = given.runs / experiment.name / (given.name or given.preset)
    console = Console(stderr=True)
    try:
        interrupted = run(experiment, given.config, folder, console)
    except (OSError, ImportError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        interrupted = "SIGINT"
    if (written := folder / "results.md").is_file():
        print(written.read_text("utf-8"), end="", flush=True)
    console.print(f"see {folder}", highlight=False)
    return {None: 0, "SIGINT": 130, "SIGTERM": 143}[interrupted]


def parse(
    experiment: Experiment, description: str, arguments: Sequence[str] | None = None
) -> Arguments[Any]:
    """Reads the command line: a preset, and what is given beside it."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", choices=tuple(experiment.presets), default="default")
    known, _ = first.parse_known_args(arguments)
    config = experiment.presets[known.preset]
    presets = ", ".join(experiment.presets)
    return tyro.cli(
        Arguments[type(config)],
        default=Arguments(config=config, preset=known.preset),
        args=arguments,
        prog=f"python -m experiments.{experiment.name}",
        description=f"{description}\n\nPresets: {presets}.",
    )


@contextmanager
def progress(console: Console, label: str, config: Training) -> Any:
    """A bar with steps a second and time left; gives the function to move it."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(label, total=config.steps, speed="compiling")

        def show(step: int) -> None:
            bar.update(task, completed=step)
            speed = bar.tasks[0].speed
            told = "" if speed is None else f"{speed:.0f} steps/s, all seeds"
            bar.update(task, speed=told)

        yield show
