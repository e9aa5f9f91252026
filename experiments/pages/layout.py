"""Where the quantities of a graph stand: in layers, each after what it is made of.

The method is Sugiyama's (1981): every node goes to the layer after its last operand;
an edge that crosses layers gets a place in each; the order within layers is that of the
neighbours' means, swept to and fro; then places are pulled towards their neighbours.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

SWEEPS = 12

Edge = tuple[str, str]
Place = tuple[str, str, int] | str
"""A node, or where an edge crosses a layer: (source, target, layer)."""


class Layout(NamedTuple):
    """Places: (layer, position in the layer), each 1 apart from the next.

    Attributes:
        nodes: of each node.
        paths: of each edge, from its source through the layers to its target.
    """

    nodes: dict[str, tuple[int, float]]
    paths: dict[Edge, list[tuple[int, float]]]


def lay_out(nodes: Sequence[str], edges: Iterable[Edge]) -> Layout:
    """Places the nodes of a graph without cycles.

    Args:
        nodes: in an order in which operands come first.
        edges: (source, target).
    """
    edges = list(edges)
    layers = _layers(nodes, edges)
    paths = {edge: _through(edge, layers) for edge in edges}
    neighbours: dict[Place, list[Place]] = defaultdict(list)
    rows: dict[int, list[Place]] = defaultdict(list)
    for node in nodes:
        rows[layers[node]].append(node)
    for path in paths.values():
        for place in path[1:-1]:
            rows[_layer(place, layers)].append(place)
        for one, other in pairwise(path):
            neighbours[one].append(other)
            neighbours[other].append(one)
    where = _positions(rows, neighbours, layers)
    return Layout(
        {node: (layers[node], where[node]) for node in nodes},
        {
            edge: [(_layer(place, layers), where[place]) for place in path]
            for edge, path in paths.items()
        },
    )


def _layers(nodes: Sequence[str], edges: list[Edge]) -> dict[str, int]:
    """The layer after the last operand's; what has none, just before its first user."""
    layers: dict[str, int] = {}
    for node in nodes:
        before = [layers[source] for source, target in edges if target == node]
        layers[node] = 1 + max(before, default=-1)
    for node in nodes:
        if not any(target == node for _, target in edges):
            after = [layers[target] for source, target in edges if source == node]
            layers[node] = min(after, default=1) - 1
    return layers


def _through(edge: Edge, layers: dict[str, int]) -> list[Place]:
    source, target = edge
    between = range(layers[source] + 1, layers[target])
    return [source, *((source, target, layer) for layer in between), target]


def _layer(place: Place, layers: dict[str, int]) -> int:
    return layers[place] if isinstance(place, str) else place[2]


def _positions(
    rows: dict[int, list[Place]],
    neighbours: dict[Place, list[Place]],
    layers: dict[str, int],
) -> dict[Place, float]:
    where: dict[Place, float] = {}
    for row in rows.values():
        where |= {place: k - (len(row) - 1) / 2 for k, place in enumerate(row)}

    def wish(place: Place, step: int) -> float:
        near = [
            where[other]
            for other in neighbours[place]
            if step == 0 or _layer(other, layers) == _layer(place, layers) + step
        ]
        return sum(near) / len(near) if near else where[place]

    for sweep in range(SWEEPS):
        step = -1 if sweep % 2 == 0 else 1
        for layer in sorted(rows, reverse=step == 1):
            row = sorted(rows[layer], key=lambda place: wish(place, step))
            rows[layer] = row
            where |= {place: k - (len(row) - 1) / 2 for k, place in enumerate(row)}
    for _ in range(SWEEPS):
        for row in rows.values():
            where |= _apart(row, [wish(place, 0) for place in row])
    return where


def _apart(row: list[Place], wishes: list[float]) -> dict[Place, float]:
    """Places at least 1 apart, in their order, near to where they wish to be."""
    lowest = [wishes[0]]
    for wish in wishes[1:]:
        lowest.append(max(wish, lowest[-1] + 1))
    # What had to move, moves the rest half as far the other way.
    shift = sum(w - p for w, p in zip(wishes, lowest, strict=True)) / len(row)
    return {place: p + shift for place, p in zip(row, lowest, strict=True)}
