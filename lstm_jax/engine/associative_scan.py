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

from lstm_jax.engine import trees
from lstm_jax.engine.sequence import Inputs, Settings, Starts, Steps


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
    settings: Settings, params: Any, starts: Starts, inputs: Inputs
) -> tuple[Any, Steps]:
    """All steps of a linear cell: the last state, and what is known of every step."""
    run = settings.checkpoint(partial(_steps, settings), "states")
    return run(params, starts, inputs)


def _steps(
    settings: Settings, params: Any, starts: Starts, inputs: Inputs
) -> tuple[Any, Steps]:
    cell, reverse = settings.cell, settings.reverse
    u = cell.project(params, inputs.x)
    every = jax.vmap(partial(cell.step, params))
    zeros = jax.tree.map(
        lambda h: jnp.zeros_like(h, shape=(inputs.steps, *h.shape)), starts.state
    )
    ones = jax.tree.map(jnp.ones_like, zeros)
    b, a = jax.jvp(lambda old: every(old, u)[0], (zeros,), (ones,))
    if inputs.carried is not None:
        fresh = jax.tree.map(lambda a, b, h: a * h[None] + b, a, b, starts.reset)
        a = trees.masked(inputs.carried, a)
        b = trees.select(inputs.carried, b, fresh)
    a, b = trees.select(inputs.valid, a, ones), trees.masked(inputs.valid, b)
    new = linear_recurrence(a, b, starts.state, reverse=reverse)

    old = Steps(new, None).old(starts, inputs.carried, reverse=reverse)
    _, kept = every(old, u)
    return trees.last(new, reverse=reverse), Steps(new, kept)


def reverse_steps(
    settings: Settings,
    params: Any,
    starts: Starts,
    inputs: Inputs,
    steps: Steps,
    dfinal: Any,
    dys: Any,
) -> tuple[Starts, Any]:
    """The reverse of `steps`: the gradients of `starts`, and dz of every step."""
    reverse, valid, carried = settings.reverse, inputs.valid, inputs.carried
    every = jax.vmap(partial(settings.cell.backward, params))
    around = steps.old(starts, carried, reverse=reverse), steps.new, steps.kept
    ones = jax.tree.map(jnp.ones_like, steps.new)
    a, _ = every(*around, ones)
    a = trees.select(valid, trees.masked(carried, a), ones)

    zeros = jax.tree.map(jnp.zeros_like, steps.new)
    arriving = trees.add_output(zeros, trees.masked(valid, dys))
    beyond = trees.last(ones, reverse=reverse)
    later = trees.shift(beyond, a, reverse=not reverse)
    dnew = linear_recurrence(later, arriving, dfinal, reverse=not reverse)  # (2)

    dold, dz = every(*around, trees.masked(valid, dnew))
    dreset = None
    if carried is not None:
        through = trees.masked(~carried, dold)
        dreset = jax.tree.map(lambda d: jnp.sum(d, axis=0), through)
    first = [trees.last(of, reverse=not reverse) for of in (a, dnew)]
    return Starts(jax.tree.map(jnp.multiply, *first), dreset), dz
