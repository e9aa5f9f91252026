"""The minGRU with factors from -1 to 1: its reverse, and what a factor of -1 does."""

import jax.numpy as jnp
import numpy as np
import pytest

import lstm_jax as lj
from experiments.tasks.signed import SIGNED_MIN_GRU
from lstm_jax.cell import OutputState
from lstm_jax.cells.min_gru import MinGRUParams


def test_its_reverse():
    report = lj.check_gradients(SIGNED_MIN_GRU, steps=2, variants=("lengths",))
    assert report.ok, str(report)


@pytest.mark.promotes_ranks
def test_a_factor_of_minus_one_tells_even_from_odd():
    """A one turns the sign around, a zero leaves it."""
    params = MinGRUParams(Wx=jnp.asarray([[200.0, 0.0]]), b=jnp.asarray([-100.0, 0.0]))
    bits = np.random.default_rng(0).integers(0, 2, 300)
    xs = jnp.asarray(bits[:, None], float)
    ys, _ = lj.unroll(SIGNED_MIN_GRU, params, xs, OutputState(jnp.ones(1)))
    np.testing.assert_allclose(ys[:, 0], (-1.0) ** np.cumsum(bits), rtol=1e-12)
