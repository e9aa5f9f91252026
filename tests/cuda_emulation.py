"""CUDA kernels on the CPU: the same text, with `cuda_on_cpu.h` for the GPU.

`emulated` makes the runner for GPUs take the steps here, with tiles of the test's
choice. A kernel's threads are threads, so sizes should be small.
"""

import ctypes
import os
import subprocess
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import jax
import numpy as np

from lstm_jax.engine import scan
from lstm_jax.engine.compiled.choice import compiled_on
from lstm_jax.engine.compiled.cuda import kernel as kernels
from lstm_jax.engine.compiled.cuda import runner, tiles

FOLDER = Path(__file__).parent
GPU = FOLDER / "cuda_on_cpu.h"
THREADS = FOLDER / "cuda_threads.cc"
ENTRY = """
extern "C" void launch_all(void** arrays, const int* sizes, int blocks) {
  Arguments a;
  for (int i = 0; i < ARRAYS; ++i) a.arrays[i] = arrays[i];
  a.sizes = {sizes[0], sizes[1], sizes[2], 0};
  launch<run>(a, blocks);
}
"""
OPTIONS = ("-std=c++20", "-O0", "-w", "-pthread", "-fPIC", f"-I{FOLDER}")
COMPILER = (os.environ.get("CXX", "c++"), *OPTIONS)
DEVICE = tiles.Device("sm_90", 132, 227 * 1024)


@contextmanager
def emulated(forward, reverse, *, image=None):
    """Within, the runner's functions run emulated kernels with these two tiles.

    They have to: at the end that is asserted, unless a test has its own `image`.
    """

    def choose(job, *_):
        return forward if job.direction == "forward" else reverse

    launch = mock.Mock(side_effect=run)
    here = {
        "steps": compiled_on("cpu", runner._steps_or_scan, scan.steps),
        "reverse_steps": compiled_on(
            "cpu", runner._reverse_steps_or_scan, scan.reverse_steps
        ),
    }
    with (
        mock.patch.multiple(runner, launch=launch, device=lambda: DEVICE, **here),
        mock.patch.object(runner, "image", image or mock.Mock()),
        mock.patch.object(tiles, "choose", choose),
    ):
        yield
    assert launch.called == (image is None)


def run(kernel, arguments, results):
    """As `lstm_jax.engine.compiled.cuda.launch` runs a kernel."""

    def call(*arguments):
        launch = library(source(kernel.job, kernel.tile))
        *problems, T, B, _ = arguments[0].shape
        teams = int(np.prod(problems)) * kernel.job.heads * -(-B // kernel.tile.rows)
        many = arguments[0].shape[: arguments[0].ndim - given[0].ndim]  # under vmap
        outs = [np.zeros((*many, *r.shape), r.dtype) for r in results]
        arrays = [*map(np.ascontiguousarray, arguments), *outs]
        if kernel.tile.form == "GRID":
            numbers = 2 * kernels.exchanged(kernel.job, kernel.tile) * teams
            counters = np.zeros(teams, np.uint32)
            size = np.float64 if kernel.job.dtype == "float64" else np.float32
            arrays.insert(len(arguments), counters)
            arrays += [np.zeros(numbers, size), counters]
        addresses = [a.ctypes.data for a in arrays]
        launch(
            (ctypes.c_void_p * len(addresses))(*addresses),
            (ctypes.c_int * 3)(T, B, kernel.reverse),
            teams * kernel.tile.blocks,
        )
        return outs

    given = arguments
    return jax.pure_callback(
        call, list(results), *arguments, vmap_method="broadcast_all"
    )


@cache
def library(text):
    """The function that runs the kernel of a text."""
    with TemporaryDirectory() as folder:
        threads = Path(compiled_threads().name, "threads")
        made = compiled(text, Path(folder), "-shared", str(threads))
        return ctypes.CDLL(str(made)).launch_all


def source(job, tile):
    """The text of a kernel for the CPU."""
    return kernels.text(job, tile, GPU.read_text("utf-8")) + ENTRY


def compiled(text, folder, *options):
    """What the C++ compiler makes of a text, in a folder."""
    path, made = folder / "kernel.cc", folder / "kernel"
    path.write_text(text, "utf-8")
    subprocess.run([*COMPILER, str(path), *options, "-o", str(made)], check=True)
    return made


@cache
def compiled_threads():
    """A folder with the library of threads, whose headers are most of the work."""
    folder = TemporaryDirectory(prefix="threads_for_tests_")
    made = Path(folder.name, "threads")
    subprocess.run([*COMPILER, "-shared", THREADS, "-o", made], check=True)
    return folder
