"""The LSTM's compiled steps against the scan that they stand for.

A cell that is called otherwise is not the LSTM that the compiled steps know, so
`SCANNED` is the same equations without them.
"""

import os
import subprocess
import sys
import threading
from functools import partial

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from jax import tree
from oracles import assert_close, drawn_inputs, drawn_like, pulled, results_like

import lstm_jax as lj
from lstm_jax import graph
from lstm_jax.engine import native

LSTM = lj.CELLS["lstm"]
SCANNED = LSTM._replace(name="scanned")

needs_a_compiler = pytest.mark.skipif(
    not native.available(), reason="no C++ compiler, or LSTM_JAX_NATIVE=0"
)


def program(cell, params, xs, **options):
    """The text of the compiler's input."""
    return jax.jit(partial(lj.unroll, cell, **options)).lower(params, xs).as_text()


def is_compiled(*arguments, **options):
    return "lstm_jax_Forward" in program(*arguments, **options)


# --- the same numbers ----------------------------------------------------------------

MASKS = {
    "none": lambda steps, batch: {},
    "lengths": lambda steps, batch: {"lengths": np.arange(batch) % (steps + 1)},
    "resets": lambda steps, batch: {
        "resets": np.arange(steps * batch).reshape(steps, batch) % 3 == 1
    },
}
MASKS["both"] = lambda *sizes: MASKS["lengths"](*sizes) | MASKS["resets"](*sizes)


@needs_a_compiler
@pytest.mark.parametrize(
    ("batch", "hidden_size", "dtype", "tolerance"),
    [
        (19, 21, "float32", 2e-6),
        (19, 21, "float64", 1e-13),
        (3, 301, "float64", 1e-13),
    ],
)
@pytest.mark.parametrize(
    ("mask", "reverse", "memory"),
    [
        ("none", False, "store"),
        ("lengths", True, "store"),
        ("resets", False, "states"),
        ("both", False, "store"),
        ("both", True, "states"),
    ],
)
def test_values_and_gradients(
    batch, hidden_size, dtype, tolerance, mask, reverse, memory
):
    """Threads divide the rows, unevenly, or else the units, which no vector divides."""
    steps, dtype = 24, jnp.dtype(dtype)  # one chunk, or three under "states"
    params, *others = drawn_inputs(
        LSTM, steps, (batch,), hidden_size=hidden_size, dtype=dtype
    )
    # Large weights would make chaos of many units, and any rounding grow with time.
    arguments = (params._replace(Wh=params.Wh / hidden_size**0.5), *others)
    dout = results_like(*arguments)
    options = MASKS[mask](steps, batch) | {"reverse": reverse, "memory": memory}
    assert is_compiled(LSTM, *arguments[:2])
    found, expected = (
        pulled(cell, *arguments, dout, **options) for cell in (LSTM, SCANNED)
    )
    assert_close(found, expected, tolerance)


@needs_a_compiler
@settings(max_examples=5)
@given(
    steps=st.integers(1, 30),
    batch=st.integers(1, 20),
    hidden_size=st.integers(1, 40),
    memory=st.sampled_from(["store", "recompute"]),
)
def test_any_sizes(steps, batch, hidden_size, memory):
    arguments = drawn_inputs(LSTM, steps, (batch,), hidden_size=hidden_size)
    dout = results_like(*arguments)
    found, expected = (
        pulled(cell, *arguments, dout, memory=memory) for cell in (LSTM, SCANNED)
    )
    assert_close(found, expected, 1e-13)


@needs_a_compiler
@pytest.mark.parametrize("batch_shape", [(2, 3), (6, 1)])
def test_any_batch_axes(batch_shape):
    arguments = drawn_inputs(LSTM, 4, batch_shape)
    dout = results_like(*arguments)
    found, expected = (pulled(cell, *arguments, dout) for cell in (LSTM, SCANNED))
    assert_close(found, expected, 1e-13)


@needs_a_compiler
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gates_are_as_exact_as_those_of_jax(dtype):
    """From saturation to where tanh z is z, each number by itself."""
    rng = np.random.default_rng(0)
    size = 10.0 ** rng.uniform(-6, 3, (1, 4, 512)) * rng.choice([-1, 1], (1, 4, 512))
    xs = jnp.asarray(size, dtype)
    params = lj.LSTMParams(
        Wx=jnp.tile(jnp.eye(512, dtype=dtype), 4),
        Wh=jnp.zeros((512, 2048), dtype),
        b=jnp.zeros(2048, dtype),
    )
    found, _ = lj.unroll(LSTM, params, xs)
    expected, _ = lj.unroll(SCANNED, params, xs)
    precision = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(found, expected, rtol=16 * precision)


@needs_a_compiler
def test_not_a_number_stays_one():
    """In its own row, and from its own step on."""
    params, xs, _ = drawn_inputs(LSTM, 5, (3,))
    ys, _ = lj.unroll(LSTM, params, xs.at[2, 1, 0].set(jnp.nan))
    expected = np.zeros((5, 3), bool)
    expected[2:, 1] = True
    np.testing.assert_array_equal(np.isnan(ys).all(axis=-1), expected)
    np.testing.assert_array_equal(np.isnan(ys).any(axis=-1), expected)


# --- where they run ------------------------------------------------------------------


@needs_a_compiler
def test_what_they_do_not_know_is_scanned():
    params, xs, _ = drawn_inputs(LSTM, 3, (4,))
    assert is_compiled(LSTM, params, xs)
    assert not is_compiled(SCANNED, params, xs)
    assert not is_compiled(LSTM, params, xs, gradient="automatic")
    half = tree.map(lambda a: a.astype(jnp.bfloat16), (params, xs))
    assert not is_compiled(LSTM, *half)
    headed = LSTM.init(jax.random.key(0), 3, 4, heads=2, dtype=jnp.float64)
    assert not is_compiled(LSTM, headed, xs)


SMALL_RUN = """
import jax.numpy as jnp, lstm_jax as lj
params = lj.LSTMParams(jnp.ones((1, 8)), jnp.ones((2, 8)), jnp.ones(8))
for xs in (jnp.ones((3, 2, 1)), jnp.ones((3, 4, 1))):
    print(float(lj.unroll(lj.CELLS["lstm"], params, xs)[0].sum()))
"""


def test_without_a_compiler_a_line_says_so_and_the_scan_runs(tmp_path):
    def run(**environment):
        environment |= {"XDG_CACHE_HOME": str(tmp_path)}
        return subprocess.run(
            [sys.executable, "-c", SMALL_RUN],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=True,
            timeout=100,
        )

    broken = run(CXX="/nowhere/c++", LSTM_JAX_NATIVE="1")
    line, *more = broken.stderr.splitlines()
    assert "could not be compiled" in line
    assert "/nowhere/c++" in line
    assert not more
    silent = run(LSTM_JAX_NATIVE="0")
    assert silent.stderr == ""
    assert silent.stdout == broken.stdout
    assert not list(tmp_path.rglob("*.so"))


# --- transformations -----------------------------------------------------------------


def objective(cell, params, xs):
    ys, final = lj.unroll(cell, params, xs)
    return jnp.sum(jnp.sin(ys)) + jnp.sum(final.c**2)


@needs_a_compiler
def test_second_derivatives():
    """Those of the scan, which runs in their place."""
    params, xs, _ = drawn_inputs(LSTM, 4, (3,))
    direction = drawn_like(params, 5)

    def along(cell):
        gradient = jax.grad(partial(objective, cell))
        forward = jax.jvp(lambda p: gradient(p, xs), (params,), (direction,))[1]
        reverse = jax.grad(
            lambda p: sum(map(jnp.vdot, gradient(p, xs), direction), jnp.zeros(()))
        )(params)
        return forward, reverse

    assert_close(jax.jit(along, static_argnums=0)(LSTM), along(SCANNED), 1e-12)


@needs_a_compiler
def test_the_hessian_of_what_resets_return_to():
    """Forward over reverse mode, both batched, where not every argument is."""
    params, xs, state = drawn_inputs(LSTM, 4, (3,))
    resets = np.arange(12).reshape(4, 3) % 5 == 2

    def hessian(cell):
        def value(state):
            ys, final = lj.unroll(cell, params, xs, state, resets=resets)
            return jnp.sum(jnp.sin(ys)) + jnp.sum(final.c**2)

        return jax.jit(jax.hessian(value))(state)

    assert_close(hessian(LSTM), hessian(SCANNED), 1e-12)


@needs_a_compiler
def test_the_graph_sees_the_equations():
    """By its local rules, where JAX itself would run the compiled steps."""
    params, xs, _ = drawn_inputs(LSTM, 4, (3,))
    assert is_compiled(LSTM, params, xs)
    found = jax.jit(graph.grad(partial(objective, LSTM)))(params, xs)
    assert_close(found, jax.grad(partial(objective, SCANNED))(params, xs), 1e-12)


@needs_a_compiler
@pytest.mark.parametrize("axes", [(None, 0), (0, None), (0, 0)])
def test_vmap_over_weights_and_inputs(axes):
    params, xs, _ = drawn_inputs(LSTM, 4, (3,))
    many = partial(tree.map, lambda a: jnp.stack([a, 2 * a, -a]))
    arguments = [
        a if axis is None else many(a)
        for a, axis in zip((params, xs), axes, strict=True)
    ]

    def gradients(cell):
        return jax.vmap(jax.grad(partial(objective, cell), (0, 1)), axes)(*arguments)

    assert_close(gradients(LSTM), gradients(SCANNED), 1e-12)


@needs_a_compiler
@pytest.mark.parametrize(("batch", "hidden_size"), [(24, 5), (2, 301)])
def test_calls_at_the_same_time_do_not_wait_for_each_other(batch, hidden_size):
    """More callers than threads, so that every thread of the pool is in a call."""
    params, xs, _ = drawn_inputs(LSTM, 20, (batch,), hidden_size=hidden_size)
    run = jax.jit(jax.grad(partial(objective, LSTM)))
    expected = run(params, xs)
    found = []

    def call():
        found.extend(run(params, xs) for _ in range(20))

    callers = [threading.Thread(target=call) for _ in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(found) == 120
    for gradients in found:
        tree.map(np.testing.assert_array_equal, gradients, expected)
