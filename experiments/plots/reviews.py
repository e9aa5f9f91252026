"""What a classifier says of a text after every word of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from experiments.legible import one_line
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


class ScoredText(NamedTuple):
    """A text and what a classifier says after every word of it.

    Attributes:
        words: n words.
        scores: (n,) probabilities of a class.
        title: what is said of the text.
        of: the name of that class.
    """

    words: tuple[str, ...]
    scores: Any
    title: str
    of: str = "positive"


_COLOURS = LinearSegmentedColormap.from_list("score", [ORANGE, "white", BLUE])


@drawn
def running_scores(path: Path, texts: Sequence[ScoredText]) -> None:
    """Draws for every text its score after every word, over the words themselves.

    Above, the score as a line, the widest changes marked with their words; below, the
    text, each word on the colour of the score that it led to; under all, a key.

    Args:
        path: the PNG to write.
        texts: at least one.
    """
    columns = 116
    texts = [_legible(text, columns - 1) for text in texts]
    lines = [_wrap(text.words, columns) for text in texts]
    heights = [h for wrapped in lines for h in (1.45, 0.3 + 0.19 * len(wrapped))]
    figure = make_figure(10.0, sum(heights) + 0.55 * len(texts) + 0.55)
    grid = figure.subplots(2 * len(texts), 1, height_ratios=heights)
    for number, (text, wrapped) in enumerate(zip(texts, lines, strict=True)):
        _score_line(grid[2 * number], text)
        _coloured_words(grid[2 * number + 1], text, wrapped, columns)
    classes = {text.of for text in texts}
    _key(figure, f"P({literal(*classes, 20)})" if len(classes) == 1 else "P")
    save(figure, path)


def _key(figure: Figure, score: str) -> None:
    """What marks and colours mean, below all texts."""
    jump: dict[str, Any] = {"marker": "o", "markersize": 4, "linestyle": "none"}
    keys: dict[str, Any] = {
        "widest rises": Line2D([], [], color=BLUE, **jump),
        "widest falls": Line2D([], [], color=ORANGE, **jump),
    }
    for value in (1.0, 0.5, 0.0):
        patch = Patch(facecolor=_colour(value), edgecolor=GREY, linewidth=0.5)
        keys[f"{score} {value:g} after the word"] = patch
    figure.legend(
        list(keys.values()),
        list(keys),
        loc="outside lower center",
        ncols=len(keys),
        frameon=False,
        fontsize=9,
        handlelength=1.2,
    )


def _colour(score: float) -> Any:
    """The colour of a word after which the score is this; letters stay legible."""
    return _COLOURS(0.2 + 0.6 * score)


def _legible(text: ScoredText, longest: int) -> ScoredText:
    """The text with words that fit a line of so many letters."""
    return text._replace(words=tuple(one_line(word, longest) for word in text.words))


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
            literal(text.words[n], 20),
            (x[n], scores[n]),
            xytext=(0, 6 if rising else -6),
            textcoords="offset points",
            # The line comes from the other side: above a rise and below a fall, the
            # left is free.
            ha="right" if n > len(text.words[n]) * len(scores) / 150 else "center",
            va="bottom" if rising else "top",
            fontsize=9,
            bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.4},
        )
    axes.set_xlim(0.5, len(scores) + 0.5)
    axes.set_ylim(-0.22, 1.22)
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_ylabel(f"P({literal(text.of, 20)})")
    axes.set_xlabel("words read")
    axes.set_title(literal(text.title), loc="left", fontsize=10)
    plain(axes)


def _coloured_words(
    axes: Axes, text: ScoredText, wrapped: list[list[int]], columns: int
) -> None:
    """The words on their scores' colours; one unit of x is one letter's width.

    All lie within the axes, so the layout need not measure them.
    """
    axes.set_axis_off()
    axes.set_xlim(0, columns)
    axes.set_ylim(len(wrapped), 0)
    y: list[float] = []
    left: list[int] = []
    for line, numbers in enumerate(wrapped):
        column = 0
        for n in numbers:
            word = text.words[n]
            y.append(line + 0.5)
            left.append(column)
            axes.text(
                column + 0.5,
                line + 0.52,
                literal(word, columns),
                family="monospace",
                fontsize=9,
                va="center",
                in_layout=False,
            )
            column += len(word) + 1
    widths = [len(word) + 1 for word in text.words]
    colours = [_colour(float(score)) for score in text.scores]
    axes.barh(y, widths, 0.92, left, color=colours, lw=0, in_layout=False)


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
