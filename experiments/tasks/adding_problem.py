"""The adding problem: the sum of two marked numbers, long after they were seen.

Whoever remembers nothing answers 1, and has a mean squared error of 1/6. Arjovsky,
Shah & Bengio (2016), section 5.2, after Hochreiter & Schmidhuber (1997).
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.data import adding_problem, adding_problem_baseline
from experiments.tasks.experiment import Experiment
from experiments.tasks.networks import (
    Network,
    init_network,
    last_answer,
    with_shape,
)
from experiments.tasks.seeds import Data, Scorer, Task, Training
from lstm_jax.cell import Cell


@dataclass(frozen=True)
class Config(Training):
    """What a run follows from.

    Attributes:
        length: steps of a sequence.
        held_out: sequences that it is measured by, in validation and in testing.
    """

    cells: tuple[str, ...] = ("lstm", "gru", "rnn_tanh", "rnn_relu")
    steps: int = 3000
    evaluations: int = 30
    hidden_size: int = 32
    learning_rate: float = 1e-2
    length: int = 100
    held_out: int = 500


HELD_OUT_KEY = 2**31
"""No seed's: what is measured was never trained on."""

PRESETS = {
    "default": Config(),
    "short": Config(length=20, steps=600, evaluations=10),
    "long": Config(length=400, steps=5000, evaluations=50, hidden_size=64),
}


def load(config: Config) -> Data:
    """Sequences to measure by; training draws its own, new ones in every step."""
    keys = jax.random.split(jax.random.key(HELD_OUT_KEY), 2)
    validation, test = (
        adding_problem(key, config.length, config.held_out) for key in keys
    )
    return Data((), validation, test)


def total(cell: Cell, network: Network, xs: Array) -> Array:
    """The number that a network answers with, (B,), to values and markers (T, B, 2)."""
    return last_answer(cell, network, xs)[:, 0]


def scorer(config: Config, cell: Cell, about: dict[str, Any]) -> Scorer:
    """Gives the sum of the marked numbers, (B,), of values and markers (T, B, 2)."""
    del about

    def score(network: Network, xs: Any) -> np.ndarray:
        given = with_shape(xs, (None, None, 2), network.bias.dtype)
        return np.asarray(jax.jit(total, static_argnums=0)(cell, network, given))

    return Scorer(partial(init_network, cell, 2, config.hidden_size, 1), score)


def make_task(config: Config, cell: Cell, data: Data) -> Task:
    """Reads a sequence and answers with a number after its last step."""
    del data

    def error(network: Network, xs: Array, targets: Array) -> Array:
        return jnp.mean((total(cell, network, xs) - targets) ** 2)

    def loss(network: Network, carry: None, key: Array, train: tuple[()]) -> Any:
        del train
        drawn = adding_problem(key, config.length, config.batch_size)
        return error(network, *drawn), carry

    return Task(
        init=partial(init_network, cell, 2, config.hidden_size, 1),
        loss=loss,
        evaluate=lambda network, split: {"mean_squared_error": error(network, *split)},
    )


EXPERIMENT = Experiment(
    name="adding_problem",
    description=__doc__,
    presets=PRESETS,
    load=load,
    make_task=make_task,
    measure="mean_squared_error",
    scorer=scorer,
    references=lambda _: {"always 1": adding_problem_baseline()},
)
