"""Any run, loaded again: its model, its parameters, and a function that scores."""

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from experiments import sentiment
from experiments.tasks import EXPERIMENTS, load
from experiments.training import Records

SENTIMENT = "sentiment"
"""What the runs of `experiments.imdb` are called here."""


class LoadedRun(NamedTuple):
    """A trained model.

    Attributes:
        experiment: "sentiment", or a name of `experiments.tasks.EXPERIMENTS`.
        config: what its run followed from.
        model: a `SequenceClassifier` or, in the other experiments, the cell.
        params: the parameters.
        score: what the model says. Of sentiment, a text's `Score`; in the other
            experiments, what their `Experiment.scorer` says.
        result: what result.json says; nothing while there is none.
    """

    experiment: str
    config: Any
    model: Any
    params: Any
    score: Callable[[Any], Any]
    result: dict[str, Any]


def load_run(folder: str | PathLike[str], seed: int = 0) -> LoadedRun:
    """The model of a run, as it was trained.

    ::

        run = load_run("runs/imdb/default")
        run.score("What a wonderful film!").probabilities

    Args:
        folder: the run's: runs/imdb/NAME, or of another experiment that of a cell,
            runs/EXPERIMENT/NAME/CELL.
        seed: which of the networks that were trained together; 0 alone for sentiment.

    Raises:
        FileNotFoundError: there is no run, or one that has not come to its first
            parameters.
        ValueError: there is no such seed, a file of the run is broken, or its cell is
            from a file that was changed since.
    """
    folder = Path(folder)
    records = Records(folder)
    result = records.read_result() or {}
    if (folder / "tokenizer.json").is_file():
        if seed:
            raise ValueError(f"seed must be 0 for a run of one network; got {seed}")
        trained = sentiment.load_trained(folder)
        given = trained.config, trained.model, trained.params
        return LoadedRun(SENTIMENT, *given, sentiment.scorer(trained), result)
    if (name := str(result.get("experiment"))) not in EXPERIMENTS:
        runs = sorted(file.parent.name for file in folder.glob("*/result.json"))
        told = f"; perhaps one of the folders in it: {', '.join(runs)}" if runs else ""
        raise FileNotFoundError(f"{folder}: there is no run that can be loaded{told}")
    own = load(EXPERIMENTS[name], folder, seed)
    return LoadedRun(name, own.config, own.cell, own.params, own.score, result)
