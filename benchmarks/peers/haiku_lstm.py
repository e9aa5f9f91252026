"""Haiku: `dynamic_unroll` of `hk.LSTM`.

It has one matrix for ``[x, h]``, blocks "igfo", and adds 1 to the forget gate's bias.
"""

from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from benchmarks.peers import Built
from benchmarks.peers.compiled import Weights, compiled
from benchmarks.problem import ORDER, Problem, reorder

HAIKU = "igfo"


def build(problem: Problem, device: str) -> Built:
    """One `hk.LSTM`, time-major."""
    del device
    row, dtype = problem.row, problem.xs.dtype

    def layer(xs: Array) -> Array:
        zeros = jnp.zeros((row.B, row.H), dtype)
        state = hk.LSTMState(hidden=zeros, cell=zeros)
        return hk.dynamic_unroll(hk.LSTM(row.H), xs, state)[0]

    transformed = hk.without_apply_rng(hk.transform(layer))
    names = jax.eval_shape(transformed.init, jax.random.key(0), problem.xs)
    (linear,) = names
    added = np.repeat([0, 1, 0, 0], row.H).astype(dtype)
    joined = np.concatenate([problem.Wx, problem.Wh])
    params = {
        linear: {
            "w": jnp.asarray(reorder(joined, ORDER, HAIKU)),
            "b": jnp.asarray(reorder(problem.b - added, ORDER, HAIKU)),
        }
    }

    def weights(gradients: Any) -> Weights:
        w = reorder(gradients[linear]["w"], HAIKU, ORDER)
        return w[: row.D], w[row.D :], reorder(gradients[linear]["b"], HAIKU, ORDER)

    return compiled(transformed.apply, params, problem.xs, to_weights=weights)
