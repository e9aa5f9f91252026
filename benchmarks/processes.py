"""The parent's end of `benchmarks.worker`: starting processes, asking, ending them."""

import contextlib
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from threading import Timer
from types import TracebackType
from typing import IO, Any, Self, cast

ALLOCATORS: dict[str, dict[str, str]] = {
    "default": {},
    "kept": {
        "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
        "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    },
}
"""How glibc treats large blocks, as environment variables. By default it hands each
back to the system when it is freed, and the next call pays for its pages again;
"kept" leaves them with the process, but for those of over 64 MB that are asked for in
another thread than the first, whose heaps are no larger."""


PATIENCE = 120.0
"""Seconds. A worker whose answer takes longer is ended."""


class WorkerError(RuntimeError):
    """A worker that failed, with what it said.

    Attributes:
        reason: the same in a line.
    """

    def __init__(self, reason: str, said: str) -> None:
        super().__init__(f"{reason}\n{said}")
        self.reason = reason


class WorkerProcess:
    """One worker; a context that ends its process."""

    def __init__(
        self, environment: dict[str, str], module: str = "benchmarks.worker"
    ) -> None:
        self.too_late = False
        self.said = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __exit__)
        self.process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.said,
            env={**os.environ, **environment},
        )
        self.requests = cast(IO[bytes], self.process.stdin)
        self.answers = cast(IO[bytes], self.process.stdout)

    def send(self, method: str, *arguments: Any) -> None:
        """Asks for something; `receive` gets the answer."""
        try:
            pickle.dump((method, arguments), self.requests)
            self.requests.flush()
        except BrokenPipeError:
            raise WorkerError(*self._last_words()) from None

    def receive(self) -> Any:
        """The answer to what was sent.

        Raises:
            WorkerError: the worker raised an error, is gone, or takes too long.
        """
        timer = Timer(PATIENCE, self._end_late)
        timer.start()
        try:
            succeeded, answer = pickle.load(self.answers)
        except (EOFError, pickle.UnpicklingError):  # none, or a part of one
            raise WorkerError(*self._last_words()) from None
        finally:
            timer.cancel()
        if not succeeded:
            raise WorkerError(*answer)
        return answer

    def ask(self, method: str, *arguments: Any) -> Any:
        """Sends and receives."""
        self.send(method, *arguments)
        return self.receive()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.process.kill()
        # A request that a worker now gone never read breaks the pipe only here.
        with self.said, self.answers, contextlib.suppress(BrokenPipeError):
            self.requests.close()
        self.process.wait()

    def _end_late(self) -> None:
        self.too_late = True
        self.process.kill()

    def _last_words(self) -> tuple[str, str]:
        self.process.wait()
        self.said.seek(0)
        words = self.said.read().decode(errors="replace")
        if self.too_late:
            return f"no answer within {PATIENCE:g} s", words
        return f"the worker ended with status {self.process.returncode}", words


class Crew:
    """The workers of several libraries. One that fails leaves, the others go on.

    Attributes:
        workers: by library, those that have not failed.
        reference: the library that must not: its errors are raised.
        failures: by library, why its worker left.
    """

    def __init__(self, workers: dict[str, WorkerProcess], reference: str) -> None:
        self.workers = workers
        self.reference = reference
        self.failures: dict[str, str] = {}

    def load(self) -> None:
        """Imports the libraries, all at the same time."""
        for name, worker in self.workers.items():
            worker.send("load", name)
        for name in list(self.workers):
            self._attempt(name, lambda worker: worker.receive())

    def ask(self, name: str, method: str, *arguments: Any) -> Any:
        """A worker's answer; None if it failed."""
        return self._attempt(name, lambda worker: worker.ask(method, *arguments))

    def ask_all(self, method: str, *arguments: Any) -> dict[str, Any]:
        """The answers of all that did not fail, asked one after another."""
        asked = list(self.workers)
        answers = {name: self.ask(name, method, *arguments) for name in asked}
        return {name: answers[name] for name in self.workers}

    def dismiss(self, name: str, reason: str) -> None:
        """Ends a worker now, as the others may want its memory."""
        self.failures[name] = reason
        self.workers.pop(name).process.kill()

    def _attempt(self, name: str, question: Callable[[WorkerProcess], Any]) -> Any:
        try:
            return question(self.workers[name])
        except WorkerError as error:
            if name == self.reference:
                raise
            self.dismiss(name, error.reason)
            return None


def environment_of(row_dtype: str, threads: int, allocator: str, device: str) -> Any:
    """The environment variables of a worker."""
    return {
        **ALLOCATORS[allocator],
        "JAX_ENABLE_X64": str(int(row_dtype == "float64")),
        "JAX_PLATFORMS": {"cpu": "cpu", "gpu": "cuda"}[device],
        "OMP_NUM_THREADS": str(threads),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }
