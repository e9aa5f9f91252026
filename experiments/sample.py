"""What a trained language model of characters goes on from a prompt with."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from experiments.command import read
from experiments.tasks import EXPERIMENTS, go_on, load
from experiments.training import launch


@dataclass(frozen=True)
class Arguments:
    """Writes text with a run of `experiments.characters`.

    Attributes:
        prompt: what the text goes on from; its letters are among those trained on.
        run: the run's folder, that of a cell.
        length: letters to write.
        temperature: what scores are divided by: below 1, more certain.
        seed: of the letters that are drawn.
        network: which of those that were trained together, from 0.
    """

    prompt: str
    run: Annotated[Path, tyro.conf.Positional] = Path("runs/characters/default/lstm")
    length: int = 300
    temperature: float = 0.7
    seed: int = 0
    network: int = 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    given = read(Arguments, "sample", __doc__, arguments)

    def command(console: Console) -> None:
        del console
        loaded = load(EXPERIMENTS["characters"], given.run, given.network)
        how = given.prompt, given.length, given.temperature, given.seed
        print(go_on(loaded, *how), flush=True)

    return launch(command)


if __name__ == "__main__":
    sys.exit(main())
