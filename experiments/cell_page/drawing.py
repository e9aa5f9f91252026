"""A computation graph as SVG: values downwards, on each edge the local derivative.

Made without graphviz, so that a page has its drawing wherever it is written.
"""

from collections import Counter
from collections.abc import Sequence
from html import escape
from itertools import pairwise

from experiments.pages import lay_out
from lstm_jax.graph import Drawing

ACROSS, DOWN = 30.0, 74.0
"""Room between neighbours, and from layer to layer."""

HIGH, LETTER = 28.0, 7.4
"""A node's height; the width of a letter."""


def svg_of(drawing: Drawing) -> str:
    """The drawing as an element of a page.

    Boxes are inputs, ovals the numbered quantities, what is bare lies between them; a
    thick outline is what the function returns. The body of a scan is drawn once.
    """
    nodes = drawing.diagram.nodes
    labels: dict[tuple[str, str], list[str]] = {}
    dashed = set()
    for edge in drawing.diagram.edges:
        if not edge.back:
            ends = str(edge.source), str(edge.target)
            labels.setdefault(ends, []).append(edge.label)
            dashed |= set() if edge.gradient else {ends}
    leaving = Counter(source for source, _ in labels)
    placed = lay_out([str(k) for k in range(len(nodes))], labels)
    wide = [max(HIGH, LETTER * len(node.text) + 16) for node in nodes]
    across = max(64.0, max(wide) * 0.8 + ACROSS)
    left = min(p for _, p in placed.nodes.values())
    columns = max(p for _, p in placed.nodes.values()) - left + 1
    width = columns * across
    height = DOWN * max(layer for layer, _ in placed.nodes.values()) + HIGH + 8

    def at(place: tuple[int, float]) -> tuple[float, float]:
        layer, position = place
        return (position - left + 0.5) * across, HIGH / 2 + 4 + DOWN * layer

    edges, words = [], []
    for ends, path in placed.paths.items():
        first, *between, last = (at(place) for place in path)
        points = [
            (first[0], first[1] + HIGH / 2),
            *between,
            (last[0], last[1] - HIGH / 2),
        ]
        kind = "edge dashed" if ends in dashed else "edge"
        edges.append(f'<path class="{kind}" d="{_smooth(points)}"/>')
        text = ", ".join(filter(None, labels[ends]))
        words.append(_label(points, text, 0.72 if leaving[ends[0]] > 1 else 0.4))
    drawn = [
        _node(node.text, node.kind, node.output, at(placed.nodes[str(k)]), wide[k])
        for k, node in enumerate(nodes)
    ]
    inside = "".join([*edges, *drawn, *words])
    return (
        f'<svg class="graph" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'style="max-width: {width:.0f}px" role="img" '
        f'aria-label="Computation graph of a step">{inside}</svg>'
    )


def _node(
    text: str, kind: str, output: bool, place: tuple[float, float], width: float
) -> str:
    x, y = place
    corner = 3 if kind == "input" else HIGH / 2
    box = (
        f'<rect x="{x - width / 2:.1f}" y="{y - HIGH / 2:.1f}" width="{width:.1f}" '
        f'height="{HIGH:g}" rx="{corner}"/>'
    )
    kind += " output" if output else ""
    return (
        f'<g class="node {kind}">{box}<text x="{x:.1f}" y="{y + 4.5:.1f}" '
        f'text-anchor="middle">{escape(text)}</text></g>'
    )


def _label(points: Sequence[tuple[float, float]], text: str, share: float) -> str:
    """The local derivative, at a share of its edge's way; in the middle of a long one.

    Edges that leave one node are furthest apart near their ends.
    """
    if not text:
        return ""
    (x0, y0), (x1, y1) = points[:2]
    if len(points) > 2:
        x, y = points[len(points) // 2]
    else:
        x = x0 + (3 - 2 * share) * share**2 * (x1 - x0)
        y = y0 + share * (y1 - y0)
    return (
        f'<text class="label" x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle">'
        f"{escape(text)}</text>"
    )


def _smooth(points: Sequence[tuple[float, float]]) -> str:
    """A curve through the points, upright at its ends, within as its neighbours say."""
    around = zip(points, points[2:], strict=False)
    within = [(x1 - x0) / (y1 - y0) for (x0, y0), (x1, y1) in around]
    slopes = [0.0, *within, 0.0]
    share = 0.36 if within else 0.5
    way = f"M{points[0][0]:.1f},{points[0][1]:.1f}"
    for k, ((x0, y0), (x1, y1)) in enumerate(pairwise(points)):
        reach = share * (y1 - y0)
        way += (
            f"C{x0 + slopes[k] * reach:.1f},{y0 + reach:.1f} "
            f"{x1 - slopes[k + 1] * reach:.1f},{y1 - reach:.1f} {x1:.1f},{y1:.1f}"
        )
    return way
