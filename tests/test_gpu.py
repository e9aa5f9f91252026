"""What a GPU alone can tell: `make test-gpu` on a machine with one.

The kernels against the scan, in programs as users write them. `test_cuda.py` has what
can be tested without a GPU.
"""

import os
from functools import partial
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import tree
from oracles import assert_close, drawn_inputs, drawn_like, pulled, results_like
from sources import edited

import lstm_jax as lj
from lstm_jax.engine.compiled.cuda import tiles
from lstm_jax.engine.compiled.cuda.kernel import Tile

pytestmark = pytest.mark.gpu

STEPS, BATCH, HIDDEN_SIZE = 20, 11, 96
CELLS = (
    *("rnn_tanh", "rnn_relu", "gru", "lstm"),
    *("coupled_lstm", "peephole_lstm", "slstm"),
)


def masks():
    numbers = np.arange(STEPS * BATCH).reshape(STEPS, BATCH)
    return {"lengths": np.arange(BATCH) * 2, "resets": numbers % 7 == 3}


def scanned(cell):
    """The same equations; a cell that is not made by `gated` is scanned."""
    return cell._replace(step=partial(cell.step))


def is_compiled(cell, params, xs, **options):
    lowered = jax.jit(partial(lj.unroll, cell, **options)).lower(params, xs)
    return "lstm_jax_launch" in lowered.as_text()


def compare(cell, tolerance, *, dtype="float32", precision="highest", **options):
    """Values and all gradients, against the scan in float64."""
    sizes = {"input_size": 16, "hidden_size": HIDDEN_SIZE, "dtype": jnp.dtype(dtype)}
    params, *others = drawn_inputs(cell, STEPS, (BATCH,), **sizes)
    arguments = (params._replace(Wh=params.Wh / HIDDEN_SIZE**0.5), *others)
    dout = results_like(*arguments)
    assert is_compiled(cell, *arguments[:2])
    with jax.default_matmul_precision(precision):
        found = pulled(cell, *arguments, dout, **options)
    expected = pulled(scanned(cell), *as_double((*arguments, dout)), **options)
    like = tree.map(lambda e, f: e.astype(f.dtype), expected, found)
    assert_close(found, like, tolerance)


def as_double(arrays):
    return tree.map(lambda a: a.astype(jnp.float64), arrays)


@pytest.mark.parametrize("name", CELLS)
def test_every_gated_cell(name):
    """With masks and resets, from the last step to the first."""
    compare(lj.CELLS[name], 3e-6, **masks(), reverse=True)


@pytest.mark.parametrize(
    ("dtype", "precision", "tolerance"),
    [
        ("float64", "highest", 1e-12),
        ("float32", "tensorfloat32", 5e-3),
        ("bfloat16", "tensorfloat32", 0.05),
        ("float16", "tensorfloat32", 0.01),
    ],
)
def test_every_dtype_and_precision(dtype, precision, tolerance):
    compare(lj.LSTM, tolerance, dtype=dtype, precision=precision, **masks())


def test_an_edited_reverse_is_what_runs():
    """The LSTM's file with another derivative in it: the kernel follows."""
    compare(edited(lj.LSTM, "df = dc * c_prev", "df = dc * 100.0"), 3e-6, **masks())


@pytest.mark.parametrize("memory", ["states", "recompute"])
def test_every_memory_policy(memory):
    compare(lj.CELLS["gru"], 3e-6, **masks(), memory=memory)


FORMS = {
    "block": Tile("BLOCK", 1, 2, 512, False, 4, 4, 1),
    "cluster": Tile("CLUSTER", 4, 2, 256, False, 4, 8),
    "direct block": Tile("BLOCK", 1, 1, 384, False, 4, 4, 1, True),
    "direct cluster": Tile("CLUSTER", 4, 2, 96, False, 4, 4, 0, True),
    "tensor cluster": Tile("CLUSTER", 8, 8, 256, True, 1, 1),
    "grid": Tile("GRID", 8, 2, 256, False, 4, 8),
    "tensor grid": Tile("GRID", 8, 8, 256, True, 1, 1),
}
REVERSE = {  # others: the same
    "block": Tile("BLOCK", 1, 2, 512, False, 1, 4, 3),
    "direct block": Tile("BLOCK", 1, 2, 512, False, 1, 4, 3),
    "direct cluster": FORMS["cluster"],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_team(form):
    """Also where it would not have been chosen."""
    tile = FORMS[form]
    cell = lj.LSTM._replace(name=form)  # what is traced depends on it
    precision, tolerance = ("tensorfloat32", 5e-3) if tile.tensor else ("highest", 3e-6)

    def choose(job, *_):
        return tile if job.direction == "forward" else REVERSE.get(form, tile)

    with mock.patch.object(tiles, "choose", choose):
        compare(cell, tolerance, precision=precision, **masks())


def test_heads():
    cell = lj.CELLS["slstm"]
    init = partial(cell.init, input_size=8, hidden_size=64, heads=4)
    params = drawn_like(jax.eval_shape(lambda: init(jax.random.key(0))), scale=0.2)
    xs = drawn_like(jax.ShapeDtypeStruct((STEPS, 5, 8), jnp.float32), 1)
    state = cell.initial_state(params, (5,))
    dout = results_like(params, xs, state)
    with jax.default_matmul_precision("highest"):
        found, expected = (
            pulled(c, params, xs, state, dout) for c in (cell, scanned(cell))
        )
    assert_close(found, expected, 1e-5)


def value(cell, params, xs):
    ys, final = lj.unroll(cell, params, xs)
    return jnp.sum(jnp.sin(ys)) + jnp.sum(final[0] ** 2)


def small():
    params, xs, _ = drawn_inputs(lj.LSTM, 6, (3,), hidden_size=24)
    return params, xs


def test_vmap_over_weights_and_inputs():
    params, xs = small()
    many = partial(tree.map, lambda a: jnp.stack([a, 2 * a, -a]))
    for axes, arguments in (
        ((None, 0), (params, many(xs))),
        ((0, 0), (many(params), many(xs))),
    ):
        found, expected = (
            jax.jit(jax.vmap(jax.grad(partial(value, cell), (0, 1)), axes))(*arguments)
            for cell in (lj.LSTM, scanned(lj.LSTM))
        )
        assert_close(found, expected, 1e-11)


def test_second_derivatives():
    params, xs = small()
    direction = drawn_like(params, 5)

    def along(cell):
        gradient = jax.grad(partial(value, cell))
        return jax.jit(lambda p: jax.jvp(lambda q: gradient(q, xs), (p,), (direction,)))

    found, expected = (along(c)(params)[1] for c in (lj.LSTM, scanned(lj.LSTM)))
    assert_close(found, expected, 1e-11)


def test_steps_of_training_in_a_loop():
    """The same kernels many times in one program."""
    params, xs = small()

    def trained(cell):
        def step(params, _):
            loss, gradient = jax.value_and_grad(partial(value, cell))(params, xs)
            return tree.map(lambda p, g: p - 0.01 * g, params, gradient), loss

        return jax.jit(lambda p: jax.lax.scan(step, p, None, length=20))(params)

    assert_close(trained(lj.LSTM), trained(scanned(lj.LSTM)), 1e-10)


def test_it_says_which_runner():
    params, _ = small()
    assert str(lj.runner_of(lj.LSTM, params)).startswith("CUDA: ")
    with mock.patch.dict(os.environ, {"LSTM_JAX_NATIVE": "0"}):
        assert str(lj.runner_of(lj.LSTM, params)).startswith("scan: ")
