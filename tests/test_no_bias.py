"""Cells without a bias: the numbers of one that is 0, and nothing there to train."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from oracles import assert_close, drawn_inputs, drawn_like, drawn_params

import lstm_jax as lj
from lstm_jax.gated import with_zeros
from lstm_jax.layers import init_layers, unroll_layers

# One cell for each way in which a bias comes in, or is asked about.
WAYS = ("rnn_tanh", "min_gru", "gru", "gru_before", "projected_lstm", "layer_norm_lstm")
EACH_WAY = pytest.mark.parametrize(
    "cell",
    [
        pytest.param(cell, id=name, marks=() if name in WAYS else pytest.mark.slow)
        for name, cell in lj.CELLS.items()
    ],
)


def without(params):
    """The same parameters, their biases left out."""
    absent = {field: None for field in ("b", "bh") if field in params._fields}
    return params._replace(**absent)


@EACH_WAY
def test_a_step_is_that_of_a_bias_of_zeros(cell):
    params, (x, *_), state = drawn_inputs(cell, 1, (2,))
    params = without(params)
    like = partial(cell.init, jax.random.key(0), **cell.sizes(params))
    assert jax.tree.structure(jax.eval_shape(like)) == jax.tree.structure(params)

    @jax.jit
    def both(*arguments):
        found = []
        for given in (params, with_zeros(params)):
            new, pull = jax.vjp(partial(lj.step, cell), given, *arguments)
            found.append((new, pull(drawn_like(new, 3))))
        return found

    (new, (dparams, *others)), (expected, (dzeros, *expected_others)) = both(state, x)
    assert_close((new, *others), (expected, *expected_others))
    assert_close(dparams, without(dzeros))


def test_compiled_steps():
    cell = lj.CELLS["gru"]
    params, xs, state = drawn_inputs(cell, 3, (2,))
    params = without(params)
    if lj.runner_of(cell, params).runner != "compiled C++":
        pytest.skip("there is no compiler")

    def run(params, xs, state, gradient):
        ys, final = lj.unroll(cell, params, xs, state, gradient=gradient)
        return sum(jnp.sum(a**2) for a in jax.tree.leaves((ys, final)))

    found, expected = (
        jax.jit(jax.grad(partial(run, gradient=gradient), (0, 1, 2)))(params, xs, state)
        for gradient in ("manual", "automatic")
    )
    assert found[0].b is None
    assert_close(found, expected)


def test_the_gradient_check():
    cell = lj.CELLS["gru"]
    bare = cell._replace(init=partial(cell.init, bias=False))
    report = lj.check_gradients(bare, steps=0)
    assert report.ok
    names = [row.quantity for row in report.rows]
    assert "dWh" in names
    assert not {"db", "dbh"} & set(names)


def test_a_stack():
    stack = init_layers("gru", jax.random.key(0), 3, 4, layers=2, bias=False)
    assert [layer.forward.b for layer in stack] == [None, None]
    ys, _ = unroll_layers("gru", stack, jnp.ones((2, 1, 3), jnp.float32))
    assert ys.shape == (2, 1, 4)


def test_parameters_of_a_cell_that_needs_its_bias():
    def init(key, input_size, hidden_size, *, dtype):
        return lj.LSTM.init(key, input_size, hidden_size, dtype=dtype)

    params = without(drawn_params(lj.LSTM))
    with pytest.raises(TypeError, match=r"must take the arguments .*bias"):
        lj.step(lj.LSTM._replace(init=init), params, None, jnp.ones(3))
