"""Two tasks on which memory over long times is all that counts, from a key alone."""

import math

import jax
import jax.numpy as jnp

from experiments.checks import LARGEST, within

_SYMBOLS = 8
_BLANK = _SYMBOLS
_RECALL = _SYMBOLS + 1
_COPIED = 10


def adding_problem(
    key: jax.Array, length: int, batch_size: int
) -> tuple[jax.Array, jax.Array]:
    """The adding problem: add the two marked numbers of a long sequence.

    After Hochreiter & Schmidhuber (1997), experiment 4, in the form of Arjovsky, Shah
    & Bengio (2016), section 5.2: every step has a number, uniform in [0, 1), and a
    marker that is 1 at one step of the first half, at one of the second half, and 0
    elsewhere. The original draws from [-1, 1] and asks for 0.5 + (X1 + X2) / 4. ::

        target = value[first marked] + value[second marked]

    Args:
        key: a JAX random key.
        length: steps T, at least 2.
        batch_size: sequences B, at least 1.

    Returns:
        Inputs (T, B, 2) float32, value and marker; targets (B,) float32.

    Raises:
        TypeError, ValueError: a size is no integer, or out of range.
    """
    within(2, LARGEST, length=length)
    within(1, LARGEST, batch_size=batch_size)
    value_key, first_key, second_key = jax.random.split(key, 3)
    values = jax.random.uniform(value_key, (length, batch_size), jnp.float32)
    half = length // 2
    first = jax.random.randint(first_key, (batch_size,), 0, half)
    second = jax.random.randint(second_key, (batch_size,), half, length)
    steps = jnp.arange(length)[:, None]
    markers = ((steps == first) | (steps == second)).astype(jnp.float32)
    return jnp.stack([values, markers], axis=-1), (values * markers).sum(axis=0)


def adding_problem_baseline() -> float:
    """The mean squared error of always answering 1, the mean: 1/12 + 1/12 = 1/6."""
    return 1 / 6


def copy_memory(
    key: jax.Array, delay: int, batch_size: int
) -> tuple[jax.Array, jax.Array]:
    """Copy memory: recall ten symbols after a long pause.

    After Hochreiter & Schmidhuber (1997), in the form of Arjovsky, Shah & Bengio
    (2016), section 5.1: ten symbols drawn from 0 to 7, `delay - 1` blanks (8), one
    signal to recall (9), ten more blanks. The target is blank for `delay + 10` steps
    and then the ten symbols. ::

        step     0 ... 9 | 10 ... delay+8 | delay+9 | delay+10 ... delay+19
        token    symbols |     blank      | recall  |        blank
        target    blank  |     blank      |  blank  |       symbols

    Args:
        key: a JAX random key.
        delay: the pause, called T there, at least 1; sequences have delay + 20 steps.
        batch_size: sequences B, at least 1.

    Returns:
        Tokens (delay + 20, B) int32 in 0..9, and targets (delay + 20, B) int32 in 0..8.

    Raises:
        TypeError, ValueError: a size is no integer, or out of range.
    """
    within(1, LARGEST - 2 * _COPIED, delay=delay, batch_size=batch_size)
    symbols = jax.random.randint(key, (_COPIED, batch_size), 0, _SYMBOLS, jnp.int32)
    pause = jnp.full((delay + _COPIED, batch_size), _BLANK, jnp.int32)
    tokens = jnp.concatenate([symbols, pause.at[delay - 1].set(_RECALL)])
    return tokens, jnp.concatenate([pause, symbols])


def copy_memory_baseline(delay: int) -> float:
    """The cross-entropy (nats a step) of knowing all but the symbols.

    10 ln 8 / (delay + 20): blanks where blanks belong, and one of eight by chance.
    """
    return _COPIED * math.log(_SYMBOLS) / (delay + 2 * _COPIED)
