"""What a trained model says: any run is loaded again, and given texts or an array."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console

from experiments.command import read
from experiments.legible import one_line
from experiments.loading import SENTIMENT, load_run
from experiments.sentiment import print_scores
from experiments.tasks import EXPERIMENTS
from experiments.training import launch


@dataclass(frozen=True)
class Arguments:
    """Loads a run, and scores what it is given.

    Attributes:
        run: its folder: runs/imdb/NAME, or runs/EXPERIMENT/NAME/CELL.
        given: a text, or a file with an array where the experiment is one of arrays.
        seed: which of the networks that were trained together.
    """

    run: Annotated[Path, tyro.conf.Positional]
    given: Annotated[str, tyro.conf.Positional]
    seed: int = 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    asked = read(Arguments, "score", __doc__, arguments)

    def command(console: Console) -> None:
        del console
        loaded = load_run(asked.run, asked.seed)
        if loaded.experiment == SENTIMENT:
            print_scores(asked.run, asked.given)
            return
        given = EXPERIMENTS[loaded.experiment].given(loaded.config, asked.given)
        found = loaded.score(given)
        if isinstance(found, list):  # probabilities of classes by their names
            for own in found:
                likeliest = max(own, key=lambda name: own[name])
                print(f"{one_line(likeliest, 100)}  {own[likeliest]:.3f}")
            return
        with np.printoptions(precision=4, suppress=True, threshold=sys.maxsize):
            print(np.asarray(found))

    return launch(command)


if __name__ == "__main__":
    sys.exit(main())
