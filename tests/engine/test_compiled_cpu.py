"""The compiled steps of gated cells on CPUs, against the scan that they stand for.

A cell that projects its input in a way of its own is not run compiled, so `scanned` is
the same cell without.
"""

import threading
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax, tree
from oracles import (
    assert_close,
    drawn_inputs,
    drawn_like,
    drawn_params,
    on_device,
    pulled,
    results_like,
)
from sources import edited

import lstm_jax as lj
from lstm_jax import graph
from lstm_jax.engine.compiled import cpu, panels, source, storage
from lstm_jax.engine.compiled.unit import trace
from lstm_jax.engine.runners import runner_of, with_memory
from lstm_jax.engine.sequence import Inputs, Settings, Starts
from lstm_jax.gated import (
    BlockSizes,
    GatedGradients,
    GatedStep,
    gated,
    input_product,
)
from lstm_jax.initializers import ZeroState

GATED = [cell for cell in lj.CELLS.values() if isinstance(cell.step, GatedStep)]
EACH_GATED = pytest.mark.parametrize("cell", GATED, ids=lambda cell: cell.name)


def projected(params, x):
    return input_product(params, x)


def scanned(cell):
    return cell._replace(project=projected)


def step_by_step(cell):
    """Also of a cell that is linear in its state."""
    return cell._replace(linear=False)


LSTM = lj.LSTM
SCANNED = scanned(LSTM)

needs_a_compiler = pytest.mark.skipif(
    cpu.why_not(LSTM, drawn_params(LSTM)) is not None,
    reason="no C++ compiler, or LSTM_JAX_NATIVE=0",
)
pytestmark = needs_a_compiler


def is_compiled(cell, params, **options):
    return runner_of(cell, params, **options).runner == "compiled C++"


def assert_same(cell, arguments, tolerance, **options):
    """Values and all gradients, compiled and scanned."""
    assert is_compiled(cell, arguments[0])
    dout = results_like(*arguments)
    found, expected = (
        pulled(each, *arguments, dout, **options) for each in (cell, scanned(cell))
    )
    assert_close(found, expected, tolerance)


# --- the same numbers ----------------------------------------------------------------

MASKS = {
    "none": lambda steps, batch: {},
    "lengths": lambda steps, batch: {"lengths": np.arange(batch) % (steps + 1)},
    "resets": lambda steps, batch: {
        "resets": np.arange(steps * batch).reshape(steps, batch) % 3 == 1
    },
}
MASKS["both"] = lambda *sizes: MASKS["lengths"](*sizes) | MASKS["resets"](*sizes)


@EACH_GATED
def test_every_gated_cell(cell):
    """With a state, masks and resets, from the last step to the first."""
    cell = step_by_step(cell)
    arguments = drawn_inputs(cell, 6, (5,), hidden_size=21)
    assert_same(cell, arguments, 1e-12, reverse=True, **MASKS["both"](6, 5))


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
    [("lengths", True, "store"), ("resets", False, "states"), ("both", False, "store")],
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
    options = MASKS[mask](steps, batch) | {"reverse": reverse, "memory": memory}
    assert_same(LSTM, arguments, tolerance, **options)


@pytest.mark.parametrize(
    ("name", "steps", "batch", "hidden_size", "memory"),
    [
        ("slstm", 1, 1, 1, "store"),
        ("gru", 9, 17, 16, "recompute"),
        ("gru", 4, 0, 3, "store"),
        ("indrnn", 5, 1, 70, "states"),  # threads divide the units of one row
    ],
)
def test_sizes(name, steps, batch, hidden_size, memory):
    arguments = drawn_inputs(lj.CELLS[name], steps, (batch,), hidden_size=hidden_size)
    assert_same(lj.CELLS[name], arguments, 1e-12, memory=memory)


def test_own_gradients_that_mix_units_are_taken_outside():
    """And those that do not are summed by the steps; the numbers are the scan's."""
    peephole = lj.CELLS["peephole_lstm"]

    def mixing(*given):
        of_units = peephole.gradients.elementwise(*given)
        return {name: jnp.flip(d, -1) for name, d in of_units.items()}

    mixed = peephole._replace(gradients=GatedGradients(mixing))
    assert trace(peephole, jnp.dtype(float)).own_gradients.outputs["down"]
    assert trace(mixed, jnp.dtype(float)).own_gradients is None
    assert_same(mixed, drawn_inputs(mixed, 6, (5,)), 1e-12, **MASKS["both"](6, 5))


def as_dtype(values, dtype):
    return on_device(tree.map(lambda a: np.asarray(a).astype(dtype), values))


def errors(found, exact):
    """The relative error of every array."""
    pairs = zip(*(tree.leaves(as_dtype(v, float)) for v in (found, exact)), strict=True)
    return np.array([norm(np.subtract(f, e)) / norm(e) for f, e in pairs])


def norm(values):
    return np.linalg.norm(np.ravel(values))


@pytest.mark.parametrize("name", ["indrnn", "slstm"])
def test_float32_is_no_further_from_float64_than_the_scan(name):
    cell = lj.CELLS[name]
    arguments = drawn_inputs(cell, 20, (4,), hidden_size=19)
    dout = results_like(*arguments)
    exact = pulled(cell, *arguments, dout)
    single = as_dtype((*arguments, dout), np.float32)
    found, expected = (
        errors(pulled(each, *single), exact) for each in (cell, scanned(cell))
    )
    assert np.all(found <= 2 * np.maximum(expected, 1e-7)), (found, expected)


@pytest.mark.parametrize(("dtype", "heads"), [("bfloat16", 2), ("float16", 1)])
def test_16_bits_are_no_further_from_float64_than_the_scan(dtype, heads):
    steps, batch, size = 12, 5, 20
    _, *others = drawn_inputs(LSTM, steps, (batch,), hidden_size=size)
    init = partial(LSTM.init, jax.random.key(0), 3, size, heads=heads)
    params = drawn_like(jax.eval_shape(partial(init, dtype=jnp.float64)), scale=0.3)
    few = as_dtype((params, *others), jnp.dtype(dtype))
    arguments = (*few, results_like(*few))
    assert is_compiled(LSTM, few[0])
    options = MASKS["both"](steps, batch)
    exact = pulled(SCANNED, *as_dtype(arguments, float), **options)
    found, expected = (
        errors(pulled(each, *arguments, **options), exact) for each in (LSTM, SCANNED)
    )
    assert np.all(found <= 1.5 * expected)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_16_bits_are_not_turned_into_32_between_the_steps_and_their_reverse(dtype):
    """At once there are u, in 32 bits, what is kept, five blocks, and one state."""
    steps, batch, size = 64, 8, 16
    _, *others = drawn_inputs(LSTM, steps, (batch,), hidden_size=size)
    params = LSTM.init(jax.random.key(0), 3, size)
    few = tree.map(lambda a: a.astype(dtype), (params, *others))
    compiled = jax.jit(partial(pulled, LSTM)).lower(*few, results_like(*few)).compile()
    expected = steps * batch * size * (4 * 4 + (5 + 1) * 2)
    assert compiled.memory_analysis().temp_size_in_bytes < expected


@pytest.mark.parametrize(
    ("name", "steps", "sizes"),
    [("gru", 90, (19, 21)), ("peephole_lstm", 2, (3, 150))],
)
def test_gradients_of_weights_in_pieces(name, steps, sizes):
    """Of many examples, of many units, and in sizes that no tile divides."""
    cell, batch = lj.CELLS[name], 6
    named = dict(zip(("input_size", "hidden_size"), sizes, strict=True))
    arguments = drawn_inputs(cell, steps, (batch,), **named)
    dout = results_like(*arguments)
    for options in {"reverse": True}, MASKS["both"](steps, batch):
        found, expected = (
            pulled(each, *arguments, dout, **options) for each in (cell, scanned(cell))
        )
        assert_close(found, expected)


@pytest.mark.parametrize(
    ("name", "batch", "size"), [("gru", 3, 7), ("slstm", 9, 16), ("lstm", 2, 160)]
)
def test_heads(name, batch, size):
    """Each head its own problem, on rows of all heads together."""
    cell = lj.CELLS[name]
    _, *others = drawn_inputs(cell, 6, (batch,), hidden_size=3 * size)
    drawn = partial(cell.init, jax.random.key(0), 3, 3 * size, heads=3)
    params = drawn_like(jax.eval_shape(partial(drawn, dtype=jnp.float64)))
    arguments = (params._replace(Wh=params.Wh / size**0.5), *others)
    assert_same(cell, arguments, 1e-12, **MASKS["both"](6, batch))


@pytest.mark.parametrize("batch_shape", [(2, 3), ()])
def test_any_batch_axes(batch_shape):
    assert_same(LSTM, drawn_inputs(LSTM, 4, batch_shape), 1e-13)


# --- functions of numbers ------------------------------------------------------------

FUNCTIONS = {
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "exp": jnp.exp,
    "exp2": jnp.exp2,
    "expm1": jnp.expm1,
    "log": jnp.log,
    "log1p": jnp.log1p,
    "sqrt": jnp.sqrt,
    "rsqrt": lax.rsqrt,
    "cbrt": jnp.cbrt,
    "cube": lambda z: z**3,
    "inverse": lambda z: z**-1,
    "square": jnp.square,
    "power": lambda z: jnp.abs(z) ** z.dtype.type(0.7),
    "erf": lax.erf,
    "erfc": lax.erfc,
    "sinh": jnp.sinh,
    "cosh": jnp.cosh,
    "sin": jnp.sin,
    "cos": jnp.cos,
    "tan": jnp.tan,
    "atan": jnp.arctan,
    "atan2": lambda z: jnp.arctan2(z, z + 1),
    "abs": jnp.abs,
    "sign": jnp.sign,
    "floor": jnp.floor,
    "ceil": jnp.ceil,
    "max": lambda z: jnp.maximum(z, 1),
    "min": lambda z: jnp.minimum(z, 1),
    "clamp": lambda z: lax.clamp(z.dtype.type(-2), z, z.dtype.type(3)),
    "finite": lambda z: jnp.isfinite(z).astype(z.dtype),
    "compared": lambda z: jnp.where(((z > -1) & (z <= 1)) | ~(z < 5) ^ (z == 7), z, 3),
    "softplus": jax.nn.softplus,
}
State = NamedTuple("State", [("h", jax.Array)] + [(n, jax.Array) for n in FUNCTIONS])


class PlainParams(NamedTuple):
    Wx: jax.Array
    b: jax.Array


def plain_init(key, input_size, hidden_size, *, dtype=jnp.float32):
    return PlainParams(
        jnp.ones((input_size, hidden_size), dtype), jnp.zeros(hidden_size, dtype)
    )


def all_functions(params, state, u, v):
    values = (function(u) for function in FUNCTIONS.values())
    return State(state.h + u, *values), None


def no_reverse(params, state, new_state, kept, dnew):
    return dnew, dnew.h


SIZES = BlockSizes(1)
CALCULATOR = gated(
    "calculator",
    init=plain_init,
    initial_state=ZeroState(State, SIZES),
    equations=all_functions,
    backward=no_reverse,
    sizes=SIZES,
)


@pytest.fixture(scope="module", params=["float32", "float64"])
def calculated(request):
    """Numbers of all sizes, and all functions of them: compiled, and in float64."""
    dtype = np.dtype(request.param)
    rng = np.random.default_rng(0)
    sizes = 10.0 ** rng.uniform(-9, 3, 600)
    sizes = np.concatenate([sizes, 10.0 ** rng.uniform(-2, 1, 400)])
    z = np.concatenate([sizes, -sizes, [0, 1, -1, 7, np.inf, -np.inf, np.nan]])
    z = z.astype(dtype)
    params = on_device(PlainParams(np.ones((1, 1), dtype), np.zeros(1, dtype)))
    assert is_compiled(CALCULATOR, params)
    _, found = lj.unroll(CALCULATOR, params, z[None, :, None])

    @jax.jit
    def in_float64(z):
        return {name: function(z) for name, function in FUNCTIONS.items()}

    return dtype, z, found._asdict(), in_float64(z.astype(np.float64))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_exact(calculated, name):
    """To a few units in the last place, and at infinities and NaN too."""
    dtype, z, found, exact = calculated
    found, exact = np.asarray(found[name])[:, 0], np.asarray(exact[name])
    precision = np.finfo(dtype).eps
    # Beyond the dtype's range exp is infinite, and below it 0 (or nearly).
    with np.errstate(over="ignore", under="ignore"):
        exact = exact.astype(dtype)
    tiny = np.finfo(dtype).tiny
    tolerance = 8 * precision
    if dtype == np.float64:
        tolerance = 512 * precision  # the oracle's, JAX's own functions
    np.testing.assert_allclose(
        found, exact, rtol=tolerance, atol=4 * tiny, err_msg=f"{name} of {z}"
    )


def test_not_a_number_stays_one():
    """In its own row, and from its own step on."""
    params, xs, _ = drawn_inputs(LSTM, 5, (3,))
    ys, _ = lj.unroll(LSTM, params, xs.at[2, 1, 0].set(jnp.nan))
    expected = np.zeros((5, 3), bool)
    expected[2:, 1] = True
    np.testing.assert_array_equal(np.isnan(ys).all(axis=-1), expected)
    np.testing.assert_array_equal(np.isnan(ys).any(axis=-1), expected)


@pytest.mark.parametrize("length", [16, 32, 64])
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_vectors_of_any_length(monkeypatch, length, dtype):
    """Whatever this machine's registers are."""
    for module in (panels, source):
        monkeypatch.setattr(module, "vector_bytes", lambda: length)
    cell = lj.CELLS["gru"]._replace(name=f"of_{length}_bytes")
    arguments = drawn_inputs(cell, 4, (3,), hidden_size=10, dtype=jnp.dtype(dtype))
    assert_same(cell, arguments, 1e-12 if dtype == "float64" else 0.05)


# --- what is written is what runs ----------------------------------------------------


@partial(jax.jit, static_argnums=0)
def gradients(cell, params, xs):
    ys = partial(lj.unroll, cell)
    return jax.grad(lambda params: jnp.sum(jnp.sin(ys(params, xs)[0])))(params)


def test_an_edited_reverse_is_what_runs():
    """The LSTM's file with another derivative in it: `unroll` follows."""
    cell = edited(LSTM, "df = dc * c_prev", "df = dc * 100.0")
    params, xs, _ = drawn_inputs(cell, 4, (3,))
    assert is_compiled(cell, params)
    found = gradients(cell, params, xs)
    assert_close(found, gradients(scanned(cell), params, xs), 1e-12)
    with pytest.raises(AssertionError):
        assert_close(
            tuple(found), tuple(gradients(LSTM, lj.LSTMParams(*params), xs)), 1e-2
        )


@pytest.mark.parametrize(
    ("line", "mutant"),
    [
        ("i * g + f * c_prev", "i * g - f * c_prev"),
        ("Sigmoid(z_f)", "Sigmoid(z_i)"),
        ("dc * i;", "dc * f;"),
        ("dold[1] = dc_prev;", "dold[1] = dc;"),
    ],
)
def test_mutants_of_the_written_code_are_caught(monkeypatch, line, mutant):
    def mutated(*arguments):
        text = source.source(*arguments)
        assert line in text
        return text.replace(line, mutant)

    monkeypatch.setattr(cpu, "source", mutated)
    arguments = drawn_inputs(LSTM, 4, (3,))
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_same(LSTM._replace(name=mutant), arguments, 1e-6)


def test_cells_of_the_same_equations_share_a_library():
    dtype = jnp.dtype(jnp.float64)
    other = LSTM._replace(name="other")
    assert cpu._built(other, dtype).name == cpu._built(LSTM, dtype).name


# --- how they are called --------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "results", "attributes"),
    [(2, 2, {}), (1, 1, {}), (1, 2, {"reverse": False})],
)
def test_a_call_with_other_arrays_is_refused(arguments, results, attributes):
    """Rather than that what lies beyond them is read."""
    name = cpu._built(LSTM, jnp.dtype(jnp.float64)).name
    shape = jax.ShapeDtypeStruct((2,), jnp.float64)
    call = jax.ffi.ffi_call(f"{name}_LargePages", [shape] * results)
    with pytest.raises(jax.errors.JaxRuntimeError, match="another number of arrays"):
        call(*[jnp.ones(2)] * arguments, **attributes)


# --- where they run ------------------------------------------------------------------


def test_what_is_scanned_and_why():
    params, xs, _ = drawn_inputs(LSTM, 3, (4,))
    assert is_compiled(LSTM, params)
    text = jax.jit(partial(lj.unroll, LSTM)).lower(params, xs).as_text()
    assert "_Forward" in text
    assert not is_compiled(LSTM, params, gradient="automatic")
    assert "of its own" in runner_of(SCANNED, params).why
    other = lj.CELLS["gru_before"]
    params, *_ = drawn_inputs(other, 3, (4,))
    assert "not made by `gated`" in runner_of(other, params).why


# --- transformations -----------------------------------------------------------------


def objective(cell, params, xs):
    ys, final = lj.unroll(cell, params, xs)
    return jnp.sum(jnp.sin(ys)) + jnp.sum(final[-1] ** 2)


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_second_derivatives(name):
    """Those of the scan, which runs in their place."""
    cell = lj.CELLS[name]
    params, xs, _ = drawn_inputs(cell, 4, (3,))
    direction = drawn_like(params, 5)

    def along(cell):
        gradient = jax.grad(partial(objective, cell))
        forward = jax.jvp(lambda p: gradient(p, xs), (params,), (direction,))[1]
        reverse = jax.grad(
            lambda p: sum(map(jnp.vdot, gradient(p, xs), direction), jnp.zeros(()))
        )(params)
        return forward, reverse

    along = jax.jit(along, static_argnums=0)
    assert_close(along(cell), along(scanned(cell)), 1e-12)


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


def test_the_graph_sees_the_equations():
    """By its local rules, where JAX itself would run the compiled steps."""
    params, xs, _ = drawn_inputs(LSTM, 4, (3,))
    found = jax.jit(graph.grad(partial(objective, LSTM)))(params, xs)
    expected = jax.jit(jax.grad(partial(objective, SCANNED)))(params, xs)
    assert_close(found, expected, 1e-12)


@pytest.mark.parametrize("axes", [(None, 0), (0, None), (0, 0)])
def test_vmap_over_weights_and_inputs(axes):
    params, xs, _ = drawn_inputs(LSTM, 4, (3,))
    many = partial(tree.map, lambda a: np.multiply.outer([1, 2, -1], a))
    arguments = [
        a if axis is None else many(a)
        for a, axis in zip((params, xs), axes, strict=True)
    ]

    found, expected = (
        jax.jit(jax.vmap(jax.grad(partial(objective, cell), (0, 1)), axes))(*arguments)
        for cell in (LSTM, SCANNED)
    )
    assert_close(found, expected, 1e-12)


def test_shard_map_on_one_device():
    """With its check of replication, which sees what varies over devices."""
    params, xs, _ = drawn_inputs(LSTM, 4, (3,))
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    shared, split = jax.P(), jax.P(None, "data")

    def each(params, xs):
        return jax.grad(partial(objective, LSTM), (0, 1))(params, xs)

    run = jax.shard_map(
        each, mesh=mesh, in_specs=(shared, split), out_specs=(shared, split)
    )
    expected = jax.jit(jax.grad(partial(objective, SCANNED), (0, 1)))(params, xs)
    assert_close(jax.jit(run)(params, xs), expected, 1e-12)


def asks_for_large_pages(gradients, *arguments):
    return "LargePages" in jax.jit(gradients).lower(*arguments).as_text()


def test_large_arrays_lie_on_large_pages():
    """Of twelve megabytes, so that the system is asked; and not for little."""
    gradients = {
        cell.name: jax.grad(partial(objective, cell), (0, 1))
        for cell in (LSTM, SCANNED._replace(name="scanned"))
    }
    params, xs, _ = drawn_inputs(LSTM, 128, (32,), hidden_size=128, dtype=jnp.float32)
    params = params._replace(Wh=params.Wh / 128**0.5)  # or it is chaos
    few, many = (params, xs[:, :1]), (params, xs)
    assert not asks_for_large_pages(gradients["lstm"], *few)
    assert asks_for_large_pages(gradients["lstm"], *many)
    found, expected = (jax.jit(each)(*many) for each in gradients.values())
    assert_close(found, expected, 1e-5)


@pytest.mark.parametrize("way", ["vmap", "shard_map"])
def test_large_pages_under_transformations(way, monkeypatch):
    """Other weights in each call do without, the part of a device does not."""
    monkeypatch.setattr(storage, "LARGE", 0)
    params, xs, _ = drawn_inputs(LSTM, 6, (3,), hidden_size=7)  # traced nowhere else

    def each(cell, params, xs):
        return jax.grad(partial(objective, cell), (0, 1))(params, xs)

    def run(cell):
        if way == "vmap":
            return jax.vmap(partial(each, cell))
        shared, split = jax.P(), jax.P(None, "data")
        kind = jax.sharding.AxisType.Auto
        return jax.shard_map(
            partial(each, cell),
            mesh=jax.make_mesh((1,), ("data",), axis_types=(kind,)),
            in_specs=(shared, split),
            out_specs=(shared, split),
        )

    if way == "vmap":
        params, xs = tree.map(lambda a: np.multiply.outer([1, 2], a), (params, xs))
    assert asks_for_large_pages(run(LSTM), params, xs) == (way == "shard_map")
    found, expected = (jax.jit(run(cell))(params, xs) for cell in (LSTM, SCANNED))
    assert_close(found, expected, 1e-12)


# --- the memory policy where none is asked for ----------------------------------------


@pytest.mark.parametrize(
    ("name", "sizes", "expected"),
    [
        ("lstm", (128, 256, 64, 64), "recompute"),
        ("gru", (4096, 16, 64, 64), "recompute"),
        ("lstm", (128, 256, 32, 32), "store"),  # little that is kept
        ("lstm", (128, 256, 64, 128), "store"),  # much to compute again
        ("lstm", (4096, 8, 64, 64), "store"),  # chunks of few rows
        ("rnn_tanh", (400, 128, 64, 64), "store"),  # one number a unit
    ],
)
def test_the_policy_that_is_the_fastest(name, sizes, expected):
    (T, B, D, H), cell = sizes, lj.CELLS[name]

    def chosen(gradient):
        params = cell.init(jax.random.key(0), D, H, dtype=jnp.float32)
        starts = Starts(cell.initial_state(params, (B,)), None)
        inputs = Inputs(jnp.zeros((T, B, D), jnp.float32), None, None)
        settings = Settings(cell, gradient, reverse=False, memory=None)
        policies.append(with_memory(settings, params, starts, inputs).memory)

    policies = []
    for gradient in ("manual", "automatic"):
        jax.eval_shape(partial(chosen, gradient))
    assert policies == [expected, "store"]


def test_the_fastest_policy_is_what_runs(monkeypatch):
    monkeypatch.setattr(cpu, "RETURNED", 0)
    monkeypatch.setattr(cpu, "LARGE_CHUNK", 0)
    # Of sizes that are traced nowhere else.
    params, xs, state = drawn_inputs(LSTM, 7, (3,), hidden_size=6)

    def program(memory):
        def gradient(*arguments):
            ys, pull, _ = jax.vjp(
                partial(lj.unroll, LSTM, memory=memory), *arguments, has_aux=True
            )
            return pull(ys)

        return jax.jit(gradient).lower(params, xs, state).as_text()

    assert program(None) == program("recompute") != program("store")


@pytest.mark.parametrize(("batch", "hidden_size"), [(24, 5), (2, 301)])
def test_calls_at_the_same_time_do_not_wait_for_each_other(batch, hidden_size):
    """More callers than threads, so that every thread of the pool is in a call."""
    params, xs, _ = drawn_inputs(LSTM, 10, (batch,), hidden_size=hidden_size)
    run = jax.jit(jax.grad(partial(objective, LSTM)))
    expected = run(params, xs)
    found = []

    def call():
        for _ in range(20):  # all results together would take a third of a GB
            found.append(tree.map(np.array_equal, run(params, xs), expected))

    callers = [threading.Thread(target=call) for _ in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(found) == 120
    assert all(map(tree.all, found)), found
