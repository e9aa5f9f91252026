"""A page about a cell: is it right, what is it, is it fast, does it learn?"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from experiments.cell_page import Asked, make_page
from experiments.checks import at_least
from experiments.command import read
from experiments.tasks import find_cells, variants
from experiments.training import launch
from lstm_jax.engine.checks import check_choice


@dataclass(frozen=True)
class Arguments:
    """Writes one HTML file that needs no network, and the same as result.json.

    Attributes:
        cell: a name, or your own as path/to/cell.py:NAME or package.module:NAME.
        tasks: what it is trained on beside the LSTM, of those that
            `experiments.cell_variants` has.
        steps: of each training; the task's own number if not given.
        seeds: train with the seeds 0, 1, ..., so many.
        shape: T, B, D and H of the layer that is timed.
        out: the folder; the page is in it as NAME/page.html.
    """

    cell: tyro.conf.Positional[str]
    tasks: tuple[str, ...] = ("adding_problem", "digits")
    steps: int | None = None
    seeds: int = 1
    shape: tuple[int, int, int, int] = (100, 16, 64, 64)
    out: Path = Path("runs/cell_report")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    given = read(Arguments, "cell_report", __doc__, arguments)

    def command(console: Console) -> None:
        (cell,) = find_cells((given.cell,))
        at_least(1, seeds=given.seeds, shape=min(given.shape))
        at_least(1, steps=1 if given.steps is None else given.steps)
        for task in given.tasks:
            check_choice("task", task, tuple(variants.TASKS))
        make_page(
            Asked(
                cell=cell,
                place=given.cell,
                shape=given.shape,
                tasks=given.tasks,
                steps=given.steps,
                seeds=given.seeds,
                folder=given.out,
                console=console,
            )
        )
        page = given.out / cell.name / "page.html"
        console.print(f"see {page}", highlight=False)

    return launch(command)


if __name__ == "__main__":
    sys.exit(main())
