"""The sequential part of an LSTM as compiled C++, on CPUs where there is a compiler.

`lstm.cc` beside this file runs the steps of a chunk, and their reverse, as
`lstm_jax.bptt` does with a scan: the same equations, masks and results to rounding.
It is compiled when it is first needed, once for each machine, into the user's cache
folder. Where that fails, one line says so and the scan runs. `LSTM_JAX_NATIVE=0` in
the environment does without.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from lstm_jax.cell import Cell
from lstm_jax.cells.lstm import LSTM, LSTMGates, LSTMParams, LSTMState

SOURCE = Path(__file__).with_name("lstm.cc")
OPTIONS = ("-std=c++17", "-O3", "-march=native", "-ffp-contract=fast", "-fPIC")
COMPILERS = ("c++", "g++", "clang++")

LARGEST_WEIGHTS = 2**21
"""Bytes of Wh above which the scan was faster: each thread reads all of Wh each step,
and a second-level cache no longer holds it (2 MiB a core where this was measured)."""

Steps = tuple[LSTMState, LSTMState, LSTMGates]


def suits(cell: Cell, params: Any, batch_size: int) -> bool:
    """Whether the compiled steps take this cell and these parameters, here and now.

    They know the LSTM alone, with one head, in float32 or float64, and one device:
    the compiler that splits a program over several cannot split what it cannot read.
    A single sequence is left to the scan, whose product has all cores.
    """
    return (
        cell == LSTM
        and batch_size > 1
        and params.Wh.ndim == 2
        and params.Wh.dtype in (jnp.float32, jnp.float64)
        and params.Wh.size * params.Wh.dtype.itemsize <= LARGEST_WEIGHTS
        and jax.default_backend() == "cpu"
        and jax.device_count() == 1
        and available()
    )


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def steps(
    scan: Callable[..., Any],
    reverse: bool,
    params: LSTMParams,
    reset: LSTMState | None,
    entry: LSTMState,
    u: Array,
    valid: Array | None,
    carried: Array | None,
) -> tuple[LSTMState, tuple[LSTMState, LSTMGates]]:
    """What `scan` says of the same arguments, compiled. Derivatives are the scan's.

    Args:
        scan: the steps as `lstm_jax.bptt` scans them.
        reverse: whether they go from the last to the first.
        params: the parameters.
        reset: the state that resets return to, (*batch, H) each; None without resets.
        entry: the state before the first step, the same.
        u: x Wx + b, (T, *batch, 4H).
        valid: (T, *batch), whether a step changes the state; None if all do.
        carried: (T, *batch), whether a step starts from the last state, and not from
            `reset`; None if all do.

    Returns:
        The last state, and of all steps the states after them and the gates.
    """
    run = partial(_steps, reverse)
    return lax.platform_dependent(
        params, reset, entry, u, valid, carried, cpu=run, default=scan
    )


@steps.defjvp
def _steps_jvp(
    scan: Callable[..., Any], reverse: bool, primals: Any, tangents: Any
) -> Any:
    # The values are those of the call, not the scan's: under vmap JAX asks that the
    # same ones be batched with derivatives as without.
    _, tangents = jax.jvp(scan, primals, tangents)
    return steps(scan, reverse, *primals), tangents


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def reverse_steps(
    scan: Callable[..., Any],
    reverse: bool,
    params: LSTMParams,
    steps: Steps,
    valid: Array | None,
    carried: Array | None,
    dy: Array,
    dstate: LSTMState,
    dreset: LSTMState | None,
) -> tuple[tuple[LSTMState, LSTMState | None], tuple[Array, None]]:
    """The reverse of `steps`, again as `scan` has it.

    Args:
        scan: the reverse as `lstm_jax.bptt` scans it.
        reverse: whether the steps went from the last to the first.
        params: the parameters.
        steps: the states before and after all steps, and the gates.
        valid: as for `steps`.
        carried: as for `steps`.
        dy: the gradients of the outputs, (T, *batch, H).
        dstate: the gradient of the last state, (*batch, H) each.
        dreset: the gradient of the state that resets return to, so far; None without
            resets.

    Returns:
        The gradients of the first state and of the one that resets return to; and
        that of x Wx + b, which is h Wh's too.
    """
    run = partial(_reverse_steps, reverse)
    return lax.platform_dependent(
        params, steps, valid, carried, dy, dstate, dreset, cpu=run, default=scan
    )


@reverse_steps.defjvp
def _reverse_steps_jvp(
    scan: Callable[..., Any], reverse: bool, primals: Any, tangents: Any
) -> Any:
    # The values are those of the call, not the scan's: under vmap JAX asks that the
    # same ones be batched with derivatives as without.
    _, tangents = jax.jvp(scan, primals, tangents)
    return reverse_steps(scan, reverse, *primals), tangents


# --- calling --------------------------------------------------------------------------


def _steps(
    reverse: bool,
    params: LSTMParams,
    reset: LSTMState | None,
    entry: LSTMState,
    u: Array,
    valid: Array | None,
    carried: Array | None,
) -> tuple[LSTMState, tuple[LSTMState, LSTMGates]]:
    time_batch, hidden_size = u.shape[:-1], params.Wh.shape[0]
    flat = partial(_flat, time_batch)
    state = jax.ShapeDtypeStruct(flat(entry.h, 0).shape, u.dtype)
    steps = jax.ShapeDtypeStruct((*flat(u).shape[:2], hidden_size), u.dtype)
    results = _call("Forward", u.dtype, (state,) * 2 + (steps,) * 6)(
        params.Wh,
        *(flat(a, 0) for a in (entry if reset is None else reset)),
        *(flat(a, 0) for a in entry),
        flat(u),
        _mask(valid, time_batch),
        _mask(carried, time_batch),
        reverse=reverse,
    )
    final = LSTMState(*(a.reshape(entry.h.shape) for a in results[:2]))
    shape = (*time_batch, hidden_size)
    h, c, *gates = (a.reshape(shape) for a in results[2:])
    return final, (LSTMState(h, c), LSTMGates(*gates))


def _reverse_steps(
    reverse: bool,
    params: LSTMParams,
    steps: Steps,
    valid: Array | None,
    carried: Array | None,
    dy: Array,
    dstate: LSTMState,
    dreset: LSTMState | None,
) -> tuple[tuple[LSTMState, LSTMState | None], tuple[Array, None]]:
    old, new, gates = steps
    time_batch, hidden_size = dy.shape[:-1], dy.shape[-1]
    flat = partial(_flat, time_batch)
    state = jax.ShapeDtypeStruct(flat(dstate.h, 0).shape, dy.dtype)
    pre = jax.ShapeDtypeStruct((*flat(dy).shape[:2], 4 * hidden_size), dy.dtype)
    results = _call("Backward", dy.dtype, (state,) * 4 + (pre,))(
        params.Wh,
        *(flat(a, 0) for a in dstate),
        flat(dy),
        flat(old.c),
        flat(new.c),
        *map(flat, gates),
        _mask(valid, time_batch),
        _mask(carried, time_batch),
        reverse=reverse,
    )
    states = [a.reshape(dstate.h.shape) for a in results[:4]]
    if dreset is not None:
        dreset = LSTMState(dreset.h + states[2], dreset.c + states[3])
    dz = results[4].reshape(*time_batch, 4 * hidden_size)
    return (LSTMState(*states[:2]), dreset), (dz, None)


def _flat(time_batch: tuple[int, ...], a: Array, axis: int = 1) -> Array:
    """With one batch axis, at `axis`, instead of any number of them."""
    rank = len(time_batch) - 1
    return a.reshape(*a.shape[:axis], -1, *a.shape[axis + rank :])


def _mask(mask: Array | None, time_batch: tuple[int, ...]) -> Array:
    full = jnp.ones(time_batch, bool) if mask is None else mask
    return full.reshape(time_batch[0], -1)


def _call(direction: str, dtype: Any, results: Any) -> Callable[..., Any]:
    bits = 8 * jnp.dtype(dtype).itemsize
    # Under vmap, arguments get leading axes: so many problems, one after the other.
    return jax.ffi.ffi_call(
        f"lstm_jax_{direction}F{bits}", results, vmap_method="broadcast_all"
    )


# --- compiling ------------------------------------------------------------------------


@cache
def available() -> bool:
    """Whether the compiled steps can be had; compiles and registers them if so."""
    if os.environ.get("LSTM_JAX_NATIVE", "1") == "0":
        return False
    try:
        library = ctypes.CDLL(str(_compiled()))
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        logging.getLogger("lstm_jax").warning(
            "lstm_jax.native could not be compiled, so LSTMs run as compiled scans, "
            "which are somewhat slower: %s",
            said.strip().splitlines()[0] if said.strip() else type(error).__name__,
        )
        return False
    for direction in ("Forward", "Backward"):
        for bits in (32, 64):
            handler = getattr(library, f"Lstm{direction}F{bits}")
            name = f"lstm_jax_{direction}F{bits}"
            capsule = jax.ffi.pycapsule(handler)
            jax.ffi.register_ffi_target(name, capsule, platform="cpu")
    return True


def _compiled() -> Path:
    """The shared library, compiled if this machine has not compiled it before.

    Raises:
        OSError: no compiler, or a folder that cannot be written.
        subprocess.SubprocessError: the compiler failed.
    """
    compiler = os.environ.get("CXX") or next(filter(shutil.which, COMPILERS), None)
    if compiler is None:
        raise FileNotFoundError(f"no C++ compiler ({', '.join(COMPILERS)})")
    include = jax.ffi.include_dir()
    key = "\n".join(
        (
            SOURCE.read_text("utf-8"),
            *OPTIONS,
            compiler,
            jax.__version__,
            _processor(),
        )
    )
    folder = _cache_folder()
    library = folder / f"lstm-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    if library.exists():
        return library
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        made = Path(scratch) / library.name
        command = [compiler, *OPTIONS, "-shared", "-isystem", include]
        subprocess.run(
            [*command, str(SOURCE), "-o", str(made)],
            check=True,
            capture_output=True,
            text=True,
            timeout=300,
        )
        made.replace(library)  # whole or not at all, whoever else compiles it
    return library


def _cache_folder() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "lstm_jax" / "native"


def _processor() -> str:
    """What this machine's instructions are: a library made for others would crash."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return f"{platform.platform()} {platform.machine()} {platform.processor()}"
    lines = info.read_text("utf-8", "replace").splitlines()
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))
