"""The adding problem: the sum of two marked numbers, long after they were seen."""

import sys

from experiments.command import command
from experiments.tasks import EXPERIMENTS

if __name__ == "__main__":
    sys.exit(command(EXPERIMENTS["adding_problem"]))
