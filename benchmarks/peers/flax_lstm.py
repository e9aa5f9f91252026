"""flax.nnx: `RNN` over `OptimizedLSTMCell`, whose blocks are "ifgo"."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array

from benchmarks.peers import Built
from benchmarks.peers.compiled import Weights, compiled
from benchmarks.problem import ORDER, Problem, reorder

FLAX = "ifgo"


def build(problem: Problem, device: str) -> Built:
    """One `nnx.RNN`, time-major."""
    del device
    row, dtype = problem.row, problem.xs.dtype
    cell = nnx.OptimizedLSTMCell(
        row.D, row.H, dtype=dtype, param_dtype=dtype, rngs=nnx.Rngs(0)
    )
    inputs, states = nnx.state(cell.dense_i), nnx.state(cell.dense_h)
    inputs["kernel"] = jnp.asarray(reorder(problem.Wx, ORDER, FLAX))
    states["kernel"] = jnp.asarray(reorder(problem.Wh, ORDER, FLAX))
    states["bias"] = jnp.asarray(reorder(problem.b, ORDER, FLAX))
    nnx.update(cell.dense_i, inputs)
    nnx.update(cell.dense_h, states)
    layer = nnx.RNN(cell, time_major=True, rngs=nnx.Rngs(0))
    graph, params, rest = nnx.split(layer, nnx.Param, ...)

    def apply(params: Any, xs: Array) -> Array:
        zeros = jnp.zeros((row.B, row.H), dtype)
        return nnx.merge(graph, params, rest)(xs, initial_carry=(zeros, zeros))

    return compiled(apply, params, problem.xs, to_weights=_weights)


def _weights(gradients: Any) -> Weights:
    inputs, states = (gradients["cell"][key] for key in ("dense_i", "dense_h"))
    parts = (inputs["kernel"], states["kernel"], states["bias"])
    wx, wh, b = (reorder(part.get_value(), FLAX, ORDER) for part in parts)
    return wx, wh, b
