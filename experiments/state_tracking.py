"""What are gates for? Cells that track a state, trained short and tested longer."""

import sys

from experiments.command import Program, execute
from experiments.tasks import state_tracking

PROGRAM = Program(
    "state_tracking",
    state_tracking.__doc__,
    state_tracking.PRESETS,
    state_tracking.compare,
    state_tracking.draw,
)

if __name__ == "__main__":
    sys.exit(execute(PROGRAM))
