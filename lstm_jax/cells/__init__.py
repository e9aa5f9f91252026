"""The cells, one file a variant, and `CELLS`, the table of them by name.

A cell in the table takes part in every table-driven test, check and benchmark. The
files beside hold more cells, whose gradients `tests/test_family.py` compares; import
one from its file, as in ``from lstm_jax.cells.peephole import PEEPHOLE_LSTM``.
"""

from types import MappingProxyType

from lstm_jax.cell import Cell
from lstm_jax.cells.elman import RNN_RELU, RNN_TANH
from lstm_jax.cells.gru import GRU
from lstm_jax.cells.gru_before import GRU_BEFORE
from lstm_jax.cells.lstm import LSTM, LSTMParams, LSTMState
from lstm_jax.cells.projected import PROJECTED_LSTM

CELLS: MappingProxyType[str, Cell] = MappingProxyType(
    {
        cell.name: cell
        for cell in (LSTM, PROJECTED_LSTM, GRU, GRU_BEFORE, RNN_TANH, RNN_RELU)
    }
)

__all__ = ["CELLS", "LSTM", "LSTMParams", "LSTMState"]
