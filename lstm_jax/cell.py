"""The protocol of a recurrent cell, and the names that its equations give.

A recurrent network splits into what is sequential (the state: elementwise equations
and a recurrent product, step after step) and what is not (input products, weight
gradients: large matrix products over many steps at once). A `Cell` is that split
written as pure functions, two for each direction:

==============  ==========  =====================================================
function        runs        computes
==============  ==========  =====================================================
``project``     over time,  whatever depends on the input alone
                at once
``step``        per step    the equations: the new state, and what to keep
``backward``    per step,   their reverse: the gradients of the old state and of
                reversed    the pre-activations
``gradients``   over time,  the weighted-input rule: the gradients of the
                at once     parameters and the input
==============  ==========  =====================================================

A cell with at most one product of its state a step is made by `lstm_jax.gated` from
its elementwise equations and their reverse alone. Any other (two products a step, a
projection, a norm) writes the four functions itself, with
`lstm_jax.gated.input_gradients` and the pairs of `lstm_jax.identities`, or around those
of another cell. A cell may leave out ``backward`` and ``gradients``; it then has
automatic gradients only.
"""

import re
from collections.abc import Hashable
from functools import lru_cache
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

from jax import Array
from jax.ad_checkpoint import checkpoint_name


class OutputState(NamedTuple):
    """The state of a cell that remembers its output alone.

    Attributes:
        h: the output, (..., H).
    """

    h: Array


# Checkable at run time, as annotations are in the tests.


@runtime_checkable
class Init(Hashable, Protocol):
    """``(key, input_size, hidden_size, *, dtype, ...) -> params``."""

    def __call__(
        self, key: Array, input_size: int, hidden_size: int, *_: Any, **options: Any
    ) -> Any:
        """Draws parameters, a NamedTuple of arrays; options are the cell's own."""
        ...


@runtime_checkable
class Sizes(Hashable, Protocol):
    """``params -> sizes``."""

    def __call__(self, params: Any, /) -> dict[str, int]:
        """The size arguments of `Init` that made the parameters."""
        ...


@runtime_checkable
class InitialState(Hashable, Protocol):
    """``(params, batch_shape) -> state``."""

    def __call__(self, params: Any, batch_shape: tuple[int, ...], /) -> Any:
        """The first state, zeros if not stated otherwise.

        A NamedTuple of arrays, (*batch_shape, H). **Its first field is the cell's
        output** (``h``).
        """
        ...


@runtime_checkable
class Project(Hashable, Protocol):
    """``(params, x) -> u``."""

    def __call__(self, params: Any, x: Any, /) -> Any:
        """What depends on the input alone, any pytree, from x (..., D)."""
        ...


@runtime_checkable
class Step(Hashable, Protocol):
    """``(params, state, u) -> (new_state, kept)``."""

    def __call__(self, params: Any, state: Any, u: Any, /) -> tuple[Any, Any]:
        """The equations; `kept` is any pytree that `Backward` needs beside states."""
        ...


@runtime_checkable
class Backward(Hashable, Protocol):
    """``(params, state, new_state, kept, dnew) -> (dstate, dz)``."""

    def __call__(
        self, params: Any, state: Any, new_state: Any, kept: Any, dnew: Any, /
    ) -> tuple[Any, Any]:
        """The reverse of the equations, without any weight's gradient.

        From the gradient `dnew` of the new state to those of the old state and of the
        pre-activations (any pytree).
        """
        ...


@runtime_checkable
class Gradients(Hashable, Protocol):
    """``(params, x, state, new_state, kept, dz) -> (dparams, dx)``."""

    def __call__(
        self, params: Any, x: Any, state: Any, new_state: Any, kept: Any, dz: Any, /
    ) -> tuple[Any, Any]:
        """The weighted-input rule for many steps; dparams is summed over them all."""
        ...


class Cell(NamedTuple):
    """A recurrent cell: pure functions, hashable, usable as a static argument.

    Arrays have any leading axes, written ``...``: none or the batch's in ``step`` and
    ``backward``, time before them in ``project`` and ``gradients``.

    Attributes:
        name: its key in `lstm_jax.CELLS`.
        init: draws parameters; see `Init`.
        sizes: the sizes that they were drawn with; see `Sizes`.
        initial_state: the state before the first step; see `InitialState`.
        project: see `Project`, and the table above for this and the next three.
        step: see `Step`.
        backward: see `Backward`; None in a cell that has automatic gradients only.
        gradients: see `Gradients`; None if `backward` is.
        linear: whether ``step`` is linear in the state, element by element: every
            number of the new state is ``a * h_prev + b`` of the same number of the
            old one, with a and b of ``u`` alone. `lstm_jax.unroll` then takes all
            steps at once; see `lstm_jax.engine.associative_scan`.
    """

    name: str
    init: Init
    sizes: Sizes
    initial_state: InitialState
    project: Project
    step: Step
    # Not `| None`: whoever calls these has asked `derived` before.
    backward: Backward = cast("Backward", None)
    gradients: Gradients = cast("Gradients", None)
    linear: bool = False

    @property
    def derived(self) -> bool:
        """Whether the reverse was written by hand: `backward` and `gradients`."""
        return self.backward is not None and self.gradients is not None


class Name(NamedTuple):
    """What a value is known by: "c (5)", and the second one of that name "c (5) [2]".

    Attributes:
        quantity: the letter that the equations use, "c"; in a reverse "dc".
        equation: the number of its equation; None for a name without one, "h_t".
        count: which of several values of that name, from 1.
    """

    quantity: str
    equation: int | None = None
    count: int = 1

    @classmethod
    @lru_cache(maxsize=1024)
    def parse(cls, text: str) -> "Name":
        """The name that is written so; every text is one."""
        found = _NAME.fullmatch(text)
        if found is None:
            return cls(text)
        equation, count = found["equation"], found["count"]
        return cls(
            found["quantity"],
            None if equation is None else int(equation),
            1 if count is None else int(count),
        )

    def __str__(self) -> str:
        equation = "" if self.equation is None else f" ({self.equation})"
        count = "" if self.count == 1 else f" [{self.count}]"
        return f"{self.quantity}{equation}{count}"


_NAME = re.compile(
    r"(?P<quantity>.+?)(?: \((?P<equation>\d+)\))?(?: \[(?P<count>\d+)\])?"
)


def named(value: Array, quantity: str, equation: int) -> Array:
    """`value`, known as `quantity` of equation number `equation`.

    In a forward function ``c = named(i * g + f * c_prev, "c", 5)`` is the left-hand
    side of equation (5). In a backward function ``df = named(dc * c_prev, "df", 5)``
    is ∂J/∂f, found by going through equation (5). The name is visible to whoever
    reads the jaxpr (the gradient checker, the graph drawing, `jax.checkpoint`
    policies) and compiles to nothing. `lstm_jax.numbered` makes these calls from
    comments, ``c = i * g + f * c_prev  # (5)``.

    Example:
        >>> import jax
        >>> jax.make_jaxpr(lambda x: named(x * x, "y", 1))(2.0).eqns[-1].params["name"]
        'y (1)'
    """
    return checkpoint_name(value, str(Name(quantity, equation)))
