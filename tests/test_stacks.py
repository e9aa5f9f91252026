"""Stacks of cells: states given, learned and fed back in; resets; options of cells."""

import inspect
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import tree
from oracles import EACH_KIND, assert_close, drawn_like

import lstm_jax as lj
from lstm_jax.layers import Layer, Learned, init_layers, unroll_layers

T, B, D, H = 6, 3, 3, 4
XS = drawn_like(np.empty((T, B, D)), 1)
RESETS = np.zeros((T, B), bool)
RESETS[[2, 4, 3], [0, 0, 2]] = True
run = jax.jit(unroll_layers, static_argnums=0)


def stack(cell=lj.LSTM, **options):
    options = {"layers": 2, "dtype": jnp.float64} | options
    return init_layers(cell, jax.random.key(0), D, H, **options)


def learned(**options):
    """A stack whose states are learned, and far from those it begins with."""
    params = stack(learned_state=True, **options)
    return tree.map(lambda a: a + 0.25, params)


# --- streaming -----------------------------------------------------------------------


@EACH_KIND
def test_a_sequence_in_pieces_is_the_sequence(cell):
    """The final states of one piece go into the next, and resets do not go there."""
    params = stack(cell)
    own = jax.eval_shape(partial(unroll_layers, cell), params, XS)[1]
    states = tree.map(lambda s: jnp.zeros(s.shape, s.dtype), own)
    whole = run(cell, params, XS, states, resets=RESETS)
    pieces = []
    for start in (0, 3):
        part = slice(start, start + 3)
        ys, states = run(cell, params, XS[part], states, resets=RESETS[part])
        pieces.append(ys)
    assert_close((jnp.concatenate(pieces), states), whole)


def test_resets_return_to_the_reset_state():
    """And not to the state that a piece begins with, gradients included."""
    cell, resets = lj.LSTM, np.array([False, False, True, False, False, False])
    params = cell.init(jax.random.key(0), D, H, dtype=jnp.float64)
    state, reset_state = (
        drawn_like(cell.initial_state(params, ()), seed) for seed in (2, 3)
    )

    def both(params, xs, state, reset_state):
        ys, final = lj.unroll(
            cell, params, xs, state, resets=resets, reset_state=reset_state
        )
        return ys**2, final

    def apart(params, xs, state, reset_state):
        first, _ = lj.unroll(cell, params, xs[:2], state, gradient="automatic")
        second, final = lj.unroll(
            cell, params, xs[2:], reset_state, gradient="automatic"
        )
        return jnp.concatenate([first, second]) ** 2, final

    arguments = params, XS[:, 0], state, reset_state
    results, pull = jax.vjp(both, *arguments)
    expected, expected_pull = jax.vjp(apart, *arguments)
    assert_close(results, expected)
    assert_close(pull(results), expected_pull(results))


# --- learned states ------------------------------------------------------------------


@pytest.mark.parametrize(
    "bidirectional", [pytest.param(False, marks=pytest.mark.slow), True]
)
def test_a_learned_state_is_where_every_sequence_starts(bidirectional):
    """Its gradient is the sum over the batch; resets return to it."""
    params = learned(layers=1, bidirectional=bidirectional)
    (layer,) = params

    def by_stack(params, gradient):
        ys, _ = unroll_layers(
            lj.LSTM, params, XS, resets=RESETS[::-1], gradient=gradient
        )
        return jnp.sum(jnp.sin(ys))

    def alone(params):
        """Each direction of each sequence, from one reset to the next."""
        total = 0.0
        for (own, state), reverse in zip(*params, (False, True), strict=False):
            for b in range(B):
                starts = [0, *np.flatnonzero(RESETS[::-1][:, b]), T]
                for start, stop in pairwise(starts):
                    ys, _ = lj.unroll(
                        lj.LSTM,
                        own,
                        XS[start:stop, b],
                        state,
                        gradient="automatic",
                        reverse=reverse,
                    )
                    total += jnp.sum(jnp.sin(ys))
        return total

    kept = (layer if bidirectional else layer[:1],)
    expected = jax.jit(jax.value_and_grad(alone))(kept)
    for gradient in ("manual", "automatic"):
        value, found = jax.jit(
            jax.value_and_grad(partial(by_stack, gradient=gradient))
        )(params)
        found = (found[0] if bidirectional else found[0][:1],)
        assert_close((value, found), expected)
        assert all(np.all(d) for d in found[0][0].state)


def test_a_learned_state_starts_as_the_cells_own():
    params = stack(learned_state=True)
    assert all(isinstance(layer.forward, Learned) for layer in params)
    bare = tuple(Layer(layer.forward.params) for layer in params)
    assert_close(bare, stack())
    assert_close(run(lj.LSTM, params, XS), run(lj.LSTM, bare, XS))


def test_a_given_state_stands_for_the_learned_one():
    params = learned()
    _, states = run(lj.LSTM, params, XS)
    bare = tuple(Layer(layer.forward.params) for layer in params)
    found = run(lj.LSTM, params, XS, states)
    assert_close(found, run(lj.LSTM, bare, XS, states))


# --- options of cells ----------------------------------------------------------------


def test_options_reach_the_cells_init():
    for layer in stack(heads=2, forget_bias=3.0):
        assert layer.forward.Wh.shape == (4, 2, H // 2, H // 2)
        assert np.array_equal(layer.forward.b[H : 2 * H], np.full(H, 3.0))
    with pytest.raises(TypeError, match="tails"):
        stack(tails=2)


# --- what is refused -----------------------------------------------------------------

STATES = tuple(Layer(lj.LSTM.initial_state(p.forward, (B,))) for p in stack())


@pytest.mark.parametrize(
    ("bidirectional", "state", "error", "message"),
    [
        (True, STATES, ValueError, "a stack of both directions takes no state"),
        (False, STATES[:1], ValueError, "one Layer for each of 2 layers; got 1"),
        (False, [*STATES], TypeError, "state must be a tuple of Layer.*got list"),
        (False, STATES[0].forward, TypeError, "a tuple of Layer.*; got LSTMState"),
        (False, (Layer((1,)),) * 2, TypeError, r"must be LSTMState\(h, c\)"),
        (
            False,
            tree.map(lambda s: s[:1], STATES),
            ValueError,
            r"field h, must have the shape \(3, 4\); got \(1, 4\)",
        ),
    ],
)
def test_a_stack_refuses_states(bidirectional, state, error, message):
    params = stack(bidirectional=bidirectional)
    with pytest.raises(error, match=message):
        inspect.unwrap(unroll_layers)(lj.LSTM, params, XS, state)


def test_resets_and_their_state_are_checked():
    params = stack(bidirectional=True)
    with pytest.raises(TypeError, match="resets must be booleans; got int64"):
        unroll_layers(lj.LSTM, params, XS, resets=RESETS.astype(int))
    one = params[0].forward
    with pytest.raises(ValueError, match="reset_state is given, but no resets"):
        lj.unroll(lj.LSTM, one, XS, reset_state=STATES[0].forward)
    wrong = tree.map(lambda s: s[:1], STATES[0].forward)
    with pytest.raises(ValueError, match=r"must have the shape \(3, 4\)"):
        lj.unroll(lj.LSTM, one, XS, resets=RESETS, reset_state=wrong)
