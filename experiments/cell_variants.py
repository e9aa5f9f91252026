"""Which equations matter? Every cell, and the LSTM less one thing, on six tasks."""

import sys

from experiments.command import Program, execute
from experiments.tasks import variants

PROGRAM = Program(
    "cell_variants",
    variants.__doc__,
    variants.PRESETS,
    variants.compare_cells,
    variants.draw_comparison,
)

if __name__ == "__main__":
    sys.exit(execute(PROGRAM))
