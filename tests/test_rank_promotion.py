"""Nothing is broadcast from fewer axes to more, which JAX refuses in these tests.

See conftest.py. Here every cell goes through every kind of sequence.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import EACH_CELL, drawn_inputs

import lstm_jax as lj

OPTIONS = {
    "plain": {},
    "lengths": {"lengths": np.array([2, 0])},
    "resets": {"resets": np.eye(5, 2, dtype=bool)},
    "states": {"memory": "states"},
    "recompute": {"memory": "recompute"},
}


@EACH_CELL
@pytest.mark.parametrize("gradient", ["manual", "automatic"])
@pytest.mark.parametrize("name", OPTIONS)
def test_a_sequence_and_its_gradients(cell, gradient, name):
    params, xs, state = drawn_inputs(cell, 5, (2,))

    def loss(params, xs, state):
        options = OPTIONS[name] | {"gradient": gradient}
        return jnp.sum(lj.unroll(cell, params, xs, state, **options)[0])

    jax.eval_shape(jax.grad(loss, (0, 1, 2)), params, xs, state)


@EACH_CELL
def test_a_step_of_one_example(cell):
    params, xs, state = drawn_inputs(cell, 1, ())
    jax.eval_shape(lambda p, s, x: lj.step(cell, p, s, x), params, state, xs[0])


@pytest.mark.parametrize("name", ["gru", "rg_lru"])
def test_the_check(name):
    assert lj.check_gradients(lj.CELLS[name], steps=2, variants=("resets",)).ok
