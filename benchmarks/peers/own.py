"""This library: one gradient and one memory policy a peer."""

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import lstm_jax as lj
from benchmarks.peers import Built
from benchmarks.peers.compiled import Weights, compiled
from benchmarks.problem import Problem


def build(
    problem: Problem,
    device: str,
    gradient: str = "manual",
    memory: str = "store",
    native: str = "1",
) -> Built:
    """`lstm_jax.unroll`; cells other than the LSTM draw weights of their own."""
    del device
    os.environ["LSTM_JAX_NATIVE"] = native  # read before the first unrolling
    row = problem.row
    cell = lj.CELLS[row.cell]

    def apply(params: Any, xs: Array) -> Array:
        return lj.unroll(cell, params, xs, gradient=gradient, memory=memory)[0]

    if row.cell == "lstm":
        params = lj.LSTMParams(*map(jnp.asarray, (problem.Wx, problem.Wh, problem.b)))
    else:
        params = cell.init(jax.random.key(0), row.D, row.H, dtype=problem.xs.dtype)
    return compiled(apply, params, problem.xs, to_weights=_weights)


def _weights(gradients: Any) -> Weights:
    """An LSTM's own; of another cell all there are, in one row."""
    if isinstance(gradients, lj.LSTMParams):
        return gradients.Wx, gradients.Wh, gradients.b
    everything = np.concatenate([g.reshape(-1) for g in jax.tree.leaves(gradients)])
    return everything, everything[:0], everything[:0]
