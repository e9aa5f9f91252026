"""What the policies for memory save, by the compiler's own account."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

import lstm_jax as lj
from benchmarks import long_sequences
from lstm_jax.identities import weight_gradient


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


def test_recompute_takes_a_twentieth_of_automatic_gradients():
    automatic = temporary_bytes(4096, gradient="automatic")
    recompute = temporary_bytes(4096, memory="recompute")
    assert recompute <= 0.05 * automatic


def test_gradients_of_two_weights_share_the_copy_that_products_need():
    array = jax.ShapeDtypeStruct((20, 8, 64), jnp.float32)

    def run(dz, x, h):
        return weight_gradient(dz, x), weight_gradient(dz, h)

    program = jax.jit(run).lower(array, array, array).compile()
    assert program.memory_analysis().temp_size_in_bytes < 1.5 * 4 * array.size
    # Factors that XLA has swapped back go to another, slower product.
    assert "lhs_contracting_dims={0}" not in program.as_text()


@pytest.mark.slow
def test_each_policy_takes_less_than_the_one_before():
    store, states, recompute = (
        temporary_bytes(4096, memory=memory)
        for memory in ("store", "states", "recompute")
    )
    assert recompute < 0.5 * states < 0.5 * 0.7 * store


@pytest.mark.slow
@pytest.mark.jax_defaults
def test_the_benchmark_of_long_sequences(monkeypatch, capsys):
    monkeypatch.setattr(long_sequences, "STEPS", 20)
    monkeypatch.setattr(long_sequences, "BATCHES", (2,))
    monkeypatch.setattr(long_sequences, "ROUNDS", 1)
    long_sequences.main()
    rows = [r.split("|") for r in capsys.readouterr().out.splitlines() if "|" in r]
    assert [r[1].strip() for r in rows[2:6]] == [*long_sequences.POLICIES]
    assert all(float(r[2]) > 0 for r in (*rows[2:6], *rows[8:]))
    assert len(rows) == 11
