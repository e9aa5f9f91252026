"""An experiment: a config, data, a task; trained with every cell, and compared.

A run is a folder, ``runs/EXPERIMENT/NAME``, with a folder for each cell (config.json,
metrics.jsonl, result.json, the parameters) and what compares them: results.md and
curves.png.
"""

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from experiments import plots
from experiments.cell_source import cell_source
from experiments.checks import within
from experiments.tables import markdown
from experiments.tasks.cells import find_cells
from experiments.tasks.networks import gradient_of
from experiments.tasks.seeds import (
    Data,
    Scorer,
    Task,
    Trained,
    Training,
    check,
    summary,
    train_seeds,
)
from experiments.training import (
    Checkpoints,
    Options,
    Records,
    kept_result,
    open_run,
    progress_bar,
    read_config,
    read_metrics,
)
from lstm_jax.cell import Cell
from lstm_jax.files import write_whole


def read_array(config: Any, file: str) -> np.ndarray:
    """An array from a file in NumPy's format.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no .npy file of numbers; it is named.
    """
    del config
    try:
        found = np.load(file, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{file}: not an array of NumPy: {error}") from error
    if not isinstance(found, np.ndarray):
        raise ValueError(f"{file}: expected one array (.npy)")
    return found


class Experiment(NamedTuple):
    """What is trained, and how it is told.

    Attributes:
        name: the module's, and the folder's under runs/.
        description: what it is, for ``--help``.
        presets: configs by name, "default" among them.
        load: ``config -> data``.
        make_task: ``(config, cell, data) -> task``.
        measure: the key of `Task.evaluate` that tables and pictures show.
        scorer: ``(config, cell, about) -> scorer``, which uses what was trained.
        references: ``config -> {label: value}``, what to hold the measure against.
        source: ``config -> {key: value}``, for result.json: which data these are,
            where that depends on the machine. Results of other data are not compared.
        about: ``(config, data) -> {key: value}``, for about.json: what of the data the
            scorer needs.
        given: ``(config, word) -> given``, from the command line to what the scorer is
            given.
        finish: ``(config, cell, data, trained, folder) -> None``, for what a cell's
            folder holds beside the records; called when they are written.
    """

    name: str
    description: str
    presets: Mapping[str, Any]
    load: Callable[[Any], Data]
    make_task: Callable[[Any, Cell, Data], Task]
    measure: str
    scorer: Callable[[Any, Cell, dict[str, Any]], Scorer]
    references: Callable[[Any], dict[str, float]] = lambda config: {}
    source: Callable[[Any], dict[str, str]] = lambda config: {}
    about: Callable[[Any, Data], dict[str, Any]] = lambda config, data: {}
    given: Callable[[Any, str], Any] = read_array
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
        ValueError: the config cannot be run, or a run of another config is there.
        OSError: a record could not be written, or another process trains here.
    """
    check(config)
    todo = []
    for cell, own, source in each_cell(experiment, config):
        if not kept_result(folder / cell.name, own, options, console, source):
            todo.append((cell, own, source))
    data, interrupted = experiment.load(config), None
    for cell, own, source in todo:
        task = experiment.make_task(own, cell, data)
        label = f"{experiment.name}, {cell.name}"
        with open_run(folder / cell.name, own, options, console, source) as opened:
            with progress_bar(console, label, own.steps) as show:
                trained = train_seeds(task, data, own, opened, show)
            if about := experiment.about(own, data):
                opened.records.write("about", about)
            keep(opened.folder, trained)
            opened.finish(result_of(experiment, cell, own, trained) | source)
            experiment.finish(own, cell, data, trained, opened.folder)
        if interrupted := trained.interrupted:
            break
    report(experiment, config, folder)
    return interrupted


def keep(folder: Path, trained: Trained) -> None:
    """Writes the parameters of all seeds, in the place of those there were.

    Raises:
        OSError: they could not be written.
    """
    kept = Checkpoints(folder / "params")
    shutil.rmtree(kept.folder, ignore_errors=True)
    kept.save(trained.steps, {"params": trained.params})


class Loaded(NamedTuple):
    """A trained network of an experiment.

    Attributes:
        config: what its run followed from.
        cell: its cell.
        params: of one seed.
        score: what it says of what it is given.
        result: what result.json says.
        about: what about.json says.
    """

    config: Any
    cell: Cell
    params: Any
    score: Callable[[Any], Any]
    result: dict[str, Any]
    about: dict[str, Any]


def load(experiment: Experiment, folder: Path, seed: int = 0) -> Loaded:
    """The network of one seed, from the folder of a cell.

    Raises:
        FileNotFoundError: the folder holds no run, or one that kept no parameters.
        ValueError: there is no such seed, a file is broken, or the cell is from a file
            that was changed since.
    """
    records, kept = Records(folder), Checkpoints(folder / "params")
    result = records.read_result()
    if result is None or kept.step is None:
        raise FileNotFoundError(f"{folder}: there is no run here that came to an end")
    config = read_config(folder, type(experiment.presets["default"]))
    within(0, config.seeds - 1, seed=seed)
    (cell,) = find_cells(config.cells)
    if not cell_source(config.cells[0]).items() <= result.items():
        raise ValueError(
            f"{folder}: {config.cells[0]} was changed since it was trained"
        )
    about = records.read("about") or {}
    scorer = experiment.scorer(config, cell, about)
    with jax.enable_x64(result.get("dtype") == "float64"):
        keys = jax.vmap(jax.random.key)(jnp.arange(config.seeds))
        like = jax.eval_shape(jax.vmap(scorer.init), keys)
        of_seeds = kept.restore({"params": like})["params"]
        own = jax.tree.map(lambda p: np.asarray(p)[seed], of_seeds)
        params = jax.device_put(own)
    score = partial(scorer.score, params)
    return Loaded(config, cell, params, score, result, about)


def each_cell(
    experiment: Experiment, config: Training
) -> Iterator[tuple[Cell, Training, dict[str, str]]]:
    """Every cell, its own config, and what its results are of: the data, its file.

    Raises:
        ValueError: as `find_cells`.
    """
    for name, cell in zip(config.cells, find_cells(config.cells), strict=True):
        source = experiment.source(config) | cell_source(name)
        yield cell, dataclasses.replace(config, cells=(name,)), source


def results(
    experiment: Experiment, config: Training, folder: Path
) -> list[dict[str, Any]]:
    """What result.json says of each cell, where it is of this config and these data.

    Raises:
        ValueError: a record is broken; it is named.
    """
    found = []
    for cell, own, source in each_cell(experiment, config):
        records = Records(folder / cell.name)
        wanted = json.loads(json.dumps(dataclasses.asdict(own)))
        result = records.read_result()
        if result and records.read("config") == wanted:
            if missing := [key for key in SHOWN if key not in result]:
                file = records.folder / "result.json"
                raise ValueError(f"{file}: expected the fields {', '.join(missing)}")
            if source.items() <= result.items():
                found.append(result)
    return found


SHOWN = ("cell", "measure", "parameters", "seeds", "steps", "seconds")
"""What tables need of a result, beside its measure."""


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
        "dtype": str(jax.tree.leaves(trained.params)[0].dtype),
        "parameters": sum(p.size // len(p) for p in jax.tree.leaves(trained.params)),
        "interrupted": trained.interrupted,
    }


def report(experiment: Experiment, config: Training, folder: Path) -> None:
    """Writes results.md from the records of the cells."""
    if found := results(experiment, config, folder):
        text = table(found, experiment.references(config))
        write_whole(folder / "results.md", text.encode())


def draw(experiment: Experiment, config: Training, folder: Path) -> None:
    """Draws curves.png from the records of the cells."""
    curves = {
        result["cell"]: [
            row
            for row in read_metrics(folder / result["cell"])
            if row["kind"] == "evaluation"
        ]
        for result in results(experiment, config, folder)
    }
    if curves:
        plots.seed_curves(
            folder / "curves.png",
            f"{experiment.name}, {folder.name}",
            experiment.measure,
            curves,
            experiment.references(config),
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
