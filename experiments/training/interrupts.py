"""SIGINT and SIGTERM as a wish to end, which a training loop grants between steps."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from experiments.training.devices import any_process


class Interrupts:
    """While it is entered, notes the first SIGINT or SIGTERM instead of dying of it.

    A second one of the same kind does what it did before: whoever cannot wait
    presses Ctrl-C again. A signal that is ignored (of ``nohup``, or of a shell for what
    it runs in the background) stays ignored. Outside of the main thread, which alone
    gets signals, nothing is changed.

    Attributes:
        received: "SIGINT" or "SIGTERM", None as long as there was none.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interrupts":
        """Takes over the two signals; not one that another language handles."""
        if threading.current_thread() is threading.main_thread():
            for kind in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(kind) not in (signal.SIG_IGN, None):
                    self._before[kind] = signal.signal(kind, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Gives the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def anywhere(self) -> str | None:
        """The signal that came to this process or to any other of the run.

        All processes ask at once, so that all end after the same step.
        """
        if any_process(self.received is not None):
            return self.received or "SIGTERM"
        return None

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        kind = signal.Signals(number)
        self.received = kind.name
        signal.signal(kind, self._before[kind])
