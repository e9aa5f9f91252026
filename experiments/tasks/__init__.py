"""Small tasks that any cell is trained on, with several seeds, and compared.

=============== ================================================================
experiment      an experiment: what is trained, its run, its table
seeds           the same training with several seeds
networks        a cell over a sequence, and a linear read-out
cells           which cells there are; `ablations`, the LSTM less one thing
variants        all cells on all tasks
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
    variants,
    vowels,
)
from experiments.tasks.cells import KNOWN_CELLS, find_cells
from experiments.tasks.experiment import Experiment, draw, run
from experiments.tasks.seeds import Data, Task, Trained, Training, train_seeds

EXPERIMENTS: MappingProxyType[str, Experiment] = MappingProxyType(
    {
        module.EXPERIMENT.name: module.EXPERIMENT
        for module in (adding_problem, characters, copy_memory, digits, reviews, vowels)
    }
)
"""All of them by name."""

__all__ = [
    "EXPERIMENTS",
    "KNOWN_CELLS",
    "Data",
    "Experiment",
    "Task",
    "Trained",
    "Training",
    "draw",
    "find_cells",
    "run",
    "train_seeds",
    "variants",
]
