"""The cells of the experiments: the library's, variants of two of them, your own."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from experiments.tasks.ablations import ABLATIONS
from experiments.tasks.signed import SIGNED_MIN_GRU
from lstm_jax.cell import Cell
from lstm_jax.cells import CELLS, find_cell

KNOWN_CELLS: MappingProxyType[str, Cell] = MappingProxyType(
    {**CELLS, **ABLATIONS, SIGNED_MIN_GRU.name: SIGNED_MIN_GRU}
)
"""All of them that have names here."""


def find_cells(
    names: Iterable[str], known: Mapping[str, Cell] = KNOWN_CELLS
) -> tuple[Cell, ...]:
    """The cells of these names.

    Args:
        names: as `lstm_jax.cells.find_cell` takes them.
        known: cells by name.

    Raises:
        ValueError: a name is not known, or two cells have one name, under which
            results are kept.
    """
    chosen, found = [], dict(known)
    for name in names:
        cell = find_cell(name, known)
        if found.setdefault(cell.name, cell) is not cell:
            raise ValueError(
                f'the cell {name} is called "{cell.name}", as another one is; give it '
                "a name of its own"
            )
        chosen.append(cell)
    return tuple(chosen)


def in_order(names: Iterable[str]) -> list[str]:
    """Names of cells as tables show them: those known in their order, then others."""
    present = set(names)
    known = [name for name in KNOWN_CELLS if name in present]
    return known + sorted(present.difference(known))
