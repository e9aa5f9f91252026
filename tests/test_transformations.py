"""`unroll` and `step` under JAX's transformations, and on several devices."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import tree
from oracles import (
    EACH_GRADIENT,
    EACH_KIND,
    EACH_MEMORY,
    assert_close,
    drawn_inputs,
    drawn_like,
)

import lstm_jax as lj

STEPS, BATCH = 3, 2
MASKS = {
    "lengths": np.array([1, 3]),
    "resets": np.array([[False, True], [False, False], [True, True]]),
}


def unrolled(cell, arguments, gradient, **options):
    """A scalar that is not linear in anything."""
    ys, final = lj.unroll(cell, *arguments, gradient=gradient, **options)
    return jnp.sum(jnp.sin(3 * ys)) + sum(jnp.sum(s**3) for s in tree.leaves(final))


def stepped(cell, arguments, gradient):
    params, xs, state = arguments
    new = lj.step(cell, params, state, xs[0], gradient=gradient)
    return sum(jnp.sum(jnp.sin(3 * s)) for s in tree.leaves(new))


# --- every transformation, on the smallest of problems -------------------------------

ARGUMENTS = drawn_inputs(lj.LSTM, STEPS, (BATCH,))
DIRECTION = drawn_like(ARGUMENTS, 7)


def stacked(arguments):
    return tree.map(lambda a: jnp.stack([a, 0.5 * a, -a]), arguments)


def dot(a, b):
    return sum(tree.leaves(tree.map(jnp.vdot, a, b)))


def hessian_product(f, arguments, direction=DIRECTION):
    return jax.grad(lambda a: dot(jax.grad(f)(a), direction))(arguments)


def in_a_scan(f, arguments):
    """A sum over steps that change the arguments, as descent does."""

    def step(a, _):
        value = f(a)
        return tree.map(lambda p: p * jnp.cos(value), a), value

    return jnp.sum(jax.lax.scan(step, arguments, length=2)[1])


# Each is compiled whole, save the first two.
REVERSE = {
    "grad, not compiled": lambda f, a: jax.grad(f)(a),
    "grad of jit": lambda f, a: jax.grad(jax.jit(f))(a),
    "vmap of grad": lambda f, a: jax.vmap(jax.grad(f))(stacked(a)),
    "grad of vmap": lambda f, a: jax.grad(lambda a: jax.vmap(f)(a).sum())(stacked(a)),
    "ensemble": lambda f, a: jax.vmap(lambda p: jax.grad(f)((p, *a[1:])))(
        stacked(a[0])
    ),
    "checkpoint": lambda f, a: jax.grad(jax.checkpoint(f))(a),
    "vmap of grad of grad": lambda f, a: jax.vmap(partial(hessian_product, f))(
        stacked(a)
    ),
    "jvp of grad": lambda f, a: jax.jvp(jax.grad(f), (a,), (DIRECTION,)),
    "hessian": lambda f, a: jax.hessian(lambda state: f((*a[:2], state)))(a[2]),
    "in a scan": lambda f, a: jax.lax.scan(
        lambda a, _: (tree.map(lambda p, d: p - 0.1 * d, a, jax.grad(f)(a)), None),
        a,
        length=2,
    )[0],
    "jvp of grad of a scan": lambda f, a: jax.jvp(
        jax.grad(lambda a: in_a_scan(f, a)), (a,), (DIRECTION,)
    ),
}

FORWARD = {
    "jvp": lambda f, a: jax.jvp(f, (a,), (DIRECTION,)),
    "jit of jvp": lambda f, a: jax.jit(lambda a: jax.jvp(f, (a,), (DIRECTION,)))(a),
    "jvp of jit": lambda f, a: jax.jvp(jax.jit(f), (a,), (DIRECTION,)),
    "jacfwd": lambda f, a: jax.jacfwd(lambda state: f((*a[:2], state)))(a[2]),
    "jit of jacfwd": lambda f, a: jax.jit(jax.jacfwd(lambda xs: f((a[0], xs, a[2]))))(
        a[1]
    ),
    "linearize": lambda f, a: jax.linearize(f, a)[1](DIRECTION),
}

TARGETS = {
    "step": partial(stepped, lj.LSTM),
    "unroll": partial(unrolled, lj.LSTM, **MASKS),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", REVERSE)
def test_manual_equals_automatic(name, target):
    transform, run = REVERSE[name], TARGETS[target]

    def both(arguments):
        return [
            transform(partial(run, gradient=gradient), arguments)
            for gradient in ("manual", "automatic")
        ]

    compiled = both if "jit" in name or "not" in name else jax.jit(both)
    found, expected = compiled(ARGUMENTS)
    assert_close(found, expected)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", FORWARD)
def test_forward_mode_goes_through_what_is_written(name, target):
    transform, run = FORWARD[name], TARGETS[target]
    found, expected = (
        transform(partial(run, gradient=gradient), ARGUMENTS)
        for gradient in ("manual", "automatic")
    )
    assert_close(found, expected)


# --- each kind of cell --------------------------------------------------------------


@partial(jax.jit, static_argnums=0, static_argnames=("gradient", "memory"))
def unrolled_hessian_product(cell, arguments, **options):
    run = partial(unrolled, cell, **options, **MASKS)
    return hessian_product(run, arguments, drawn_like(arguments, 7))


@EACH_KIND
@EACH_MEMORY
def test_the_hessian_of_every_cell(cell, memory):
    """The reverse differentiated again, for every policy: products with one vector."""
    arguments = drawn_inputs(cell, STEPS, (BATCH,))
    manual = unrolled_hessian_product(cell, arguments, gradient="manual", memory=memory)
    automatic = unrolled_hessian_product(cell, arguments, gradient="automatic")
    assert_close(manual, automatic)


@EACH_KIND
def test_gradients_of_each_example(cell):
    """vmap over a batch says what single sequences say, and sums to the batch's."""
    dparams = jax.grad(lambda p, *a: unrolled(cell, (p, *a), "manual"))

    @jax.jit
    def gradients(params, xs, state):
        each = jax.vmap(dparams, in_axes=(None, 1, 0))(params, xs, state)
        alone = [
            dparams(params, xs[:, b], tree.map(lambda s, b=b: s[b], state))
            for b in range(BATCH)
        ]
        return each, alone, dparams(params, xs, state)

    found = gradients(*drawn_inputs(cell, STEPS, (BATCH,)))
    each, alone, whole = tree.map(np.asarray, found)
    assert_close(each, tree.map(lambda *d: np.stack(d), *alone))
    assert_close(tree.map(lambda d: np.sum(d, 0), each), whole)


@EACH_KIND
def test_weights_that_two_directions_share(cell):
    """The gradients of both uses of the parameters are summed."""
    params, xs, _ = drawn_inputs(cell, STEPS, (BATCH,))

    def run(params, gradient):
        there, _ = lj.unroll(cell, params, xs, gradient=gradient)
        back, _ = lj.unroll(cell, params, xs, gradient=gradient, reverse=True)
        return jnp.sum(jnp.sin(3 * there + back**2))

    @jax.jit
    def both(params):
        return [jax.grad(run)(params, g) for g in ("manual", "automatic")]

    found, expected = both(params)
    assert_close(found, expected)


@EACH_KIND
@EACH_GRADIENT
def test_no_nan_is_ever_computed(cell, gradient):
    """jax_debug_nans looks at every result: padding and saturation are no excuse."""
    params, xs, state = drawn_inputs(cell, STEPS, (BATCH,))
    xs = xs.at[:, 1].multiply(1e4).at[1:, 0].set(np.nan)
    run = jax.jit(jax.grad(partial(unrolled, cell, gradient=gradient, **MASKS)))
    with jax.debug_nans(True):
        jax.block_until_ready(run((params, xs, state)))


def test_calls_alike_are_traced_once():
    traced = []

    def step(*arguments):
        traced.append(None)
        return lj.LSTM.step(*arguments)

    cell = lj.LSTM._replace(step=step)
    for run in (unrolled, stepped):
        for transform in (lambda f: f, jax.grad):
            counts = []
            for scale in (1.0, 2.0):
                arguments = tree.map(lambda a, s=scale: s * a, ARGUMENTS)
                transform(lambda a, run=run: run(cell, a, "manual"))(arguments)
                counts.append(len(traced))
            assert counts[0] == counts[1]
    assert traced


# --- several devices -----------------------------------------------------------------


@pytest.mark.timeout(600)
def test_on_several_devices(pytestconfig):
    """The tests of several_devices.py, in a program that has four."""
    slow = ["--slow"] if pytestconfig.getoption("--slow") else []
    folder = Path(__file__).parent
    flags = os.environ.get("XLA_FLAGS", "")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("-p", "no:xdist", folder / "several_devices.py", *slow),
        ],
        cwd=folder.parent,
        env=os.environ
        | {"XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count=4"},
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
