"""Runners: the ways to run a cell's steps over a stretch of time, and which is chosen.

A cell says what a step is. *How* the steps of a stretch are run, all of them forward
and their reverse, is a runner's matter, and all runners come to the same numbers but
for rounding:

====================  ===========================================================
`scan`                step after step; any cell, and what the others are held against
`associative_scan`    all steps at once, for cells that are linear in their state
`compiled.cpu`        C++ over all of time, from the equations of a gated cell, on CPUs
`compiled.cuda`       a CUDA kernel over all of time, from the same, on GPUs
====================  ===========================================================

`choose_runner` is the one place where a runner is chosen, and it says why.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax

from lstm_jax.cell import Cell
from lstm_jax.engine import associative_scan, checks, scan
from lstm_jax.engine.compiled import cpu, cuda, panels
from lstm_jax.engine.sequence import GRADIENTS, Inputs, Settings, Starts, Steps
from lstm_jax.jaxprs import equations_are_asked


@runtime_checkable
class RunSteps(Protocol):
    """The steps of a stretch of time, from `starts` and `inputs`.

    `weights` are the parameters as `Runner.lay_out` gives them.
    """

    def __call__(
        self, settings: Settings, weights: Any, starts: Starts, inputs: Inputs, /
    ) -> tuple[Any, Steps]:
        """The state after the last step that is run, and what is known of all."""
        ...


@runtime_checkable
class RunReverseSteps(Protocol):
    """The reverse of the same steps, from what is known of them.

    It also gets the gradient `dfinal` of the state after the last step, without what
    comes from that step's output, and those of all outputs, `dys` (T, *batch, H), which
    count where a step is valid.
    """

    def __call__(
        self,
        settings: Settings,
        weights: Any,
        starts: Starts,
        inputs: Inputs,
        steps: Steps,
        dfinal: Any,
        dys: Any,
        /,
    ) -> tuple[Starts, Any]:
        """The gradients of `starts`, and dz as `Cell.gradients` takes it."""
        ...


@runtime_checkable
class FastestMemory(Protocol):
    """The memory policy of `lstm_jax.unroll` that is the fastest, as a rule."""

    def __call__(
        self, settings: Settings, params: Any, starts: Starts, inputs: Inputs, /
    ) -> str:
        """One of `lstm_jax.engine.MEMORIES`."""
        ...


def store(*_: Any) -> str:
    """`FastestMemory` where keeping everything is the fastest."""
    return "store"


class Runner(NamedTuple):
    """A way to run the steps of any stretch of time, and their reverse.

    Attributes:
        name: as `Choice` tells it.
        steps: forward.
        reverse_steps: its reverse.
        lay_out: the parameters as these two want to read them, made once for all the
            stretches of a sequence.
        at_once: whether a stretch may be as long as the sequence where everything is
            kept for the reverse: the runner's own temporaries do not grow with it.
        chunk_bytes: as for `lstm_jax.engine.chunks.chunk_length`, where it may not.
        fastest_memory: the memory policy where none is asked for.
    """

    name: str
    steps: RunSteps
    reverse_steps: RunReverseSteps
    lay_out: Callable[[Any], Any] = lambda params: params
    at_once: bool = False
    chunk_bytes: int | None = None
    fastest_memory: FastestMemory = store


SCAN = Runner(
    "scan",
    scan.steps,
    scan.reverse_steps,
    fastest_memory=scan.fastest_memory,
)
ASSOCIATIVE_SCAN = Runner(
    "associative scan", associative_scan.steps, associative_scan.reverse_steps
)
COMPILED = Runner(
    "compiled C++",
    cpu.steps,
    cpu.reverse_steps,
    lay_out=panels.lay_out,
    at_once=True,
    fastest_memory=cpu.fastest_memory,
)
CUDA = Runner(
    "CUDA", cuda.steps, cuda.reverse_steps, at_once=True, chunk_bytes=64 * 2**20
)


class Choice(NamedTuple):
    """Which runner takes a cell's steps, and why.

    Attributes:
        runner: the runner's name: "scan", "associative scan", "compiled C++" or "CUDA".
        why: the reason, in a sentence.
    """

    runner: str
    why: str

    def __str__(self) -> str:
        return f"{self.runner}: {self.why}"


def choose_runner(settings: Settings, params: Any) -> tuple[Runner, str]:
    """The runner of an unrolling with these parameters, here and now, and why."""
    if equations_are_asked():
        return SCAN, "its equations are asked about"
    if settings.cell.linear:
        return ASSOCIATIVE_SCAN, "the cell is linear in its state"
    if settings.every_state:
        return SCAN, "the states of all steps are asked for"
    if settings.gradient == "automatic":
        return SCAN, "automatic gradients need steps that JAX can differentiate"
    if jax.default_backend() == "gpu":
        reason = cuda.why_not(settings.cell, params)
        if reason is not None:
            return SCAN, reason
        return CUDA, "its equations are compiled for this GPU"
    reason = cpu.why_not(settings.cell, params)
    if reason is not None:
        return SCAN, reason
    return COMPILED, "its equations are compiled for this processor"


def with_memory(
    settings: Settings, params: Any, starts: Starts, inputs: Inputs
) -> Settings:
    """The settings with a memory policy: the fastest, where none is asked for."""
    if settings.memory is not None:
        return settings
    if settings.gradient == "automatic":
        return settings._replace(memory="store")
    runner, _ = choose_runner(settings, params)
    memory = runner.fastest_memory(settings, params, starts, inputs)
    return settings._replace(memory=memory)


def runner_of(cell: Cell | str, params: Any, *, gradient: str = "manual") -> Choice:
    """Which runner `lstm_jax.unroll` takes for a cell and its parameters, and why.

    Args:
        cell: a cell, or a name of `lstm_jax.CELLS`.
        params: its parameters.
        gradient: as in `unroll`.

    Raises:
        TypeError: as `unroll`.
        ValueError: as `unroll`.

    Example:
        >>> import jax, lstm_jax as lj
        >>> cell = lj.CELLS["min_gru"]
        >>> runner_of(cell, cell.init(jax.random.key(0), 3, 4)).runner
        'associative scan'
    """
    checks.check_choice("gradient", gradient, GRADIENTS)
    cell = checks.as_cell(cell, gradient)
    checks.check_params(cell, params)
    settings = Settings(cell, gradient, reverse=False, memory=None)
    runner, why = choose_runner(settings, params)
    return Choice(runner.name, why)
