"""Recurrent networks whose backward pass is derived by hand, as pure functions."""

from lstm_jax import graph, identities
from lstm_jax.cell import Cell, named
from lstm_jax.cells import CELLS, LSTM, LSTMParams, LSTMState, conv_lstm
from lstm_jax.derivation import Derivation, derive
from lstm_jax.engine import Zoneout, lstm_step, runner_of, step, unroll
from lstm_jax.gated import gated
from lstm_jax.gradcheck import check_gradients, check_vjp
from lstm_jax.mixed_precision import mixed_precision
from lstm_jax.numbered import numbered

__version__ = "0.1.0"

__all__ = [
    "CELLS",
    "LSTM",
    "Cell",
    "Derivation",
    "LSTMParams",
    "LSTMState",
    "Zoneout",
    "check_gradients",
    "check_vjp",
    "conv_lstm",
    "derive",
    "gated",
    "graph",
    "identities",
    "lstm_step",
    "mixed_precision",
    "named",
    "numbered",
    "runner_of",
    "step",
    "unroll",
]
