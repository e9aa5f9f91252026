"""The gradient carried forward, at every step and without the past: what it costs."""

import sys

from experiments.command import Program, execute
from experiments.gradients import forward

PROGRAM = Program(
    "forward_gradients",
    forward.__doc__,
    forward.PRESETS,
    forward.run_forward,
    forward.draw_forward,
)

if __name__ == "__main__":
    sys.exit(execute(PROGRAM))
