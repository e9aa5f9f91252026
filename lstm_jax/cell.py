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

from collections.abc import Callable
from typing import Any, NamedTuple

from jax import Array
from jax.ad_checkpoint import checkpoint_name


class OutputState(NamedTuple):
    """The state of a cell that remembers its output alone.

    Attributes:
        h: the output, (..., H).
    """

    h: Array


def not_derived(*_: Any) -> Any:
    """Stands for the backward of a cell that has none."""
    raise NotImplementedError("this cell has no hand-derived backward")


class Cell(NamedTuple):
    """A recurrent cell: pure functions, hashable, usable as a static argument.

    Parameters and states are NamedTuples of arrays. **The first field of a state is
    the cell's output** (``h``). ``...`` stands for any leading axes: none or the
    batch's in ``step`` and ``backward``, time before them in the other two.

    Attributes:
        name: its key in `lstm_jax.CELLS`.
        init: ``(key, input_size, hidden_size, *, dtype, ...) -> params``.
        sizes: ``params -> dict``, the size arguments of `init` that made them.
        initial_state: ``(params, batch_shape) -> state``, zeros if not stated
            otherwise.
        project: ``(params, x (..., D)) -> u``, any pytree.
        step: ``(params, state, u) -> (new_state, kept)``; `kept` is any pytree that
            `backward` needs beside the two states.
        backward: ``(params, state, new_state, kept, dnew) -> (dstate, dz)``: from the
            gradient `dnew` of the new state those of the old state and of the
            pre-activations (any pytree). No weight gradient is computed here.
        gradients: ``(params, x, state, new_state, kept, dz) -> (dparams, dx)``, for
            all steps of a stretch of time at once, summed over time and batch.
        linear: whether ``step`` is linear in the state, element by element: every
            number of the new state is ``a * h_prev + b`` of the same number of the
            old one, with a and b of ``u`` alone. `lstm_jax.unroll` then takes all
            steps at once; see `lstm_jax.engine.associative_scan`.
    """

    name: str
    init: Callable[..., Any]
    sizes: Callable[[Any], dict[str, int]]
    initial_state: Callable[[Any, tuple[int, ...]], Any]
    project: Callable[[Any, Array], Any]
    step: Callable[[Any, Any, Any], tuple[Any, Any]]
    backward: Callable[[Any, Any, Any, Any, Any], tuple[Any, Any]] = not_derived
    gradients: Callable[[Any, Array, Any, Any, Any, Any], tuple[Any, Array]] = (
        not_derived
    )
    linear: bool = False


def named(value: Array, quantity: str, equation: int) -> Array:
    """`value`, known as `quantity` of equation number `equation`.

    In a forward function ``c = named(i * g + f * c_prev, "c", 5)`` is the left-hand
    side of equation (5). In a backward function ``df = named(dc * c_prev, "df", 5)``
    is ∂J/∂f, found by going through equation (5). The name is visible to whoever
    reads the jaxpr (the gradient checker, the graph drawing, `jax.checkpoint`
    policies) and compiles to nothing.
    """
    return checkpoint_name(value, f"{quantity} ({equation})")
