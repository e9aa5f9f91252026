"""Equinox: a `jax.lax.scan` over `eqx.nn.LSTMCell`, as its documentation shows.

The cell is for one sequence, mapped over the batch by `jax.vmap`. Its weights are
transposed, with row blocks "ifgo".
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from benchmarks.peers import Built
from benchmarks.peers.compiled import Weights, compiled
from benchmarks.problem import ORDER, Problem, reorder

EQUINOX = "ifgo"


def build(problem: Problem, device: str) -> Built:
    """One scanned cell."""
    del device
    row, dtype = problem.row, problem.xs.dtype
    cell = eqx.tree_at(
        lambda c: (c.weight_ih, c.weight_hh, c.bias),
        eqx.nn.LSTMCell(row.D, row.H, dtype=dtype, key=jax.random.key(0)),
        (
            jnp.asarray(reorder(problem.Wx, ORDER, EQUINOX).T),
            jnp.asarray(reorder(problem.Wh, ORDER, EQUINOX).T),
            jnp.asarray(reorder(problem.b, ORDER, EQUINOX)),
        ),
    )
    params, static = eqx.partition(cell, eqx.is_inexact_array)

    def apply(params: Any, xs: Array) -> Array:
        cell = eqx.combine(params, static)

        def step(state: Any, x: Array) -> tuple[Any, Array]:
            state = jax.vmap(cell)(x, state)
            return state, state[0]

        zeros = jnp.zeros((row.B, row.H), dtype)
        return jax.lax.scan(step, (zeros, zeros), xs)[1]

    return compiled(apply, params, problem.xs, to_weights=_weights)


def _weights(gradients: Any) -> Weights:
    wx, wh = gradients.weight_ih.T, gradients.weight_hh.T
    wx, wh, b = (reorder(part, EQUINOX, ORDER) for part in (wx, wh, gradients.bias))
    return wx, wh, b
