"""`unroll` and its gradients against a plain loop, automatic gradients, differences.

Compiling is what costs here: nearly all tests share a few shapes and settings.
"""

from functools import cache, partial

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from jax import tree
from oracles import (
    EACH_CELL,
    EACH_GRADIENT,
    EACH_KIND,
    EACH_MEMORY,
    assert_close,
    differences,
    drawn_inputs,
    on_device,
    plain_outputs,
    pulled,
    results_like,
    step_of,
)

import lstm_jax as lj
from lstm_jax.engine import scan

STEPS = 5
BATCH = 4
WHOLE = np.full(BATCH, STEPS)
NEVER = np.zeros((STEPS, BATCH), bool)
# Length 0, 1 and T in one batch; a reset at the first step, within and beyond a length.
LENGTHS = np.array([0, 1, STEPS, 3])
RESETS = NEVER.copy()
RESETS[[0, 2, 3, 4], [1, 2, 3, 0]] = RESETS[3, 2] = True
PADDED = np.arange(STEPS)[:, None] >= LENGTHS

equal = partial(tree.map, np.testing.assert_array_equal)


def pull(cell, arguments, dout, *, lengths=WHOLE, resets=NEVER, **options):
    """`pulled` with both masks, so that all that differ in them compile once.

    In NumPy, where what is looked at afterwards compiles nothing.
    """
    found = pulled(cell, *arguments, dout, lengths=lengths, resets=resets, **options)
    return tree.map(np.asarray, found)


def drawn(cell, **sizes):
    """The arguments of an unrolling, and gradients of its results."""
    arguments = drawn_inputs(cell, STEPS, (BATCH,), **sizes)
    return arguments, results_like(*arguments)


@cache
def looped(cell, reverse):
    """What a plain loop makes of `drawn`, under both masks."""
    return plain_outputs(
        step_of(cell), *drawn(cell), mask=~PADDED, resets=RESETS, reverse=reverse
    )


# --- values and gradients ------------------------------------------------------------


@EACH_CELL
def test_a_plain_loop_says_the_same(cell):
    """With all options at once, and NaN wherever nothing may be read."""
    (params, xs, state), (dys, dfinal) = drawn(cell)
    xs, dys = (jnp.where(PADDED[..., None], jnp.nan, a) for a in (xs, dys))
    options = {"lengths": LENGTHS, "resets": RESETS, "reverse": True}
    found = pull(cell, (params, xs, state), (dys, dfinal), **options)
    expected = looped(cell, reverse=True)
    assert_close(found, expected)
    assert all(np.any(a) for a in tree.leaves(expected))


@EACH_KIND
@EACH_MEMORY
@EACH_GRADIENT
def test_every_policy_says_the_same(cell, memory, gradient):
    """Under "recompute" 5 steps are chunks of 2, 2 and 1."""
    masks = {"lengths": LENGTHS, "resets": RESETS}
    found = pull(cell, *drawn(cell), memory=memory, gradient=gradient, **masks)
    assert_close(found, looped(cell, reverse=False))


def test_scans_on_gpus_keep_the_states_alone(monkeypatch):
    assert scan.fastest_memory() == "store"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert scan.fastest_memory() == "states"


@EACH_KIND
def test_differences_agree(cell):
    arguments, dout = drawn(cell)
    masks = {"lengths": LENGTHS, "resets": RESETS}

    def objective(arguments):
        results = lj.unroll(cell, *arguments, **masks)
        return sum(tree.leaves(tree.map(jnp.vdot, results, dout)))

    expected = differences(objective, arguments)
    _, found = pull(cell, arguments, dout, **masks)
    assert_close(found, expected, 1e-6)


# 1 to 7 steps are one chunk, or chunks of 2 under "recompute"; 50 are two chunks, 53
# two and a shorter one.
@given(data=st.data())
@settings(max_examples=6)
def test_manual_and_automatic_gradients_agree(data):
    cell = lj.CELLS[data.draw(st.sampled_from(sorted(lj.CELLS)), "cell")]
    steps = data.draw(st.sampled_from([1, 2, 7, 50, 53]), "steps")
    batch_shape = data.draw(st.sampled_from([(), (1,), (3,), (2, 2)]), "batch_shape")
    arguments = drawn_inputs(
        cell,
        steps,
        batch_shape,
        input_size=data.draw(st.integers(1, 4), "input_size"),
        hidden_size=data.draw(st.integers(1, 4), "hidden_size"),
    )
    rng = np.random.default_rng(steps)
    options = {"reverse": data.draw(st.booleans(), "reverse")}
    if data.draw(st.booleans(), "lengths"):
        options["lengths"] = rng.integers(0, steps, batch_shape, endpoint=True)
    if data.draw(st.booleans(), "resets"):
        options["resets"] = rng.random((steps, *batch_shape)) < 0.2
    memories = st.sampled_from(["store", "states", "recompute"])
    manual, automatic = data.draw(memories, "manual"), data.draw(memories, "automatic")
    dout = results_like(*arguments)
    assert_close(
        pulled(cell, *arguments, dout, memory=manual, **options),
        pulled(
            cell, *arguments, dout, gradient="automatic", memory=automatic, **options
        ),
    )


# --- what the docstring promises -----------------------------------------------------


@EACH_KIND
@EACH_GRADIENT
def test_no_steps(cell, gradient):
    arguments = params, xs, state = drawn_inputs(cell, 0, (2,))
    dout = results_like(*arguments)
    results, gradients = pulled(cell, *arguments, dout, gradient=gradient)
    equal(results, (jnp.zeros((0, 2, state[0].shape[-1])), state))
    equal(gradients, (tree.map(jnp.zeros_like, params), xs, dout[1]))


@EACH_KIND
def test_the_initial_state_left_out_is_the_cells(cell):
    params, xs, _ = drawn_inputs(cell, STEPS, (BATCH,))
    state = cell.initial_state(params, (BATCH,))
    equal(lj.unroll(cell, params, xs), lj.unroll(cell, params, xs, state))


@EACH_KIND
def test_a_sequence_in_two_parts(cell):
    """The final state of one part is the initial state of the next."""
    params, xs, state = drawn_inputs(cell, 10, (BATCH,))
    ys, final = lj.unroll(cell, params, xs, state)
    first, between = lj.unroll(cell, params, xs[:5], state)
    second, last = lj.unroll(cell, params, xs[5:], between)
    assert_close((jnp.concatenate([first, second]), last), (ys, final))


@EACH_KIND
def test_reverse_is_forward_over_the_sequence_turned_around(cell):
    (params, xs, state), dout = drawn(cell)
    (ys, final), _ = pull(cell, (params, xs[::-1], state), dout)
    found, _ = pull(cell, (params, xs, state), dout, reverse=True)
    assert_close(found, (ys[::-1], final))


@EACH_KIND
@EACH_GRADIENT
def test_a_reset_forgets_what_was_before(cell, gradient):
    (params, xs, state), (dys, dfinal) = drawn(cell)
    resets = NEVER.copy()
    resets[3] = True
    dout = dys.at[:3].set(0), dfinal  # of what comes after the reset alone
    results, (_, dxs, dstate) = pull(
        cell, (params, xs, state), dout, resets=resets, gradient=gradient
    )
    assert not np.any(dxs[:3])
    assert np.any(dxs[3:])
    changed = params, xs.at[:3].multiply(2), state
    (ys, final), gradients = pull(cell, changed, dout, resets=resets, gradient=gradient)
    equal((ys[3:], final), (results[0][3:], results[1]))
    equal(gradients[1:], (dxs, dstate))


# --- padding -------------------------------------------------------------------------


@EACH_KIND
@EACH_GRADIENT
@pytest.mark.parametrize("reverse", [False, True])
def test_padded_steps_leak_into_nothing(cell, gradient, reverse):
    """NaN and ∞ in the padding of xs, and of the outputs' gradients."""
    (params, xs, state), (dys, dfinal) = drawn(cell)
    options = {"lengths": LENGTHS, "reverse": reverse, "gradient": gradient}

    def with_padding(value):
        mask = PADDED[..., None]
        dout = jnp.where(mask, value, dys), dfinal
        return pull(cell, (params, jnp.where(mask, value, xs), state), dout, **options)

    results, gradients = expected = with_padding(0.0)
    assert not np.any(results[0][PADDED])
    assert not np.any(gradients[1][PADDED])
    assert np.any(gradients[1][~PADDED])
    for poison in (np.nan, np.inf, -np.inf):
        equal(with_padding(poison), expected)


@EACH_KIND
@EACH_GRADIENT
def test_length_0_is_the_identity_of_the_state(cell, gradient):
    arguments, dout = drawn(cell)
    lengths = np.zeros_like(LENGTHS)
    (ys, final), (dparams, dxs, dstate) = pull(
        cell, arguments, dout, lengths=lengths, gradient=gradient
    )
    assert not any(np.any(a) for a in tree.leaves((ys, dparams, dxs)))
    equal((final, dstate), (arguments[2], dout[1]))


@EACH_KIND
def test_lengths_beyond_the_ends_under_jit(cell):
    """Their values are unknown there: they count as T and as 0."""
    arguments, dout = drawn(cell)
    beyond = np.array([-2, 1, STEPS + 9, 3])
    expected = pull(cell, arguments, dout, lengths=LENGTHS)
    equal(pull(cell, arguments, dout, lengths=beyond), expected)


# --- the extremes --------------------------------------------------------------------


@EACH_CELL
@EACH_GRADIENT
@pytest.mark.parametrize("scale", [-1000.0, 1000.0])
def test_saturated_gates_have_finite_gradients(cell, gradient, scale):
    (params, xs, state), dout = drawn(cell)
    saturated = tree.map(lambda a: np.full(a.shape, scale), params)
    arguments = on_device(saturated), xs, state
    found = pull(cell, arguments, dout, gradient=gradient, reverse=True)
    assert all(np.all(np.isfinite(a)) for a in tree.leaves(found))


@EACH_CELL
def test_gradients_of_saturated_gates_agree(cell):
    """Gates of exactly 0 and 1 beside open ones."""
    (params, xs, state), dout = drawn(cell)
    arguments = params, xs.at[1].multiply(1e4).at[3, 2].multiply(-1e4), state
    expected = pull(cell, arguments, dout, gradient="automatic", reverse=True)
    assert_close(pull(cell, arguments, dout, reverse=True), expected)
