"""Chunks of time: their length, and the scan over them against a plain loop."""

import math

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given
from jax import lax

from lstm_jax.engine.chunks import (
    CHUNK_BYTES,
    LONGEST,
    SHORTEST,
    chunk_length,
    scan_chunks,
)


@given(
    steps=st.integers(1, 5000),
    step_bytes=st.integers(0, 10**7),
    memory=st.sampled_from(["store", "states", "recompute"]),
)
@example(steps=1, step_bytes=4, memory="recompute")
@example(steps=2, step_bytes=4, memory="store")
@example(steps=97, step_bytes=2**16, memory="store")
def test_the_length_of_a_chunk(steps, step_bytes, memory):
    length = chunk_length(steps, step_bytes, memory)
    assert 1 <= length <= steps
    if memory == "recompute":
        wanted = math.isqrt(steps)
    else:
        wanted = min(CHUNK_BYTES // max(step_bytes, 1), steps // 10, LONGEST)
        wanted = min(max(wanted, SHORTEST), steps)
    assert wanted / 2 <= length <= 2 * wanted
    distance = abs(length - wanted)
    for other in range(1, steps + 1):
        if steps % other == 0 and wanted / 2 <= other <= 2 * wanted:
            assert steps % length == 0
            assert distance <= abs(other - wanted)


@pytest.mark.parametrize(
    ("steps", "step_bytes", "expected"),
    [
        (100, 2**16, 10),  # a tenth of the sequence
        (200, 2**18, 8),  # more would not stay in the cache, fewer is too few
        (400, 2**15, 40),
        (1000, 2**11, 50),
        (101, 2**16, 10),  # a prime number of steps: a rest of 1
        (5, 2**11, 5),
    ],
)
def test_known_lengths(steps, step_bytes, expected):
    assert chunk_length(steps, step_bytes, "store") == expected


def test_a_chunk_of_so_many_bytes():
    """Where a runner gives them there is no other limit."""
    assert chunk_length(1000, 2**16, "states", 2**22) == 50
    assert chunk_length(1000, 2**16, "states", 2**26) == 1000
    assert chunk_length(1000, 2**16, "states", 1) == 1
    assert chunk_length(1000, 2**16, "recompute", 2**26) == 25


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
