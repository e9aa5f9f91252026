"""The convolutional LSTM: its reverse, and what a place sees.

`tests/interop/test_peers.py` compares it with flax's, Haiku's and Keras'.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import assert_close, drawn_like

import lstm_jax as lj
from lstm_jax.cells.conv_lstm import Grid, patches, patches_backward


def test_its_reverse():
    cell = lj.conv_lstm((3, 2), (3, 2))
    report = lj.check_gradients(cell, input_size=6, hidden_size=12, steps=0)
    assert report.ok, report


def test_a_patch_is_a_places_neighbourhood():
    found = patches(Grid((4,), (3,)), jnp.array([1.0, 2.0, 3.0, 4.0]))
    expected = [[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 0]]
    np.testing.assert_array_equal(found, expected)


def test_patches_and_their_reverse_are_transposes():
    grid = Grid((3, 2), (5, 2))
    x = jax.ShapeDtypeStruct((12,), "float64")
    dp = drawn_like(jax.eval_shape(partial(patches, grid), x))

    @jax.jit
    def both(dp):
        transpose = jax.linear_transpose(partial(patches, grid), x)
        return patches_backward(grid, dp), *transpose(dp)

    found, expected = both(dp)
    assert_close(found, expected)


def test_without_a_bias():
    cell = lj.conv_lstm((2,))
    init = partial(cell.init, dtype=jnp.float64, bias=False)
    params = jax.eval_shape(lambda key: init(key, 2, 2), jax.random.key(0))
    xs = drawn_like(jax.ShapeDtypeStruct((2, 1, 2), "float64"))
    gradient = jax.jit(jax.grad(lambda p: lj.unroll(cell, p, xs)[0].sum()))
    assert gradient(drawn_like(params)).b is None


def test_equal_arguments_make_equal_cells():
    assert lj.conv_lstm((4, 2)) == lj.conv_lstm((4, 2), (3, 3))
    assert lj.conv_lstm((4, 2)) != lj.conv_lstm((4, 2), 2)


def test_bad_arguments():
    for arguments in (((), 3), ((4, 4), (3,)), ((4, 0), 3), ((4,), 0)):
        with pytest.raises(ValueError, match=r"must (have a size|be at least 1)"):
            lj.conv_lstm(*arguments)
    with pytest.raises(ValueError, match=r"multiple of the 6 places of the grid"):
        lj.conv_lstm((3, 2)).init(jax.random.key(0), 6, 7)
