"""Short trainings of a cell beside the LSTM, on small tasks."""

import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from experiments.cell_page.charts import Curve, curves
from experiments.cell_page.section import Asked, Section, paragraph
from experiments.tasks import Experiment, Training, run, variants
from experiments.training import Options, Records, read_metrics

BASE = "lstm"


def section(asked: Asked) -> Section:
    """Each task's curve on validation data, and the result on test data."""
    told, parts, record = [], [], {}
    for task in asked.tasks:
        experiment, config = variants.TASKS[task]
        config = _shortened(config, asked)
        runs = {
            name: _trained(experiment, config, place, asked) / name
            for name, place in ((BASE, BASE), (asked.cell.name, asked.place))
        }
        results = {name: Records(own).read_result() or {} for name, own in runs.items()}
        said = _values(experiment, results)
        title = f"{_title(experiment, config)}: {said} on test data"
        parts += [f"<h3>{escape(title)}</h3>"]
        parts += [_chart(experiment, config, asked.cell.name, runs)]
        record[task] = {
            name: {key: result.get(key) for key in (experiment.measure, "parameters")}
            for name, result in results.items()
        }
        told.append(f"{task.replace('_', ' ')}: {said}")
    how = (
        "One network, a cell and a linear read-out, trained with the same steps, sizes "
        "and learning rate as the LSTM beside it; curves are of validation data. A "
        "short training says whether a cell learns at all, not which is best: "
        "experiments.cell_variants compares with several seeds."
    )
    return Section("; ".join(told), paragraph(how, "quiet") + "".join(parts), record)


def _trained(
    experiment: Experiment, config: Training, place: str, asked: Asked
) -> Path:
    """The folder of a training, which is done unless it has been.

    There is one for each config, so that none is in another's way.
    """
    config = dataclasses.replace(config, cells=(place,))
    known = hashlib.sha256(repr(config).encode()).hexdigest()[:8]
    folder = asked.folder / "training" / f"{experiment.name}-{known}"
    if signal := run(experiment, config, folder, Options(), asked.console):
        raise KeyboardInterrupt(signal)
    return folder


def _shortened(config: Training, asked: Asked) -> Training:
    changed: dict[str, Any] = {"seeds": asked.seeds}
    if asked.steps is not None:
        changed["steps"] = asked.steps
    steps = changed.get("steps", config.steps)
    changed["evaluations"] = next(n for n in (20, 10, 5, 4, 2, 1) if steps % n == 0)
    return dataclasses.replace(config, **changed)


def _title(experiment: Experiment, config: Training) -> str:
    return (
        f"{experiment.name.replace('_', ' ')}, {experiment.measure.replace('_', ' ')}, "
        f"H = {config.hidden_size}"
    )


def _values(experiment: Experiment, results: dict[str, dict[str, Any]]) -> str:
    """The measure on test data: the cell's, and the LSTM's."""
    base, *own = (
        "diverged" if value is None else f"{value:.3g}"
        for value in (result.get(experiment.measure) for result in results.values())
    )
    return f"{own[0]} (LSTM {base})" if own else base


def _chart(
    experiment: Experiment, config: Training, own: str, runs: Mapping[str, Path]
) -> str:
    lines = []
    for name, folder in runs.items():
        at: dict[int, list[float]] = defaultdict(list)
        for row in read_metrics(folder):
            if row["kind"] == "evaluation" and row[experiment.measure] is not None:
                at[row["step"]].append(row[experiment.measure])
        means = [sum(values) / len(values) for values in at.values()]
        lines.append(Curve(name, list(at), means, own=name == own))
    return curves(lines, "steps", experiment.references(config))
