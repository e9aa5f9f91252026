"""The LSTM against the article's own equations, in columns and with 1/m."""

from typing import Any

import article
import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from numpy import ndarray
from numpy.testing import assert_allclose
from oracles import assert_close, pulled, pulled_step

import lstm_jax as lj


def drawn_parameters(rng: Any, n_a: int, n_x: int) -> article.Parameters:
    return article.Parameters(
        Wg=rng.normal(size=(3 * n_a, n_a + n_x)),
        bg=rng.normal(size=(3 * n_a, 1)),
        Wc=rng.normal(size=(n_a, n_a + n_x)),
        bc=rng.normal(size=(n_a, 1)),
    )


def in_rows(parameters: article.Parameters) -> lj.LSTMParams:
    """The article's weights, or their gradients, in this library's layout."""
    n_a = parameters.Wc.shape[0]
    columns = np.concatenate([parameters.Wg, parameters.Wc], axis=0)
    biases = np.concatenate([parameters.bg, parameters.bc], axis=0)
    return lj.LSTMParams(Wx=columns[:, n_a:].T, Wh=columns[:, :n_a].T, b=biases[:, 0])


def rows(columns: ndarray) -> ndarray:
    return np.swapaxes(columns, -1, -2)


sizes = st.integers(1, 5)


@given(n_a=sizes, n_x=sizes, m=sizes)
@settings(max_examples=8)
def test_a_step(n_a, n_x, m):
    rng = np.random.default_rng(n_a + 10 * n_x + 100 * m)
    parameters = drawn_parameters(rng, n_a, n_x)
    a_prev, c_prev, da, dc = rng.normal(size=(4, n_a, m))
    x = rng.normal(size=(n_x, m))
    a, c, cache = article.forward_step(a_prev, c_prev, x, parameters)
    expected = article.backward_step(da, dc, cache, parameters)

    # J is the mean of the examples' losses: each one's gradient arrives as da / m.
    state = lj.LSTMState(rows(a_prev), rows(c_prev))
    new, (dparams, dstate, dx) = pulled_step(
        lj.lstm_step,
        (in_rows(parameters), state, rows(x)),
        lj.LSTMState(rows(da / m), rows(dc / m)),
    )
    assert_close(new, lj.LSTMState(rows(a), rows(c)))
    assert_close(dparams, in_rows(expected.parameters))
    dstate_per_example = lj.LSTMState(rows(expected.da_prev), rows(expected.dc_prev))
    assert_close(jax.tree.map(lambda d: d * m, dstate), dstate_per_example)
    assert_close(dx * m, rows(expected.dx))


@pytest.mark.parametrize("memory", ["store", "states", "recompute"])
def test_backpropagation_through_time(memory):
    steps, n_a, n_x, m = 5, 2, 3, 4
    rng = np.random.default_rng(0)
    parameters = drawn_parameters(rng, n_a, n_x)
    a_0, c_0, dc = rng.normal(size=(3, n_a, m))
    xs = rng.normal(size=(steps, n_x, m))
    das = rng.normal(size=(steps, n_a, m))
    outputs, c, caches = article.forward(a_0, c_0, xs, parameters)
    da_0, dc_0, dxs, total = article.backward(das, dc, caches, parameters)

    (ys, final), (dparams, *others) = pulled(
        lj.LSTM,
        in_rows(parameters),
        rows(xs),
        lj.LSTMState(rows(a_0), rows(c_0)),
        (rows(das / m), lj.LSTMState(rows(np.zeros_like(dc)), rows(dc / m))),
        memory=memory,
    )
    assert_close(ys, rows(np.stack(outputs)))
    assert_close(final, lj.LSTMState(rows(outputs[-1]), rows(c)))
    assert_close(dparams, in_rows(total))
    found_dxs, dstate = jax.tree.map(lambda d: m * np.asarray(d), others)
    assert_close(found_dxs, rows(dxs))
    assert_close(dstate, lj.LSTMState(rows(da_0), rows(dc_0)))


def test_the_rendering_itself_by_differences():
    """Each gradient of the article's backward step, 1/m included."""
    rng = np.random.default_rng(0)
    n_a, n_x, m = 2, 3, 4
    parameters = drawn_parameters(rng, n_a, n_x)
    a_prev, c_prev, da, dc = rng.normal(size=(4, n_a, m))
    x = rng.normal(size=(n_x, m))

    def mean_loss(a_prev, c_prev, x, *parameters):
        step = article.forward_step(a_prev, c_prev, x, article.Parameters(*parameters))
        return np.sum(da * step[0] + dc * step[1]) / m

    arguments = (a_prev, c_prev, x, *parameters)
    _, _, cache = article.forward_step(a_prev, c_prev, x, parameters)
    step = article.backward_step(da, dc, cache, parameters)
    per_example = [d / m for d in (step.da_prev, step.dc_prev, step.dx)]
    for k, found in enumerate([*per_example, *step.parameters]):
        expected = np.zeros_like(found)
        for index in np.ndindex(found.shape):
            nudged = [np.array(a) for a in arguments]
            nudged[k][index] += 1e-6
            ahead = mean_loss(*nudged)
            nudged[k][index] -= 2e-6
            expected[index] = (ahead - mean_loss(*nudged)) / 2e-6
        assert_allclose(found, expected, rtol=1e-6, atol=1e-8)
