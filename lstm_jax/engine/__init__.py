"""The engine: a cell over sequences, forward and back through time.

`unroll` and `step` are its doors. A reader goes on to `bptt.py`, backpropagation
through time whatever the cell, and from there to the runners, the ways to run a cell's
steps (`runners.py`); what these pass on is in `sequence.py`.
"""

from lstm_jax.engine.runners import Choice, runner_of
from lstm_jax.engine.sequence import GRADIENTS, MEMORIES
from lstm_jax.engine.single_step import lstm_step, step
from lstm_jax.engine.unrolling import unroll
from lstm_jax.engine.zoneout import Zoneout

__all__ = [
    "GRADIENTS",
    "MEMORIES",
    "Choice",
    "Zoneout",
    "lstm_step",
    "runner_of",
    "step",
    "unroll",
]
