"""A language model of characters, trained by truncated backpropagation through time."""

import sys

from experiments.command import command
from experiments.tasks import EXPERIMENTS

if __name__ == "__main__":
    sys.exit(command(EXPERIMENTS["characters"]))
