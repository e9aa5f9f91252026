"""`step` and `lstm_step`: one step of a cell, and its hand-derived gradients."""

from functools import partial

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from jax import tree
from oracles import EACH_KIND, assert_close, differences, drawn_inputs, drawn_like

import lstm_jax as lj


@partial(jax.jit, static_argnums=0, static_argnames="gradient")
def pulled_step(cell, params, state, x, dnew, gradient="manual"):
    run = partial(lj.step, cell, gradient=gradient)
    new, pull = jax.vjp(run, params, state, x)
    return new, pull(dnew)


def drawn(cell, batch_shape, **sizes):
    """Parameters, state, input, and a gradient of the new state."""
    params, xs, state = drawn_inputs(cell, 1, batch_shape, **sizes)
    return params, state, xs[0], drawn_like(state, 3)


def plain_step(cell, params, state, x):
    new, _ = cell.step(params, state, cell.project(params, x))
    return new


@EACH_KIND
def test_manual_automatic_and_undecorated_gradients_agree(cell):
    *arguments, dnew = drawn(cell, (4,))

    @jax.jit
    def undecorated(*arguments):
        new, pull = jax.vjp(partial(plain_step, cell), *arguments)
        return new, pull(dnew)

    expected = undecorated(*arguments)
    assert_close(pulled_step(cell, *arguments, dnew), expected)
    assert_close(pulled_step(cell, *arguments, dnew, gradient="automatic"), expected)


@given(data=st.data())
@settings(max_examples=6)
def test_any_shape(data):
    cell = lj.CELLS[data.draw(st.sampled_from(sorted(lj.CELLS)), "cell")]
    arguments = drawn(
        cell,
        data.draw(st.sampled_from([(), (1,), (3,), (2, 3), (0,)]), "batch_shape"),
        input_size=data.draw(st.integers(1, 5), "input_size"),
        hidden_size=data.draw(st.integers(1, 5), "hidden_size"),
    )
    assert_close(
        pulled_step(cell, *arguments),
        pulled_step(cell, *arguments, gradient="automatic"),
    )


@EACH_KIND
def test_differences_agree(cell):
    *arguments, dnew = drawn(cell, (4,))

    def objective(arguments):
        new = lj.step(cell, *arguments)
        return sum(tree.leaves(tree.map(jnp.vdot, new, dnew)))

    _, found = pulled_step(cell, *arguments, dnew)
    assert_close(tuple(found), tuple(differences(objective, arguments)), 1e-6)


@EACH_KIND
def test_a_step_is_a_sequence_of_one(cell):
    params, state, x, _ = drawn(cell, (4,))
    ys, final = lj.unroll(cell, params, x[None], state)
    new = lj.step(cell, params, state, x)
    assert_close(new, final)
    assert_close(new[0], ys[0])


@EACH_KIND
def test_the_state_left_out_is_the_initial_one(cell):
    params, _, x, _ = drawn(cell, (4,))
    initial = cell.initial_state(params, (4,))
    assert_close(lj.step(cell, params, None, x), lj.step(cell, params, initial, x))


@pytest.mark.parametrize("name", ["gru", "slstm"])
def test_heads_are_a_block_diagonal_recurrence(name):
    """K heads equal one head whose recurrent matrices have zeros between heads."""
    cell = lj.CELLS[name]
    params, state, x, dnew = drawn(cell, (4,))
    gates, heads, size = params.b.size // 4, 2, 2
    blocks = drawn_like(np.empty((gates, heads, size, size)), 5)
    parts = [slice(k * size, (k + 1) * size) for k in range(heads)]

    @jax.jit
    def by_head(Wh):
        Wh = Wh.reshape(heads * size, gates, heads * size)
        return jnp.stack([Wh[p, :, p].swapaxes(0, 1) for p in parts], axis=1)

    _, dense = jax.vjp(by_head, params.Wh)  # by_head is linear: this is its transpose
    one_head = params._replace(Wh=dense(blocks)[0])
    several = params._replace(Wh=blocks)
    assert cell.sizes(several)["heads"] == heads
    new, (dparams, *others) = pulled_step(cell, one_head, state, x, dnew)
    expected = new, (dparams._replace(Wh=by_head(dparams.Wh)), *others)
    assert_close(pulled_step(cell, several, state, x, dnew), expected)


def test_lstm_step_is_the_step_of_the_lstm():
    params, state, x, _ = drawn(lj.LSTM, (4,))
    assert_close(lj.lstm_step(params, state, x), lj.step(lj.LSTM, params, state, x))


@pytest.mark.parametrize(("gradient", "calls"), [("manual", 1), ("automatic", 0)])
def test_manual_is_the_hand_written_backward(gradient, calls):
    """Gradients agree whichever runs: this is how one knows that it is the cell's."""
    ran = []

    def backward(*arguments):
        ran.append(None)
        return lj.LSTM.backward(*arguments)

    cell = lj.LSTM._replace(backward=backward)
    pulled_step(cell, *drawn(cell, (4,)), gradient=gradient)
    assert len(ran) == calls
