"""An experiment: a config, data, a task; trained with every cell, and compared.

A run is a folder, ``runs/EXPERIMENT/NAME``, with a folder for each cell (config.json,
metrics.jsonl, result.json) and what compares them: results.md and curves.png.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from rich.console import Console

from experiments import plots
from experiments.tables import markdown
from experiments.tasks.cells import find_cells
from experiments.tasks.networks import gradient_of
from experiments.tasks.seeds import Data, Task, Trained, Training, summary, train_seeds
from experiments.training import (
    Options,
    Records,
    open_run,
    progress_bar,
    read_metrics,
)
from lstm_jax.cell import Cell
from lstm_jax.files import write_whole


class Experiment(NamedTuple):
    """What is trained, and how it is told.

    Attributes:
        name: the module's, and the folder's under runs/.
        description: what it is, for ``--help``.
        presets: configs by name, "default" among them.
        load: ``config -> data``.
        make_task: ``(config, cell, data) -> task``.
        measure: the key of `Task.evaluate` that tables and pictures show.
        references: ``config -> {label: value}``, what to hold the measure against.
        source: ``() -> {key: value}``, for result.json: which data these are, where
            that depends on the machine. Results of other data are not compared.
        finish: ``(config, cell, data, trained, folder) -> None``, for what a cell's
            folder holds beside the records.
    """

    name: str
    description: str
    presets: Mapping[str, Any]
    load: Callable[[Any], Data]
    make_task: Callable[[Any, Cell, Data], Task]
    measure: str
    references: Callable[[Any], dict[str, float]] = lambda config: {}
    source: Callable[[], dict[str, str]] = dict
    finish: Callable[[Any, Cell, Data, Trained, Path], None] = lambda *_: None


def run(
    experiment: Experiment,
    config: Training,
    folder: Path,
    options: Options,
    console: Console,
) -> str | None:
    """Trains every cell with every seed; the folder then holds the whole record.

    Cells that are done already, on the same data, are kept if options.resume says so.

    Returns:
        The signal that ended it early, or None.

    Raises:
        ValueError: the config cannot be run, or an unfinished run is of another.
        OSError: a record could not be written.
    """
    todo, source = [], experiment.source()
    for cell in find_cells(config.cells):
        own = dataclasses.replace(config, cells=(cell.name,))
        if options.resume and is_done(folder / cell.name, own, source):
            told = f"{experiment.name}, {cell.name}: done; --no-resume trains anew"
            console.print(told, highlight=False)
        else:
            todo.append((cell, own))
    data, interrupted = experiment.load(config), None
    for cell, own in todo:
        task = experiment.make_task(own, cell, data)
        opened = open_run(folder / cell.name, own, options, console)
        label = f"{experiment.name}, {cell.name}"
        with progress_bar(console, label, own.steps) as show:
            trained = train_seeds(task, data, own, opened, show)
        experiment.finish(own, cell, data, trained, opened.folder)
        opened.finish(result_of(experiment, cell, own, trained) | source)
        if interrupted := trained.interrupted:
            break
    compare(experiment, config, folder, source)
    return interrupted


def is_done(folder: Path, config: Training, source: dict[str, str]) -> bool:
    """Whether the folder holds a finished run of this config, on these data."""
    result = read_result(folder, config, source)
    return result is not None and result["interrupted"] is None


def read_result(
    folder: Path, config: Training, source: dict[str, str]
) -> dict[str, Any] | None:
    """The result.json of a run of this config, on these data; None if there is none."""
    records = Records(folder)
    wanted = json.loads(json.dumps(dataclasses.asdict(config)))
    if records.read("config") != wanted or not (result := records.read("result")):
        return None
    return result if source.items() <= result.items() else None


def result_of(
    experiment: Experiment, cell: Cell, config: Training, trained: Trained
) -> dict[str, Any]:
    """What result.json says of a cell, beside what every run's does."""
    measures: dict[str, Any] = {}
    for name, values in trained.test.items():
        measures |= summary(name, values)
    return {
        "experiment": experiment.name,
        "cell": cell.name,
        "gradient": gradient_of(cell),
        "measure": experiment.measure,
        **measures,
        "seeds": config.seeds,
        "steps": trained.steps,
        "steps_per_second": trained.steps_per_second,
        "parameters": sum(p[0].size for p in jax.tree.leaves(trained.params)),
        "interrupted": trained.interrupted,
    }


def compare(
    experiment: Experiment, config: Training, folder: Path, source: dict[str, str]
) -> None:
    """Writes results.md and curves.png from the records of the cells."""
    found = [
        read_result(folder / name, dataclasses.replace(config, cells=(name,)), source)
        for name in config.cells
    ]
    if not (results := [result for result in found if result]):
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
    plots.seed_curves(
        folder / "curves.png",
        f"{experiment.name}, {folder.name}",
        experiment.measure,
        curves,
        references,
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
            shown(result),
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


def shown(result: dict[str, Any]) -> str:
    """Mean ± standard deviation over seeds, and how many of them diverged."""
    name = result["measure"]
    mean, std = result[name], result[f"{name}_std"]
    lost = sum(value is None for value in result[f"{name}_of_seeds"])
    if mean is None:
        return "diverged"
    spread = "" if std is None else f" ± {std:.4f}"
    return f"{mean:.4f}{spread}" + (f" ({lost} diverged)" if lost else "")
