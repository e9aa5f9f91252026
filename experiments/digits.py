"""Handwritten digits as sequences: row by row, pixel by pixel, in a shuffled order."""

import sys

from experiments.command import command
from experiments.tasks import EXPERIMENTS

if __name__ == "__main__":
    sys.exit(command(EXPERIMENTS["digits"]))
