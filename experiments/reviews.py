"""Short IMDB reviews: a problem small enough to compare cells on."""

import sys

from experiments.command import command
from experiments.tasks import EXPERIMENTS

if __name__ == "__main__":
    sys.exit(command(EXPERIMENTS["reviews"]))
