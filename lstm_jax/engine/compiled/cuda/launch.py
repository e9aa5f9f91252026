"""Running kernels on GPUs from inside JAX programs; `launch.cc` is what XLA calls."""

import ctypes
import hashlib
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lstm_jax.engine.compiled.build import NotBuilt, load
from lstm_jax.engine.compiled.cuda import kernel as kernels
from lstm_jax.engine.compiled.cuda import nvrtc
from lstm_jax.engine.compiled.cuda.kernel import Job, Kernel, Tile, ceil_div
from lstm_jax.engine.compiled.cuda.tiles import Device

SOURCE = Path(__file__).with_name("launch.cc")
TARGET = "lstm_jax_launch"


def launch(
    kernel: Kernel, arguments: Sequence[Array], results: Sequence[jax.ShapeDtypeStruct]
) -> list[Array]:
    """Runs a kernel.

    Args:
        kernel: what to run.
        arguments: its arrays, a sequence (..., T, B, N) first.
        results: those that it writes.
    """
    job, tile = kernel.job, kernel.tile
    given, written, aliases = [*arguments], [*results], None
    if tile.form == "GRID":  # what a team's blocks give each other goes through memory
        *problems, _, B, _ = arguments[0].shape
        teams = (*problems, job.heads * ceil_div(B, tile.rows))
        varying = jax.typeof(arguments[0]).manual_axis_type
        scratch = partial(jax.ShapeDtypeStruct, manual_axis_type=varying)
        real = jnp.float64 if job.dtype == "float64" else jnp.float32
        aliases = {len(given): len(written) + 1}
        given.append(jnp.zeros(teams, jnp.uint32))
        written.append(scratch((*teams, 2 * kernels.exchanged(job, tile)), real))
        written.append(scratch(teams, jnp.uint32))
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
        heads=np.int64(job.heads),
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
        NotBuilt: kernels cannot be compiled or run here.
    """
    nvrtc.library()
    found = (ctypes.c_int * 4)()
    ordinal = jax.local_devices(backend="gpu")[0].local_hardware_id
    if code := library().lstm_jax_device(ordinal, found):
        raise NotBuilt(f"the CUDA driver says nothing of the device (error {code})")
    major, minor, processors, shared_bytes = found
    return Device(f"sm_{major}{minor}", processors, shared_bytes)


@cache
def library() -> ctypes.CDLL:
    """`launch.cc`, compiled, and known to JAX as `TARGET`.

    Raises:
        NotBuilt: it cannot be compiled.
    """
    _, found = load(SOURCE.read_text("utf-8"))
    capsule = jax.ffi.pycapsule(found.lstm_jax_launch)
    jax.ffi.register_ffi_target(TARGET, capsule, platform="CUDA")
    return found
