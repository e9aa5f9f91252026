"""Japanese vowels: which of nine men speaks, from series of 7 to 29 steps."""

import sys

from experiments.command import command
from experiments.tasks import EXPERIMENTS

if __name__ == "__main__":
    sys.exit(command(EXPERIMENTS["vowels"]))
