"""What the tests of the computation graph share: drawn numbers and comparison."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import tree
from numpy.testing import assert_allclose

from lstm_jax import graph

TOLERANCE = 1e-12
RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape)


def positive(*shape: int) -> np.ndarray:
    return RNG.uniform(0.5, 2.0, size=shape)


def inside(*shape: int) -> np.ndarray:
    """Values of magnitude below 1."""
    return RNG.uniform(-0.9, 0.9, size=shape)


def assert_close(found: Any, expected: Any, tolerance: float = TOLERANCE) -> None:
    """Equal trees, shapes and dtypes; values relative to the largest of each array."""
    assert tree.structure(found) == tree.structure(expected)
    for f, e in zip(tree.leaves(found), tree.leaves(expected), strict=True):
        assert f.shape == e.shape
        assert f.dtype == e.dtype
        if e.size and e.dtype != jax.dtypes.float0:
            bound = tolerance * max(1e-300, np.max(np.abs(e)))
            assert_allclose(f, e, rtol=0, atol=bound)


def random_like(outputs: Any) -> Any:
    """A gradient for the outputs: random where they are floating, float0 elsewhere."""

    def draw(output: Any) -> np.ndarray:
        if jnp.issubdtype(output.dtype, jnp.floating):
            drawn = np.random.default_rng(output.size).normal(size=output.shape)
            return jnp.asarray(drawn, output.dtype)
        return np.zeros(output.shape, jax.dtypes.float0)

    return tree.map(draw, outputs)


def value_and_gradients(vjp: Any, fn: Any, args: tuple) -> tuple[Any, tuple]:
    """By `graph.vjp` or `jax.vjp`."""
    value, pullback = vjp(fn, *args)
    return value, pullback(random_like(value))


def assert_like_jax(fn: Any, args: tuple, tolerance: float = TOLERANCE) -> None:
    """The graph's value and gradients of a function against JAX's.

    Compiled as one: operation by operation the tests would take minutes.
    """

    @jax.jit
    def evaluate(*args: Any) -> list[tuple[Any, tuple]]:
        return [value_and_gradients(vjp, fn, args) for vjp in (graph.vjp, jax.vjp)]

    assert_close(*evaluate(*args), tolerance)
