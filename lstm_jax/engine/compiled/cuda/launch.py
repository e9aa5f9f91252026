"""Running kernels on GPUs from inside JAX programs; `launch.cc` is what XLA calls."""

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lstm_jax.engine.compiled.cuda import kernel as kernels
from lstm_jax.engine.compiled.cuda import nvrtc
from lstm_jax.engine.compiled.cuda.kernel import Job, Kernel, Tile, ceil_div
from lstm_jax.engine.compiled.cuda.tiles import Device
from lstm_jax.files import default_cache_dir

SOURCE = Path(__file__).with_name("launch.cc")
OPTIONS = ("-std=c++17", "-O2", "-fPIC", "-shared")
COMPILERS = ("c++", "g++", "clang++")
TARGET = "lstm_jax_launch"


class NotLaunched(Exception):
    """Kernels cannot be run here; the message says why."""


def launch(
    kernel: Kernel, arguments: Sequence[Array], results: Sequence[jax.ShapeDtypeStruct]
) -> list[Array]:
    """Runs a kernel.

    Args:
        kernel: what to run.
        arguments: its arrays, a sequence (T, B, N) first.
        results: those that it writes.
    """
    job, tile = kernel.job, kernel.tile
    given, written, aliases = [*arguments], [*results], None
    if tile.form == "GRID":  # what a team's blocks give each other goes through memory
        teams = kernel.heads * ceil_div(arguments[0].shape[1], tile.rows)
        real = jnp.float64 if job.dtype == "float64" else jnp.float32
        numbers = jax.ShapeDtypeStruct((teams, 2 * kernels.exchanged(job, tile)), real)
        counters = jnp.zeros(teams, jnp.uint32)
        aliases = {len(given): len(written) + 1}
        given.append(counters)
        written += [numbers, jax.ShapeDtypeStruct(counters.shape, counters.dtype)]
    # Under vmap, arguments get leading axes: so many problems.
    call = jax.ffi.ffi_call(
        TARGET, written, vmap_method="broadcast_all", input_output_aliases=aliases
    )
    found = call(
        *given,
        image=image(job, tile),
        form=tile.form,
        blocks=np.int64(tile.blocks),
        rows=np.int64(tile.rows),
        threads=np.int64(tile.threads),
        shared_bytes=np.int64(kernels.shared_bytes(job, tile)),
        heads=np.int64(kernel.heads),
        reverse=kernel.reverse,
    )
    return [*found[: len(results)]]


@cache
def image(job: Job, tile: Tile) -> str:
    """The name under which `launch.cc` knows a kernel's image."""
    content = nvrtc.image(kernels.text(job, tile), device().architecture)
    name = hashlib.sha256(content).hexdigest()
    size = ctypes.c_size_t(len(content))
    library().lstm_jax_add_image(name.encode(), content, size)
    return name


@cache
def device() -> Device:
    """What this process' GPUs grant.

    Raises:
        NotLaunched: kernels cannot be compiled or run here.
    """
    try:
        nvrtc.library()
    except nvrtc.NotCompiled as error:
        raise NotLaunched(str(error)) from None
    found = (ctypes.c_int * 4)()
    ordinal = jax.local_devices(backend="gpu")[0].local_hardware_id
    if code := library().lstm_jax_device(ordinal, found):
        raise NotLaunched(f"the CUDA driver says nothing of the device (error {code})")
    major, minor, processors, shared_bytes = found
    return Device(f"sm_{major}{minor}", processors, shared_bytes)


@cache
def library() -> ctypes.CDLL:
    """`launch.cc`, compiled, and known to JAX as `TARGET`.

    Raises:
        NotLaunched: it could not be compiled.
    """
    try:
        found = ctypes.CDLL(str(_compiled()))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip()
        raise NotLaunched(f"launch.cc: {said.splitlines()[0]}") from None
    capsule = jax.ffi.pycapsule(found.lstm_jax_launch)
    jax.ffi.register_ffi_target(TARGET, capsule, platform="CUDA")
    return found


def _compiled() -> Path:
    compiler = shlex.split(os.environ.get("CXX", ""))
    compiler = compiler or [next(filter(shutil.which, COMPILERS), COMPILERS[0])]
    command = [*compiler, *OPTIONS, "-isystem", jax.ffi.include_dir(), str(SOURCE)]
    text = "\n".join((*command, jax.__version__, SOURCE.read_text("utf-8")))
    folder = default_cache_dir() / "cuda"
    path = folder / f"launch-{hashlib.sha256(text.encode()).hexdigest()[:24]}.so"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch) / path.name
            subprocess.run(
                [*command, "-o", str(made), "-ldl"],
                check=True,
                capture_output=True,
                text=True,
                timeout=300,
            )
            made.replace(path)  # whole or not at all, whoever else compiles it
    return path
