"""This library: `lstm_jax.unroll`."""

from functools import partial
from typing import Any

import jax.numpy as jnp
from jax import Array

import lstm_jax as lj
from benchmarks.epoch import Epoch, Trainer
from benchmarks.epoch.on_jax import trainer


def build(epoch: Epoch, device: str, gradient: str) -> Trainer:
    """With manual or automatic gradients."""
    del device
    _, Wx, Wh, b, _ = epoch.weights
    return trainer(
        epoch, partial(layer, gradient), lj.LSTMParams(*map(jnp.asarray, (Wx, Wh, b)))
    )


def layer(gradient: str, params: Any, xs: Array, lengths: Array) -> Array:
    """The outputs; 0 beyond the lengths."""
    cell = lj.CELLS["lstm"]
    return lj.unroll(cell, params, xs, lengths=lengths, gradient=gradient)[0]
