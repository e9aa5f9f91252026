"""The state-tracking tasks against plain Python, one sequence after another."""

import itertools

import jax
import numpy as np
import pytest

from experiments.data import (
    ANSWERS,
    NOTHING,
    STATE_TASKS,
    SYMBOLS,
    VALUES,
    Examples,
    encoded,
)

pytestmark = pytest.mark.promotes_ranks

KEY = jax.random.key(3)
DRAW = {
    name: jax.jit(task, static_argnums=(1, 2)) for name, task in STATE_TASKS.items()
}
LENGTH, BATCH = 64, 100  # the same for all: a program each


def parity(symbols, values):
    ones = 0
    for bit in symbols:
        assert bit in (0, 1)
        ones += bit
        yield ones % 2


def modular_addition(symbols, values):
    total = 0
    for digit in symbols:
        assert digit in range(5)
        total += digit
        yield total % 5


def s3(symbols, values):
    group = list(itertools.permutations(range(3)))
    things = "abc"
    for symbol in symbols:
        things = "".join(things[place] for place in group[symbol])
        yield group.index(tuple("abc".index(thing) for thing in things))


def s5(symbols, values):
    swaps = list(itertools.combinations(range(5), 2))
    things = list("abcde")
    for symbol in symbols:
        a, b = swaps[symbol]
        things[a], things[b] = things[b], things[a]
        yield things.index("a")


def flip_flop(symbols, values):
    assert symbols[0] == 1
    for kind, bit in zip(symbols, values, strict=True):
        assert kind in (0, 1, 2)
        assert (bit == NOTHING) == (kind == 0)
        if kind == 1:
            written = bit
        yield written if kind == 0 else NOTHING


def brackets(symbols, values):
    stack = []
    for symbol in symbols:
        if symbol < 2:
            stack.append(symbol)
            assert len(stack) <= 4
            yield NOTHING
        else:
            assert stack.pop() == symbol - 2
            yield stack[-1] if stack else 2


def recall(symbols, values):
    told, half = {}, len(symbols) // 2
    for number, (key, value) in enumerate(zip(symbols, values, strict=True)):
        if number < half:
            assert key not in told
            told[key] = value
            yield NOTHING
        else:
            assert value == NOTHING
            yield told.pop(key)
    assert not told


ORACLES = (parity, modular_addition, s3, s5, flip_flop, brackets, recall)


@pytest.mark.parametrize("oracle", ORACLES, ids=lambda oracle: oracle.__name__)
def test_answers_are_those_of_plain_python(oracle):
    found = DRAW[oracle.__name__](KEY, LENGTH, BATCH)
    for part in found:
        assert part.shape == (LENGTH, BATCH)
        assert part.dtype == np.int32
    for symbols, values, answers in zip(*(np.asarray(a).T for a in found), strict=True):
        assert list(oracle(symbols.tolist(), values.tolist())) == answers.tolist()


def test_there_is_an_oracle_for_each():
    assert [oracle.__name__ for oracle in ORACLES] == list(STATE_TASKS)


@pytest.mark.parametrize(
    ("name", "symbols", "values", "answers"),
    [
        ("parity", [0, 1], [], [0, 1]),
        ("modular_addition", range(5), [], range(5)),
        ("s3", range(6), [], range(6)),
        ("s5", range(10), [], range(5)),
        ("flip_flop", range(3), [0, 1], [0, 1]),
        ("brackets", range(4), [], range(3)),
        ("recall", range(32), range(8), range(8)),
    ],
)
def test_all_that_can_be_drawn_is(name, symbols, values, answers):
    found = DRAW[name](KEY, LENGTH, BATCH)
    for part, expected, most in zip(
        found, (symbols, values, answers), (SYMBOLS, VALUES, ANSWERS), strict=True
    ):
        assert set(np.unique(part)) - {NOTHING} == set(expected)
        assert max(expected, default=0) < most


@pytest.mark.parametrize("name", STATE_TASKS)
def test_sequences_are_functions_of_the_key_and_differ(name):
    sizes = LENGTH, BATCH
    first, again = STATE_TASKS[name](KEY, *sizes), DRAW[name](KEY, *sizes)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    other = DRAW[name](jax.random.key(4), *sizes)
    assert not np.array_equal(first.symbols, other.symbols)
    assert len(np.unique(first.symbols, axis=1).T) > BATCH / 2


def test_a_flip_flop_mostly_ignores():
    kinds = np.asarray(DRAW["flip_flop"](KEY, 100, 200).symbols)[1:]
    np.testing.assert_allclose(
        np.bincount(kinds.ravel()) / kinds.size, [0.1, 0.1, 0.8], atol=0.01
    )


def test_brackets_open_and_close_alike():
    symbols = np.asarray(DRAW["brackets"](KEY, 100, 200).symbols)
    depth = np.cumsum(np.where(symbols < 2, 1, -1), axis=0)
    assert set(np.unique(depth)) == set(range(5))
    free = (depth[:-1] > 0) & (depth[:-1] < 4)
    assert np.mean(symbols[1:][free] < 2) == pytest.approx(0.5, abs=0.02)


def test_more_keys_than_there_are():
    with pytest.raises(ValueError, match="length must be at most 64; got 66"):
        STATE_TASKS["recall"](KEY, 66, 2)


def test_what_a_network_reads():
    symbols, values = np.asarray([[3, NOTHING]]), np.asarray([[NOTHING, 1]])
    found = encoded(Examples(symbols, values, symbols))
    assert found.shape == (1, 2, SYMBOLS + VALUES)
    assert np.argwhere(np.asarray(found)).tolist() == [[0, 0, 3], [0, 1, SYMBOLS + 1]]
