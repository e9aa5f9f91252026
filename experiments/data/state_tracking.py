"""Tasks that ask for a state: where the theory says that recurrent cells differ.

Each reads symbols and asks, after some of them, for what a small machine's state is by
then. They are drawn from a key alone, and all have one shape, so that one compiled
program serves all of them. `STATE_TASKS` draws them by name:

=================== ==================================================================
parity              the number of ones so far, modulo 2
modular_addition    the sum of all digits so far, modulo 5
s3                  the product of all permutations of three things so far
s5                  where the first of five things is, after swaps of any two
flip_flop           the bit that was written last
brackets            the bracket that is open, four deep at the most, of two kinds
recall              the value that came with a key, of many
=================== ==================================================================

Parity and modular addition are the groups Z2 and Z5. S3 is solvable and not
commutative. S5 is not solvable: where its swaps take a point is as hard as the whole
word problem, complete for NC1 (Barrington, 1989), which no fixed number of layers with
linear, diagonal recurrences solves (Merrill, Petty & Sabharwal, 2024, "The illusion of
state in state-space models"). A factor of -1 is what such a layer needs for parity
(Grazzi et al., 2024, "Unlocking state-tracking in linear RNNs through negative
eigenvalues"). The flip-flop is that of Liu et al. (2023), "Exposing attention glitches
with flip-flop language modeling"; the brackets are those of Hewitt et al. (2020), "RNNs
can generate bounded hierarchical languages with optimal memory"; the recall is that of
Arora et al. (2023), "Zoology", with key and value in one step, so that memory is all
it takes.
"""

import itertools
from collections.abc import Callable
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from experiments.checks import within

SYMBOLS, VALUES, ANSWERS = 32, 8, 8
"""How many there are of each, in all tasks together."""

NOTHING = -1
"""No symbol, no value, or nothing that is asked."""

MODULUS, POINTS, DEPTH, KINDS = 5, 5, 4, 2
READ, WRITE, IGNORE = 0, 1, 2


class Examples(NamedTuple):
    """Sequences, time first.

    Attributes:
        symbols: (T, B) int32 below `SYMBOLS`, or `NOTHING`.
        values: beside them, (T, B) int32 below `VALUES`, or `NOTHING`.
        answers: (T, B) int32 below `ANSWERS`; `NOTHING` where nothing is asked.
    """

    symbols: Array
    values: Array
    answers: Array


Draw = Callable[[Array, int, int], Examples]
"""``(key, length, batch_size) -> examples``; at least one step and one sequence."""


def encoded(examples: Examples) -> Array:
    """What a network reads: (T, B, SYMBOLS + VALUES), at most a one in each part."""
    parts = (
        jax.nn.one_hot(examples.symbols, SYMBOLS),
        jax.nn.one_hot(examples.values, VALUES),
    )
    return jnp.concatenate(parts, axis=-1)


def parity(key: Array, length: int, batch_size: int) -> Examples:
    """Bits; after each, whether an odd number of ones has come."""
    bits = jax.random.randint(key, (length, batch_size), 0, 2, jnp.int32)
    return _of_symbols(bits, jnp.cumsum(bits, axis=0) % 2)


def modular_addition(key: Array, length: int, batch_size: int) -> Examples:
    """Digits from 0 to 4; after each, the sum of all modulo 5."""
    digits = jax.random.randint(key, (length, batch_size), 0, MODULUS, jnp.int32)
    return _of_symbols(digits, jnp.cumsum(digits, axis=0) % MODULUS)


PERMUTATIONS = np.asarray(list(itertools.permutations(range(3))), np.int32)
"""S3, in the order of its symbols: each row says which thing comes to each place."""


def s3(key: Array, length: int, batch_size: int) -> Examples:
    """Permutations of three things; after each, which one all of them together are."""
    symbols = jax.random.randint(
        key, (length, batch_size), 0, len(PERMUTATIONS), jnp.int32
    )
    rows = [tuple(row) for row in PERMUTATIONS]
    products = [[rows.index(tuple(a[b])) for b in PERMUTATIONS] for a in PERMUTATIONS]
    table = jnp.asarray(products, jnp.int32)

    def apply(so_far: Array, symbol: Array) -> tuple[Array, Array]:
        after = table[so_far, symbol]
        return after, after

    identity = jnp.zeros(batch_size, jnp.int32)
    return _of_symbols(symbols, lax.scan(apply, identity, symbols)[1])


SWAPS = np.asarray(list(itertools.combinations(range(POINTS), 2)), np.int32)
"""Of two places out of five, in the order of the symbols; together they make S5."""


def s5(key: Array, length: int, batch_size: int) -> Examples:
    """Swaps of two places out of five; after each, where the first thing is."""
    symbols = jax.random.randint(key, (length, batch_size), 0, len(SWAPS), jnp.int32)
    first, second = jnp.asarray(SWAPS).T

    def swap(place: Array, symbol: Array) -> tuple[Array, Array]:
        a, b = first[symbol], second[symbol]
        after = jnp.where(place == a, b, jnp.where(place == b, a, place))
        return after, after

    start = jnp.zeros(batch_size, jnp.int32)
    return _of_symbols(symbols, lax.scan(swap, start, symbols)[1])


def flip_flop(key: Array, length: int, batch_size: int) -> Examples:
    """Bits to write (one in ten steps) and to ignore; at one step in ten, a question.

    The first step writes.
    """
    key_kind, key_bit = jax.random.split(key)
    shares = jnp.log(jnp.asarray([0.1, 0.1, 0.8]))  # read, write, ignore
    shape = length, batch_size
    kinds = jax.random.categorical(key_kind, shares, shape=shape).astype(jnp.int32)
    kinds = kinds.at[0].set(WRITE)
    bits = jax.random.randint(key_bit, shape, 0, 2, jnp.int32)
    steps = jnp.arange(length)[:, None]
    written = lax.cummax(jnp.where(kinds == WRITE, steps, 0), axis=0)
    answers = jnp.take_along_axis(bits, written, axis=0)
    read = kinds == READ
    return Examples(
        kinds, jnp.where(read, NOTHING, bits), jnp.where(read, answers, NOTHING)
    )


def brackets(key: Array, length: int, batch_size: int) -> Examples:
    """Brackets of two kinds that open (0, 1) and close (2, 3), four deep at the most.

    After one that closes, the answer is the kind that is still open inside all others,
    and 2 where none is. Where both are possible, opening is as likely as closing.
    """
    key_opens, key_kind = jax.random.split(key)
    opens = jax.random.bernoulli(key_opens, 0.5, (length, batch_size))
    kinds = jax.random.randint(key_kind, (length, batch_size), 0, KINDS, jnp.int32)
    rows = jnp.arange(batch_size)

    def read(carry: tuple[Array, Array], drawn: tuple[Array, Array]):
        stack, depth = carry  # (B, DEPTH + 1), (B,); below the lowest bracket is KINDS
        opens, kind = drawn
        opens = (opens | (depth == 0)) & (depth < DEPTH)
        closed = stack[rows, depth]
        depth = jnp.where(opens, depth + 1, depth - 1)
        kept = stack[rows, depth]
        stack = stack.at[rows, depth].set(jnp.where(opens, kind, kept))
        symbol = jnp.where(opens, kind, KINDS + closed)
        return (stack, depth), (symbol, jnp.where(opens, NOTHING, kept))

    empty = jnp.full((batch_size, DEPTH + 1), KINDS, jnp.int32)
    start = empty, jnp.zeros(batch_size, jnp.int32)
    return _of_symbols(*lax.scan(read, start, (opens, kinds))[1])


def recall(key: Array, length: int, batch_size: int) -> Examples:
    """Half the steps show a key with its value, the others ask for each key's value.

    Keys of a sequence differ, so there are no more than `SYMBOLS`: `length` is even,
    and 64 at the most.
    """
    within(2, 2 * SYMBOLS, length=length)
    pairs, rows = length // 2, jnp.arange(batch_size)
    key_keys, key_values, key_order = jax.random.split(key, 3)
    keys = _orders(key_keys, SYMBOLS, batch_size)[:pairs]
    values = jax.random.randint(key_values, (pairs, batch_size), 0, VALUES, jnp.int32)
    order = _orders(key_order, pairs, batch_size)
    nothing = jnp.full_like(values, NOTHING)
    return Examples(
        jnp.concatenate([keys, keys[order, rows]]),
        jnp.concatenate([values, nothing]),
        jnp.concatenate([nothing, values[order, rows]]),
    )


def _orders(key: Array, count: int, batch_size: int) -> Array:
    """The numbers below `count` in an order of each sequence's own, (count, B)."""
    drawn = jax.random.uniform(key, (count, batch_size), jnp.float32)
    return jnp.argsort(drawn, axis=0).astype(jnp.int32)


def _of_symbols(symbols: Array, answers: Array) -> Examples:
    return Examples(symbols, jnp.full_like(symbols, NOTHING), answers)


STATE_TASKS: MappingProxyType[str, Draw] = MappingProxyType(
    {
        draw.__name__: draw
        for draw in (
            parity,
            modular_addition,
            s3,
            s5,
            flip_flop,
            brackets,
            recall,
        )
    }
)
"""All of them by name."""
