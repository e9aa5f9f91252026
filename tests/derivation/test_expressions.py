"""Expressions: simplified as on paper, and always worth the same."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from lstm_jax.derivation import expressions as ex
from lstm_jax.derivation.evaluation import evaluated
from lstm_jax.derivation.recognition import Letters

SHAPE = (3, 4)
RNG = np.random.default_rng(0)
SHAPES = {"a": SHAPE, "b": SHAPE, "r": (3, 1), "p": (4,), "s": (1, 4)}
VALUES = {name: RNG.normal(size=shape) for name, shape in SHAPES.items()}
a, b, r, p, s = (ex.name(name, shape) for name, shape in SHAPES.items())
LARGER = ex.call("gt", a, b)
HALF = SHAPE[1] // 2


def full(x):
    e, value = x
    return ex.spread(e, SHAPE), np.broadcast_to(value, SHAPE)


def halves_swapped(x):
    e, value = full(x)
    left, right = ex.block(e, 1, 0, HALF), ex.block(e, 1, HALF, 2 * HALF)
    swapped = np.concatenate([value[:, HALF:], value[:, :HALF]], axis=1)
    return ex.concat([right, left], 1, SHAPE), swapped


def summed(x, axes):
    e, value = full(x)
    return ex.total(e, axes), value.sum(axes, keepdims=True)


def chosen(x, y):
    (e, value), (f, other) = full(x), full(y)
    which = np.where(VALUES["a"] > VALUES["b"], value, other)
    return ex.select(LARGER, e, f), which


# How expressions are made of others, each with what NumPy makes of their values.
ONE_OPERAND = {
    "negative": lambda x: (ex.negative(x[0]), -x[1]),
    "square": lambda x: (ex.power(x[0], 2), x[1] ** 2),
    "tanh": lambda x: (ex.call("tanh", x[0]), np.tanh(x[1])),
    "full": full,
    "swapped": halves_swapped,
    "summed over examples": lambda x: summed(x, (0,)),
    "summed over features": lambda x: summed(x, (1,)),
    "summed over all": lambda x: summed(x, (0, 1)),
}
TWO_OPERANDS = {
    "add": lambda x, y: (ex.add(x[0], y[0]), x[1] + y[1]),
    "mul": lambda x, y: (ex.mul(x[0], y[0]), x[1] * y[1]),
    "chosen": chosen,
}
RECIPES = st.recursive(
    st.sampled_from([*SHAPES, 0, 1, -1, 2, 0.5]),
    lambda of: (
        st.tuples(st.sampled_from([*ONE_OPERAND]), of)
        | st.tuples(st.sampled_from([*TWO_OPERANDS]), of, of)
    ),
    max_leaves=12,
)


def made(recipe):
    match recipe:
        case str():
            return ex.name(recipe, SHAPES[recipe]), VALUES[recipe]
        case (operation, operand):
            return ONE_OPERAND[operation](made(operand))
        case (operation, *operands):
            return TWO_OPERANDS[operation](*map(made, operands))
    return ex.number(recipe), np.float64(recipe)


@settings(max_examples=100)
@given(RECIPES)
def test_simplifying_changes_no_value(recipe):
    e, value = made(recipe)
    assert e.shape in ((), np.shape(value))
    scale = max(1.0, float(np.max(np.abs(value))))

    def check(other):
        found = np.broadcast_to(evaluated(other, VALUES), np.shape(value))
        np.testing.assert_allclose(found, value, rtol=1e-9, atol=1e-9 * scale)

    check(e)
    check(ex.rewritten(e, lambda part: part))
    check(ex.add(*ex.expanded(e)))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (ex.add(a, b, ex.negative(a)), b),
        (ex.add(ex.mul(a, b), ex.mul(b, ex.number(2), a)), ex.mul(ex.number(3), a, b)),
        (ex.add(ex.mul(a, r), ex.mul(a, b)), ex.mul(ex.add(b, r), a)),
        (ex.mul(a, ex.power(a, -1)), ex.spread(ex.ONE, SHAPE)),
        (ex.negative(ex.add(a, ex.negative(b))), ex.add(b, ex.negative(a))),
        (ex.total(ex.mul(a, r), (1,)), ex.mul(r, ex.total(a, (1,)))),
        (ex.select(ex.call("eq", a, b), r, a), a),
        (ex.add(ex.call("expm1", a), ex.ONE), ex.call("exp", a)),
        (ex.transpose(ex.transpose(a, (1, 0)), (1, 0)), a),
    ],
    ids=str,
)
def test_what_one_does_without_thinking(found, expected):
    assert found == expected


def test_the_operand_that_leads_the_result_stands_first():
    one, other = (0, 1), (0, 2)  # summed over the examples
    ab = ex.dot(a, b, (one, other, (1, 2)), (4, 4))
    ba = ex.dot(b, a, (other, one, (2, 1)), (4, 4))
    assert ex.transpose(ba, (1, 0)) == ab != ba
    values = VALUES["a"].T @ VALUES["b"]
    for e, expected in ((ab, values), (ba, values.T)):
        np.testing.assert_allclose(evaluated(e, VALUES), expected, rtol=1e-14)


def test_quantities_are_recognized():
    t, root, half = (ex.name(n, SHAPE) for n in ("t", "root", "half"))
    letters = Letters(
        [
            (t, ex.call("tanh", a)),
            (root, ex.power(b, 0.5)),
            (half, ex.call("exp", a)),
        ]
    )
    slope = ex.add(ex.ONE, ex.negative(ex.power(ex.call("tanh", a), 2)))
    assert letters.within(slope) == ex.add(ex.ONE, ex.negative(ex.power(t, 2)))
    assert letters.within(ex.power(b, -1.5)) == ex.power(root, -3)
    twice = ex.call("exp", ex.mul(ex.number(2), a))
    assert letters.within(twice) == ex.power(half, 2)
