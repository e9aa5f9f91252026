"""`reverse_only`: the identity in reverse mode, a sentence in forward mode."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lstm_jax.engine.reverse_only import reverse_only

X = jnp.asarray([0.5, -1.0, 2.0])


def marked(x):
    return jnp.sum(jnp.sin(reverse_only({"x": x})["x"]) ** 3)


def unmarked(x):
    return jnp.sum(jnp.sin(x) ** 3)


REVERSE = {
    "value": lambda f: f(X),
    "grad": lambda f: jax.grad(f)(X),
    "jit of grad": lambda f: jax.jit(jax.grad(f))(X),
    "grad of jit": lambda f: jax.grad(jax.jit(f))(X),
    "grad of grad": lambda f: jax.grad(lambda x: jnp.vdot(jax.grad(f)(x), X))(X),
    "vmap of grad": lambda f: jax.vmap(jax.grad(f))(jnp.stack([X, 2 * X])),
    "grad of vmap": lambda f: jax.grad(lambda x: jax.vmap(f)(x).sum())(X[:, None]),
    "jacrev": lambda f: jax.jacrev(f)(X),
    "hessian in reverse": lambda f: jax.jacrev(jax.jacrev(f))(X),
    "hessian": lambda f: jax.hessian(f)(X),
    "jvp of grad": lambda f: jax.jvp(jax.grad(f), (X,), (X,)),
    "checkpoint": lambda f: jax.grad(jax.checkpoint(f))(X),
    "grad of grad of checkpoint": lambda f: jax.grad(
        lambda x: jnp.vdot(jax.grad(jax.checkpoint(f))(x), X)
    )(X),
    "vjp": lambda f: jax.vjp(f, X)[1](jnp.ones(()))[0],
    "in a scan": lambda f: jax.grad(
        lambda x: jax.lax.scan(lambda c, _: (c + f(x), None), 0.0, length=2)[0]
    )(X),
}


@pytest.mark.parametrize("name", REVERSE)
def test_reverse_mode_and_forward_over_it_do_not_see_it(name):
    evaluate = REVERSE[name]
    np.testing.assert_array_equal(evaluate(marked), evaluate(unmarked))


FORWARD = {
    "jvp": lambda f: jax.jvp(f, (X,), (X,)),
    "jit of jvp": lambda f: jax.jit(lambda x: jax.jvp(f, (x,), (x,)))(X),
    "jvp of jit": lambda f: jax.jvp(jax.jit(f), (X,), (X,)),
    "jacfwd": lambda f: jax.jacfwd(f)(X),
    "vmap of jvp": lambda f: jax.vmap(lambda x: jax.jvp(f, (x,), (x,)))(X[None]),
    "jit of jacfwd": lambda f: jax.jit(jax.jacfwd(f))(X),
    "jacfwd of jit": lambda f: jax.jacfwd(jax.jit(f))(X),
    "linearize": lambda f: jax.linearize(f, X)[1](X),
}


@pytest.mark.parametrize("name", FORWARD)
def test_forward_mode_is_told_what_to_do(name):
    evaluate = FORWARD[name]
    evaluate(unmarked)
    with pytest.raises(TypeError, match='pass gradient="automatic"'):
        evaluate(marked)


def test_dtypes_and_structure_are_kept():
    tree = {"a": jnp.ones(2, jnp.bfloat16), "b": (jnp.ones((), jnp.float32),)}
    found = reverse_only(tree)
    assert jax.tree.map(lambda a: a.dtype, found) == jax.tree.map(
        lambda a: a.dtype, tree
    )
