"""Each rule of the computation graph against JAX, and against the article."""

from collections.abc import Iterator
from functools import cache, partial
from typing import Any, NamedTuple
from unittest import mock

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from graph_support import (
    assert_close,
    assert_like_jax,
    inside,
    normal,
    positive,
    value_and_gradients,
)
from hypothesis import given, settings
from jax import lax, tree
from jax.extend.core import jaxprs_in_params, primitives
from oracles import on_device

from lstm_jax import graph, identities
from lstm_jax.jaxprs import opened


class Row(NamedTuple):
    fn: Any
    args: tuple[np.ndarray, ...]


def row(fn: Any, *args: np.ndarray) -> Row:
    return Row(fn, args)


INDICES = np.array([[2], [0], [2], [3]])
START = np.array(1)
GATHERED = lax.GatherDimensionNumbers(
    offset_dims=(1,), collapsed_slice_dims=(0,), start_index_map=(0,)
)
PERMUTED = np.random.default_rng(1).permutation(24).reshape(4, 6) / 7.0


SINCE_JAX_0_12 = ("log2", "one_minus_square")
ABSENT = [name for name in SINCE_JAX_0_12 if not hasattr(primitives, f"{name}_p")]

ROWS = {
    "add": row(lambda a, b: lax.add(a, b), normal(3, 4), normal(1, 4)),
    "add_any": row(primitives.add_jaxvals_p.bind, normal(3), normal(3)),
    "mul": row(lambda a, b: lax.mul(a, b), normal(3, 4), normal(3, 1)),
    "tanh": row(jnp.tanh, normal(3, 4)),
    "logistic": row(lax.logistic, normal(3, 4)),
    "dot_general": row(
        lambda x, w: jnp.einsum("bijk,lbki->ljb", x, w),
        normal(2, 3, 4, 5),
        normal(3, 2, 5, 3),
    ),
    "concatenate": row(
        lambda a, b: jnp.concatenate([a, b, a], 1), normal(2, 3), normal(2, 1)
    ),
    "split": row(lambda a: lax.split(a, (1, 3, 2), axis=1), normal(2, 6)),
    "neg": row(lax.neg, normal(3)),
    "sub": row(lax.sub, normal(3, 4), normal()),
    "div": row(lax.div, normal(3, 1), positive(3, 4)),
    "max": row(lax.max, normal(3, 4), normal(3, 4)),
    "min": row(lax.min, normal(3, 4), normal(3, 4)),
    "pow": row(lax.pow, positive(3, 4), normal(3, 4)),
    "atan2": row(lax.atan2, normal(3), normal(3)),
    "abs": row(lax.abs, normal(3)),
    "square": row(lax.square, normal(3)),
    "one_minus_square": row(lambda a: primitives.one_minus_square_p.bind(a), normal(3)),
    "sqrt": row(lax.sqrt, positive(3)),
    "rsqrt": row(lax.rsqrt, positive(3)),
    "cbrt": row(lax.cbrt, normal(3)),
    "exp": row(lax.exp, normal(3)),
    "exp2": row(lax.exp2, normal(3)),
    "expm1": row(lax.expm1, normal(3)),
    "log": row(lax.log, positive(3)),
    "log2": row(jnp.log2, positive(3)),
    "log1p": row(lax.log1p, inside(3)),
    "sin": row(lax.sin, normal(3)),
    "cos": row(lax.cos, normal(3)),
    "tan": row(lax.tan, inside(3)),
    "sinh": row(lax.sinh, normal(3)),
    "cosh": row(lax.cosh, normal(3)),
    "asin": row(lax.asin, inside(3)),
    "acos": row(lax.acos, inside(3)),
    "atan": row(lax.atan, normal(3)),
    "asinh": row(lax.asinh, normal(3)),
    "acosh": row(lax.acosh, 1 + positive(3)),
    "atanh": row(lax.atanh, inside(3)),
    "erf": row(lax.erf, normal(3)),
    "erfc": row(lax.erfc, normal(3)),
    "integer_pow": row(
        lambda a: lax.integer_pow(a, -3) + lax.integer_pow(a, 0), positive(3)
    ),
    "clamp": row(lax.clamp, -positive(3, 4), 2 * normal(3, 4), positive(3, 4)),
    "select_n": row(
        lambda a, b, c: lax.select_n(np.array([0, 2, 1, 0], np.int32), a, b, c),
        normal(4),
        normal(4),
        normal(4),
    ),
    "convert_element_type": row(lambda a: a.astype(jnp.float32), normal(3)),
    "reduce_precision": row(lambda a: lax.reduce_precision(a, 8, 10), normal(3)),
    "copy": row(jnp.copy, normal(3)),
    "sharding_constraint": row(
        lambda a: lax.with_sharding_constraint(
            a, jax.sharding.SingleDeviceSharding(jax.devices()[0])
        ),
        normal(3),
    ),
    "device_put": row(lambda a, b: jax.device_put((a, b)), normal(3), normal(2)),
    "optimization_barrier": row(
        lambda a, b: lax.optimization_barrier((a, b)), normal(3), normal(2)
    ),
    "stop_gradient": row(lambda a: a * lax.stop_gradient(a), normal(3)),
    "sign": row(lambda a: a * lax.sign(a), normal(3)),
    "floor": row(lambda a: a * lax.floor(a), normal(3)),
    "ceil": row(lambda a: a * lax.ceil(a), normal(3)),
    "round": row(lambda a: a * lax.round(a), normal(3)),
    "reduce_sum": row(lambda a: a.sum((0, 2)), normal(2, 3, 4)),
    "broadcast_in_dim": row(
        lambda a: lax.broadcast_in_dim(a, (5, 3, 2, 4), (1, 3)), normal(3, 1)
    ),
    "tile": row(lambda a: jnp.tile(a, (2, 3)), normal(4, 2)),
    "reduce_max": row(lambda a: a.max((0, 2)), np.round(normal(4, 3, 6))),
    "reduce_min": row(lambda a: a.min(1), np.round(normal(4, 9))),
    "reduce_prod": row(lambda a: a.prod((0, 2)), np.round(normal(2, 3, 2), 1)),
    "cumsum": row(lambda a: lax.cumsum(a, 1, reverse=True), normal(2, 5)),
    "cumprod": row(lambda a: lax.cumprod(a, 1), normal(2, 5)),
    "cummax": row(lambda a: lax.cummax(a, 1, reverse=True), PERMUTED),
    "cummin": row(lambda a: lax.cummin(a, 0), PERMUTED),
    "cumlogsumexp": row(lambda a: lax.cumlogsumexp(a, 0), normal(5, 2)),
    "reshape": row(lambda a: a.reshape(4, 3), normal(3, 4)),
    "squeeze": row(lambda a: lax.squeeze(a, (1,)), normal(3, 1, 2)),
    "transpose": row(lambda a: a.transpose(2, 0, 1), normal(2, 3, 4)),
    "rev": row(lambda a: lax.rev(a, (0, 2)), normal(2, 3, 4)),
    "stack": row(lambda a, b: jnp.stack([a, b, a], 1), normal(2, 3), normal(2, 3)),
    "unstack": row(lambda a: jnp.unstack(a, axis=1)[:2], normal(2, 3)),
    "slice": row(lambda a: lax.slice(a, (1, 0), (7, 3), (2, 1)), normal(8, 3)),
    "pad": row(
        lambda a, v: lax.pad(a, v, ((-1, 2, 1), (0, -2, 2))), normal(4, 3), normal()
    ),
    "dynamic_slice": row(
        lambda a: lax.dynamic_slice(a, (START, START), (2, 1)), normal(4, 3)
    ),
    "dynamic_update_slice": row(
        lambda a, b: lax.dynamic_update_slice(a, b, (START, START)),
        normal(4, 3),
        normal(2, 2),
    ),
    "gather": row(
        lambda a: lax.gather(a, INDICES, GATHERED, (1, 3), mode="fill"), normal(4, 3)
    ),
    "scatter-add": row(
        lambda a, u: a.at[INDICES[:, 0], 1:3].add(u), normal(4, 3), normal(4, 2)
    ),
    "scatter": row(
        lambda a, u: a.at[INDICES[:, 0], :2].set(u), normal(4, 3), normal(4, 2)
    ),
}


def primitives_of(fn: Any, *args: Any) -> set[str]:
    def visit(jaxpr: Any) -> Iterator[str]:
        for equation in opened(jaxpr)[0].eqns:
            yield equation.primitive.name
            for inner in jaxprs_in_params(equation.params):
                yield from visit(inner)

    return set(visit(jax.make_jaxpr(fn)(*args)))


class Evaluated(NamedTuple):
    """Values and gradients of a row: JAX's, its rule's, those of a rule that is wrong.

    The gradients of a function of these, too, by JAX and by the graph.
    """

    of_jax: Any
    of_rule: Any
    of_wrong_rule: Any
    again_of_jax: Any
    again: Any


def evaluate(name: str, args: tuple[jax.Array, ...]) -> Evaluated:
    """Of the wrong rule the gradients are 1% too large."""
    fn, right = ROWS[name].fn, graph.RULES[name]

    def wrong(dc: Any, *args: Any, **params: Any) -> Any:
        leaving = right.backward(dc, *args, **params)
        return dc if leaving is None else tree.map(lambda d: 1.01 * d, leaving)

    def pulled_back(vjp: Any, *args: Any) -> jax.Array:
        value, pullback = vjp(fn, *args)
        gradients = pullback(tree.map(lambda c: c + c**2, value))
        return sum(jnp.sum(g**2) for g in gradients)

    numbers = tuple(range(len(args)))
    with mock.patch.dict(graph.RULES, {name: right._replace(backward=wrong)}):
        of_wrong_rule = value_and_gradients(graph.vjp, fn, args)
    return Evaluated(
        value_and_gradients(jax.vjp, fn, args),
        value_and_gradients(graph.vjp, fn, args),
        of_wrong_rule,
        jax.grad(partial(pulled_back, jax.vjp), numbers)(*args),
        graph.grad(partial(pulled_back, graph.vjp), numbers)(*args),
    )


@cache
def evaluated() -> dict[str, Evaluated]:
    """Every row, in one program: each by itself takes longer to compile."""

    @jax.jit
    def evaluate_all(args: dict[str, tuple[jax.Array, ...]]) -> dict[str, Evaluated]:
        return {name: evaluate(name, args[name]) for name in args}

    return evaluate_all({n: ROWS[n].args for n in ROWS if n not in ABSENT})


@pytest.fixture(params=sorted(ROWS))
def a_row(request) -> Evaluated:
    name = request.param
    if name in ABSENT:
        pytest.skip(f"this JAX has no primitive {name!r}")
    assert name in primitives_of(ROWS[name].fn, *ROWS[name].args)
    return evaluated()[name]


def test_every_rule_has_a_row():
    assert set(ROWS) == set(graph.RULES)


def test_rule(a_row):
    assert_close(a_row.of_rule, a_row.of_jax)


def test_rule_differentiated_again(a_row):
    """The walk is made of operations that have rules."""
    assert_close(a_row.again, a_row.again_of_jax)


def test_a_wrong_rule_is_seen(a_row):
    """Each row of the tests depends on its rule: 1% is noticed."""
    with pytest.raises(AssertionError, match="Mismatched"):
        assert_close(a_row.of_wrong_rule, a_row.of_jax)


@settings(max_examples=10)
@given(st.data())
def test_products_of_any_axes(data):
    """dX = dZ·Wᵀ and dW = Xᵀ·dZ whatever is contracted, batched and transposed."""
    sizes = dict(zip("abcdef", (2, 3, 1, 2, 3, 2), strict=True))
    roles = st.sampled_from(["x", "w", "contracted", "batched", "absent"])
    role = {letter: data.draw(roles) for letter in sizes}

    def some(*wanted: str) -> str:
        letters = [letter for letter in sizes if role[letter] in wanted]
        return "".join(data.draw(st.permutations(letters)))

    x, w = some("x", "contracted", "batched"), some("w", "contracted", "batched")
    spec = f"{x},{w}->{some('x', 'w', 'batched')}"
    args = tuple(normal(*(sizes[k] for k in letters)) for letters in (x, w))

    def product(x: Any, w: Any) -> jax.Array:
        return jnp.einsum(spec, x, w)

    assert_like_jax(product, args)


def test_rules_are_the_articles():
    a, b, dc = normal(3, 4), normal(3, 4), normal(3, 4)
    x, w, bias, dz = normal(5, 3), normal(3, 4), normal(4), normal(5, 4)
    a, b, dc, x, w, bias, dz = on_device((a, b, dc, x, w, bias, dz))
    table = [
        (identities.add, (a, b), dc, identities.add_backward(dc)),
        (identities.multiply, (a, b), dc, identities.multiply_backward(dc, a, b)),
        (identities.tanh, (a,), dc, (identities.tanh_backward(dc, jnp.tanh(a)),)),
        (
            identities.sigmoid,
            (a,),
            dc,
            (identities.sigmoid_backward(dc, identities.sigmoid(a)),),
        ),
        (
            identities.weighted_input,
            (x, w, bias),
            dz,
            identities.weighted_input_backward(dz, x, w),
        ),
    ]
    for forward, operands, arriving, expected in table:
        _, pullback = graph.vjp(forward, *operands)
        assert_close(pullback(arriving), expected)
