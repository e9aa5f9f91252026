"""Keras on its JAX backend: `LSTM`, `GRU` and `SimpleRNN`, batch-major.

A GRU that resets after the product has a second bias beside it, which is 0 here.
"""

import os

os.environ["KERAS_BACKEND"] = "jax"

from functools import partial
from typing import Any

import jax.numpy as jnp
import keras
import numpy as np
from jax import Array

from benchmarks.peers import Built
from benchmarks.peers.compiled import Weights, compiled
from benchmarks.problem import ORDERS, Problem, reorder

LAYERS = {
    "lstm": keras.layers.LSTM,
    "gru": partial(keras.layers.GRU, reset_after=True),
    "gru_before": partial(keras.layers.GRU, reset_after=False),
    "rnn_tanh": partial(keras.layers.SimpleRNN, activation="tanh"),
    "rnn_relu": partial(keras.layers.SimpleRNN, activation="relu"),
}
KERAS = {
    "lstm": "ifgo",
    "gru": "zrn",
    "gru_before": "zrn",
    "rnn_tanh": "h",
    "rnn_relu": "h",
}


def build(problem: Problem, device: str) -> Built:
    """One layer, called without state; its layout has the batch first."""
    del device
    row = problem.row
    own, theirs = ORDERS[row.cell], KERAS[row.cell]
    layer = LAYERS[row.cell](
        row.H,
        return_sequences=True,
        dtype=row.dtype,
        recurrent_initializer="zeros",  # its own knows no 16 bits
    )
    layer.build((row.B, row.T, row.D))
    order = [variable.name for variable in layer.trainable_variables]
    neutral = {"kernel": problem.Wx, "recurrent_kernel": problem.Wh, "bias": problem.b}
    values = {name: reorder(a, own, theirs) for name, a in neutral.items()}
    if row.cell == "gru":
        values["bias"] = np.stack([values["bias"], np.zeros_like(values["bias"])])
    params = [jnp.asarray(values[name]) for name in order]
    others = [variable.value for variable in layer.non_trainable_variables]

    def apply(params: Any, xs: Array) -> Array:
        return layer.stateless_call(params, others, xs)[0]

    def weights(gradients: Any) -> Weights:
        named = dict(zip(order, gradients, strict=True))
        if row.cell == "gru":
            named["bias"] = named["bias"][0]
        wx, wh, b = (reorder(named[name], theirs, own) for name in neutral)
        return wx, wh, b

    xs = jnp.asarray(problem.xs.swapaxes(0, 1))
    return compiled(apply, params, xs, to_weights=weights, time_axis=1)
