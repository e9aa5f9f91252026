"""The CUDA kernels without a GPU: compiled by NVRTC, and run on the CPU.

`tests/cuda_on_cpu.h` is the GPU then. What runs is the very text that NVRTC
compiles for a GPU. What a GPU alone can tell is in `test_gpu.py`.
"""

import re
import subprocess
from functools import partial
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cuda_emulation import DEVICE, THREADS, compiled, emulated, source
from jax import tree
from oracles import assert_close, drawn_inputs, drawn_like
from sources import edited

import lstm_jax as lj
from lstm_jax.engine import scan
from lstm_jax.engine.compiled.build import NotBuilt
from lstm_jax.engine.compiled.cuda import kernel as kernels
from lstm_jax.engine.compiled.cuda import launch, nvrtc, runner, tiles
from lstm_jax.engine.compiled.cuda.kernel import Job, Tile
from lstm_jax.engine.sequence import Inputs, Settings, Starts

CELLS = (
    *("rnn_tanh", "rnn_relu", "gru", "lstm"),
    *("coupled_lstm", "peephole_lstm", "slstm"),
)
OLDER = tiles.Device("sm_80", 108, 163 * 1024)


def nvrtc_is_missing():
    try:
        nvrtc.library()
    except NotBuilt as error:
        return str(error)
    return ""


needs_nvrtc = pytest.mark.skipif(bool(nvrtc_is_missing()), reason=nvrtc_is_missing())


# --- on the CPU -----------------------------------------------------------------------


def arguments(
    cell, dtype, steps=4, batch=3, hidden_size=10, heads=1, masks=True, bias=True
):
    """What a runner's two functions get, but for the settings."""
    sizes = {"hidden_size": hidden_size, "dtype": jnp.dtype(dtype)}
    params, xs, state = drawn_inputs(cell, steps, (batch,), **sizes)
    if heads > 1:
        init = partial(cell.init, jax.random.key(0), xs.shape[-1], heads=heads)
        params = drawn_like(jax.eval_shape(partial(init, **sizes)))
    if not bias:
        params = params._replace(b=None, bh=None)
    inputs, starts = Inputs(xs, None, None), Starts(state, None)
    if masks:
        numbers = np.arange(steps * batch).reshape(steps, batch)
        inputs = Inputs(xs, jnp.asarray(numbers % 5 > 0), jnp.asarray(numbers % 4 != 2))
        starts = Starts(state, tree.map(lambda a: a / 2, state))
    return params, starts, inputs


def both_ways(run, settings, arguments, dfinal, dys):
    """The results of both directions; the reverse starts from the scan's forward."""
    final, steps = jax.jit(partial(run.steps, settings))(*arguments)
    _, known = jax.jit(partial(scan.steps, settings))(*arguments)
    reverse = jax.jit(partial(run.reverse_steps, settings))
    return final, steps, reverse(*arguments, known, dfinal, dys)


def check(cell, forward, reverse, dtype, tolerance, *, backwards=False, **sizes):
    cell = lj.CELLS[cell]
    given = arguments(cell, dtype, **sizes)
    state = given[1].state
    dfinal = drawn_like(state, 4)
    dys = drawn_like(jax.ShapeDtypeStruct((4, *state[0].shape), state[0].dtype), 3)
    settings = Settings(cell, "manual", backwards, "store")
    with emulated(forward, reverse):
        found = both_ways(runner, settings, given, dfinal, dys)
    assert_close(found, both_ways(scan, settings, given, dfinal, dys), tolerance)


PLAIN = Tile("BLOCK", 1, 2, 32, False, 2, 4), Tile("BLOCK", 1, 2, 32, False, 2, 4)
# Fewer sums than lanes, which then have the same; some weights in shared memory.
CLUSTERED = (
    Tile("CLUSTER", 2, 2, 96, False, 4, 16, 1),
    Tile("CLUSTER", 2, 1, 64, False, 2, 8, 1),
)
TENSOR = (
    Tile("CLUSTER", 2, 8, 64, True, 1, 1, 1),
    Tile("CLUSTER", 2, 8, 64, True, 1, 2),
)
# The lanes of a sum compute what it is for: one a unit, or several.
DIRECT = (
    Tile("BLOCK", 1, 2, 32, False, 1, 4, 0, True),
    Tile("BLOCK", 1, 2, 32, False, 2, 4),
)
DIRECT_GRID = (
    Tile("GRID", 2, 2, 32, False, 6, 8, 1, True),
    Tile("GRID", 2, 2, 64, False, 2, 8),
)
GRID = Tile("GRID", 3, 2, 32, False, 3, 4), Tile("GRID", 2, 2, 64, False, 2, 8)
TENSOR_GRID = Tile("GRID", 2, 8, 64, True, 2, 1), Tile("GRID", 2, 8, 64, True, 1, 2)
BY_HEAD = (
    Tile("CLUSTER", 2, 2, 64, False, 4, 4),
    Tile("CLUSTER", 2, 2, 64, False, 2, 8),
)
DIRECT_BY_HEAD = Tile("CLUSTER", 2, 2, 32, False, 4, 8, 0, True), BY_HEAD[1]


@pytest.mark.parametrize(
    ("cell", "tile", "dtype", "tolerance", "options"),
    [
        ("rnn_tanh", PLAIN, "float64", 1e-13, {"hidden_size": 8, "masks": False}),
        ("lstm", CLUSTERED, "float64", 1e-13, {"backwards": True}),
        ("gru", TENSOR, "float32", 2e-6, {"batch": 9, "bias": False}),
        ("slstm", BY_HEAD, "float64", 1e-13, {"hidden_size": 16, "heads": 2}),
        ("coupled_lstm", GRID, "float64", 1e-13, {"backwards": True}),
        ("gru", DIRECT_GRID, "float64", 1e-13, {"hidden_size": 14}),
        ("peephole_lstm", TENSOR_GRID, "float32", 2e-6, {"batch": 9}),
        ("rnn_relu", PLAIN, "float16", 4e-3, {"hidden_size": 8, "backwards": True}),
        ("rnn_relu", DIRECT, "float16", 4e-3, {"hidden_size": 8}),
        ("slstm", DIRECT_BY_HEAD, "float64", 1e-13, {"hidden_size": 16, "heads": 2}),
        ("lstm", TENSOR_GRID, "bfloat16", 0.03, {"masks": False}),
    ],
)
def test_they_are_the_scan(cell, tile, dtype, tolerance, options):
    """Every gated cell, every form of a team, both ways to multiply, every dtype."""
    check(cell, *tile, dtype, tolerance, **options)


def test_an_edited_reverse_is_what_runs():
    """The LSTM's file with another derivative in it: the kernel follows."""
    cell = edited(lj.LSTM, "df = dc * c_prev", "df = dc * 100.0")

    def gradients(run, cell):
        given = arguments(cell, "float64")
        dfinal = drawn_like(given[1].state, 4)
        dys = drawn_like(jax.ShapeDtypeStruct((4, 3, 10), jnp.float64), 3)
        settings = Settings(cell, "manual", False, "store")
        return both_ways(run, settings, given, dfinal, dys)[-1]

    with emulated(*CLUSTERED):
        found = gradients(runner, cell)
    assert_close(found, gradients(scan, cell), 1e-13)
    unedited = gradients(scan, lj.LSTM)
    assert not np.allclose(found[1][0], unedited[1][0])


def test_gradients_of_unroll_under_vmap():
    """The same weights for two sequences, and the other way round."""
    cell = lj.CELLS["gru"]
    params, xs, _ = drawn_inputs(cell, 3, (2,), hidden_size=8)

    def gradient(run):
        def value(params, xs):
            state = cell.initial_state(params, (2,))
            settings = Settings(cell, "manual", False, "store")
            given = params, Starts(state, None), Inputs(xs, None, None)
            _, steps = run.steps(settings, *given)
            dstate, dys = tree.map(jnp.ones_like, (state, steps.new.h))
            return steps.new, run.reverse_steps(settings, *given, steps, dstate, dys)

        weights = tree.map(lambda a: jnp.stack([a, 2 * a]), params)
        return (
            jax.jit(jax.vmap(value, (None, 0)))(params, jnp.stack([xs, -xs])),
            jax.jit(jax.vmap(value, (0, None)))(weights, xs),
        )

    forward = Tile("CLUSTER", 2, 2, 32, False, 3, 8)
    with emulated(forward, forward._replace(columns=2)):
        found = gradient(runner)
    assert_close(found, gradient(scan), 1e-13)


RACE = """
#include <cstdio>
int main() {
  static value numbers[1 << 16];
  Arguments a;
  for (auto& array : a.arrays) array = numbers + 2048 * (&array - a.arrays);
  a.sizes = {3, 2, 0, 0};
  launch<run>(a, BLOCKS);
}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("direction", "form"),
    [
        ("forward", "CLUSTER"),
        ("direct", "CLUSTER"),
        ("reverse", "CLUSTER"),
        ("forward", "GRID"),
    ],
)
def test_a_barrier_left_out_is_a_race(direction, form, tmp_path):
    """Each by itself; the thread sanitizer is silent with all of them."""
    kind = "reverse" if direction == "reverse" else "forward"
    job = Job(kind, lj.LSTM, 8, "float32", exact=True)
    tile = Tile(form, 2, 2, 32, False, 4 if kind == "forward" else 2, 8)
    tile = tile._replace(direct=direction == "direct")
    text = compiled(source(job, tile) + RACE, tmp_path, "-E", "-P").read_text("utf-8")
    start = text.index("void run(const Arguments a)")
    waits = r"__syncthreads\(\);|team\.start\(\);|team\.receive\(n\);"
    places = [match.span() for match in re.finditer(waits, text[start:])]

    def races(text):
        made = compiled(text, tmp_path, str(THREADS), "-fsanitize=thread", "-g")
        run = subprocess.run([made], capture_output=True, text=True, timeout=120)
        return "data race" in run.stderr

    def without(first, last):
        return text[: start + first] + text[start + last :]

    assert not races(text)
    count = {"forward": 4, "direct": 3, "reverse": 3}[direction]
    assert len(places) == count + (form == "GRID")
    kept = [place for place in places if not races(without(*place))]
    assert kept == []


# --- by NVRTC -------------------------------------------------------------------------


@needs_nvrtc
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("gru", "slstm") else pytest.mark.slow)
        for name in CELLS
    ],
)
def test_they_compile_without_spilling_much(name):
    """For what the tile's choice gives them, masks and resets included."""
    for direction in ("forward", "reverse"):
        job = Job(direction, lj.CELLS[name], 128, "float32", masked=True, resets=True)
        tile = tiles.choose(job, 32, DEVICE)
        text = kernels.text(job, tile)
        content, said = nvrtc.compiled(text, "sm_90", "--ptxas-options=-v")
        assert content.startswith(b"\x7fELF")
        spilled = re.findall(r"(\d+) bytes spill stores", said)
        assert sum(map(int, spilled)) <= 64, (tile, said)


@needs_nvrtc
@pytest.mark.parametrize(
    ("units", "dtype", "form"), [(64, "float16", "BLOCK"), (256, "float32", "GRID")]
)
def test_they_compile_for_devices_without_clusters(units, dtype, form):
    for direction in ("forward", "reverse"):
        job = Job(direction, lj.LSTM, units, dtype)
        tile = tiles.choose(job, 16, OLDER)
        assert tile.form == form
        nvrtc.compiled(kernels.text(job, tile), "sm_80")


@needs_nvrtc
def test_a_wrong_text_is_told():
    with pytest.raises(NotBuilt, match="error: identifier"):
        nvrtc.compiled("int f() { return undeclared; }", "sm_90", "-default-device")


@needs_nvrtc
def test_a_damaged_image_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    text = "__global__ void run() {}"
    made = nvrtc.image(text, "sm_90")
    [path] = tmp_path.rglob("*.cubin")
    whole = path.read_bytes()
    assert whole.endswith(made)
    path.write_bytes(whole[: len(whole) // 2])
    assert nvrtc.image(text, "sm_90") == made
    assert path.read_bytes() == whole


# --- the choice of a tile -------------------------------------------------------------


@pytest.mark.parametrize("device", [DEVICE, OLDER], ids=["sm_90", "sm_80"])
@pytest.mark.parametrize("name", ["rnn_tanh", "slstm"])
def test_a_tile_for_every_size(name, device):
    for direction in ("forward", "reverse"):
        for units, batch in ((1, 1), (100, 200), (512, 20)):
            for exact in (False, True):
                job = Job(direction, lj.CELLS[name], units, "float32", exact=exact)
                tile = tiles.choose(job, batch, device)
                assert kernels.shared_bytes(job, tile) <= device.shared_bytes
                assert tile.form != "CLUSTER" or device.clusters
                assert not (tile.tensor and exact)


def test_weights_that_do_not_fit():
    job = Job("forward", lj.LSTM, 5000, "float32")
    with pytest.raises(tiles.TooLarge, match="5000 units do not fit"):
        tiles.choose(job, 1, DEVICE)


def test_a_scan_is_faster_where_rows_and_units_are_many():
    for batch, units, expected in ((1, 64, True), (64, 512, True), (512, 1024, False)):
        job = Job("reverse", lj.LSTM, units, "float32")
        assert tiles.pays(job, batch, DEVICE) == expected


# --- where they cannot run ------------------------------------------------------------


def test_what_nvrtc_refuses_is_scanned(caplog):
    """And a line says so, with the compiler's own."""
    cell = lj.CELLS["rnn_tanh"]._replace(name="refused")
    given, settings = (
        arguments(cell, "float64"),
        Settings(cell, "manual", False, "store"),
    )
    error = NotBuilt("error: identifier ErfInv is undefined")
    with emulated(*PLAIN, image=mock.Mock(side_effect=error)):
        found = jax.jit(partial(runner.steps, settings))(*given)
    assert_close(found, scan.steps(settings, *given))
    [line] = caplog.messages
    assert "refused runs as a scan" in line
    assert "ErfInv is undefined" in line


def test_a_launcher_needs_no_cuda_to_be_compiled(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    launch.library.cache_clear()
    found = (launch.ctypes.c_int * 4)()
    assert launch.library().lstm_jax_device(0, found) != 0  # no driver, or not started
