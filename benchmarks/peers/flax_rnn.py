"""flax.nnx: `RNN` over `OptimizedLSTMCell`, `GRUCell` or `SimpleCell`."""

from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array

from benchmarks.peers import Built
from benchmarks.peers.compiled import Weights, compiled
from benchmarks.problem import ORDERS, Problem, reorder

CELLS = {
    "lstm": nnx.OptimizedLSTMCell,
    "gru": nnx.GRUCell,
    "rnn_tanh": nnx.SimpleCell,
    "rnn_relu": partial(nnx.SimpleCell, activation_fn=nnx.relu),
}
FLAX = {"lstm": "ifgo", "gru": "rzn", "rnn_tanh": "h", "rnn_relu": "h"}


def build(problem: Problem, device: str) -> Built:
    """One `nnx.RNN`, time-major."""
    del device
    row, dtype = problem.row, problem.xs.dtype
    own, theirs = ORDERS[row.cell], FLAX[row.cell]
    cell = CELLS[row.cell](
        row.D,
        row.H,
        dtype=dtype,
        param_dtype=dtype,
        recurrent_kernel_init=nnx.initializers.zeros,  # its own knows no 16 bits
        rngs=nnx.Rngs(0),
    )
    # Of the two linear layers one has the bias.
    biased = "dense_i" if cell.dense_i.use_bias else "dense_h"
    cell.dense_i.kernel[...] = jnp.asarray(reorder(problem.Wx, own, theirs))
    cell.dense_h.kernel[...] = jnp.asarray(reorder(problem.Wh, own, theirs))
    getattr(cell, biased).bias[...] = jnp.asarray(reorder(problem.b, own, theirs))
    layer = nnx.RNN(cell, time_major=True, rngs=nnx.Rngs(0))
    graph, params, rest = nnx.split(layer, nnx.Param, ...)

    def apply(params: Any, xs: Array) -> Array:
        zeros = jnp.zeros((row.B, row.H), dtype)
        carry = (zeros, zeros) if row.cell == "lstm" else zeros
        return nnx.merge(graph, params, rest)(xs, initial_carry=carry)

    def weights(gradients: Any) -> Weights:
        of_cell = gradients["cell"]
        parts = (
            of_cell["dense_i"]["kernel"],
            of_cell["dense_h"]["kernel"],
            of_cell[biased]["bias"],
        )
        wx, wh, b = (reorder(part.get_value(), theirs, own) for part in parts)
        return wx, wh, b

    return compiled(apply, params, problem.xs, to_weights=weights)
