"""Every cell learns the adding problem of Hochreiter & Schmidhuber (1997).

Whoever remembers nothing answers 1, with a mean squared error of 1/6. A cell passes at
a length of its own, with an error that only one who remembers both numbers has: to
know one of them leaves an error of 1/12.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
import pytest
from oracles import EACH_CELL

import lstm_jax as lj
from experiments.data import adding_problem
from lstm_jax.layers import Layer, init_layers, unroll_layers

HIDDEN_SIZE = 32
BATCH_SIZE = 32
HELD_OUT = 1000
ENOUGH = 0.02


class Row(NamedTuple):
    """At which length a cell is tested, how deep, and for how long it trains."""

    length: int = 50
    layers: int = 1
    steps: int = 1000
    learning_rate: float = 1e-2


ROWS = dict.fromkeys(lj.CELLS, Row()) | {
    "rnn_tanh": Row(length=10, steps=3000, learning_rate=2e-3),
    "rnn_relu": Row(length=20, steps=2000, learning_rate=3e-3),
    # Its units see each other from the second layer on.
    "indrnn": Row(length=30, layers=2, steps=3000, learning_rate=3e-3),
}


class Network(NamedTuple):
    """A stack, and a linear reading of its last output."""

    layers: tuple[Layer, ...]
    w: jax.Array
    b: jax.Array


def error(cell, network, xs, targets):
    ys, _ = unroll_layers(cell, network.layers, xs)
    return jnp.mean((ys[-1] @ network.w + network.b - targets) ** 2)


@partial(jax.jit, static_argnums=(0, 1))
def trained(cell, row, key):
    """The network after its steps, each on sequences never seen before."""
    key, key_layers, key_w = jax.random.split(key, 3)
    layers = init_layers(cell, key_layers, 2, HIDDEN_SIZE, layers=row.layers)
    size = cell.initial_state(layers[-1].forward, ())[0].size
    w = jax.random.normal(key_w, (size,)) / jnp.sqrt(size)
    network = Network(layers, w, jnp.zeros(()))
    adam = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(row.learning_rate))

    def step(carry, key):
        network, moments = carry
        data = adding_problem(key, row.length, BATCH_SIZE)
        gradients = jax.grad(partial(error, cell))(network, *data)
        updates, moments = adam.update(gradients, moments)
        return (optax.apply_updates(network, updates), moments), None

    carry = network, adam.init(network)
    (network, _), _ = jax.lax.scan(step, carry, jax.random.split(key, row.steps))
    return network


@pytest.mark.slow
@pytest.mark.jax_defaults
@EACH_CELL
def test_it_remembers_both_numbers(cell):
    row = ROWS[cell.name]
    network = trained(cell, row, jax.random.key(0))
    held_out = adding_problem(jax.random.key(1), row.length, HELD_OUT)
    assert error(cell, network, *held_out) < ENOUGH
