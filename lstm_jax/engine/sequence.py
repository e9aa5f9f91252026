"""What a sequence is made of: the types that the engine's functions pass on.

Every array has time, where it has it, as its first axis; the axes of the batch follow,
any number of them. `new` is a state after a step, `old` the one that it started from.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import Array

from lstm_jax.cell import Cell
from lstm_jax.engine import trees

GRADIENTS = ("manual", "automatic")
"""The ways to differentiate: the reverse as written, or JAX's of the same equations."""

MEMORIES = ("store", "states", "recompute")
"""What the forward may keep for the reverse; see `unroll`."""


class Settings(NamedTuple):
    """The static part of an unrolling: arguments of `lstm_jax.unroll`.

    Attributes:
        cell: the cell.
        gradient: "manual" or "automatic".
        reverse: whether the steps go from the last to the first.
        memory: "store", "states" or "recompute"; None until the fastest is chosen.
        every_state: whether the states after all steps are returned, and not only
            their first field, the output.
    """

    cell: Cell
    gradient: str
    reverse: bool
    memory: str | None
    every_state: bool = False

    def returned(self, states: Any) -> Any:
        """What is returned of states after some steps: all of them, or the output."""
        return states if self.every_state else states[0]

    def checkpoint(self, function: Callable[..., Any], memory: str) -> Any:
        """`function`, run again in automatic reverse mode if `memory` is the policy."""
        if (self.gradient, self.memory) != ("automatic", memory):
            return function
        return jax.checkpoint(function, prevent_cse=False)


class Starts(NamedTuple):
    """The states that steps start from; or the gradients of these states.

    Attributes:
        state: the one before the first step that is run.
        reset: the one that a reset returns to; None without resets.
    """

    state: Any
    reset: Any

    def first(self, carried: Array | None, *, reverse: bool) -> Any:
        """What the first step that is run starts from, with `Inputs.carried`."""
        if carried is not None:
            carried = carried[-1 if reverse else 0]
        return trees.select(carried, self.state, self.reset)


class Inputs(NamedTuple):
    """What the steps get from outside.

    Attributes:
        x: the inputs, (T, *batch, D), or whatever the cell's `project` takes.
        valid: whether a step is within its sequence's length, (T, *batch). Where it
            is not, the state stays as it is. None where all are.
        carried: whether a step starts from the state before it, (T, *batch), and not
            from `Starts.reset`. None where all do.
    """

    x: Any
    valid: Array | None
    carried: Array | None

    @property
    def steps(self) -> int:
        """T."""
        return jax.tree.leaves(self.x)[0].shape[0]

    def without_padding(self) -> "Inputs":
        """The same, but 0 where not valid: nothing there, NaN included, is seen."""
        return self._replace(x=trees.masked(self.valid, self.x))


class Steps(NamedTuple):
    """What is known of every step once it has run.

    Attributes:
        new: the states after the steps.
        kept: what the cell's `step` keeps for its `backward`.
    """

    new: Any
    kept: Any

    def old(self, starts: Starts, carried: Array | None, *, reverse: bool) -> Any:
        """The states that the steps started from."""
        before = trees.shift(starts.state, self.new, reverse=reverse)
        return trees.select_time(carried, before, starts.reset)
