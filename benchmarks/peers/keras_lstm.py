"""Keras on its JAX backend: `keras.layers.LSTM`, batch-major, blocks "ifgo"."""

import os

os.environ["KERAS_BACKEND"] = "jax"

from typing import Any

import jax.numpy as jnp
import keras
from jax import Array

from benchmarks.peers import Built
from benchmarks.peers.compiled import Weights, compiled
from benchmarks.problem import ORDER, Problem, reorder

KERAS = "ifgo"


def build(problem: Problem, device: str) -> Built:
    """One layer, called without state; its layout has the batch first."""
    del device
    row = problem.row
    layer = keras.layers.LSTM(row.H, return_sequences=True, dtype=row.dtype)
    layer.build((row.B, row.T, row.D))
    order = [variable.name for variable in layer.trainable_variables]
    neutral = {"kernel": problem.Wx, "recurrent_kernel": problem.Wh, "bias": problem.b}
    params = [jnp.asarray(reorder(neutral[name], ORDER, KERAS)) for name in order]
    others = [variable.value for variable in layer.non_trainable_variables]

    def apply(params: Any, xs: Array) -> Array:
        return layer.stateless_call(params, others, xs)[0]

    def weights(gradients: Any) -> Weights:
        named = dict(zip(order, gradients, strict=True))
        wx, wh, b = (reorder(named[name], KERAS, ORDER) for name in neutral)
        return wx, wh, b

    xs = jnp.asarray(problem.xs.swapaxes(0, 1))
    return compiled(apply, params, xs, to_weights=weights, time_axis=1)
