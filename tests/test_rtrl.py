"""Real-time recurrent learning: its gradient is that of what goes back in time."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax, tree
from oracles import EACH_CELL, assert_close, drawn_inputs, drawn_like

import lstm_jax as lj
from lstm_jax import rtrl

STEPS, BATCH = 3, 2
SIZES = {"input_size": 2, "hidden_size": 2}


def through_time(cell, params, xs, state, dstates):
    """J = Σ_t <dstates_t, s_t>, differentiated by JAX."""

    def total(params):
        def step(state, inputs):
            x, dstate = inputs
            new, _ = cell.step(params, state, cell.project(params, x))
            return new, sum(tree.leaves(tree.map(jnp.vdot, dstate, new)))

        return jnp.sum(lax.scan(step, state, (xs, dstates))[1])

    return jax.grad(total)(params)


def drawn_problem(cell):
    params, xs, state = drawn_inputs(cell, STEPS, (BATCH,), **SIZES)
    like = tree.map(lambda s: np.empty((STEPS, *s.shape)), state)
    return params, xs, state, drawn_like(like, 5)


@EACH_CELL
def test_the_gradient_is_that_of_backpropagation_through_time(cell):
    assert_right(cell, *drawn_problem(cell))


def assert_right(cell, *problem):
    @jax.jit
    def both(params, xs, state, dstates):
        forward = rtrl.transition_of(cell)
        found, _ = rtrl.learn(
            forward, params, rtrl.begin(params, lambda _: state), xs, dstates
        )
        return found, through_time(cell, params, xs, state, dstates)

    assert_close(*both(*problem))


def test_it_goes_on_from_what_is_carried():
    """In pieces as at once: S is all that is needed of the past."""
    params, xs, state, dstates = drawn_problem(lj.CELLS["gru"])
    learn = jax.jit(partial(rtrl.learn, rtrl.transition_of(lj.CELLS["gru"]), params))
    carried = rtrl.begin(params, lambda _: state)
    whole, last = learn(carried, xs, dstates)
    total = tree.map(np.zeros_like, params)
    for t in range(STEPS):
        piece = tree.map(lambda d, t=t: d[t : t + 1], dstates)
        more, carried = learn(carried, xs[t : t + 1], piece)
        total = tree.map(np.add, total, more)
    assert_close(total, whole)
    assert_close(carried, last)


@pytest.mark.parametrize("columns", [1, 5, 1000])
def test_columns_may_go_in_groups_of_any_size(columns, monkeypatch):
    cell = lj.CELLS["rnn_tanh"]
    monkeypatch.setattr(rtrl, "COLUMNS", columns)
    assert_right(cell, *drawn_problem(cell))


def test_no_reverse_is_asked():
    """Of the cell the two forward functions, and of JAX no transposition."""

    def wrong(*_):
        raise AssertionError("a reverse was asked")

    cell = lj.LSTM._replace(backward=wrong, gradients=wrong)
    params, xs, state, dstates = drawn_problem(cell)
    forward = rtrl.transition_of(cell)
    rtrl.learn(forward, params, rtrl.begin(params, lambda _: state), xs, dstates)
