"""The cells, one file a variant, and `CELLS`, the table of them all by name.

Not in it are `conv_lstm`, which makes a cell for a grid; the RG-LRU of released models,
which reads where documents start; and the layer-normalized GRU and simple cell, which
are variants of what stands there.

A cell in the table takes part in every table-driven test, check and benchmark. The
NamedTuples of a cell's parameters and state are in its own file.
"""

from types import MappingProxyType

from lstm_jax.cell import Cell
from lstm_jax.cells.conv_lstm import conv_lstm
from lstm_jax.cells.coupled import COUPLED_LSTM
from lstm_jax.cells.elman import RNN_RELU, RNN_TANH
from lstm_jax.cells.griffin import GRIFFIN
from lstm_jax.cells.gru import GRU
from lstm_jax.cells.gru_before import GRU_BEFORE
from lstm_jax.cells.indrnn import INDRNN
from lstm_jax.cells.layer_norm_gru import LAYER_NORM_GRU
from lstm_jax.cells.layer_norm_lstm import LAYER_NORM_LSTM, with_epsilon
from lstm_jax.cells.layer_norm_rnn import LAYER_NORM_RNN
from lstm_jax.cells.lookup import file_hash, find_cell
from lstm_jax.cells.lstm import LSTM, LSTMParams, LSTMState
from lstm_jax.cells.mgu import MGU
from lstm_jax.cells.min_gru import MIN_GRU
from lstm_jax.cells.min_lstm import MIN_LSTM
from lstm_jax.cells.mlstm import MLSTM
from lstm_jax.cells.multiplicative import MULTIPLICATIVE_LSTM
from lstm_jax.cells.peephole import PEEPHOLE_LSTM
from lstm_jax.cells.projected import PROJECTED_LSTM
from lstm_jax.cells.rg_lru import RG_LRU
from lstm_jax.cells.slstm import SLSTM

CELLS: MappingProxyType[str, Cell] = MappingProxyType(
    {
        cell.name: cell
        for cell in (
            # without gates
            RNN_TANH,
            RNN_RELU,
            INDRNN,
            # gated, and linear in their state
            MIN_GRU,
            MIN_LSTM,
            RG_LRU,
            # gated, with one state
            MGU,
            GRU,
            GRU_BEFORE,
            # with a memory cell
            LSTM,
            COUPLED_LSTM,
            PEEPHOLE_LSTM,
            PROJECTED_LSTM,
            MULTIPLICATIVE_LSTM,
            LAYER_NORM_LSTM,
            SLSTM,
            # with a matrix
            MLSTM,
        )
    }
)
"""Every cell of the library, by its name."""

__all__ = [
    "CELLS",
    "COUPLED_LSTM",
    "GRIFFIN",
    "GRU",
    "GRU_BEFORE",
    "INDRNN",
    "LAYER_NORM_GRU",
    "LAYER_NORM_LSTM",
    "LAYER_NORM_RNN",
    "LSTM",
    "MGU",
    "MIN_GRU",
    "MIN_LSTM",
    "MLSTM",
    "MULTIPLICATIVE_LSTM",
    "PEEPHOLE_LSTM",
    "PROJECTED_LSTM",
    "RG_LRU",
    "RNN_RELU",
    "RNN_TANH",
    "SLSTM",
    "LSTMParams",
    "LSTMState",
    "conv_lstm",
    "file_hash",
    "find_cell",
    "with_epsilon",
]
