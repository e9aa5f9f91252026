"""What every training command does: devices, errors in a line, the exit status."""

import os
import sys
import traceback
from collections.abc import Callable

import jax
from rich.console import Console

from experiments.training.devices import is_first, on_devices
from experiments.training.runs import Options

_TOLD = (
    *(OSError, ImportError, ValueError, FloatingPointError, MemoryError),
    jax.errors.JaxRuntimeError,
)
"""Errors that a user can do something about."""

_PERHAPS_ANOTHER = (
    "another process may have ended first: look at what it said. The same commands go "
    "on from the last checkpoint"
)


def launch(
    command: Callable[[Console], str | None], options: Options | None = None
) -> int:
    """Runs a command on the devices that the options name; returns the exit status.

    That is 0 at the end, 130 and 143 where SIGINT and SIGTERM ended it early, 141 where
    nobody reads any more what is printed, and 1 after an error that a user can do
    something about, told in a line.

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
            if interrupted := command(console):
                told = f"ended by {interrupted}; the same command goes on from here"
                console.print(told, highlight=False)
    except BrokenPipeError:  # whoever reads has seen enough, `| head` for one
        # Python would print what is left, and fail once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return _leave(141, options)
    except _TOLD as error:
        print(f"error: {error}", file=sys.stderr)
        return _leave(1, options, error)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return _leave(130, options)
    except Exception as error:
        if options.processes == 1:
            raise
        traceback.print_exc()
        return _leave(1, options, error)
    return {None: 0, "SIGINT": 130, "SIGTERM": 143}[interrupted]


def _leave(status: int, options: Options, error: Exception | None = None) -> int:
    """Returns the status; where there are several processes, ends this one with it.

    An orderly end would wait for the other processes, and they wait for this one. When
    it is gone, they notice and end too.
    """
    if options.processes > 1:
        causes = error, getattr(error, "__cause__", None)
        if any(isinstance(cause, jax.errors.JaxRuntimeError) for cause in causes):
            print(_PERHAPS_ANOTHER, file=sys.stderr)
        sys.stderr.flush()
        os._exit(status)
    return status
