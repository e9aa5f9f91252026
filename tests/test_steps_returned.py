"""Masks with holes, what masked steps put out, states of all steps, time elsewhere."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import tree
from oracles import (
    EACH_GRADIENT,
    EACH_KIND,
    EACH_MEMORY,
    assert_close,
    drawn_inputs,
    drawn_like,
    plain_pulled,
    step_of,
)

import lstm_jax as lj
from lstm_jax.engine.runners import choose_runner
from lstm_jax.engine.sequence import Settings

T, B = 7, 4
# Whole, nothing, a hole at the beginning, in the middle and at the end, all but one.
MASK = np.array(
    [
        [1, 0, 0, 0],
        [1, 0, 1, 1],
        [1, 0, 0, 0],
        [1, 0, 0, 0],
        [1, 0, 1, 0],
        [1, 0, 1, 0],
        [1, 0, 0, 0],
    ],
    bool,
)
RESETS = np.zeros((T, B), bool)
RESETS[[2, 4], [0, 2]] = True


@partial(jax.jit, static_argnums=(0, 1))
def pulled(run, cell, arguments, dout):
    """The results, and the gradients of the arguments from those of the results."""
    results, pull = jax.vjp(partial(run, cell), *arguments)
    return results, pull(dout)


@partial(jax.jit, static_argnums=(0, 1))
def pulled_both(run, cell, arguments, of_states, of_outputs):
    """With whole states, and with the outputs alone."""
    with_states = partial(run, states=True)
    return (
        pulled(with_states, cell, arguments, of_states),
        pulled(run, cell, arguments, of_outputs),
    )


@cache
def looped(cell, reverse, masked_outputs):
    """What the loop makes of drawn arguments.

    Returns:
        The arguments; the gradients of what comes out, once of whole states and once of
        their first fields alone; for each of the two the results and all gradients.
    """
    arguments = drawn_inputs(cell, T, (B,))
    final = arguments[2]
    states = drawn_like(tree.map(lambda a: np.empty((T, *a.shape)), final), 3)
    outputs = tree.map(np.zeros_like, states)._replace(**{states._fields[0]: states[0]})
    douts = [(dstates, drawn_like(final, 4)) for dstates in (states, outputs)]
    loop = partial(plain_pulled, step_of(cell), arguments, mask=MASK, resets=RESETS)
    options = {"reverse": reverse, "masked_outputs": masked_outputs}
    return arguments, douts, [loop(dout, **options) for dout in douts]


@EACH_KIND
@EACH_GRADIENT
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("masked_outputs", ["zero", "last"])
def test_a_plain_loop_says_the_same(cell, gradient, reverse, masked_outputs):
    options = {"reverse": reverse, "masked_outputs": masked_outputs}
    arguments, (whole, only_outputs), expected = looped(cell, **options)
    run = partial(lj.unroll, gradient=gradient, mask=MASK, resets=RESETS, **options)
    of_outputs = only_outputs[0][0], only_outputs[1]
    found, by_outputs = pulled_both(run, cell, arguments, whole, of_outputs)
    assert_close(found, expected[0])
    # The outputs alone are the states' first field, and may be compiled.
    (outputs, final), gradients = by_outputs
    (states, same), of_loop = expected[1]
    assert_close((outputs, final, gradients), (states[0], same, of_loop))


@EACH_MEMORY
def test_states_of_every_policy(memory):
    arguments = drawn_inputs(lj.LSTM, 40, (3,))
    run = partial(lj.unroll, states=True, lengths=[40, 0, 7])
    like = jax.eval_shape(partial(run, lj.LSTM), *arguments)
    dout = drawn_like(like, 3)
    found = pulled(partial(run, memory=memory), lj.LSTM, arguments, dout)
    expected = pulled(partial(run, gradient="automatic"), lj.LSTM, arguments, dout)
    assert_close(found, expected)


@pytest.mark.parametrize("states", [False, True])
def test_time_where_the_caller_has_it(states):
    params, xs, state = drawn_inputs(lj.LSTM, T, (B,))
    run = partial(lj.unroll, lj.LSTM, params, state=state, states=states)
    options = {"masked_outputs": "last"}
    expected, final = run(xs=xs, mask=MASK, resets=RESETS, **options)
    turned = {"xs": jnp.swapaxes(xs, 0, 1), "mask": MASK.T, "resets": RESETS.T}
    found, same = run(**turned, time_axis=1, **options)
    assert_close(found, tree.map(lambda a: jnp.swapaxes(a, 0, 1), expected))
    assert_close(same, final)
    empty, _ = run(xs=jnp.swapaxes(xs, 0, 1)[:, :0], time_axis=1)
    assert tree.leaves(empty)[0].shape == (B, 0, 4)


def test_a_mask_within_lengths():
    params, xs, state = drawn_inputs(lj.LSTM, T, (B,))
    lengths = np.array([7, 3, 5, 2])
    within = np.arange(T)[:, None] < lengths
    both = lj.unroll("lstm", params, xs, state, mask=MASK, lengths=lengths)
    assert_close(both, lj.unroll("lstm", params, xs, state, mask=MASK & within))


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"mask": MASK.astype(int)}, TypeError, "mask must be booleans; got int64"),
        ({"mask": MASK.T}, ValueError, r"mask must have the shape \(7, 4\); got \(4"),
        ({"masked_outputs": "hold"}, ValueError, "masked_outputs must be one of"),
        ({"time_axis": 2}, ValueError, "time_axis must be from 0 to 1 .*; got 2"),
        ({"time_axis": -1}, ValueError, "time_axis must be from 0 to 1 .*; got -1"),
    ],
)
def test_what_is_refused(options, error, told):
    params, xs, state = drawn_inputs(lj.LSTM, T, (B,))
    with pytest.raises(error, match=told):
        lj.unroll("lstm", params, xs, state, **options)


def test_all_that_has_time_has_it_at_one_place():
    params, xs, _ = drawn_inputs(lj.LSTM, T, (B,))
    for name, given in (("resets", RESETS), ("mask", MASK)):
        with pytest.raises(ValueError, match=rf"{name} .* shape \(4, 7\); got \(7, 4"):
            lj.unroll(
                "lstm", params, jnp.swapaxes(xs, 0, 1), time_axis=1, **{name: given}
            )


def test_states_are_read_from_a_scan():
    params, *_ = drawn_inputs(lj.LSTM, 1)
    settings = Settings(lj.LSTM, "manual", False, "store", every_state=True)
    runner, why = choose_runner(settings, params)
    assert (runner.name, why) == ("scan", "the states of all steps are asked for")
