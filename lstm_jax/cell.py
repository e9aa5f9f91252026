"""The protocol of a recurrent cell, and `gated`, which builds one from its equations.

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

A cell with one recurrent product a step is made by `gated` from its equations and
their reverse alone. Any other writes the four functions itself. A cell may leave out
``backward`` and ``gradients``; it then has automatic gradients only.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.ad_checkpoint import checkpoint_name
from jax.nn import initializers

from lstm_jax.identities import (
    bias_gradient,
    concatenate,
    weight_gradient,
    weighted_input,
)

Initializer = Callable[..., Array]


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


def named(value: Array, quantity: str, equation: int) -> Array:
    """`value`, known as `quantity` of equation number `equation`.

    In a forward function ``c = named(i * g + f * c_prev, "c", 5)`` is the left-hand
    side of equation (5). In a backward function ``df = named(dc * c_prev, "df", 5)``
    is ∂J/∂f, found by going through equation (5). The name is visible to whoever
    reads the jaxpr (the gradient checker, the graph drawing, `jax.checkpoint`
    policies) and compiles to nothing.
    """
    return checkpoint_name(value, f"{quantity} ({equation})")


def gated(
    name: str,
    *,
    init: Callable[..., Any],
    initial_state: Callable[[Any, tuple[int, ...]], Any],
    equations: Callable[..., tuple[Any, Any]],
    backward: Callable[..., tuple[Any, Array, Array]] = not_derived,
) -> Cell:
    """A cell with one product ``u = x Wx + b`` and one ``v = h Wh`` a step.

    Its parameters have the fields ``Wx (D, N)``, ``Wh (H, N)`` and ``b (N,)``.

    Args:
        name: its key in `lstm_jax.CELLS`.
        init: as in `Cell`.
        initial_state: as in `Cell`.
        equations: ``(params, state, u, v) -> (new_state, kept)``, elementwise.
        backward: ``(params, state, new_state, kept, dnew) -> (dstate, du, dv)``,
            elementwise: the gradients of the two products and of the old state,
            this one without the path through ``v``, which is added here. Left out,
            the cell has automatic gradients only.

    Returns:
        The cell, with the weighted-input rule around its equations.
    """

    def project(params: Any, x: Array) -> Array:
        return weighted_input(x, params.Wx, params.b)

    def step(params: Any, state: Any, u: Array) -> tuple[Any, Any]:
        return equations(params, state, u, weighted_input(state[0], params.Wh))

    def step_backward(
        params: Any, state: Any, new_state: Any, kept: Any, dnew: Any
    ) -> tuple[Any, tuple[Array, Array]]:
        dstate, du, dv = backward(params, state, new_state, kept, dnew)
        dh = dstate[0] + dv @ params.Wh.T
        return dstate._replace(**{dstate._fields[0]: dh}), (du, dv)

    def gradients(
        params: Any, x: Array, state: Any, new_state: Any, kept: Any, dz: Any
    ) -> tuple[Any, Array]:
        del new_state, kept
        du, dv = dz
        dparams = params._replace(
            Wx=weight_gradient(du, x),
            Wh=weight_gradient(dv, state[0]),
            b=bias_gradient(du),
        )
        return dparams, du @ params.Wx.T

    return Cell(
        name=name,
        init=init,
        sizes=weight_sizes,
        initial_state=initial_state,
        project=project,
        step=step,
        backward=not_derived if backward is not_derived else step_backward,
        gradients=not_derived if backward is not_derived else gradients,
    )


def weight_sizes(params: Any) -> dict[str, int]:
    """`Cell.sizes` for parameters with the fields Wx (D, N) and Wh (H, N)."""
    return {
        "input_size": params.Wx.shape[0],
        "hidden_size": params.Wh.shape[0],
    }


def init_blocks(
    initializer: Initializer,
    key: Array,
    rows: int,
    columns: int,
    blocks: int,
    dtype: jnp.dtype,
) -> Array:
    """Draws a (rows, blocks * columns) matrix block by block.

    Each gate has a matrix of its own, so each column block is drawn by itself:
    orthogonal recurrent weights are orthogonal gate by gate, and the fan-out that
    Glorot's bound depends on is one gate's.
    """
    keys = jax.random.split(key, blocks)
    drawn = [initializer(k, (rows, columns), dtype) for k in keys]
    return concatenate(*drawn)


glorot_uniform: Initializer = initializers.glorot_uniform()
"""Input weights: Glorot & Bengio (2010), equation 16."""

orthogonal: Initializer = initializers.orthogonal()
"""Recurrent weights: Saxe et al. (2014), section 3."""
