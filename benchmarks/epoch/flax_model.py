"""flax.nnx: `RNN` over `OptimizedLSTMCell`, whose blocks are "ifgo"."""

from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array

from benchmarks.epoch import Epoch, Trainer
from benchmarks.epoch.on_jax import trainer
from benchmarks.peers.flax_rnn import FLAX
from benchmarks.problem import ORDERS, reorder


def build(epoch: Epoch, device: str) -> Trainer:
    """One `nnx.RNN`, time-major."""
    del device
    _, Wx, Wh, b, _ = epoch.weights
    cell = nnx.OptimizedLSTMCell(Wx.shape[0], Wh.shape[0], rngs=nnx.Rngs(0))
    graph, params, rest = nnx.split(
        nnx.RNN(cell, time_major=True, rngs=nnx.Rngs(0)), nnx.Param, ...
    )
    parts: Any = params["cell"]
    parts["dense_i"]["kernel"].set_value(
        jnp.asarray(reorder(Wx, ORDERS["lstm"], FLAX["lstm"]))
    )
    parts["dense_h"]["kernel"].set_value(
        jnp.asarray(reorder(Wh, ORDERS["lstm"], FLAX["lstm"]))
    )
    parts["dense_h"]["bias"].set_value(
        jnp.asarray(reorder(b, ORDERS["lstm"], FLAX["lstm"]))
    )
    return trainer(epoch, partial(layer, graph, rest), params)


def layer(graph: Any, rest: Any, params: Any, xs: Array, lengths: Array) -> Array:
    """The outputs. Steps beyond the lengths run too: nothing before depends on them."""
    del lengths
    zeros = jnp.zeros((xs.shape[1], params["cell"]["dense_h"]["kernel"].shape[0]))
    return nnx.merge(graph, params, rest)(xs, initial_carry=(zeros, zeros))
