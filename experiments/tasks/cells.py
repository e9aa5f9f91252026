"""The cells of the experiments: the library's, and the LSTM less one thing."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from experiments.tasks.ablations import ABLATIONS
from lstm_jax.cell import Cell
from lstm_jax.cells import CELLS
from lstm_jax.engine.checks import check_choice

KNOWN_CELLS: MappingProxyType[str, Cell] = MappingProxyType({**CELLS, **ABLATIONS})
"""All of them by name."""


def find_cells(
    names: Iterable[str], known: Mapping[str, Cell] = KNOWN_CELLS
) -> tuple[Cell, ...]:
    """The cells of these names.

    Raises:
        ValueError: a name is not known.
    """
    chosen = tuple(names)
    for name in chosen:
        check_choice("cell", name, tuple(known))
    return tuple(known[name] for name in chosen)
