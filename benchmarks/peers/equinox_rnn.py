"""Equinox: `lax.scan` over `eqx.nn.LSTMCell` or `GRUCell`, row blocks as in torch."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from benchmarks.peers import Built
from benchmarks.peers.compiled import Weights, compiled
from benchmarks.problem import ORDERS, Problem, reorder

CELLS = {"lstm": eqx.nn.LSTMCell, "gru": eqx.nn.GRUCell}
EQUINOX = {"lstm": "ifgo", "gru": "rzn"}


def build(problem: Problem, device: str) -> Built:
    """A cell is one example's, so it is vmapped over the batch, as its docs do."""
    del device
    row, dtype = problem.row, problem.xs.dtype
    own, theirs = ORDERS[row.cell], EQUINOX[row.cell]
    cell = eqx.tree_at(
        lambda c: (c.weight_ih, c.weight_hh, c.bias),
        CELLS[row.cell](row.D, row.H, dtype=dtype, key=jax.random.key(0)),
        (
            jnp.asarray(reorder(problem.Wx, own, theirs).T),
            jnp.asarray(reorder(problem.Wh, own, theirs).T),
            jnp.asarray(reorder(problem.b, own, theirs)),
        ),
    )
    if row.cell == "gru":  # the bias inside the reset
        cell = eqx.tree_at(lambda c: c.bias_n, cell, jnp.zeros(row.H, dtype))
    params, static = eqx.partition(cell, eqx.is_inexact_array)

    def apply(params: Any, xs: Array) -> Array:
        cell = eqx.combine(params, static)

        def step(state: Any, x: Array) -> tuple[Any, Array]:
            state = jax.vmap(cell)(x, state)
            return state, state[0] if row.cell == "lstm" else state

        zeros = jnp.zeros((row.B, row.H), dtype)
        begin = (zeros, zeros) if row.cell == "lstm" else zeros
        return jax.lax.scan(step, begin, xs)[1]

    def weights(gradients: Any) -> Weights:
        parts = (gradients.weight_ih.T, gradients.weight_hh.T, gradients.bias)
        wx, wh, b = (reorder(part, theirs, own) for part in parts)
        return wx, wh, b

    return compiled(apply, params, problem.xs, to_weights=weights)
