"""Confidence intervals of many cells on several tasks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.plots.canvas import (
    BLUE,
    drawn,
    literal,
    make_figure,
    plain,
    save,
)


@drawn
def interval_chart(
    path: Path,
    names: Sequence[str],
    base: str,
    found: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> None:
    """Draws the confidence interval of every cell, a panel a task, beside a base's.

    Panels are as wide as the means and the base's interval; others may end beyond. A
    mean that has exploded stands at the edge, as a number.

    Args:
        path: the PNG to write.
        names: cells, from top to bottom.
        base: the one whose interval is drawn over the whole panel.
        found: by task and cell, `mean`, `half` the interval's width, and `better`: 1
            where more is better, -1 where less is.
    """
    figure = make_figure(1.6 + 2.1 * len(found), 1.3 + 0.24 * len(names))
    grid = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    places = {name: -number for number, name in enumerate(names)}
    for axes, (task, cells) in zip(grid, found.items(), strict=True):
        known = {name: own for name, own in cells.items() if own["mean"] is not None}
        shown = _not_exploded([own["mean"] for own in known.values()])
        for name, own in known.items():
            if own["mean"] > max(shown):
                label, place = f"{own['mean']:.3g} \N{RIGHTWARDS ARROW}", places[name]
                edge = axes.get_yaxis_transform()
                axes.text(1, place, label, transform=edge, ha="right", va="center")
                continue
            axes.errorbar(
                own["mean"],
                places[name],
                xerr=own["half"],
                fmt="o",
                markersize=4,
                capsize=2,
                color=BLUE if name == base else "black",
            )
        if base in known:
            mean, half = known[base]["mean"], known[base]["half"] or 0.0
            axes.axvspan(mean - half, mean + half, color=BLUE, alpha=0.15, linewidth=0)
            shown += [mean - half, mean + half]
        if shown:  # wide intervals leave the panel, so that means stay apart
            space = 0.1 * (max(shown) - min(shown)) or 0.1
            axes.set_xlim(min(shown) - space, max(shown) + space)
        more = next(iter(cells.values()))["better"] > 0
        axes.set_title(literal(task.replace("_", " ")), loc="left", fontsize=10)
        axes.set_xlabel("more is better" if more else "less is better", fontsize=9)
        axes.grid(alpha=0.2)
        axes.tick_params(labelsize=8)
        plain(axes)
    grid[0].set_yticks(list(places.values()), [literal(name, 24) for name in places])
    save(figure, path)


def _not_exploded(means: Sequence[float]) -> list[float]:
    """The means but for the largest, as long as that is ten times the next."""
    kept = sorted(means)
    while len(kept) > 1 and kept[-1] > 10 * kept[-2]:
        kept.pop()
    return kept
