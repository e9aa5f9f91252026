"""What runs measured on their way: one run, runs side by side, seeds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from experiments.plots.canvas import (
    BLUE,
    ORANGE,
    curve_style,
    drawn,
    literal,
    make_figure,
    plain,
    save,
)


@drawn
def training_curves(path: Path, metrics: Sequence[dict[str, Any]]) -> None:
    """Draws loss and accuracy over the steps of a run, training and validation.

    Args:
        path: the PNG to write.
        metrics: the lines of a run's metrics.jsonl, of the kinds "step" and
            "evaluation".
    """
    figure = make_figure(9.0, 3.6)
    steps = [row for row in metrics if row["kind"] == "step"]
    evaluations = [row for row in metrics if row["kind"] == "evaluation"]
    x = np.asarray([row["step"] for row in steps])
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        y = np.asarray([row[name] for row in steps])
        smooth = _running_mean(y, max(1, len(y) // 50))
        axes.plot(x, y, color=BLUE, alpha=0.2, linewidth=0.6)
        axes.plot(x, smooth, color=BLUE, label="training, running mean")
        axes.plot(
            [row["step"] for row in evaluations],
            [row[name] for row in evaluations],
            color=ORANGE,
            marker="o",
            linestyle="--",
            label="validation, averaged weights",
        )
        axes.set_xlabel("training step")
        axes.legend(frameon=False)
        plain(axes)
    loss, accuracy = figure.axes
    loss.set_ylabel("cross-entropy (nats)")
    loss.set_ylim(bottom=0)
    accuracy.set_ylabel("accuracy")
    accuracy.set_ylim(0.45, 1.0)
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0))
    save(figure, path)


@drawn
def run_curves(
    path: Path, panels: Mapping[str, Mapping[str, tuple[Sequence[int], Any]]]
) -> None:
    """Draws what runs measured on their way, a panel a measure, a line a run.

    Args:
        path: the PNG to write.
        panels: by measure and run, steps and values.
    """
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = make_figure(4.6 * columns + 2.2, 3.4 * rows)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (measure, curves) in zip(grid, panels.items(), strict=False):
        for name, (steps, values) in curves.items():
            number = names.index(name)
            axes.plot(
                steps,
                values,
                **curve_style(number),
                marker="o",
                markersize=3,
            )
        axes.set_title(literal(measure.replace("_", " ")), loc="left", fontsize=10)
        axes.set_xlabel("training step")
        axes.grid(alpha=0.2)
        plain(axes)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    keys = [Line2D([], [], **curve_style(number)) for number in range(len(names))]
    figure.legend(
        keys, list(map(literal, names)), loc="outside right center", frameon=False
    )
    save(figure, path)


@drawn
def seed_curves(
    path: Path,
    title: str,
    measure: str,
    curves: Mapping[str, Sequence[dict[str, Any]]],
    references: Mapping[str, float],
) -> None:
    """Draws a measure over training: for each name the mean, and all seeds behind it.

    Args:
        path: the PNG to write.
        title: above the picture.
        measure: which value of a row is drawn; an error (its name says so) on a log
            axis.
        curves: by name, rows with `seed`, `step` and the measure, None where it was
            not finite.
        references: by label, values drawn as horizontal lines.
    """
    figure = make_figure(8.2, 4.4)
    axes = figure.subplots()
    for number, (name, rows) in enumerate(curves.items()):
        style = curve_style(number)
        seeds = sorted({row["seed"] for row in rows})
        steps = sorted({row["step"] for row in rows})
        values = np.full((len(seeds), len(steps)), np.nan)
        for row in rows:
            place = seeds.index(row["seed"]), steps.index(row["step"])
            values[place] = np.nan if row[measure] is None else row[measure]
        for own in values:
            axes.plot(steps, own, linewidth=0.7, alpha=0.35, **style)
        axes.plot(
            steps, values.mean(axis=0), linewidth=1.8, label=literal(name), **style
        )
    for label, value in references.items():
        axes.axhline(value, color="black", linewidth=1, linestyle=":")
        axes.annotate(
            literal(label),
            (1.0, value),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    if "error" in measure or "entropy" in measure:
        axes.set_yscale("log")
    elif measure == "accuracy":
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_title(literal(title.replace("_", " ")), loc="left", fontsize=11)
    axes.set_xlabel("training step")
    axes.set_ylabel(literal(measure.replace("_", " ")))
    axes.grid(alpha=0.2)
    plain(axes)
    figure.legend(loc="outside right center", frameon=False)
    save(figure, path)


def _running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """The mean of the last `width` values, or of as many as there are."""
    sums = np.cumsum(np.insert(values, 0, 0.0))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - width, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)
