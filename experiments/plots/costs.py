"""Costs of several libraries: over a number, or of several rows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.plots.canvas import (
    BLUE,
    GREY,
    ORANGE,
    drawn,
    literal,
    make_figure,
    plain,
    save,
)

TWELVE = (
    (BLUE, "o"),
    ("#56B4E9", "s"),
    ("#332288", "D"),
    ("#9400D3", "^"),
    ("#E69F00", "v"),
    (ORANGE, "P"),
    ("#CC6677", "X"),
    ("#B178A6", "*"),
    ("#882255", "<"),
    ("#A50026", ">"),
    ("#BBBBBB", "p"),
    ("#000000", "_"),
)
"""Colours and markers of lines that are many. Any two colours are 18 apart (CIE 1976,
ΔE) for those who see all and, by Machado, Oliveira & Fernandes (2009), for those who
lack one kind of cone."""


class Panel(NamedTuple):
    """A cost that several lines are compared by.

    Attributes:
        label: the cost, with its unit.
        curves: by line, a figure for every value of the x axis, None where there is
            none.
        linear: draw a line of slope 1 beside them.
        limit: what its line "limit" is, said under the panel's label.
    """

    label: str
    curves: Mapping[str, Sequence[float | None]]
    linear: bool = False
    limit: str = ""


@drawn
def cost_curves(
    path: Path,
    title: str,
    axis: str,
    values: Sequence[int],
    panels: Sequence[Panel],
    lines: Sequence[str],
) -> None:
    """Draws costs over a number they depend on, a panel for each, on log axes.

    Args:
        path: the PNG to write.
        title: above the picture.
        axis: the label of all x axes.
        values: the numbers.
        panels: side by side.
        lines: all that could be drawn, so that each looks the same in every picture.

    Raises:
        ValueError: more lines than can be told apart.
    """
    figure = make_figure(4.4 * len(panels) + 1.8, 4.6)
    styles = _line_styles(lines)
    x = np.asarray(values, float)
    for axes, panel in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for name, curve in panel.curves.items():
            axes.plot(
                x, _positive(curve), linewidth=1.2, label=literal(name), **styles[name]
            )
        axes.set_xscale("log", base=2)
        axes.set_xticks(x, [str(value) for value in values], fontsize=8)
        axes.set_xlabel(axis)
        _whole_decades(axes, "y", panel)
        if panel.linear:
            low, _ = axes.get_ylim()
            line = 1.3 * low * x / x[0]
            axes.plot(x, line, color=GREY, linestyle=":", label="slope 1")
        _title(axes, panel)
        axes.grid(alpha=0.25)
        plain(axes)
    _cost_legend(figure, title)
    save(figure, path)


@drawn
def cost_dots(
    path: Path,
    title: str,
    rows: Sequence[str],
    panels: Sequence[Panel],
    lines: Sequence[str],
) -> None:
    """Draws costs of several rows, from top to bottom, a panel for each, on log axes.

    Args:
        path: the PNG to write.
        title: above the picture.
        rows: what the figures of each line belong to.
        panels: side by side.
        lines: all that could be drawn, so that each looks the same in every picture.

    Raises:
        ValueError: more lines than can be told apart.
    """
    styles = _line_styles(lines)
    heights, places = dot_places(panels)
    edges = np.cumsum([0, *heights])
    figure = make_figure(3.8 * len(panels) + 3.6, 1.4 + 0.09 * edges[-1])
    grid = figure.subplots(1, len(panels), sharey=True)
    for axes, panel in zip(grid, panels, strict=True):
        for name, curve in panel.curves.items():
            axes.plot(
                _positive(curve),
                edges[:-1] + places[name],
                linestyle="none",
                clip_on=False,
                label=literal(name),
                **styles[name],
            )
        _whole_decades(axes, "x", panel)
        for edge in edges[1:-1]:
            axes.axhline(edge, color=GREY, linewidth=0.6)
        _title(axes, panel)
        axes.grid(axis="x", alpha=0.25)
        plain(axes)
    places_of_rows = (edges[:-1] + edges[1:]) / 2
    grid[0].set_yticks(places_of_rows, list(map(literal, rows)))
    grid[0].set_ylim(edges[-1], 0)
    _cost_legend(figure, title)
    save(figure, path)


def _line_styles(lines: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour and marker of each line; of one, and of no other."""
    if len(lines) > len(TWELVE):
        raise ValueError(f"expected at most {len(TWELVE)} lines; got {list(lines)}")
    return {
        line: {"color": colour, "marker": marker, "markersize": 5.5}
        for line, (colour, marker) in zip(lines, TWELVE, strict=False)
    }


def _positive(curve: Sequence[float | None]) -> np.ndarray:
    """A curve for a log axis: what it cannot show is left out."""
    y = np.array([np.nan if c is None else c for c in curve], float)
    return np.where(y > 0, y, np.nan)


def dot_places(panels: Sequence[Panel]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The height of each row, in dots and gaps; where in each a line has its dot."""
    drawn: dict[str, Any] = {}
    for panel in panels:
        for name, curve in panel.curves.items():
            drawn[name] = drawn.get(name, False) | np.isfinite(_positive(curve))
    counts = np.cumsum(list(drawn.values()), axis=0)
    return counts[-1] + 2, dict(zip(drawn, counts + 0.5, strict=True))


def _whole_decades(axes: Axes, which: Literal["x", "y"], panel: Panel) -> None:
    """A log axis from one power of ten to another around all the figures."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    figures = np.concatenate([_positive(curve) for curve in panel.curves.values()])
    low = np.floor(np.log10(np.nanmin(figures)))
    high = max(np.ceil(np.log10(np.nanmax(figures))), low + 1)
    axes.set(**{f"{which}scale": "log", f"{which}lim": (10.0**low, 10.0**high)})
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("")
    axes.tick_params(axis=which, labelsize=8)


def _title(axes: Axes, panel: Panel) -> None:
    limit = f"\nlimit: {panel.limit}" if panel.limit else ""
    axes.set_title(literal(panel.label) + limit, loc="left", fontsize=10)


def _cost_legend(figure: Figure, title: str) -> None:
    """The title above, and one legend for all panels beside them."""
    known: dict[str, Any] = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        known = dict(zip(labels, handles, strict=True)) | known
    figure.legend(
        list(known.values()), list(known), loc="outside right center", frameon=False
    )
    figure.suptitle(literal(title), x=0.01, ha="left", fontsize=11)
