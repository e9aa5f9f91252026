"""Handwritten digits as sequences: row by row, pixel by pixel, in a shuffled order.

A shuffled order leaves no neighbour where it was, so that only long memories help.
Le, Jaitly & Hinton (2015), section 4.2, with the small images of scikit-learn.
"""

from dataclasses import dataclass
from typing import Any

from experiments.data import Reading, digit_series
from experiments.tasks.experiment import Experiment
from experiments.tasks.networks import class_scorer, classifier
from experiments.tasks.seeds import Data, Scorer, Task, Training
from lstm_jax.cell import Cell


@dataclass(frozen=True)
class Config(Training):
    """What a run follows from.

    Attributes:
        reading: 8 steps of a row of 8 pixels, or 64 steps of one pixel, from the top
            left or in one fixed random order.
    """

    cells: tuple[str, ...] = ("lstm", "gru", "rnn_tanh", "rnn_relu")
    steps: int = 1500
    evaluations: int = 15
    weight_decay: float = 0.01
    reading: Reading = "rows"


PRESETS = {
    "default": Config(),
    "pixels": Config(reading="pixels", steps=2000, evaluations=20, learning_rate=1e-2),
    "permuted": Config(
        reading="permuted", steps=2000, evaluations=20, learning_rate=1e-2
    ),
}


def load(config: Config) -> Data:
    """The images as sequences, divided once and for all."""
    return Data(**digit_series(config.reading))


def make_task(config: Config, cell: Cell, data: Data) -> Task:
    """Names the digit after the last step."""
    return classifier(cell, config, input_size=data.train.xs.shape[-1], classes=10)


def scorer(config: Config, cell: Cell, about: dict[str, Any]) -> Scorer:
    """Gives the probability of each digit, (N, 10), of pixels read as they were."""
    del about
    return class_scorer(cell, config, 8 if config.reading == "rows" else 1, 10)


EXPERIMENT = Experiment(
    name="digits",
    description=__doc__,
    presets=PRESETS,
    load=load,
    make_task=make_task,
    measure="accuracy",
    scorer=scorer,
)
