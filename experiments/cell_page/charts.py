"""Curves as SVG whose colours and letters are the page's, and bars as HTML."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 640.0, 250.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 150.0, 12.0, 36.0
"""Room for the numbers, the names of the curves, and the axis' label."""

LETTER = 13.0
"""Names of curves are at least so far apart."""


class Curve(NamedTuple):
    """A line of a chart.

    Attributes:
        name: as it is called beside its end.
        x: places.
        y: values; what is not finite or, on a logarithmic axis, not positive is left
            out.
        own: whether it is the cell's that the page is about.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    own: bool = False


def curves(
    lines: Sequence[Curve],
    label: str,
    references: Mapping[str, float] | None = None,
    *,
    logarithmic: bool = False,
) -> str:
    """A chart of curves, each named where it ends.

    Args:
        lines: at least one.
        label: of the horizontal axis.
        references: values to hold the curves against, by name.
        logarithmic: whether the vertical axis is.
    """
    references = references or {}
    floor = 1e-12 if logarithmic else -math.inf
    shown = [
        [(float(a), b) for a, b in zip(c.x, c.y, strict=True) if floor < b < math.inf]
        for c in lines
    ]
    if not any(shown):
        return "<p>Nothing is finite.</p>"
    values = [b for points in shown for _, b in points] + list(references.values())
    across = _scale([a for points in shown for a, _ in points], LEFT, WIDTH - RIGHT)
    bottom, upper = HEIGHT - BOTTOM, TOP
    if logarithmic:
        tens = _scale([math.log10(v) for v in values], bottom, upper)
        up, ticks = lambda v: tens(math.log10(v)), powers(min(values), max(values))
    else:
        values.append(0.0)
        up, ticks = _scale(values, bottom, upper), round_numbers(0.0, max(values))
    parts = [
        _rule(up(v), f"{v:.3g}" if v >= 1e-3 or v == 0 else f"{v:.0e}") for v in ticks
    ]
    places = [a for points in shown for a, _ in points]
    for a in round_numbers(min(places), max(places)):
        parts.append(_text(across(a), bottom + 15, f"{a:g}", "tick", "middle"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, label, "tick", "middle"))
    names: list[tuple[float, str, str]] = []
    for name, value in references.items():
        y = up(value)
        parts.append(_across(y, "reference"))
        names.append((y, name, "quiet-text"))
    others = itertools.cycle(("other-0", "other-1", "other-2"))
    for curve, points in zip(lines, shown, strict=True):
        kind = "own" if curve.own else next(others)
        if points:
            way = "L".join(f"{across(a):.1f},{up(b):.1f}" for a, b in points)
            parts.append(f'<path class="curve {kind}" d="M{way}"/>')
            names.append((up(points[-1][1]), curve.name, kind))
    parts += _named(names)
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


def bars(rows: Sequence[tuple[str, float, str]], own: int = 0) -> str:
    """Bars below each other: name, length, and what stands behind it.

    Args:
        rows: from 0 on; the longest bar fills its place.
        own: the row of the cell that the page is about.
    """
    most = max(value for _, value, _ in rows) or 1.0
    lines = (
        f"<span>{escape(name)}</span>"
        f'<span class="track"><span class="bar{" own" if k == own else ""}" '
        f'style="width: {100 * value / most:.1f}%"></span></span>'
        f"<span>{escape(said)}</span>"
        for k, (name, value, said) in enumerate(rows)
    )
    return f'<div class="bars">{"".join(lines)}</div>'


# --- axes -------------------------------------------------------------------------


def round_numbers(low: float, high: float) -> list[float]:
    """A few round numbers within two bounds, equally far apart."""
    if high <= low:
        return [low]
    rough = (high - low) / 5
    ten = 10.0 ** math.floor(math.log10(rough))
    step = next(ten * k for k in (1, 2, 5, 10) if ten * k >= rough)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def powers(low: float, high: float) -> list[float]:
    """Powers of ten within two positive bounds, about six of them at most."""
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    step = max(1, math.ceil((last - first) / 6))
    return [10.0**k for k in range(last, first - 1, -step)] or [low]


def _scale(
    values: Sequence[float], begin: float, end: float
) -> Callable[[float], float]:
    low, high = min(values), max(values)
    width = high - low or 1.0
    return lambda v: begin + (v - low) / width * (end - begin)


# --- letters ----------------------------------------------------------------------


def _across(y: float, kind: str) -> str:
    return (
        f'<line class="{kind}" x1="{LEFT:g}" x2="{WIDTH - RIGHT:g}" '
        f'y1="{y:.1f}" y2="{y:.1f}"/>'
    )


def _rule(y: float, text: str) -> str:
    line = _across(y, "axis")
    return line + _text(LEFT - 6, y + 4, text, "tick", "end")


def _named(names: Sequence[tuple[float, str, str]]) -> list[str]:
    """The names of the curves, pushed apart where they would lie on each other."""
    names, places, free = sorted(names), [], -math.inf
    for y, *_ in names:
        places.append(max(y, free))
        free = places[-1] + LETTER
    free = HEIGHT - BOTTOM
    for k in reversed(range(len(places))):
        places[k] = min(places[k], free)
        free = places[k] - LETTER
    x = WIDTH - RIGHT + 8
    return [
        _text(x, y + 4, name, f"name {kind}")
        for y, (_, name, kind) in zip(places, names, strict=True)
    ]


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )
