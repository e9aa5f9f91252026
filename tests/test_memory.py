"""What the policies for memory save, by the compiler's own account."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

import lstm_jax as lj


def temporary_bytes(steps, **options):
    """Of outputs and gradients, 16 sequences, D = H = 64.

    The outputs and their gradients belong to whoever asks, and are not counted.
    """
    params = lj.LSTM.init(jax.random.key(0), 64, 64, dtype=jnp.float32)
    xs = dys = jax.ShapeDtypeStruct((steps, 16, 64), jnp.float32)

    def run(params, xs, dys):
        unroll = partial(lj.unroll, lj.LSTM, **options)
        ys, pull, _ = jax.vjp(unroll, params, xs, has_aux=True)
        return ys, pull(dys)

    program = jax.jit(run).lower(params, xs, dys).compile()
    return program.memory_analysis().temp_size_in_bytes


def test_recompute_takes_a_tenth_of_automatic_gradients():
    automatic = temporary_bytes(4096, gradient="automatic")
    recompute = temporary_bytes(4096, memory="recompute")
    assert recompute <= 0.1 * automatic


@pytest.mark.slow
def test_each_policy_takes_less_than_the_one_before():
    store, states, recompute = (
        temporary_bytes(4096, memory=memory)
        for memory in ("store", "states", "recompute")
    )
    assert recompute < 0.5 * states < 0.5 * 0.7 * store
