"""The cells, one file a variant, and `CELLS`, the table of them all by name."""

from types import MappingProxyType

from lstm_jax.cell import Cell
from lstm_jax.cells.lstm import LSTM, LSTMParams, LSTMState

CELLS: MappingProxyType[str, Cell] = MappingProxyType(
    {cell.name: cell for cell in (LSTM,)}
)

__all__ = ["CELLS", "LSTM", "LSTMParams", "LSTMState"]
