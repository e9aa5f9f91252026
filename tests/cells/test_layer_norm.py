"""Layer-normalized cells: the reverse of those outside the table, and ε."""

import jax
import jax.numpy as jnp
import pytest
from oracles import assert_close, drawn_inputs

import lstm_jax as lj
from lstm_jax.cells import LAYER_NORM_GRU, LAYER_NORM_LSTM, LAYER_NORM_RNN, with_epsilon

CELLS = (LAYER_NORM_RNN, LAYER_NORM_GRU)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_the_reverse(cell):
    report = lj.check_gradients(cell, hidden_size=3, steps=0)
    assert report.ok, report.table()


@pytest.mark.parametrize("cell", [*CELLS, LAYER_NORM_LSTM], ids=lambda cell: cell.name)
def test_another_epsilon(cell):
    """The gradient is that of the forward with this ε, and of no other."""
    params, (x, *_), state = drawn_inputs(cell, 1, (2,))
    other = with_epsilon(cell, 0.5)
    assert other == with_epsilon(cell, 0.5)

    def run(cell, gradient):
        def loss(params, x):
            return jnp.sum(lj.step(cell, params, state, x, gradient=gradient)[0] ** 2)

        return jax.grad(loss, (0, 1))(params, x)

    found = run(other, "manual")
    assert_close(found, run(other, "automatic"))
    assert abs(found[1] - run(cell, "manual")[1]).max() > 1e-3


def test_no_epsilon():
    with pytest.raises(ValueError, match=r"above 0; got 0\.0"):
        with_epsilon(LAYER_NORM_LSTM, 0.0)
    with pytest.raises(ValueError, match="'lstm' has no function that takes epsilon"):
        with_epsilon(lj.LSTM, 1e-3)


def test_large_numbers_are_normalized():
    """A stretch of the weights changes nothing but for ε."""
    params, xs, _ = drawn_inputs(LAYER_NORM_RNN, 2, (2,))
    small = with_epsilon(LAYER_NORM_RNN, 1e-12)
    twice = params._replace(Wx=2 * params.Wx, Wh=2 * params.Wh)
    found, expected = (lj.unroll(small, p, xs)[0] for p in (twice, params))
    assert_close(found, expected, 1e-9)
