"""cuDNN through `jax.experimental.rnn`: row blocks "ifgo", all weights in one array.

It follows the layout that `jax.experimental.rnn.unpack_lstm_weights` documents, input
weights, recurrent weights, then the two biases, of which the second is 0 here.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.experimental import rnn

from benchmarks.peers import Built
from benchmarks.peers.compiled import Weights, compiled
from benchmarks.problem import ORDERS, Problem, reorder

ORDER = ORDERS["lstm"]
CUDNN = "ifgo"


def build(problem: Problem, device: str) -> Built:
    """One layer; cuDNN's layout has the batch first. GPU only."""
    if device != "gpu":
        raise ValueError("cuDNN runs on a GPU only")
    row, dtype = problem.row, problem.xs.dtype
    lengths = jnp.full((row.B,), row.T, jnp.int32)
    zeros = jnp.zeros((1, row.B, row.H), dtype)

    def apply(packed: Array, xs: Array) -> Array:
        return rnn.lstm(
            xs,
            zeros,
            zeros,
            packed,
            lengths,
            input_size=row.D,
            hidden_size=row.H,
            num_layers=1,
            dropout=0.0,
            bidirectional=False,
        )[0]

    xs = jnp.asarray(problem.xs.swapaxes(0, 1))
    return compiled(
        apply,
        jnp.asarray(pack(problem)),
        xs,
        to_weights=lambda packed: unpack(packed, row.D, row.H),
        time_axis=1,
    )


def pack(problem: Problem) -> np.ndarray:
    """The weights in one array."""
    parts = [
        reorder(problem.Wx, ORDER, CUDNN).T,
        reorder(problem.Wh, ORDER, CUDNN).T,
        reorder(problem.b, ORDER, CUDNN),
        np.zeros_like(problem.b),
    ]
    return np.concatenate([part.reshape(-1) for part in parts])


def unpack(packed: Any, input_size: int, hidden_size: int) -> Weights:
    """The reverse of `pack`."""
    width = 4 * hidden_size
    bounds = np.cumsum([width * input_size, width * hidden_size, width])
    wx, wh, b, _ = np.split(packed, bounds)
    wx, wh = wx.reshape(width, input_size).T, wh.reshape(width, hidden_size).T
    wx, wh, b = (reorder(part, CUDNN, ORDER) for part in (wx, wh, b))
    return wx, wh, b
