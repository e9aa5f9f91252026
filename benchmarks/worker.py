"""The process of one library: builds its layer, then runs it when it is told to.

``python -m benchmarks.worker`` reads pickled requests from its standard input and
writes pickled answers to its standard output; `benchmarks.processes` is at the other
end. A request is the name of a method of `Worker` and its arguments.
"""

import ctypes
import os
import pickle
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.peers import Built, load
from benchmarks.problem import Outcome, Problem, Row, make_problem

CALL_SECONDS = 0.15
"""A turn repeats its call for about this long, and reports the median.

The first milliseconds are others': their threads and their data in the caches."""


class Worker:
    """What the parent can ask for."""

    build_layer: Callable[[Problem, str], Built]
    built: Built
    calls: dict[str, Callable[[], Any]]

    def load(self, name: str) -> None:
        """Imports a library, which takes seconds."""
        self.build_layer = load(name)

    def build(self, row: Row, device: str) -> tuple[float | None, int | None]:
        """Builds the library's layer: `compile_seconds`, `temporary_bytes`."""
        self.built = self.build_layer(make_problem(row), device)
        self.calls = {
            "forward": self.built.forward,
            "value_and_gradient": self.built.value_and_gradient,
        }
        return self.built.compile_seconds, self.built.temporary_bytes

    def build_product(self, size: int, dtype: str) -> None:
        """Builds a product of square matrices, to be timed as "product"."""
        import jax
        import jax.numpy as jnp

        a = jax.random.normal(jax.random.key(0), (size, size), jnp.dtype(dtype))
        product = jax.jit(jnp.matmul).lower(a, a).compile()
        self.calls = {"product": lambda: jax.block_until_ready(product(a, a))}

    def outcome(self) -> Outcome:
        """Outputs and gradients, converted."""
        return self.built.outcome()

    def peak_bytes(self) -> int | None:
        """How much the process grows by in one `value_and_gradient`, results included.

        None where the kernel does not tell (it does on Linux).
        """
        marks = Path("/proc/self/clear_refs")
        if not marks.exists():
            return None
        _give_back_memory()
        marks.write_text("5")  # the peak starts anew
        before = _status("VmRSS")
        self.calls["value_and_gradient"]()
        return _status("VmHWM") - before

    def time(self, call: str) -> float:
        """The median of some calls, in seconds; the first is not counted."""
        run, seconds = self.calls[call], []
        run()
        until = time.perf_counter() + CALL_SECONDS
        while not seconds or time.perf_counter() < until:
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
        return statistics.median(seconds)


def _give_back_memory() -> None:
    """Hands what the allocator holds free to the system, so that growth counts."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _status(field: str) -> int:
    """A figure of this process, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {field} in /proc/self/status")


def serve(worker: Any) -> None:
    """Answers requests, names of methods of `worker`, until there are no more."""
    # What a library prints must not get between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    requests = sys.stdin.buffer
    while True:
        try:
            method, arguments = pickle.load(requests)
        except EOFError:
            return
        try:
            answer = (True, getattr(worker, method)(*arguments))
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            answer = (False, (reason, traceback.format_exc()))
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    serve(Worker())
