"""The parent's end of `benchmarks.worker`: starting a process, asking it, ending it."""

import contextlib
import os
import pickle
import subprocess
import sys
import tempfile
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
"kept" leaves them with the process."""


class WorkerError(RuntimeError):
    """A worker that failed, with what it said."""


class WorkerProcess:
    """One worker; a context that ends its process."""

    def __init__(
        self, environment: dict[str, str], module: str = "benchmarks.worker"
    ) -> None:
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
            raise WorkerError(self._last_words()) from None

    def receive(self) -> Any:
        """The answer to what was sent.

        Raises:
            WorkerError: the worker raised an error, or is gone.
        """
        try:
            succeeded, answer = pickle.load(self.answers)
        except EOFError:
            raise WorkerError(self._last_words()) from None
        if not succeeded:
            raise WorkerError(answer)
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
        with contextlib.suppress(BrokenPipeError):  # what was asked of one now gone
            self.requests.close()
        self.process.wait()
        self.answers.close()
        self.said.close()

    def _last_words(self) -> str:
        self.process.wait()
        self.said.seek(0)
        words = self.said.read().decode(errors="replace")
        return f"the worker ended with status {self.process.returncode}:\n{words}"


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
