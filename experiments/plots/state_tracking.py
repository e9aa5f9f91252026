"""Accuracy at growing lengths, and over training, of many cells on several tasks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator, PercentFormatter

from experiments.plots.canvas import (
    curve_style,
    drawn,
    literal,
    make_figure,
    plain,
    save,
)

Curves = Mapping[str, np.ndarray]
"""By cell, (seeds, points)."""

COLUMNS = 4

REFERENCE: dict[str, Any] = {"color": "black", "linestyle": ":", "linewidth": 1}


@drawn
def length_curves(
    path: Path,
    tasks: Mapping[str, Curves],
    references: Mapping[str, Sequence[float]],
    *,
    length: int,
    window: int,
    costs: Mapping[str, float],
) -> None:
    """Draws accuracy at growing lengths, a panel a task, and one over the costs.

    A line is the mean over seeds, the band behind it from the worst seed to the best.
    Point n of a curve is the accuracy after n * window steps, up to (n + 1) * window.

    Args:
        path: the PNG to write.
        tasks: by task, every cell's curves.
        references: by task, the curve of whoever sees one step.
        length: the longest in training, a vertical line.
        window: steps between two points.
        costs: by cell, milliseconds of a training step; the last panel has them beside
            the mean accuracy of all tasks beyond `length`.
    """
    names = list(costs)
    figure, panels = _panels(len(tasks) + 1)
    for axes, (task, curves) in zip(panels, tasks.items(), strict=False):
        for name, of_seeds in curves.items():
            style = curve_style(names.index(name))
            lengths = window * (1 + np.arange(of_seeds.shape[1]))
            axes.plot(lengths, of_seeds.mean(axis=0), linewidth=1.6, **style)
            lowest, highest = of_seeds.min(axis=0), of_seeds.max(axis=0)
            axes.fill_between(
                lengths, lowest, highest, color=style["color"], alpha=0.1, linewidth=0
            )
        axes.plot(lengths, references[task], **REFERENCE)
        axes.axvline(length, color="black", linewidth=0.8, alpha=0.5)
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks := [n for n in lengths if n & (n - 1) == 0], ticks)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_title(literal(task.replace("_", " ")), loc="left", fontsize=10)
        axes.set_xlabel("steps")
        axes.set_ylim(0, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    _draw_costs(panels[len(tasks)], tasks, length // window, costs)
    alone = Line2D([], [], **REFERENCE, label="present step alone")
    _finish(figure, panels[: len(tasks) + 1], names, alone)
    save(figure, path)


@drawn
def loss_curves(path: Path, tasks: Mapping[str, Curves], *, steps: int) -> None:
    """Draws the loss over training, a panel a task: the mean over seeds, on a log axis.

    Args:
        path: the PNG to write.
        tasks: by task and cell, losses (seeds, points).
        steps: training steps between two points.
    """
    names = list(dict.fromkeys(name for curves in tasks.values() for name in curves))
    figure, panels = _panels(len(tasks))
    for axes, (task, curves) in zip(panels, tasks.items(), strict=False):
        for name, of_seeds in curves.items():
            done = steps * (1 + np.arange(of_seeds.shape[1]))
            style = curve_style(names.index(name))
            axes.plot(done, of_seeds.mean(axis=0), linewidth=1.6, **style)
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_title(literal(task.replace("_", " ")), loc="left", fontsize=10)
        axes.set_xlabel("training step")
        axes.set_ylabel("cross-entropy (nats)")
    _finish(figure, panels[: len(tasks)], names)
    save(figure, path)


def _draw_costs(
    axes: Axes, tasks: Mapping[str, Curves], first: int, costs: Mapping[str, float]
) -> None:
    for number, (name, cost) in enumerate(costs.items()):
        means = [
            curves[name][:, first:].mean()
            for curves in tasks.values()
            if name in curves
        ]
        axes.plot(cost, np.mean(means), **_point(number))
    axes.set_xscale("log")
    axes.margins(x=0.1)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_title("all tasks, beyond training", loc="left", fontsize=10)
    axes.set_xlabel("processor time of a training step (ms)")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _point(number: int) -> dict[str, Any]:
    """The colour and the shape of a point, as curves have dashes."""
    style = curve_style(number)
    shape = {"-": "o", "--": "s", ":": "^"}[style["linestyle"]]
    return {"color": style["color"], "marker": shape, "markersize": 5}


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    columns = min(COLUMNS, count)
    rows = -(-count // columns)
    figure = make_figure(3.2 * columns + 2.0, 2.9 * rows)
    panels = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for axes in panels[count:]:
        axes.set_axis_off()
    return figure, panels


def _finish(
    figure: Figure, panels: Sequence[Axes], names: Sequence[str], *more: Line2D
) -> None:
    for axes in panels:
        axes.grid(alpha=0.2)
        axes.tick_params(labelsize=8)
        plain(axes)
    keys = [
        Line2D([], [], **curve_style(number) | _point(number), label=literal(name))
        for number, name in enumerate(names)
    ]
    figure.legend(handles=[*keys, *more], loc="outside right center", frameon=False)
