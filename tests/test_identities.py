"""The article's local derivative rules, each against automatic differentiation."""

from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import assert_close, drawn_like

from lstm_jax import identities as rules


class Row(NamedTuple):
    """A rule: its forward, and its backward from (gradient of output, output, inputs).

    The shapes are functions of leading axes, D and N.
    """

    forward: Any
    backward: Any
    shapes: Any


RULES = {
    "add": Row(
        rules.add,
        lambda dc, c, a, b: rules.add_backward(dc),
        lambda lead, d, n: [(*lead, d), (*lead, d)],
    ),
    "multiply": Row(
        rules.multiply,
        lambda dc, c, a, b: rules.multiply_backward(dc, a, b),
        lambda lead, d, n: [(*lead, d), (*lead, d)],
    ),
    "tanh": Row(
        rules.tanh,
        lambda dc, c, a: (rules.tanh_backward(dc, c),),
        lambda lead, d, n: [(*lead, d)],
    ),
    "sigmoid": Row(
        rules.sigmoid,
        lambda dc, c, a: (rules.sigmoid_backward(dc, c),),
        lambda lead, d, n: [(*lead, d)],
    ),
    "square_root": Row(  # of negative numbers as well
        rules.square_root,
        lambda dc, c, a: (rules.square_root_backward(dc, c),),
        lambda lead, d, n: [(*lead, d)],
    ),
    "normalize": Row(
        lambda a: rules.normalize(a)[0],
        lambda dc, c, a: (rules.normalize_backward(dc, *rules.normalize(a)),),
        lambda lead, d, n: [(*lead, d)],
    ),
    "weighted_input": Row(
        rules.weighted_input,
        lambda dz, z, x, w, b: rules.weighted_input_backward(dz, x, w),
        lambda lead, d, n: [(*lead, d), (d, n), (n,)],
    ),
    "weighted_input without bias": Row(
        rules.weighted_input,
        lambda dz, z, x, w: rules.weighted_input_backward(dz, x, w)[:2],
        lambda lead, d, n: [(*lead, d), (d, n)],
    ),
    "concatenate": Row(
        rules.concatenate,
        lambda dc, c, a, b: rules.concatenate_backward(dc, (a.shape[-1], b.shape[-1])),
        lambda lead, d, n: [(*lead, d), (*lead, n)],
    ),
    "split": Row(
        lambda c: rules.split(c, (1, c.shape[-1] - 1)),
        lambda dparts, parts, c: (rules.split_backward(*dparts),),
        lambda lead, d, n: [(*lead, d + 1)],
    ),
    "fan_out": Row(
        partial(rules.fan_out, uses=3),
        lambda duses, uses, a: (rules.fan_out_backward(*duses),),
        lambda lead, d, n: [(*lead, d)],
    ),
}


@cache
def gradients(*sizes):
    """Of each rule the gradients that are written, and JAX's: one program."""

    def both(rule, inputs):
        outputs, pull = jax.vjp(rule.forward, *inputs)
        doutputs = drawn_like(outputs, 9)
        return tuple(rule.backward(doutputs, outputs, *inputs)), pull(doutputs)

    inputs = {
        name: [drawn_like(np.empty(s), k) for k, s in enumerate(rule.shapes(*sizes))]
        for name, rule in RULES.items()
    }
    run = jax.jit(lambda inputs: {n: both(RULES[n], i) for n, i in inputs.items()})
    return run(inputs)


@pytest.mark.parametrize(
    ("lead", "d", "n"), [((), 1, 3), ((4,), 3, 2), ((2, 3), 2, 1), ((0,), 2, 3)]
)
@pytest.mark.parametrize("name", RULES)
def test_each_rule_is_the_derivative(name, lead, d, n):
    assert_close(*gradients(lead, d, n)[name])


FORWARD_VALUES = [
    (rules.add, ([1.0, 2.0], [3.0, 5.0]), [4.0, 7.0]),
    (rules.multiply, ([1.0, 2.0], [3.0, 5.0]), [3.0, 10.0]),
    (rules.tanh, ([0.0, 1000.0, -1000.0],), [0.0, 1.0, -1.0]),
    (rules.sigmoid, ([0.0, 1000.0, -1000.0],), [0.5, 1.0, 0.0]),
    (rules.square_root, ([4.0, 0.0, -1.0],), [2.0, 0.0, 0.0]),
    (rules.weighted_input, ([1.0, 2.0], [[3.0], [5.0]], [7.0]), [20.0]),
    (rules.concatenate, ([1.0, 2.0], [3.0]), [1.0, 2.0, 3.0]),
]


@pytest.mark.parametrize(("forward", "inputs", "expected"), FORWARD_VALUES)
def test_forward_values(forward, inputs, expected):
    found = forward(*(jnp.asarray(a) for a in inputs))
    np.testing.assert_array_equal(found, expected)


def test_a_normalized_row_has_mean_0_and_variance_1():
    """Save for ε, which counts where the variance is small."""
    normalize = jax.jit(rules.normalize)
    a = 1 + np.asarray(drawn_like(np.empty((2, 8)), scale=500))
    c, rate = map(np.asarray, normalize(a))
    assert_close(np.mean(c, axis=-1), np.zeros(2))
    assert_close(np.var(c, axis=-1), np.ones(2), 1e-9)
    assert_close(rate[:, 0], 1 / np.std(a, axis=-1), 1e-9)
    _, rate = normalize(np.array([0.0, 0.02]))
    assert_close(rate, 1 / np.sqrt(np.array([1e-4 + rules.EPSILON])))


def test_equal_numbers_have_a_finite_derivative():
    """Of `normalize` at the first h_prev, and of the root of 0."""
    c, rate = rules.normalize(jnp.zeros(3))
    found = rules.normalize_backward(jnp.array([3.0, 0.0, 0.0]), c, rate)
    assert_close(found, jnp.array([2.0, -1.0, -1.0]) * rate)
    dc = jnp.array([1.0, 1.0])
    found = rules.square_root_backward(dc, jnp.array([0.0, 0.25]))
    np.testing.assert_array_equal(found, [0.0, 2.0])


def ones(*shape: int) -> jax.Array:
    return jax.device_put(np.ones(shape))


ERRORS = {
    "add": (lambda: rules.add(ones(2), ones(1)), r"equal shapes.*\(2,\).*\(1,\)"),
    "multiply": (lambda: rules.multiply(ones(2), ones(1, 2)), r"equal shapes.*\(1, 2"),
    "inputs and weights": (
        lambda: rules.weighted_input(ones(3, 2), ones(3, 2)),
        r"x \(3, 2\), w \(3, 2\)",
    ),
    "no weight matrix": (
        lambda: rules.weighted_input(ones(2), ones(2)),
        r"w \(D, N\); got x \(2,\), w \(2,\)",
    ),
    "no features": (lambda: rules.weighted_input(ones(), ones(2, 2)), r"x \(\)"),
    "bias": (
        lambda: rules.weighted_input(ones(2), ones(2, 3), ones(1)),
        r"b \(3,\); got \(1,\)",
    ),
    "concatenate_backward": (
        lambda: rules.concatenate_backward(ones(5), (2, 2)),
        r"\(2, 2\) do not add up .*\(5,\)",
    ),
    "split": (lambda: rules.split(ones(2, 5), (5, 1)), r"\(5, 1\) do not add up"),
    "no uses": (lambda: rules.fan_out_backward(), "at least one use"),
    "uses": (lambda: rules.fan_out_backward(ones(2), ones(3)), r"\(2,\) and \(3,\)"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_wrong_shapes(name):
    call, message = ERRORS[name]
    with pytest.raises(ValueError, match=message):
        call()


# --- sums ----------------------------------------------------------------------------

ACCUMULATORS = [
    (jnp.bfloat16, jnp.float32),
    (jnp.float16, jnp.float32),
    (jnp.float32, jnp.float32),
    (jnp.float64, jnp.float64),
]


@pytest.mark.parametrize(("dtype", "expected"), ACCUMULATORS)
def test_sums_over_time_and_batch_are_at_least_float32(dtype, expected):
    """1001 ones: no number of bfloat16, nor a sum that stepwise adding reaches."""
    dz, x = np.ones((13, 77, 2), dtype), np.ones((13, 77, 3), dtype)
    assert rules.accumulator_dtype(dtype) == expected
    dx, dw, db = jax.jit(rules.weighted_input_backward)(dz, x, np.ones((3, 2), dtype))
    assert_close(
        (dw, db), (np.full((3, 2), 1001, expected), np.full(2, 1001, expected))
    )
    assert dx.dtype == dtype


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize(
    "backward",
    [rules.tanh_backward, rules.sigmoid_backward, rules.square_root_backward],
)
def test_elementwise_rules_keep_the_dtype(dtype, backward):
    one = jax.ShapeDtypeStruct((2,), dtype)
    assert jax.eval_shape(backward, one, one).dtype == dtype
