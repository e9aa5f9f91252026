"""What a gradient was added up from: the size of its terms, not of what is left."""

import jax.numpy as jnp
import numpy as np
from jax import lax

from lstm_jax import graph, named

RNG = np.random.default_rng(0)


def test_without_cancellation_it_is_the_gradients_size():
    def fn(a):
        return jnp.exp(2.0 * a["x"]) * 3.0

    at = {"x": jnp.asarray(0.3)}
    assert np.allclose(graph.added_up(fn)(at)["x"], abs(graph.grad(fn)(at)["x"]))


def test_terms_that_cancel_are_seen():
    def fn(a):
        return 3.0 * a - jnp.sum(jnp.stack([2.0 * a, a]))

    assert graph.grad(fn)(1.0) == 0
    assert np.allclose(graph.added_up(fn)(1.0), np.sqrt(9 + 4 + 1))


def test_products_and_loops():
    """The squares go through the squared matrix, step after step."""
    W, d = RNG.normal(size=(3, 3)), RNG.normal(size=3)

    def fn(h):
        final, _ = lax.scan(lambda h, _: (h @ W, None), h, length=4)
        return jnp.sum(d * final)

    squares = d**2
    for _ in range(4):
        squares = W**2 @ squares
    assert np.allclose(graph.added_up(fn)(jnp.ones(3)), np.sqrt(squares))


def test_saturation_is_known_no_better_than_one():
    assert np.allclose(graph.added_up(jnp.tanh)(20.0), 1e-3)
    assert np.allclose(graph.added_up(jnp.tanh)(1.0), graph.grad(jnp.tanh)(1.0))
    assert graph.grad(jnp.tanh)(20.0) < 1e-15


def test_named_quantities():
    def fn(x):
        y = named(2.0 * x, "y", 1)
        return y * 3.0 - y * 3.0

    sizes = graph.named_added_up(fn, 1.0, cotangent=jnp.float64(1.0))
    assert np.allclose(sizes["y (1)"], np.sqrt(18))
