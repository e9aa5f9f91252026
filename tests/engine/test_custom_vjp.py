"""`CustomVJP`: what is written runs in reverse mode, and all other modes go through."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax, tree
from oracles import (
    EACH_KIND,
    EACH_MEMORY,
    assert_close,
    drawn_inputs,
    drawn_like,
    on_device,
)

import lstm_jax as lj
from lstm_jax.engine import GRADIENTS
from lstm_jax.engine.custom_vjp import CustomVJP

X = on_device(np.array([0.5, -1.0, 2.0]))


def cube_of_sine(_, x, scale):
    return {"y": scale * jnp.sin(x["x"]) ** 3}


def rule_with(backward):
    rule = CustomVJP(cube_of_sine)
    rule.defvjp(lambda s, *a: (cube_of_sine(s, *a), a), backward)
    return rule


def right(_, residuals, dy):
    x, scale = residuals
    s, c = jnp.sin(x["x"]), jnp.cos(x["x"])
    return {"x": dy["y"] * scale * 3 * s**2 * c}, jnp.sum(dy["y"] * s**3)


def wrong(settings, residuals, dy):
    dx, dscale = right(settings, residuals, dy)
    return {"x": 10 * dx["x"]}, dscale


WRITTEN, WRONG = rule_with(right), rule_with(wrong)


def loss(rule, x, scale=2.0):
    return jnp.sum(rule("settings", {"x": x}, jnp.asarray(scale))["y"])


REVERSE = {
    "grad": lambda f: jax.grad(f)(X),
    "jit of grad": lambda f: jax.jit(jax.grad(f))(X),
    "grad of jit": lambda f: jax.grad(jax.jit(f))(X),
    "vmap of grad": lambda f: jax.vmap(jax.grad(f))(jnp.stack([X, 2 * X])),
    "grad of vmap": lambda f: jax.grad(lambda x: jax.vmap(f)(x).sum())(X[:, None]),
    "jacrev": lambda f: jax.jacrev(f)(X),
    "checkpoint": lambda f: jax.grad(jax.checkpoint(f))(X),
    "vjp": lambda f: jax.vjp(f, X)[1](jnp.ones(()))[0],
    "linear_transpose": lambda f: jax.linear_transpose(jax.linearize(f, X)[1], X)(
        jnp.ones(())
    ),
    "in a scan": lambda f: jax.grad(
        lambda x: lax.scan(lambda c, _: (c + f(x), None), 0.0, length=2)[0]
    )(X),
    "of some arguments": lambda f: jax.grad(lambda x: f(jnp.stack([x, X[1], X[2]])))(
        X[0]
    ),
    "in a cond": lambda f: jax.grad(lambda x: lax.cond(x[0] > 0, f, jnp.sum, x))(X),
}
FORWARD = {
    "value": lambda f: f(X),
    "jvp": lambda f: jax.jvp(f, (X,), (X,)),
    "jit of jvp": lambda f: jax.jit(lambda x: jax.jvp(f, (x,), (x,)))(X),
    "jvp of jit": lambda f: jax.jvp(jax.jit(f), (X,), (X,)),
    "jacfwd": lambda f: jax.jacfwd(f)(X),
    "vmap of jvp": lambda f: jax.vmap(lambda x: jax.jvp(f, (x,), (x,)))(X[None]),
    "linearize": lambda f: jax.linearize(f, X)[1](X),
    "jvp of jvp": lambda f: jax.jvp(
        lambda x: jax.jvp(f, (x,), (jnp.cos(x),))[1], (X,), (X,)
    ),
    "jvp in a scan": lambda f: jax.jvp(
        lambda x: lax.scan(lambda c, _: (c + f(x), None), 0.0, length=2)[0], (X,), (X,)
    ),
    "jvp of checkpoint": lambda f: jax.jvp(jax.checkpoint(f), (X,), (X,)),
}
BOTH = {
    "grad of grad": lambda f: jax.grad(lambda x: jnp.vdot(jax.grad(f)(x), X))(X),
    "hessian": lambda f: jax.hessian(f)(X),
    "hessian in reverse": lambda f: jax.jacrev(jax.jacrev(f))(X),
    "jacrev of jacfwd": lambda f: jax.jacrev(jax.jacfwd(f))(X),
    "jvp of grad": lambda f: jax.jvp(jax.grad(f), (X,), (X,)),
    "grad of jvp": lambda f: jax.grad(lambda x: jax.jvp(f, (x,), (X,))[1])(X),
    "vmap of grad of jvp": lambda f: jax.vmap(
        jax.grad(lambda x: jax.jvp(f, (x,), (X,))[1])
    )(jnp.stack([X, 2 * X])),
    "grad of grad of checkpoint": lambda f: jax.grad(
        lambda x: jnp.vdot(jax.grad(jax.checkpoint(f))(x), X)
    )(X),
}


# By themselves as well as within a program; the others are compiled whole.
NOT_COMPILED = "value", "grad", "vjp", "jvp", "linearize", "grad of grad"


@cache
def evaluated(name):
    """What a mode makes of JAX's own rule, of what is written, and of what is wrong."""
    evaluate = (REVERSE | FORWARD | BOTH)[name]

    def each():
        return [
            evaluate(partial(loss, rule)) for rule in (cube_of_sine, WRITTEN, WRONG)
        ]

    return each() if "jit" in name or name in NOT_COMPILED else jax.jit(each)()


@pytest.mark.parametrize("name", REVERSE | FORWARD | BOTH)
def test_every_mode_is_jaxs_own(name):
    expected, written, _ = evaluated(name)
    assert_close(written, expected, 1e-14)


@pytest.mark.parametrize("name", REVERSE)
def test_reverse_mode_runs_what_is_written(name):
    expected, _, wrong = evaluated(name)
    assert_close(wrong, tree.map(lambda d: 10 * d, expected))


@pytest.mark.parametrize("name", FORWARD)
def test_forward_mode_does_not(name):
    expected, _, wrong = evaluated(name)
    assert_close(wrong, expected)


def test_arguments_that_are_not_differentiated_cost_no_tangents():
    text = str(jax.make_jaxpr(lambda x: jax.jvp(partial(loss, WRITTEN), (x,), (x,)))(X))
    assert "linearized" in text
    assert "zeros" not in text


# --- cells ----------------------------------------------------------------------------

STEPS, BATCH = 5, 2
MASKS = {
    "lengths": np.array([STEPS, 3]),
    "resets": np.arange(STEPS * BATCH).reshape(STEPS, BATCH) % 4 == 1,
}


def along(value, arguments, tangents):
    return jax.jvp(value, arguments, tangents)


def hessian_product(value, arguments, tangents):
    return jax.jvp(jax.grad(value, (0, 1)), arguments, tangents)[1]


def gradient_of_tangent(value, arguments, tangents):
    def along(*arguments):
        return jax.jvp(value, arguments, tangents)[1]

    return jax.grad(along, (0, 1))(*arguments)


def forward_jacobian(value, arguments, tangents):
    return jax.jacfwd(value, 1)(*arguments)


def many(value, arguments, tangents):
    stacked = tree.map(lambda t: jnp.stack([t, -2 * t]), tangents)
    return jax.vmap(lambda t: jax.jvp(value, arguments, t)[1])(stacked)


@EACH_KIND
@pytest.mark.parametrize(
    "evaluate",
    [along, hessian_product, gradient_of_tangent, forward_jacobian, many],
)
def test_cells_in_forward_mode(cell, evaluate):
    """Against automatic gradients, with all masks, to rounding."""
    params, xs, _ = drawn_inputs(cell, STEPS, (BATCH,))
    tangents = drawn_like((params, xs), 7)

    def value(gradient, params, xs):
        ys, final = lj.unroll(cell, params, xs, gradient=gradient, **MASKS)
        return jnp.sum(jnp.sin(ys)) + sum(jnp.sum(s**2) for s in tree.leaves(final))

    @jax.jit
    def both(*arguments):
        return [evaluate(partial(value, g), *arguments) for g in GRADIENTS]

    found, expected = both((params, xs), tangents)
    assert_close(found, expected, 1e-12)


@EACH_MEMORY
@pytest.mark.parametrize("reverse", [False, True], ids=["forth", "back"])
def test_values_are_not_batched_with_their_tangents(memory, reverse):
    """`jacfwd` asks that of what it is given, whatever is kept and runs."""
    params, xs, _ = drawn_inputs(lj.LSTM, STEPS, (BATCH,))

    def outputs(b, gradient):
        options = {"memory": memory, "reverse": reverse, "gradient": gradient}
        return lj.unroll(lj.LSTM, params._replace(b=b), xs, **options, **MASKS)

    @jax.jit
    def both(b):
        return [jax.jacfwd(outputs)(b, gradient) for gradient in GRADIENTS]

    found, expected = both(params.b)
    assert_close(found, expected)


@EACH_KIND
def test_one_step_in_forward_mode(cell):
    params, xs, state = drawn_inputs(cell, 1, (BATCH,))
    arguments = params, state, xs[0]
    tangents = drawn_like(arguments, 7)

    @jax.jit
    def both(arguments):
        return [
            jax.jvp(partial(lj.step, cell, gradient=gradient), arguments, tangents)
            for gradient in GRADIENTS
        ]

    found, expected = both(arguments)
    assert_close(found, expected, 1e-13)
