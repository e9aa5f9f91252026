"""Chunks of time: their length, and the scan over them against a plain loop."""

import math

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given
from jax import lax

from lstm_jax.chunks import PREFERRED_STEPS, chunk_length, scan_chunks

MEMORIES = st.sampled_from(["store", "states", "recompute"])


@given(steps=st.integers(1, 5000), memory=MEMORIES)
@example(steps=1, memory="recompute")
@example(steps=PREFERRED_STEPS, memory="store")
@example(steps=2 * PREFERRED_STEPS + 3, memory="store")
def test_the_length_of_a_chunk(steps, memory):
    preferred = math.isqrt(steps) if memory == "recompute" else PREFERRED_STEPS
    length = chunk_length(steps, memory)
    assert 1 <= length <= steps
    assert min(preferred, steps) <= length < 2 * preferred
    candidates = range(min(preferred, steps), min(2 * preferred, steps + 1))
    if any(steps % candidate == 0 for candidate in candidates):
        assert steps % length == 0


LENGTHS = [  # steps, chunk
    (6, 6),  # one chunk
    (6, 2),  # whole chunks alone
    (7, 3),  # whole chunks and a rest
    (3, 2),  # one chunk and a rest
    (2, 3),  # a rest alone
    (4, 1),
]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("steps", "length"), LENGTHS)
def test_a_plain_loop_says_the_same(steps, length, reverse):
    """A carry that tells the order, c ← 3 c + x, and a number of each chunk's own."""
    xs = {"x": jnp.arange(1, steps + 1)}
    count = math.ceil(steps / length)
    own = 100 * jnp.arange(1, count + 1)

    def body(carry, inputs):
        sequences, mine = inputs

        def step(carry, x):
            carry = 3 * carry + x
            return carry, carry + mine

        carry, ys = lax.scan(step, carry, sequences["x"], reverse=reverse)
        return carry, (ys, mine[None])

    run = jax.jit(lambda: scan_chunks(body, 1, xs, own, length, reverse=reverse))
    last, (ys, numbers) = run()

    carry, expected = 1, np.zeros(steps, int)
    for t in reversed(range(steps)) if reverse else range(steps):
        carry = 3 * carry + (t + 1)
        expected[t] = carry + 100 * (t // length + 1)
    assert last == carry
    np.testing.assert_array_equal(ys, expected)
    np.testing.assert_array_equal(numbers, own)


def test_none_passes_through():
    """Absent masks are None among the sequences, and among the outputs."""

    def body(carry, inputs):
        (x, mask), own = inputs
        assert mask is None
        assert own is None
        return carry + jnp.sum(x), None

    total, out = scan_chunks(body, 0, (jnp.arange(5), None), None, 2, reverse=False)
    assert total == 10
    assert out is None
