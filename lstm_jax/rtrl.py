"""Real-time recurrent learning: the gradient carried forward instead of back.

Williams & Zipser (1989), "A learning algorithm for continually running fully recurrent
neural networks". With θ the parameters, s_t the state after step t, and J the sum over
time of what depends on one state each, J = Σ_t J_t(s_t)::

    s_t   = F(θ, s_{t-1}, x_t)                         (1)
    S_t   = ∂s_t/∂θ = ∂F/∂s S_{t-1} + ∂F/∂θ            (2)
    ∂J/∂θ = Σ_t ∂J_t/∂s_t S_t                          (3)

The sensitivity S_t is all that (3) needs of the past: after every step the gradient is
there, however long ago the sequence began. Nothing runs backward, so nothing here rests
on a derived reverse, JAX's own included; the gradient check has it as an oracle.

What it costs: S has a column for every parameter, each like the state, so (2) is a
linearized step for each column. With H units that is O(H |θ|) numbers to carry and
O(H² |θ|) operations a step, where backpropagation through time keeps O(H) numbers of
every step, and reverses it in O(H²). Since |θ| is O(H²), it is for small networks.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax, tree
from jax.flatten_util import ravel_pytree

from lstm_jax.cell import Cell

COLUMNS = 64
"""How many columns of S go through a step at once: what bounds its temporaries."""

Transition = Callable[[Any, Any, Any], Any]
"""F of equation (1): ``(theta, state, x) -> state``, all of them trees of arrays."""


class Carried(NamedTuple):
    """What is carried from step to step.

    Attributes:
        state: s_t, a tree of arrays.
        sensitivity: S_t, the same tree, with a leading axis of |θ| columns; in the
            order of `jax.flatten_util.ravel_pytree`.
    """

    state: Any
    sensitivity: Any


def transition_of(cell: Cell) -> Transition:
    """One step of a cell as F: ``(params, state, x) -> state``, x (*batch, D)."""

    def transition(params: Any, state: Any, x: Array) -> Any:
        new, _ = cell.step(params, state, cell.project(params, x))
        return new

    return transition


def begin(theta: Any, initial: Callable[[Any], Any]) -> Carried:
    """Before the first step: s_0, a function of θ or constant, and S_0 = ∂s_0/∂θ."""
    state, along = jax.linearize(initial, theta)
    return Carried(state, _columns(theta, lambda dtheta, _: along(dtheta), None))


def advance(transition: Transition, theta: Any, carried: Carried, x: Any) -> Carried:
    """A step: equations (1) and (2)."""
    state, along = jax.linearize(
        lambda theta, state: transition(theta, state, x), theta, carried.state
    )
    return Carried(state, _columns(theta, along, carried.sensitivity))


def _columns(theta: Any, along: Callable[[Any, Any], Any], sensitivity: Any) -> Any:
    """``along(dθ, dstate)`` for each parameter's dθ and its column of S."""
    flat, unravel = ravel_pytree(theta)

    def column(number_and_column: tuple[Array, Any]) -> Any:
        number, dstate = number_and_column
        return along(
            unravel(jax.nn.one_hot(number, flat.size, dtype=flat.dtype)), dstate
        )

    numbers = jnp.arange(flat.size)
    return lax.map(column, (numbers, sensitivity), batch_size=COLUMNS)


def gradient(theta: Any, carried: Carried, dstate: Any) -> Any:
    """The term of one step: equation (3), from ∂J_t/∂s_t; a tree like θ."""
    _, unravel = ravel_pytree(theta)
    terms = tree.map(
        lambda d, s: jnp.tensordot(s, d, axes=d.ndim), dstate, carried.sensitivity
    )
    return unravel(sum(tree.leaves(terms)))


def learn(
    transition: Transition, theta: Any, carried: Carried, xs: Any, dstates: Any
) -> tuple[Any, Carried]:
    """The gradient of a whole stretch of time: equations (1) to (3), step after step.

    Args:
        transition: F.
        theta: θ.
        carried: from `begin`, or from the stretch before.
        xs: what F gets at every step, with time first.
        dstates: ∂J_t/∂s_t of every step, a tree like the state with time first.

    Returns:
        ∂J/∂θ, and what is carried on.
    """

    def step(so_far: Any, step_inputs: Any) -> tuple[Any, None]:
        dtheta, carried = so_far
        x, dstate = step_inputs
        carried = advance(transition, theta, carried, x)
        more = gradient(theta, carried, dstate)
        return (tree.map(jnp.add, dtheta, more), carried), None

    nothing = tree.map(jnp.zeros_like, theta)
    (dtheta, carried), _ = lax.scan(step, (nothing, carried), (xs, dstates))
    return dtheta, carried
