"""Copy memory: ten symbols, a long pause, and the same ten symbols again.

Whoever forgets the symbols can only guess them: 10 ln 8 / (T + 20) nats a step.
Arjovsky, Shah & Bengio (2016), section 5.1, after Hochreiter & Schmidhuber (1997).
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from experiments.data import copy_memory, copy_memory_baseline
from experiments.tasks.experiment import Experiment
from experiments.tasks.networks import (
    Network,
    answer,
    init_network,
    read,
    with_shape,
)
from experiments.tasks.seeds import Data, Scorer, Task, Training
from lstm_jax.cell import Cell

TOKENS, ANSWERS, COPIED = 10, 9, 10


@dataclass(frozen=True)
class Config(Training):
    """What a run follows from.

    Attributes:
        delay: the pause T; sequences have T + 20 steps.
        held_out: sequences that it is measured by, in validation and in testing.
    """

    cells: tuple[str, ...] = ("lstm", "gru", "rnn_tanh")
    steps: int = 6000
    evaluations: int = 30
    hidden_size: int = 128
    learning_rate: float = 1e-2
    delay: int = 10
    held_out: int = 500


HELD_OUT_KEY = 2**31
"""No seed's: what is measured was never trained on."""

PRESETS = {
    "default": Config(),
    "short": Config(delay=1, steps=3000),
    "long": Config(delay=50, steps=20_000, evaluations=50),
}


def load(config: Config) -> Data:
    """Sequences to measure by; training draws its own, new ones in every step."""
    keys = jax.random.split(jax.random.key(HELD_OUT_KEY), 2)
    validation, test = (copy_memory(key, config.delay, config.held_out) for key in keys)
    return Data((), validation, test)


def scores(cell: Cell, network: Network, tokens: Array) -> Array:
    """What speaks for each answer after every step, (T, B, 9), to tokens (T, B)."""
    outputs, _ = read(cell, network, jax.nn.one_hot(tokens, TOKENS))
    return answer(network, outputs)


def scorer(config: Config, cell: Cell, about: dict[str, Any]) -> Scorer:
    """Gives the answer after every step, (T, B) from 0 to 8, to tokens (T, B)."""
    del about

    def score(network: Network, tokens: Any) -> np.ndarray:
        given = with_shape(tokens, (None, None), jnp.int32)
        found = jax.jit(scores, static_argnums=0)(cell, network, given)
        return np.asarray(found).argmax(axis=-1)

    init = partial(init_network, cell, TOKENS, config.hidden_size, ANSWERS)
    return Scorer(init, score)


def make_task(config: Config, cell: Cell, data: Data) -> Task:
    """Reads a sequence and answers with a symbol, or a blank, after every step."""
    del data

    def cross_entropy(scores: Array, targets: Array) -> Array:
        return optax.softmax_cross_entropy_with_integer_labels(scores, targets).mean()

    def loss(network: Network, carry: None, key: Array, train: tuple[()]) -> Any:
        del train
        tokens, targets = copy_memory(key, config.delay, config.batch_size)
        return cross_entropy(scores(cell, network, tokens), targets), carry

    def evaluate(network: Network, split: tuple[Array, Array]) -> dict[str, Array]:
        tokens, targets = split
        found = scores(cell, network, tokens)
        right = found[-COPIED:].argmax(axis=-1) == targets[-COPIED:]
        return {
            "cross_entropy": cross_entropy(found, targets),
            "recalled": right.mean(),
        }

    return Task(
        init=partial(init_network, cell, TOKENS, config.hidden_size, ANSWERS),
        loss=loss,
        evaluate=evaluate,
    )


EXPERIMENT = Experiment(
    name="copy_memory",
    description=__doc__,
    presets=PRESETS,
    load=load,
    make_task=make_task,
    measure="cross_entropy",
    scorer=scorer,
    references=lambda c: {"no memory": copy_memory_baseline(c.delay)},
)
