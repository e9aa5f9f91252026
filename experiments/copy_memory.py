"""Copy memory: ten symbols, a long pause, and the same ten symbols again."""

import sys

from experiments.command import command
from experiments.tasks import EXPERIMENTS

if __name__ == "__main__":
    sys.exit(command(EXPERIMENTS["copy_memory"]))
