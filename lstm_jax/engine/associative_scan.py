"""Cells that are linear in their state: a parallel scan over time, both ways.

Where the gates of a cell see its input alone, a step is linear in the state, element
by element, and so is its reverse::

    (1)  h_t  = a_t * h_{t-1} + b_t
    (2)  dh_t = a_{t+1} * dh_{t+1} + dy_t,  the same recurrence from the other end

Two steps of (1) in a row are one again, with ``a = a₂ a₁`` and ``b = a₂ b₁ + b₂``. That
product is associative, so the steps of a whole chunk are a prefix product, which a tree
computes in about log₂ of their number rounds (Blelloch, 1990; for recurrent networks
Martin & Cundy, 2018, section 2.1, and for the minGRU and minLSTM Feng et al., 2024).

A cell says no more than that it is linear (`lstm_jax.Cell.linear`). b_t and a_t are its
own step at a state of 0 and that step's derivative, and a_{t+1} of (2) is what its own
backward makes of a gradient of 1: its equations stay written once. What needs a state
is computed for all steps at once when all states are there.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from lstm_jax.cell import Cell
from lstm_jax.engine import trees


def linear_recurrence(a: Any, b: Any, entry: Any, *, reverse: bool) -> Any:
    """All of ``h_t = a_t * h_{t-1} + b_t``, equation (1).

    Args:
        a: the factors, arrays (T, ...), T at least 1.
        b: the summands, of the shapes and dtypes of `a`.
        entry: h before the first step, arrays (...).
        reverse: goes from the last step to the first; h_{t-1} is then h_{t+1}.

    Returns:
        h after every step, (T, ...).
    """
    first = -1 if reverse else 0

    def product(earlier: Any, later: Any) -> Any:
        (a1, b1), (a2, b2) = earlier, later
        return a2 * a1, a2 * b1 + b2

    def one(a: Array, b: Array, entry: Array) -> Array:
        b = b.at[first].add(a[first] * entry)
        _, h = lax.associative_scan(product, (a, b), reverse=reverse)
        return h

    return jax.tree.map(one, a, b, entry)


def steps(
    cell: Cell,
    params: Any,
    reset: Any,
    entry: Any,
    x: Any,
    valid: Array | None,
    carried: Array | None,
    *,
    reverse: bool,
) -> tuple[Any, tuple[Any, Any]]:
    """All steps of a linear cell from the state `entry`.

    Args:
        cell: a cell that is linear in its state.
        params: its parameters.
        reset: the state that resets return to; None without resets.
        entry: the state before the first of these steps.
        x: what the cell projects, with time as its leading axis.
        valid: as in `lstm_jax.engine.bptt.Inputs`.
        carried: as in `lstm_jax.engine.bptt.Inputs`.
        reverse: goes from the last step to the first.

    Returns:
        The last state, and of all steps the states after them and what is kept.
    """
    u = cell.project(params, x)
    count = jax.tree.leaves(u)[0].shape[0]
    zeros = jax.tree.map(lambda h: jnp.zeros_like(h, shape=(count, *h.shape)), entry)
    ones = jax.tree.map(jnp.ones_like, zeros)
    every = jax.vmap(partial(cell.step, params))
    b, a = jax.jvp(lambda old: every(old, u)[0], (zeros,), (ones,))
    if carried is not None:
        fresh = jax.tree.map(lambda a, b, h: a * h + b, a, b, reset)
        a, b = trees.masked(carried, a), trees.select(carried, b, fresh)
    a, b = trees.select(valid, a, ones), trees.masked(valid, b)
    new = linear_recurrence(a, b, entry, reverse=reverse)

    old = trees.shift(entry, new, reverse=reverse)
    old = trees.select_time(carried, old, reset)
    _, kept = every(old, u)
    return trees.last(new, reverse=reverse), (new, kept)


def reverse_steps(
    cell: Cell,
    params: Any,
    steps: tuple[Any, Any, Any],
    valid: Array | None,
    carried: Array | None,
    dy: Array,
    dstate: Any,
    dreset: Any,
    *,
    reverse: bool,
) -> tuple[tuple[Any, Any], Any]:
    """The reverse of `steps`.

    Args:
        cell: as in `steps`.
        params: as in `steps`.
        steps: of all steps, the states before and after, and what the cell keeps.
        valid: as in `steps`.
        carried: as in `steps`.
        dy: the gradients of the outputs; those where not valid do not count.
        dstate: the gradient of the state after these steps, but for its output.
        dreset: the gradient of the state that resets return to, from later steps;
            None without resets.
        reverse: as in `steps`: of the forward, so that this goes the other way.

    Returns:
        The gradients of the state before the first step and of the one that resets
        return to; and those of the pre-activations of all steps.
    """
    every = jax.vmap(partial(cell.backward, params))
    _, new, _ = steps
    ones = jax.tree.map(jnp.ones_like, new)
    a, _ = every(*steps, ones)
    a = trees.select(valid, trees.masked(carried, a), ones)

    dys = trees.add_output(jax.tree.map(jnp.zeros_like, new), trees.masked(valid, dy))
    beyond = trees.last(ones, reverse=reverse)
    later = trees.shift(beyond, a, reverse=not reverse)
    dnew = linear_recurrence(later, dys, dstate, reverse=not reverse)  # (2)

    dold, dz = every(*steps, trees.masked(valid, dnew))
    if carried is not None:
        through = trees.masked(~carried, dold)
        through = jax.tree.map(lambda d: jnp.sum(d, axis=0), through)
        dreset = trees.add(dreset, through)
    first = [trees.last(of, reverse=not reverse) for of in (a, dnew)]
    return (jax.tree.map(jnp.multiply, *first), dreset), dz
