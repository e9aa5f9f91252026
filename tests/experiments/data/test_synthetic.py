"""The synthetic tasks have the form, the answers and the baselines they claim."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.data import (
    adding_problem,
    adding_problem_baseline,
    copy_memory,
    copy_memory_baseline,
)

pytestmark = pytest.mark.promotes_ranks

KEY = jax.random.key(7)
draw_adding, draw_copy = (
    jax.jit(task, static_argnums=(1, 2)) for task in (adding_problem, copy_memory)
)


@pytest.mark.parametrize(("length", "batch_size"), [(2, 1), (3, 4), (50, 64)])
def test_adding_problem_marks_one_step_in_each_half(length, batch_size):
    xs, targets = map(np.asarray, draw_adding(KEY, length, batch_size))
    assert xs.shape == (length, batch_size, 2)
    assert xs.dtype == targets.dtype == jnp.float32
    values, markers = xs[..., 0], xs[..., 1]
    assert set(np.unique(markers)) <= {0.0, 1.0}
    half = length // 2
    np.testing.assert_array_equal(markers[:half].sum(axis=0), 1)
    np.testing.assert_array_equal(markers[half:].sum(axis=0), 1)
    assert values.min() >= 0
    assert values.max() < 1
    np.testing.assert_allclose(targets, values.T[markers.T == 1].reshape(-1, 2).sum(1))


def test_adding_problem_marks_every_step_sometimes():
    xs, _ = draw_adding(KEY, 6, 100_000)
    assert (np.asarray(xs)[..., 1].sum(axis=1) > 32_000).all()  # 100_000 / 3 expected


def test_adding_problem_baseline_is_the_error_of_the_mean():
    _, targets = draw_adding(KEY, 6, 100_000)
    error = np.mean((np.asarray(targets) - 1.0) ** 2)
    assert error == pytest.approx(adding_problem_baseline(), rel=0.02)


@pytest.mark.parametrize(("delay", "batch_size"), [(1, 1), (3, 4), (40, 16)])
def test_copy_memory_asks_for_the_symbols_after_the_signal(delay, batch_size):
    tokens, targets = map(np.asarray, draw_copy(KEY, delay, batch_size))
    assert tokens.shape == targets.shape == (delay + 20, batch_size)
    assert tokens.dtype == targets.dtype == np.int32
    symbols = tokens[:10]
    assert symbols.min() >= 0
    assert symbols.max() <= 7
    expected = np.full((delay + 10, batch_size), 8)
    expected[delay - 1] = 9
    np.testing.assert_array_equal(tokens[10:], expected)
    np.testing.assert_array_equal(targets[: delay + 10], 8)
    np.testing.assert_array_equal(targets[delay + 10 :], symbols)


def test_copy_memory_uses_every_symbol():
    tokens, _ = draw_copy(KEY, 1, 200)
    counts = np.bincount(np.asarray(tokens)[:10].ravel(), minlength=8)
    assert (counts > 150).all()  # 250 expected


def test_copy_memory_baseline_is_the_entropy_of_the_symbols():
    _, targets = draw_copy(KEY, 40, 16)
    probability = np.where(np.asarray(targets) == 8, 1.0, 1 / 8)
    assert -np.log(probability).mean() == pytest.approx(copy_memory_baseline(40))


@pytest.mark.parametrize(
    ("task", "compiled"), [(adding_problem, draw_adding), (copy_memory, draw_copy)]
)
def test_tasks_are_functions_of_the_key(task, compiled):
    sizes = 3, 4
    drawn, again = task(KEY, *sizes), compiled(KEY, *sizes)
    for first, second in zip(drawn, again, strict=True):
        np.testing.assert_array_equal(first, second)
    other = compiled(jax.random.key(8), *sizes)
    assert not np.array_equal(drawn[0], other[0])


@pytest.mark.parametrize(
    ("task", "size", "batch_size", "named"),
    [
        (adding_problem, 1, 4, "length"),
        (adding_problem, 10, 0, "batch_size"),
        (copy_memory, 0, 4, "delay"),
        (copy_memory, 5, -1, "batch_size"),
        (adding_problem, 10**12, 4, "length"),
        (adding_problem, 10, 10**12, "batch_size"),
        (copy_memory, 2**31 - 1, 4, "delay"),
        (copy_memory, 5, 10**12, "batch_size"),
    ],
)
def test_sizes_out_of_range_are_named(task, size, batch_size, named):
    with pytest.raises(ValueError, match=f"{named} must be at (least|most)"):
        task(KEY, size, batch_size)
