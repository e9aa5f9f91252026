"""A page to step through: a network reads a review, and every gradient is there."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from experiments.command import read
from experiments.explain_page import readings, runs_under, write_page
from experiments.sentiment import precision
from experiments.tasks import find_cells
from experiments.training import launch
from lstm_jax.cells import CELLS


@dataclass(frozen=True)
class Arguments:
    """Writes one HTML file that needs no network: any browser shows it.

    Attributes:
        text: what is read; a short review of the first run's, or one of our own, if not
            given.
        run: the names of runs under --runs; if not given, the best one of each cell.
        runs: where runs of `experiments.imdb` are.
        cells: names, or your own cells as module:NAME or file.py:NAME; those without a
            run read with random parameters.
        steps: of a longer text the last so many words.
        units: how many of a cell's units are shown.
        out: the file.
    """

    text: str | None = None
    run: tuple[str, ...] = ()
    runs: Path = Path("runs/imdb")
    cells: tuple[str, ...] = ("lstm", "gru", "rnn_tanh", "peephole_lstm")
    steps: int = 64
    units: int = 8
    out: Path = Path("runs/explain.html")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    given = read(Arguments, "explain", __doc__, arguments)

    def command(console: Console) -> None:
        find_cells(given.cells, CELLS)  # whatever is wrong with a name is told now
        folders = [given.runs / name for name in given.run] or runs_under(given.runs)
        with precision("float64"):
            found = readings(folders, given.cells, given.text, given.steps)
            size = write_page(given.out, found, given.units)
        console.print(f"see {given.out} ({size / 1e6:.1f} MB)", highlight=False)

    return launch(command)


if __name__ == "__main__":
    sys.exit(main())
