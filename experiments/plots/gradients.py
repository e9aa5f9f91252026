"""Gradients: how well they agree, what they cost, how they vanish."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from experiments.plots.canvas import (
    BLUE,
    GREY,
    OKABE_ITO,
    ORANGE,
    drawn,
    literal,
    make_figure,
    plain,
    save,
)


@drawn
def gradient_comparison(path: Path, name: str, result: dict[str, Any]) -> None:
    """Draws how well the gradients of a cell agree, and what they cost.

    Args:
        path: the PNG to write.
        name: the cell's.
        result: what `experiments.compare_gradients` measured of it.
    """
    figure = make_figure(12.0, 3.9)
    steps, lengths, costs = figure.subplots(1, 3, width_ratios=(1.25, 1.0, 0.9))
    figure.suptitle(f"{literal(name)}: five ways to the same gradient", fontsize=12)
    _difference_curves(steps, result["differences"])
    _length_curves(lengths, result["lengths"])
    _cost_bars(costs, result["cost"])
    for axes in figure.axes:
        plain(axes)
    save(figure, path)


@drawn
def gradient_overview(path: Path, results: dict[str, dict[str, Any]]) -> None:
    """Draws for every cell its worst errors, and what manual gradients save.

    Args:
        path: the PNG to write.
        results: by cell, what `experiments.compare_gradients` measured.
    """
    figure = make_figure(11.0, 1.7 + 0.3 * len(results))
    errors, costs = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(results))[::-1]
    marks = {"automatic": ("o", BLUE), "graph": ("s", ORANGE), "numerical": ("^", GREY)}
    for oracle, (marker, colour) in marks.items():
        worst = [max(r["worst"][oracle], 1e-17) for r in results.values()]
        errors.scatter(worst, places, marker=marker, color=colour, label=oracle, s=34)
    limits = (1e-12, BLUE, "automatic, graph"), (1e-6, GREY, "numerical")
    for tolerance, colour, of in limits:
        errors.axvline(tolerance, color=colour, linestyle=":", linewidth=1)
        errors.annotate(
            f"limit: {of} ",
            (tolerance, 0),
            xycoords=errors.get_xaxis_transform(),
            rotation=90,
            ha="right",
            va="bottom",
            color=colour,
            fontsize=8,
        )
    errors.set_xscale("log")
    errors.set_xlim(3e-18, 1e-5)
    errors.set_yticks(places, list(map(literal, results)))
    errors.set_xlabel("worst relative error of the manual gradient")
    above = {"frameon": False, "loc": "lower left", "bbox_to_anchor": (0, 1)}
    errors.legend(**above, ncols=3)
    for unit, label, colour, shift in (
        ("milliseconds", "time", BLUE, 0.17),
        ("temporary_mib", "temporary memory", ORANGE, -0.17),
    ):
        shares = [
            r["cost"]["manual"][unit] / max(r["cost"]["automatic"][unit], 1e-9)
            for r in results.values()
        ]
        costs.barh(places + shift, shares, height=0.3, color=colour, label=label)
    costs.axvline(1, color="black", linewidth=1)
    costs.set_xlabel("manual / automatic (less is better)")
    costs.legend(**above, ncols=2)
    for axes in figure.axes:
        plain(axes)
        axes.grid(axis="x", alpha=0.2)
        axes.set_axisbelow(True)
    save(figure, path)


@drawn
def gradient_flow(
    path: Path,
    biases: Mapping[str, Mapping[str, Sequence[float]]],
    cells: Mapping[str, Mapping[str, Sequence[float]]],
) -> None:
    """Draws what is left of a gradient, step after step back through time.

    Args:
        path: the PNG to write.
        biases: the LSTM by forget bias; for each "h" and "c", the norms of dh_t and
            dc_t as shares of the gradient at the last step, from there backward.
        cells: the same for each cell, and whatever fields its state has.
    """
    figure = make_figure(12.5, 4.8)
    memory, states = figure.subplots(1, 2, sharey=True, width_ratios=(1.0, 1.15))
    shades = LinearSegmentedColormap.from_list("", (ORANGE, "#B0A0A0", BLUE))
    for number, (bias, norms) in enumerate(biases.items()):
        colour = shades(number / max(1, len(biases) - 1))
        back = np.arange(len(norms["c"]))
        # At the last step c reaches J through h alone: dc is 0 there.
        line = {"color": colour, "label": f"forget bias {bias}"}
        memory.plot(back[1:], norms["c"][1:], linewidth=1.8, **line)
        memory.plot(back[1:], norms["h"][1:], color=colour, linewidth=0.9, ls=":")
    memory.set_title(
        "LSTM by forget bias: ‖dc_t‖ (solid), ‖dh_t‖ (dotted)", loc="left", fontsize=10
    )
    memory.set_ylabel("share of the gradient that is left")
    totals = [
        np.sqrt(sum(np.square(values) for values in norms.values()))
        for norms in cells.values()
    ]
    for number, (name, total) in enumerate(zip(cells, totals, strict=True)):
        over = sum(np.allclose(total, later, 0.05) for later in totals[number + 1 :])
        states.plot(
            np.arange(len(total)),
            np.where(total > 0, total, np.nan),
            color=OKABE_ITO[number % len(OKABE_ITO)],
            linestyle=("-", "--", "-.")[number // len(OKABE_ITO) % 3],
            linewidth=1.5 + 3 * over,  # what others lie on is seen beside them
            label=literal(name),
        )
    states.set_title(
        "Every cell as it starts: its whole state", loc="left", fontsize=10
    )
    for axes in figure.axes:
        axes.set_yscale("log")
        axes.set_ylim(1e-12, 20)
        axes.set_xlabel("steps back from the last")
        axes.legend(
            frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9
        )
        axes.grid(alpha=0.2)
        plain(axes)
    save(figure, path)


@drawn
def forward_gradients(path: Path, result: dict[str, Any]) -> None:
    """Draws what a truncated gradient lacks, and what a whole one costs either way.

    Args:
        path: the PNG to write.
        result: what `experiments.forward_gradients` measured.
    """
    figure = make_figure(13.0, 3.9)
    errors, *costs = figure.subplots(1, 4)
    windows = list(map(int, result["windows"]))
    lacks = np.maximum(list(result["windows"].values()), 1e-17)
    errors.loglog(windows, lacks, "o-", color=BLUE, label="going back so far")
    carried = max(result["carried"], 1e-17)
    errors.axhline(carried, color=ORANGE, label="carried forward")
    errors.set_xticks(windows, list(map(str, windows)))
    errors.minorticks_off()
    errors.set_xlabel("steps back")
    errors.set_title("Relative error of each step's gradient", loc="left", fontsize=10)
    errors.legend(frameon=False)
    for axes, (over, axis, cost, title, power) in zip(
        costs,
        (
            ("lengths", "steps", "bytes", "Memory, KiB", {"back": 1, "forward": 0}),
            ("sizes", "hidden_size", "bytes", "Memory, KiB", {"back": 1, "forward": 3}),
            (
                *("sizes", "hidden_size", "seconds"),
                *("Processor time of a step, µs", {"back": 2, "forward": 4}),
            ),
        ),
        strict=True,
    ):
        points = result[over]
        x = np.asarray([point[axis] for point in points], float)
        for way, colour in (("back", BLUE), ("forward", ORANGE)):
            y = np.asarray([point[cost][way] for point in points], float)
            y *= 1 / 2**10 if cost == "bytes" else 1e6
            if cost == "seconds":
                y /= [point["steps"] for point in points]
            y = np.maximum(y, 1e-3)
            axes.loglog(x, y, "o-", color=colour, label=way)
            paper = y[-1] * (x / x[-1]) ** power[way]
            axes.loglog(x, paper, ":", color=colour, linewidth=1)
        axes.set_xticks(x, [f"{v:g}" for v in x])
        axes.minorticks_off()
        letter = {"steps": "T", "hidden_size": "H"}[axis]
        axes.set_xlabel(f"{letter} (dotted: on paper)")
        axes.set_title(title, loc="left", fontsize=10)
        axes.legend(frameon=False)
    for axes in figure.axes:
        plain(axes)
    save(figure, path)


def _difference_curves(axes: Axes, differences: dict[str, Sequence[float]]) -> None:
    h = np.asarray(differences["step"])
    for kind, colour, power in (("one-sided", ORANGE, 1), ("central", BLUE, 2)):
        errors = np.maximum(differences[kind], 1e-17)
        axes.loglog(h, errors, "o-", color=colour, markersize=3.5, label=kind)
        best = np.argmin(errors)
        # The truncation error, drawn beside the right flank of the curve.
        flank = h[h >= 10 * h[best]]
        anchor = errors[np.flatnonzero(h >= 10 * h[best])[0]] if flank.size else None
        if anchor is not None:
            guide = 3 * anchor * (flank / flank[0]) ** power
            shown = guide < 3
            axes.loglog(flank[shown], guide[shown], ":", color=colour, linewidth=1)
            middle = int(shown.sum()) // 2
            axes.annotate(
                "∝ h" if power == 1 else "∝ h²",
                (flank[middle], guide[middle]),
                xytext=(-6, 5) if power == 1 else (7, -9),
                textcoords="offset points",
                color=colour,
                ha="right" if power == 1 else "left",
            )
    left = h[h <= 1e-8]
    axes.loglog(left, 3 * np.finfo(float).eps / left, ":", color=GREY, linewidth=1)
    axes.annotate("rounding, ∝ 1/h", (1e-11, 1.5e-4), color=GREY, fontsize=9)
    axes.set_xlabel("step h of the finite difference")
    axes.set_ylabel("relative error")
    axes.set_title("Numerical gradients", loc="left", fontsize=10)
    axes.legend(frameon=False, loc="lower left")


def _length_curves(axes: Axes, lengths: dict[str, Any]) -> None:
    x = np.asarray(lengths["steps"])
    for oracle, marker, colour in (
        ("automatic", "o", BLUE),
        ("graph", "s", ORANGE),
        ("forward", "^", GREY),
    ):
        errors = [max(e[oracle], 1e-17) for e in lengths["errors"]]
        axes.loglog(x, errors, marker=marker, color=colour, label=f"against {oracle}")
    axes.axhline(1e-12, color=GREY, linestyle=":", linewidth=1)
    axes.annotate("passes below", (x[0], 1.3e-12), color=GREY, fontsize=9)
    axes.axhline(np.finfo(float).eps, color=GREY, linestyle=":", linewidth=1)
    axes.annotate("float64 ε", (x[0], 1.9e-16), color=GREY, fontsize=9, va="top")
    axes.set_ylim(3e-18, 1e-11)
    axes.set_xticks(x, [str(v) for v in x])
    axes.minorticks_off()
    axes.set_xlabel("length of the sequence")
    axes.set_title("Manual gradients: worst relative error", loc="left", fontsize=10)
    axes.legend(frameon=False, loc="center right")


def _cost_bars(axes: Axes, costs: dict[str, dict[str, float]]) -> None:
    units = {"milliseconds": "time, ms", "temporary_mib": "memory, MiB"}
    for place, unit in enumerate(units):
        whole = costs["automatic"][unit]
        for shift, kind, colour in ((-0.2, "manual", BLUE), (0.2, "automatic", GREY)):
            value = costs[kind][unit]
            share = value / whole if whole else 0.0
            label = kind if place == 0 else None
            height = min(share, 1.4)  # beyond, the number tells
            axes.bar(place + shift, height, width=0.36, color=colour, label=label)
            axes.text(place + shift, height + 0.02, f"{value:.3g}", ha="center")
    axes.set_xticks(range(len(units)), units.values())
    axes.set_ylabel("share of automatic")
    axes.set_ylim(0, 1.5)
    axes.set_title("Cost of value and gradient", loc="left", fontsize=10)
    axes.legend(frameon=False, loc="upper left", ncols=2)
