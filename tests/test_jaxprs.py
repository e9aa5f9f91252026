"""The one interpreter: calls are opened, and everything else is the caller's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import on_device

from lstm_jax.jaxprs import ALL_CALLS, CALLS, evaluate


@jax.custom_jvp
def doubled(x):
    return 2 * x


doubled.defjvp(lambda primals, tangents: (2 * primals[0], 2 * tangents[0]))


def function(x, y):
    """Calls of four kinds, one in another."""
    inner = jax.checkpoint(lambda a: jax.jit(jnp.sin)(a) + 1.0)
    return doubled(inner(x)), y @ np.eye(2), jnp.float64(3.0)


ARGS = on_device((np.arange(3.0), np.ones((1, 2))))


@pytest.mark.parametrize("calls", [CALLS, ALL_CALLS])
def test_its_results_are_the_functions(calls):
    found = evaluate(jax.make_jaxpr(function)(*ARGS), ARGS, calls=calls)
    for f, expected in zip(found, function(*ARGS), strict=True):
        np.testing.assert_array_equal(f, expected)


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        (CALLS, ["sin", "add", "custom_jvp_call", "dot_general"]),
        (ALL_CALLS, ["sin", "add", "mul", "dot_general"]),
    ],
)
def test_operations_come_in_order_and_values_may_be_anything(calls, expected):
    """Here they are the texts of expressions."""
    seen = []

    def node(equation, operands):
        seen.append(equation.primitive.name)
        return [f"{equation.primitive}({', '.join(operands)})"]

    def constant(value, aval):
        return f"{np.asarray(value).shape}"

    jaxpr = jax.make_jaxpr(function)(*ARGS)
    first, *_ = evaluate(jaxpr, ["x", "y"], node, calls=calls, constant=constant)
    assert seen == expected
    assert "add(sin(x), ())" in first
