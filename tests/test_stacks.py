"""Stacks of cells: states given, learned and fed back in; resets; options of cells."""

import inspect
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import tree
from oracles import EACH_KIND, assert_close, drawn_like, on_device

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

    @partial(jax.jit, static_argnums=0)
    def pulled(run, arguments):
        results, pull = jax.vjp(run, *arguments)
        return results, pull(results)

    assert_close(pulled(both, arguments), pulled(apart, arguments))


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
    by_each = jax.jit(jax.value_and_grad(by_stack), static_argnums=1)
    for gradient in ("manual", "automatic"):
        value, found = by_each(params, gradient)
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

STATES = tuple(Layer(lj.LSTMState(*on_device(np.zeros((2, B, H))))) for _ in range(2))


@pytest.mark.parametrize(
    ("bidirectional", "state", "error", "message"),
    [
        (False, STATES[:1], ValueError, "one Layer for each of 2 layers; got 1"),
        (False, [*STATES], TypeError, "state must be a tuple of Layer.*got list"),
        (
            False,
            (STATES[0], Layer(*STATES[:1] * 2)),
            ValueError,
            "layer 1 reads in one direction, but its state has one for the backward",
        ),
        (False, STATES[0].forward, TypeError, "a tuple of Layer.*; got LSTMState"),
        (False, (Layer((1,)),) * 2, TypeError, r"must be LSTMState\(h, c\)"),
        (
            False,
            on_device(tree.map(lambda s: np.asarray(s)[:1], STATES)),
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


# --- stacks of any cells and sizes ---------------------------------------------------


CELLS = ("lstm", lj.CELLS["gru"], "min_gru")
SIZES = (4, 2, 3)
JOINED = {
    "concatenate": lambda a, b: jnp.concatenate([a, b], -1),
    "sum": lambda a, b: a + b,
    "mean": lambda a, b: 0.5 * a + 0.5 * b,
    "product": lambda a, b: a * b,
}


@pytest.mark.parametrize("merge", JOINED)
def test_a_stack_of_different_cells_in_both_directions(merge):
    """Layer by layer, each direction by itself, from states that are given to both."""
    lengths = [T, 2, 0]
    params = init_layers(
        *(CELLS, jax.random.key(0), D, SIZES),
        layers=3,
        bidirectional=True,
        merge=merge,
        dtype=float,
    )

    def by_stack(params, xs, state):
        options = {"lengths": lengths, "merge": merge, "state": state}
        return unroll_layers(CELLS, params, xs, **options)

    def one_by_one(params, xs, state):
        finals = []
        for cell, layer, own in zip(CELLS, params, state, strict=True):
            ys, final = lj.unroll(cell, layer.forward, xs, own.forward, lengths=lengths)
            others, other = lj.unroll(
                *(cell, layer.backward, xs, own.backward),
                lengths=lengths,
                reverse=True,
            )
            xs = JOINED[merge](ys, others)
            finals.append(Layer(final, other))
        return xs, tuple(finals)

    like = jax.eval_shape(partial(unroll_layers, CELLS, merge=merge), params, XS)[1]
    arguments = params, XS, drawn_like(like, 2)

    @jax.jit
    def both(*arguments):
        pairs = [jax.vjp(run, *arguments) for run in (by_stack, one_by_one)]
        return [(results, pull(results)) for results, pull in pairs]

    found, expected = both(*arguments)
    assert_close(found, expected)


def test_a_state_for_one_direction_alone():
    params, state = stack(layers=1, bidirectional=True), STATES[0].forward
    _, (forward_given,) = unroll_layers("lstm", params, XS, (Layer(state, None),))
    _, (both_given,) = unroll_layers("lstm", params, XS, (Layer(state, state),))
    _, (none_given,) = unroll_layers("lstm", params, XS)
    assert_close(forward_given.forward, both_given.forward)
    assert_close(forward_given.backward, none_given.backward)


def test_a_residual_connection():
    params = stack(layers=3, cell="gru")
    params = (params[1], *params[1:])  # all read what is as wide as they are
    xs = drawn_like(np.empty((T, B, H)), 1)
    seen = []

    def residual(number, ys, xs):
        seen.append(number)
        return ys + xs

    found, _ = unroll_layers("gru", params, xs, between=residual)
    inputs = xs
    for layer in params[:-1]:
        inputs = inputs + lj.unroll("gru", layer.forward, inputs)[0]
    assert_close(found, lj.unroll("gru", params[-1].forward, inputs)[0])
    assert seen == [1, 2]


def test_a_stack_with_time_where_the_caller_has_it():
    params = stack(bidirectional=True)
    mask = np.ones((T, B), bool)
    mask[[0, 3, 5], [1, 1, 2]] = False
    options = {"masked_outputs": "last"}
    turned = {"mask": mask.T, "resets": RESETS.T, "time_axis": 1}

    @jax.jit
    def both(params, xs):
        run = partial(unroll_layers, "lstm", params, **options)
        ys, finals = run(jnp.swapaxes(xs, 0, 1), **turned)
        expected = run(xs, mask=mask, resets=RESETS)
        return (jnp.swapaxes(ys, 0, 1), finals), expected

    assert_close(*both(params, XS))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": ("lstm",)}, "cell must be one for all layers, or one for each of 2"),
        ({"hidden_size": (4, 4, 4)}, "hidden_size must be one for all .* of 2; got 3"),
        ({"hidden_size": (4, 0)}, "hidden_size must be at least 1; got 0"),
        ({"cell": ("lstm", "lstn")}, "cell must be one of .*; got 'lstn'"),
        ({"merge": "max"}, "merge must be one of 'concatenate', 'sum', 'mean', 'prod"),
    ],
)
def test_what_a_stack_cannot_be_made_of(options, message):
    given = {"cell": "lstm", "hidden_size": H, "layers": 2} | options
    with pytest.raises(ValueError, match=message):
        init_layers(key=jax.random.key(0), input_size=D, **given)
