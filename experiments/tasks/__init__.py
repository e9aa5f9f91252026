"""Small tasks that any cell is trained on, with several seeds, and compared.

=============== ================================================================
experiment      an experiment: what is trained, its run, its table
seeds           the same training with several seeds
networks        a cell over a sequence, and a linear read-out
cells           which cells there are; `ablations`, the LSTM less one thing;
                `signed`, the minGRU with factors below 0
variants        all cells on all tasks
state_tracking  what gates are for: tasks that ask for a state
=============== ================================================================

The other modules are a task each.
"""

from types import MappingProxyType

from experiments.tasks import (
    adding_problem,
    characters,
    copy_memory,
    digits,
    reviews,
    series,
    state_tracking,
    variants,
    vowels,
)
from experiments.tasks.cells import KNOWN_CELLS, find_cells
from experiments.tasks.characters import go_on
from experiments.tasks.experiment import Experiment, Loaded, draw, load, run
from experiments.tasks.seeds import Data, Scorer, Task, Trained, Training, train_seeds

EXPERIMENTS: MappingProxyType[str, Experiment] = MappingProxyType(
    {
        experiment.name: experiment
        for experiment in (
            adding_problem.EXPERIMENT,
            characters.EXPERIMENT,
            copy_memory.EXPERIMENT,
            digits.EXPERIMENT,
            series.REGRESSION,
            reviews.EXPERIMENT,
            series.EXPERIMENT,
            vowels.EXPERIMENT,
        )
    }
)
"""All of them by name."""

__all__ = [
    "EXPERIMENTS",
    "KNOWN_CELLS",
    "Data",
    "Experiment",
    "Loaded",
    "Scorer",
    "Task",
    "Trained",
    "Training",
    "draw",
    "find_cells",
    "go_on",
    "load",
    "run",
    "state_tracking",
    "train_seeds",
    "variants",
]
