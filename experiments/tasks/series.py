"""Series of one's own: which class, or which number, belongs to a series?

They are read from a file (see `experiments.data.arrays`), in which every series has a
length of its own. Every series is read to its own end, and its class, or its number, is
told from the last state. Inputs are scaled to mean 0 and standard deviation 1 over the
steps that are trained on, and so are numbers that are asked for. 15% of the series are
held out for validation and 15% for testing.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.data import (
    DividedSeries,
    Series,
    SeriesFile,
    SeriesNames,
    divide_classes,
    divide_numbers,
    read_series,
    scale_series,
)
from experiments.tasks.experiment import Experiment, read_array
from experiments.tasks.networks import (
    Network,
    classifier,
    init_network,
    last_answer,
    last_answers,
)
from experiments.tasks.seeds import Data, Scorer, Task, Training
from lstm_jax.cell import Cell


@dataclass(frozen=True)
class Config(Training):
    """What a run follows from.

    Attributes:
        data: an .npz file, or a table (.csv, .tsv) with a line for every step.
        target: the array, or the column, with what is asked for.
        inputs: the array with the series, (N, T, D) or (N, T).
        lengths: the array with their lengths, (N,), where they have their own.
        series_column: of a table, the column that says which series a line belongs to.
    """

    cells: tuple[str, ...] = ("lstm", "gru", "rnn_tanh")
    steps: int = 600
    evaluations: int = 12
    weight_decay: float = 0.01
    data: str = ""
    target: str = "labels"
    inputs: str = "xs"
    lengths: str = "lengths"
    series_column: str = "series"


PRESETS = {
    "default": Config(),
    "large": Config(hidden_size=128, steps=1200),
}


def names(config: Config) -> SeriesNames:
    """What is what in the file."""
    return SeriesNames(
        config.target, config.inputs, config.lengths, config.series_column
    )


def divided(
    divide: Callable[[SeriesFile], DividedSeries], config: Config
) -> DividedSeries:
    """The series of a config in three parts.

    Raises:
        OSError: the file cannot be read.
        ValueError: there is none, or it is not as expected; what is wrong is named.
    """
    if not config.data:
        raise ValueError("expected a file of series: --data FILE.npz")
    read = read_series(Path(config.data), names(config))
    try:
        return divide(read)
    except ValueError as error:
        raise ValueError(f"{config.data}: {error}") from error


def load(divide: Callable[[SeriesFile], DividedSeries], config: Config) -> Data:
    """The series in three parts; raises as `divided` does."""
    return Data(**divided(divide, config).splits)


def about(
    divide: Callable[[SeriesFile], DividedSeries], config: Config, data: Data
) -> dict[str, Any]:
    """What scoring needs beside the parameters."""
    del data
    return dict(divided(divide, config).about)


def source(config: Config) -> dict[str, str]:
    """A hash of the file."""
    file = Path(config.data)
    content = file.read_bytes() if file.is_file() else b""
    return {"data_sha256": hashlib.sha256(content).hexdigest()}


def given(config: Config, word: str) -> Any:
    """Series from a file as that which was trained on, or an array (.npy)."""
    if word.endswith(".npy"):
        return read_array(config, word)
    return read_series(Path(word), names(config), targets=False).series


# --- classes ----------------------------------------------------------------------


def make_classifier(config: Config, cell: Cell, data: Data) -> Task:
    """SeriesNames the class after a series' last step."""
    classes = 1 + int(data.train.labels.max())
    return classifier(cell, config, data.train.xs.shape[-1], classes)


def class_scorer(config: Config, cell: Cell, about: dict[str, Any]) -> Scorer:
    """Gives the probability of each class by its name, for N series (T, D)."""
    classes = about["classes"]

    def score(network: Network, given: Any) -> list[dict[str, float]]:
        found = jax.nn.softmax(scaled_answers(cell, network, given, about))
        return [
            dict(zip(classes, row, strict=True)) for row in np.asarray(found).tolist()
        ]

    return Scorer(initial(config, cell, about, len(classes)), score)


def initial(
    config: Config, cell: Cell, about: dict[str, Any], answers: int
) -> Callable[[Array], Network]:
    """``key -> network``, of the sizes that the data ask for."""
    inputs = len(about["mean"])
    return partial(init_network, cell, inputs, config.hidden_size, answers)


def scaled_answers(
    cell: Cell, network: Network, given: Any, about: dict[str, Any]
) -> Array:
    """What a network answers to series as they stand in files, (N, O)."""
    series = scale_series(given, np.array(about["mean"]), np.array(about["scale"]))
    return last_answers(cell, network, series, len(about["mean"]))


# --- numbers ----------------------------------------------------------------------


def make_regressor(config: Config, cell: Cell, data: Data) -> Task:
    """Tells the number after a series' last step."""
    scale = divided(divide_numbers, config).about["target_scale"]

    def squared_error(network: Network, series: Series) -> Array:
        xs = jnp.swapaxes(series.xs, 0, 1)
        found = last_answer(cell, network, xs, series.lengths)[:, 0]
        return jnp.mean((found - series.labels) ** 2)

    def loss(network: Network, carry: None, key: Array, train: Series) -> Any:
        rows = jax.random.randint(key, (config.batch_size,), 0, len(train.labels))
        return squared_error(network, jax.tree.map(lambda a: a[rows], train)), carry

    def evaluate(network: Network, split: Series) -> dict[str, Array]:
        return {"rms_error": scale * jnp.sqrt(squared_error(network, split))}

    inputs = data.train.xs.shape[-1]
    return Task(
        init=partial(init_network, cell, inputs, config.hidden_size, 1),
        loss=loss,
        evaluate=evaluate,
    )


def number_scorer(config: Config, cell: Cell, about: dict[str, Any]) -> Scorer:
    """Gives a number, (N,), for N series (T, D)."""

    def score(network: Network, given: Any) -> np.ndarray:
        found = np.asarray(scaled_answers(cell, network, given, about))[:, 0]
        return found * about["target_scale"] + about["target_mean"]

    return Scorer(initial(config, cell, about, 1), score)


def always_the_mean(config: Config) -> dict[str, float]:
    """The error on the test part of whoever knows the mean of the training part."""
    found = divided(divide_numbers, config)
    rms = float(np.sqrt(np.mean(found.splits["test"].labels ** 2)))
    return {"always the mean": rms * found.about["target_scale"]}


_TOLD = (__doc__ or "").partition("\n\n")[2]

EXPERIMENT = Experiment(
    name="series",
    description=f"Series of one's own: which class belongs to a series?\n\n{_TOLD}",
    presets=PRESETS,
    load=partial(load, divide_classes),
    make_task=make_classifier,
    measure="accuracy",
    scorer=class_scorer,
    source=source,
    about=partial(about, divide_classes),
    given=given,
)

REGRESSION = Experiment(
    name="regression",
    description=f"Series of one's own: which number belongs to a series?\n\n{_TOLD}",
    presets=PRESETS,
    load=partial(load, divide_numbers),
    make_task=make_regressor,
    measure="rms_error",
    scorer=number_scorer,
    references=always_the_mean,
    source=source,
    about=partial(about, divide_numbers),
    given=given,
)
