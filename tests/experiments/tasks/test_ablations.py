"""What an ablated LSTM lacks, and nothing else: each against the LSTM with that fixed.

A gate that is always open is the LSTM's with a bias so large that its sigmoid is 1;
gates without recurrence are the LSTM's with those recurrent weights at 0.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lstm_jax as lj
from experiments.tasks.ablations import ABLATIONS, equations
from lstm_jax.identities import sigmoid

D, H = 3, 4
BLOCKS = {"no_input_gate": 0, "no_forget_gate": 1, "no_output_gate": 2}


@pytest.fixture(scope="module")
def problem():
    params = lj.LSTM.init(jax.random.key(0), D, H, dtype=jnp.float64)
    return params, 2 * jax.random.normal(jax.random.key(1), (6, 2, D))


def outputs(cell, params, xs):
    gradient = "manual" if cell is lj.LSTM else "automatic"
    return lj.unroll(cell, params, xs, gradient=gradient)[0]


@pytest.mark.parametrize(("name", "block"), BLOCKS.items())
def test_a_gate_that_is_always_open(problem, name, block):
    params, xs = problem
    wide = params._replace(b=params.b.at[block * H : (block + 1) * H].set(1e4))
    found = outputs(ABLATIONS[name], params, xs)
    np.testing.assert_allclose(found, outputs(lj.LSTM, wide, xs), rtol=1e-12)


def test_gates_without_recurrence(problem):
    params, xs = problem
    cut = params._replace(Wh=params.Wh.at[:, : 3 * H].set(0))
    found = outputs(ABLATIONS["no_gate_recurrence"], params, xs)
    np.testing.assert_allclose(found, outputs(lj.LSTM, cut, xs), rtol=1e-12)


@pytest.mark.promotes_ranks
@pytest.mark.parametrize("name", ["no_candidate_tanh", "no_output_tanh"])
def test_an_activation_left_out(problem, name):
    params, xs = problem
    h = c = np.zeros((2, H))
    expected = []
    for x in np.asarray(xs):
        z = x @ params.Wx + h @ params.Wh + params.b
        i, f, o = (np.asarray(sigmoid(z[:, k * H : (k + 1) * H])) for k in range(3))
        g = z[:, 3 * H :] if name == "no_candidate_tanh" else np.tanh(z[:, 3 * H :])
        c = i * g + f * c
        h = o * (c if name == "no_output_tanh" else np.tanh(c))
        expected.append(h)
    found = outputs(ABLATIONS[name], params, xs)
    np.testing.assert_allclose(found, np.asarray(expected), rtol=1e-12)


def test_nothing_left_out_is_the_lstm(problem):
    params, xs = problem
    whole = lj.gated(
        "whole",
        init=lj.LSTM.init,
        initial_state=lj.LSTM.initial_state,
        equations=equations,
    )
    expected = outputs(lj.LSTM, params, xs)
    np.testing.assert_allclose(outputs(whole, params, xs), expected, rtol=1e-12)
    for cell in ABLATIONS.values():
        assert jnp.abs(outputs(cell, params, xs) - expected).max() > 0.01, cell.name


def test_names_are_the_cells_own_and_no_others():
    assert {name: cell.name for name, cell in ABLATIONS.items()} == {
        name: name for name in ABLATIONS
    }
    assert not set(ABLATIONS) & set(lj.CELLS)
