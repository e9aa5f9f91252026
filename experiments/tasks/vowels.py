"""Japanese vowels: which of nine men speaks, from series of 7 to 29 steps.

Kudo, Toyama & Shimbo (1999), who got 0.941 of the official test series right, and
0.962 with a hidden Markov model. Every series is read to its own end, not beyond.
"""

from dataclasses import dataclass
from typing import Any

from experiments.data import vowel_series
from experiments.tasks.experiment import Experiment
from experiments.tasks.networks import class_scorer, classifier
from experiments.tasks.seeds import Data, Scorer, Task, Training
from lstm_jax.cell import Cell


@dataclass(frozen=True)
class Config(Training):
    """What a run follows from."""

    cells: tuple[str, ...] = ("lstm", "gru", "rnn_tanh", "rnn_relu")
    steps: int = 600
    evaluations: int = 12
    weight_decay: float = 0.01


PRESETS = {
    "default": Config(),
    "large": Config(hidden_size=128, steps=1200),
}


def load(config: Config) -> Data:
    """The utterances, the official test part among them."""
    del config
    return Data(**vowel_series())


def make_task(config: Config, cell: Cell, data: Data) -> Task:
    """Names the speaker after the last step."""
    return classifier(cell, config, input_size=data.train.xs.shape[-1], classes=9)


def scorer(config: Config, cell: Cell, about: dict[str, Any]) -> Scorer:
    """Gives the probability of each speaker, (N, 9), of series as in `vowel_series`."""
    del about
    return class_scorer(cell, config, 12, 9)


EXPERIMENT = Experiment(
    name="vowels",
    description=__doc__,
    presets=PRESETS,
    load=load,
    make_task=make_task,
    measure="accuracy",
    scorer=scorer,
)
