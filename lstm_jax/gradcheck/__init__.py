"""Is a hand-derived gradient right, and if it isn't, which equation is wrong?

* `check_gradients`: a cell's reverse against automatic, computation-graph and
  numerical gradients, equation by equation, step by step, and over whole sequences.
* `check_vjp`: the same for any function and its hand-written reverse.
* `state_gradients`: what reaches the state of every step on the way back.
* `Report`, `Finding`, `Row`, `Tolerances`: what they return, and what they accept.
"""

from lstm_jax.gradcheck.check import check_gradients
from lstm_jax.gradcheck.report import Finding, Report, Row, Tolerances
from lstm_jax.gradcheck.sequence import state_gradients
from lstm_jax.gradcheck.vjp import check_vjp

__all__ = [
    "Finding",
    "Report",
    "Row",
    "Tolerances",
    "check_gradients",
    "check_vjp",
    "state_gradients",
]
