"""Pictures, the only module that imports matplotlib; drawn without a screen.

Colours are Okabe & Ito's (2008), which the colour-blind tell apart.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from lstm_jax.files import write_whole

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#767676"
OKABE_ITO = (BLUE, ORANGE, "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", GREY)

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


class ScoredText(NamedTuple):
    """A text and what a classifier says after every word of it.

    Attributes:
        words: n words.
        scores: (n,) probabilities of the label "positive".
        label: the true one.
    """

    words: tuple[str, ...]
    scores: Any
    label: str


def training_curves(path: Path, metrics: Sequence[dict[str, Any]]) -> None:
    """Draws loss and accuracy over the steps of a run, training and validation.

    Args:
        path: the PNG to write.
        metrics: the lines of a run's metrics.jsonl, of the kinds "step" and
            "evaluation".
    """
    figure = _figure(9.0, 3.6)
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
        _plain(axes)
    loss, accuracy = figure.axes
    loss.set_ylabel("cross-entropy (nats)")
    loss.set_ylim(bottom=0)
    accuracy.set_ylabel("accuracy")
    accuracy.set_ylim(0.45, 1.0)
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0))
    _save(figure, path)


def running_scores(path: Path, texts: Sequence[ScoredText]) -> None:
    """Draws for every text its score after every word, over the words themselves.

    Above, the score as a line, the widest changes marked with their words; below, the
    text, each word on the colour of the score that it led to.

    Args:
        path: the PNG to write.
        texts: at least one.
    """
    columns = 116
    lines = [_wrap(text.words, columns) for text in texts]
    heights = [h for wrapped in lines for h in (1.45, 0.3 + 0.19 * len(wrapped))]
    figure = _figure(10.0, sum(heights) + 0.55 * len(texts) + 0.3)
    grid = figure.subplots(2 * len(texts), 1, height_ratios=heights)
    for number, (text, wrapped) in enumerate(zip(texts, lines, strict=True)):
        _score_line(grid[2 * number], text)
        _coloured_words(grid[2 * number + 1], text, wrapped, columns)
    _save(figure, path)


class Panel(NamedTuple):
    """A cost that several lines are compared by.

    Attributes:
        label: the cost, with its unit.
        curves: by line, a figure for every value of the x axis, None where there is
            none.
        linear: draw a line of slope 1 beside them.
    """

    label: str
    curves: Mapping[str, Sequence[float | None]]
    linear: bool = False


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
    figure = _figure(4.4 * len(panels) + 1.8, 4.6)
    styles = _line_styles(lines)
    x = np.asarray(values, float)
    for axes, panel in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for name, curve in panel.curves.items():
            axes.plot(x, _positive(curve), linewidth=1.2, label=name, **styles[name])
        axes.set_xscale("log", base=2)
        axes.set_xticks(x, [str(value) for value in values], fontsize=8)
        axes.set_xlabel(axis)
        _whole_decades(axes, "y", panel)
        if panel.linear:
            low, _ = axes.get_ylim()
            line = 1.3 * low * x / x[0]
            axes.plot(x, line, color=GREY, linestyle=":", label="slope 1")
        axes.set_title(panel.label, loc="left", fontsize=10)
        axes.grid(alpha=0.25)
        _plain(axes)
    _cost_legend(figure, title)
    _save(figure, path)


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
    heights, places = _dot_places(panels)
    edges = np.cumsum([0, *heights])
    figure = _figure(3.8 * len(panels) + 3.6, 1.4 + 0.1 * edges[-1])
    grid = figure.subplots(1, len(panels), sharey=True)
    for axes, panel in zip(grid, panels, strict=True):
        for name, curve in panel.curves.items():
            axes.plot(
                _positive(curve),
                edges[:-1] + places[name],
                linestyle="none",
                clip_on=False,
                label=name,
                **styles[name],
            )
        _whole_decades(axes, "x", panel)
        for edge in edges[1:-1]:
            axes.axhline(edge, color=GREY, linewidth=0.6)
        axes.set_title(panel.label, loc="left", fontsize=10)
        axes.grid(axis="x", alpha=0.25)
        _plain(axes)
    grid[0].set_yticks((edges[:-1] + edges[1:]) / 2, rows)
    grid[0].set_ylim(edges[-1], 0)
    _cost_legend(figure, title)
    _save(figure, path)


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
    figure = _figure(4.6 * columns + 2.2, 3.4 * rows)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (measure, curves) in zip(grid, panels.items(), strict=False):
        for name, (steps, values) in curves.items():
            number = names.index(name)
            axes.plot(
                steps,
                values,
                **_style(number),
                marker="o",
                markersize=3,
            )
        axes.set_title(measure.replace("_", " "), loc="left", fontsize=10)
        axes.set_xlabel("training step")
        axes.grid(alpha=0.2)
        _plain(axes)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    keys = [Line2D([], [], **_style(number)) for number in range(len(names))]
    figure.legend(keys, names, loc="outside right center", frameon=False)
    _save(figure, path)


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
    figure = _figure(8.2, 4.4)
    axes = figure.subplots()
    for number, (name, rows) in enumerate(curves.items()):
        style = _style(number)
        seeds = sorted({row["seed"] for row in rows})
        steps = sorted({row["step"] for row in rows})
        values = np.full((len(seeds), len(steps)), np.nan)
        for row in rows:
            place = seeds.index(row["seed"]), steps.index(row["step"])
            values[place] = np.nan if row[measure] is None else row[measure]
        for own in values:
            axes.plot(steps, own, linewidth=0.7, alpha=0.35, **style)
        axes.plot(steps, values.mean(axis=0), linewidth=1.8, label=name, **style)
    for label, value in references.items():
        axes.axhline(value, color="black", linewidth=1, linestyle=":")
        axes.annotate(
            label,
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
    axes.set_title(title.replace("_", " "), loc="left", fontsize=11)
    axes.set_xlabel("training step")
    axes.set_ylabel(measure.replace("_", " "))
    axes.grid(alpha=0.2)
    _plain(axes)
    figure.legend(loc="outside right center", frameon=False)
    _save(figure, path)


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
    figure = _figure(1.6 + 2.1 * len(found), 1.3 + 0.24 * len(names))
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
        axes.set_title(task.replace("_", " "), loc="left", fontsize=10)
        axes.set_xlabel("more is better" if more else "less is better", fontsize=9)
        axes.grid(alpha=0.2)
        axes.tick_params(labelsize=8)
        _plain(axes)
    grid[0].set_yticks(list(places.values()), list(places))
    _save(figure, path)


def _not_exploded(means: Sequence[float]) -> list[float]:
    """The means but for the largest, as long as that is ten times the next."""
    kept = sorted(means)
    while len(kept) > 1 and kept[-1] > 10 * kept[-2]:
        kept.pop()
    return kept


def gradient_comparison(path: Path, name: str, result: dict[str, Any]) -> None:
    """Draws how well the gradients of a cell agree, and what they cost.

    Args:
        path: the PNG to write.
        name: the cell's.
        result: what `experiments.compare_gradients` measured of it.
    """
    figure = _figure(12.0, 3.9)
    steps, lengths, costs = figure.subplots(1, 3, width_ratios=(1.25, 1.0, 0.9))
    figure.suptitle(f"{name}: four ways to the same gradient", fontsize=12)
    _difference_curves(steps, result["differences"])
    _length_curves(lengths, result["lengths"])
    _cost_bars(costs, result["cost"])
    for axes in figure.axes:
        _plain(axes)
    _save(figure, path)


def gradient_overview(path: Path, results: dict[str, dict[str, Any]]) -> None:
    """Draws for every cell its worst errors, and what manual gradients save.

    Args:
        path: the PNG to write.
        results: by cell, what `experiments.compare_gradients` measured.
    """
    figure = _figure(11.0, 1.7 + 0.3 * len(results))
    errors, costs = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(results))[::-1]
    marks = {"automatic": ("o", BLUE), "graph": ("s", ORANGE), "numerical": ("^", GREY)}
    for oracle, (marker, colour) in marks.items():
        worst = [max(r["worst"][oracle], 1e-17) for r in results.values()]
        errors.scatter(worst, places, marker=marker, color=colour, label=oracle, s=34)
    for tolerance, colour in ((1e-12, BLUE), (1e-6, GREY)):
        errors.axvline(tolerance, color=colour, linestyle=":", linewidth=1)
    errors.set_xscale("log")
    errors.set_xlim(3e-18, 1e-5)
    errors.set_yticks(places, list(results))
    errors.set_xlabel("worst relative error of the manual gradient (dotted: passes)")
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
        _plain(axes)
        axes.grid(axis="x", alpha=0.2)
        axes.set_axisbelow(True)
    _save(figure, path)


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
    figure = _figure(12.5, 4.8)
    memory, states = figure.subplots(1, 2, sharey=True, width_ratios=(1.0, 1.15))
    shades = LinearSegmentedColormap.from_list("", (ORANGE, "#B0A0A0", BLUE))
    for number, (bias, norms) in enumerate(biases.items()):
        colour = shades(number / max(1, len(biases) - 1))
        back = np.arange(len(norms["c"]))
        # At the last step c reaches J through h alone: dc is 0 there.
        memory.plot(back[1:], norms["c"][1:], color=colour, linewidth=1.8)
        memory.plot(back[1:], norms["h"][1:], color=colour, linewidth=0.9, ls=":")
        end = np.flatnonzero(np.asarray(norms["c"]) > 3e-12)[-1]
        memory.annotate(
            f"bias {bias}",
            (end, norms["c"][end]),
            xytext=(6, 0),
            textcoords="offset points",
            color=colour,
            va="center",
        )
    memory.set_title(
        "LSTM by forget bias: ‖dc_t‖ (solid), ‖dh_t‖ (dotted)", loc="left", fontsize=10
    )
    memory.set_ylabel("share of the gradient that is left")
    for number, (name, norms) in enumerate(cells.items()):
        total = np.sqrt(sum(np.square(values) for values in norms.values()))
        states.plot(
            np.arange(len(total)),
            np.where(total > 0, total, np.nan),
            color=OKABE_ITO[number % len(OKABE_ITO)],
            linestyle=("-", "--", "-.")[number // len(OKABE_ITO) % 3],
            linewidth=1.5,
            label=name,
        )
    states.set_title(
        "Every cell as it starts: its whole state", loc="left", fontsize=10
    )
    states.legend(
        frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9
    )
    for axes in figure.axes:
        axes.set_yscale("log")
        axes.set_ylim(1e-12, 20)
        axes.margins(x=0.08)
        axes.set_xlabel("steps back from the last")
        axes.grid(alpha=0.2)
        _plain(axes)
    _save(figure, path)


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
    for oracle, marker, colour in (("automatic", "o", BLUE), ("graph", "s", ORANGE)):
        errors = [max(e[oracle], 1e-17) for e in lengths["errors"]]
        axes.loglog(x, errors, marker=marker, color=colour, label=f"against {oracle}")
    axes.axhline(1e-12, color=GREY, linestyle=":", linewidth=1)
    axes.annotate("passes below", (x[0], 1.3e-12), color=GREY, fontsize=9)
    axes.axhline(np.finfo(float).eps, color=GREY, linestyle=":", linewidth=1)
    axes.annotate("float64 ε", (x[0], 2.6e-16), color=GREY, fontsize=9)
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
            axes.bar(place + shift, share, width=0.36, color=colour, label=label)
            axes.text(place + shift, share + 0.02, f"{value:.3g}", ha="center")
    axes.set_xticks(range(len(units)), units.values())
    axes.set_ylabel("share of automatic")
    axes.set_ylim(0, 1.5)
    axes.set_title("Cost of value and gradient", loc="left", fontsize=10)
    axes.legend(frameon=False, loc="upper left", ncols=2)


def _score_line(axes: Axes, text: ScoredText) -> None:
    scores = np.asarray(text.scores)
    x = np.arange(1, len(scores) + 1)
    fill: dict[str, Any] = {"alpha": 0.25, "linewidth": 0, "interpolate": True}
    axes.axhline(0.5, color=GREY, linewidth=0.8, linestyle=":")
    axes.fill_between(x, 0.5, scores, scores >= 0.5, color=BLUE, **fill)
    axes.fill_between(x, 0.5, scores, scores <= 0.5, color=ORANGE, **fill)
    axes.plot(x, scores, color="black", linewidth=1.2)
    for n in _widest_changes(text, 4):
        rising = scores[n] > scores[n - 1]
        axes.plot(x[n], scores[n], "o", color=BLUE if rising else ORANGE, markersize=4)
        axes.annotate(
            text.words[n],
            (x[n], scores[n]),
            xytext=(0, 6 if rising else -6),
            textcoords="offset points",
            ha="center",
            va="bottom" if rising else "top",
            fontsize=9,
            bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.4},
        )
    axes.set_xlim(0.5, len(scores) + 0.5)
    axes.set_ylim(-0.22, 1.22)
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_ylabel("P(positive)")
    axes.set_xlabel("words read")
    axes.set_title(f"a {text.label} review", loc="left", fontsize=10)
    _plain(axes)


def _coloured_words(
    axes: Axes, text: ScoredText, wrapped: list[list[int]], columns: int
) -> None:
    """The words on their scores' colours; one unit of x is one letter's width."""
    axes.set_axis_off()
    axes.set_xlim(0, columns)
    axes.set_ylim(len(wrapped), 0)
    colours = LinearSegmentedColormap.from_list("score", [ORANGE, "white", BLUE])
    for line, numbers in enumerate(wrapped):
        column = 0
        for n in numbers:
            word = text.words[n]
            colour = colours(0.2 + 0.6 * float(text.scores[n]))  # letters stay legible
            axes.barh(line + 0.5, len(word) + 1, 0.92, column, color=colour, lw=0)
            axes.text(
                column + 0.5,
                line + 0.52,
                word,
                family="monospace",
                fontsize=9,
                va="center",
            )
            column += len(word) + 1


def _wrap(words: Sequence[str], columns: int) -> list[list[int]]:
    """The numbers of the words that go on each line of so many letters."""
    lines: list[list[int]] = [[]]
    used = 0
    for number, word in enumerate(words):
        if used + len(word) + 1 > columns and lines[-1]:
            lines.append([])
            used = 0
        lines[-1].append(number)
        used += len(word) + 1
    return lines


def _widest_changes(text: ScoredText, count: int) -> list[int]:
    """The words with the widest changes, none within a twelfth of the text of another.

    The first words move every score, and are left out; so are punctuation marks and
    changes below 0.03.
    """
    scores = np.asarray(text.scores)
    apart = max(1, len(scores) // 12)
    changes = np.abs(np.diff(scores, prepend=scores[:1]))
    chosen: list[int] = []
    for n in map(int, np.argsort(-changes, kind="stable")):
        tells = n >= 3 and changes[n] >= 0.03 and text.words[n].isalnum()
        if tells and all(abs(n - other) > apart for other in chosen):
            chosen.append(n)
    return chosen[:count]


def _running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """The mean of the last `width` values, or of as many as there are."""
    sums = np.cumsum(np.insert(values, 0, 0.0))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - width, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _style(number: int) -> dict[str, Any]:
    """Colour and dashes of curve `number`, 24 of them told apart."""
    return {
        "color": OKABE_ITO[number % len(OKABE_ITO)],
        "linestyle": ("-", "--", ":")[number // len(OKABE_ITO) % 3],
    }


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


def _dot_places(panels: Sequence[Panel]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
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


def _cost_legend(figure: Figure, title: str) -> None:
    """The title above, and one legend for all panels beside them."""
    known: dict[str, Any] = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        known = dict(zip(labels, handles, strict=True)) | known
    figure.legend(
        list(known.values()), list(known), loc="outside right center", frameon=False
    )
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def _save(figure: Figure, path: Path) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    write_whole(path, buffer.getvalue())
