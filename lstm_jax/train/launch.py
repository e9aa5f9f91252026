"""What every training command does: devices, errors in a line, the exit status."""

import sys
from collections.abc import Callable

import jax
from rich.console import Console

from lstm_jax.train.devices import is_first, on_devices
from lstm_jax.train.runs import Options


def launch(
    command: Callable[[Console], str | None], options: Options | None = None
) -> int:
    """Runs a command on the devices that the options name; returns the exit status.

    That is 0 at the end, 130 and 143 where SIGINT and SIGTERM ended it early, and 1
    after an error that a user can do something about, told in a line.

    Args:
        command: gets the console for what it has to tell; returns the signal that
            ended it early, or None.
        options: one process on one device if None.
    """
    options = options or Options()
    try:
        with on_devices(
            options.mesh,
            processes=options.processes,
            process_id=options.process_id,
            coordinator=options.coordinator,
        ):
            console = Console(stderr=True, quiet=not is_first())
            interrupted = command(console)
            if interrupted:
                told = f"ended by {interrupted}; the same command goes on from here"
                console.print(told, highlight=False)
    except (
        *(OSError, ImportError, ValueError, FloatingPointError),
        jax.errors.JaxRuntimeError,
    ) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return {None: 0, "SIGINT": 130, "SIGTERM": 143}[interrupted]
