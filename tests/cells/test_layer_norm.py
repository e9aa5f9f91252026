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


@pytest.mark.parametrize("cell", [LAYER_NORM_GRU, LAYER_NORM_LSTM], ids=["gru", "lstm"])
def test_another_epsilon(cell):
    """The gradient is that of the forward with this ε, which is not the usual one."""
    params, (x, *_), state = drawn_inputs(cell, 1, (2,))
    other = with_epsilon(cell, 0.5)
    assert other == with_epsilon(cell, 0.5)

    @jax.jit
    def run(params, x):
        def loss(params, x, gradient):
            new = lj.step(other, params, state, x, gradient=gradient)
            return jnp.sum(new[0] ** 2), new

        grad = jax.grad(loss, (0, 1), has_aux=True)
        usual = lj.step(cell, params, state, x)
        return grad(params, x, "manual"), grad(params, x, "automatic"), usual

    (found, new), (expected, _), usual = run(params, x)
    assert_close(found, expected)
    assert abs(new[0] - usual[0]).max() > 1e-3


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
