"""The sequential part of an LSTM as compiled C++, on CPUs where there is a compiler.

`lstm.cc` beside this file runs the steps of a chunk, and their reverse, as
`lstm_jax.engine.bptt` does with a scan: the same equations, masks and results to
rounding. It is compiled when it is first needed, once for each machine, into the user's
cache folder. Where that fails, one line says so and the scan runs. `LSTM_JAX_NATIVE=0`
in the environment does without.
"""

import ctypes
import hashlib
import logging
import math
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from lstm_jax.cell import Cell
from lstm_jax.cells.lstm import LSTM, LSTMGates, LSTMParams, LSTMState
from lstm_jax.engine import scan, trees
from lstm_jax.engine.sequence import Inputs, Settings, Starts, Steps
from lstm_jax.files import default_cache_dir
from lstm_jax.identities import concatenate, weighted_input

SOURCE = Path(__file__).with_name("lstm.cc")
OPTIONS = ("-std=c++17", "-O3", "-march=native", "-ffp-contract=fast", "-fPIC")
COMPILERS = ("c++", "g++", "clang++")


class Weights(NamedTuple):
    """The parameters as the compiled steps read them.

    Attributes:
        params: the parameters.
        forward: `forward_panels(params)`.
        reverse: `reverse_panels(params)`.
    """

    params: LSTMParams
    forward: Array
    reverse: Array


def why_not(cell: Cell, params: Any) -> str | None:
    """Why the compiled steps do not take this cell and these parameters, here and now.

    None if they do. They know the LSTM alone, with one head, in float32 or float64, and
    one device: the compiler that splits a program over several cannot split what it
    cannot read.
    """
    if cell != LSTM:
        return "the compiled steps know the LSTM alone"
    if params.Wh.ndim != 2:
        return "the compiled steps know one head alone"
    if params.Wh.dtype not in (jnp.float32, jnp.float64):
        return f"there are no compiled steps for {params.Wh.dtype}"
    if jax.default_backend() != "cpu":
        return f"there are no compiled steps for {jax.default_backend()}"
    if jax.device_count() > 1:
        return "compiled steps run on one device"
    return None if available() else "the compiled steps could not be compiled"


def lay_out(params: LSTMParams) -> Weights:
    """The weights as both directions read them; the compiler drops what is not."""
    return Weights(params, forward_panels(params), reverse_panels(params))


def forward_panels(params: LSTMParams) -> Array:
    """Wh as `steps` reads it: two vectors' width of columns after the other.

    A vector is 64 bytes; (panels, H, two vectors). A panel's columns are a vector of
    each of two gates, (i, f) or (o, g), so that all that a hidden unit needs is in two
    neighbours. The last ones are filled up with zeros.
    """
    H, lanes = params.Wh.shape[0], _lanes(params.Wh)
    gates = _filled(params.Wh.reshape(H, 2, 2, H), lanes)  # two panels, two gates each
    vectors = gates.reshape(H, 2, 2, -1, lanes)
    return vectors.transpose(3, 1, 0, 2, 4).reshape(-1, H, 2 * lanes)


def reverse_panels(params: LSTMParams) -> Array:
    """The transpose of Wh as `reverse_steps` reads it, (panels, 4H, two vectors)."""
    width = 2 * _lanes(params.Wh)
    columns = _filled(params.Wh.T, width)
    return columns.reshape(len(columns), -1, width).transpose(1, 0, 2)


def _lanes(a: Array) -> int:
    return 64 // a.dtype.itemsize


def _filled(a: Array, multiple: int) -> Array:
    """With zeros at the end of the last axis, up to a multiple."""
    return jnp.pad(a, (*((0, 0),) * (a.ndim - 1), (0, -a.shape[-1] % multiple)))


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def steps(
    settings: Settings, weights: Weights, starts: Starts, inputs: Inputs
) -> tuple[LSTMState, Steps]:
    """What `scan.steps` says of the same arguments, compiled; derivatives are its."""
    return lax.platform_dependent(
        *(weights, starts, inputs),
        cpu=partial(_steps, settings),
        default=lambda weights, *rest: scan.steps(settings, weights.params, *rest),
    )


@steps.defjvp
def _steps_jvp(settings: Settings, primals: Any, tangents: Any) -> Any:
    # The values are those of the call, not the scan's: under vmap JAX asks that the
    # same ones be batched with derivatives as without.
    run = lambda weights, *rest: scan.steps(settings, weights.params, *rest)  # noqa: E731
    return steps(settings, *primals), jax.jvp(run, primals, tangents)[1]


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def reverse_steps(
    settings: Settings,
    weights: Weights,
    starts: Starts,
    inputs: Inputs,
    steps: Steps,
    dfinal: LSTMState,
    dys: Array,
) -> tuple[Starts, tuple[Array, None]]:
    """The reverse of `steps`, again as `scan` has it."""
    return lax.platform_dependent(
        *(weights, starts, inputs, steps, dfinal, dys),
        cpu=partial(_reverse_steps, settings),
        default=lambda weights, *rest: scan.reverse_steps(
            settings, weights.params, *rest
        ),
    )


@reverse_steps.defjvp
def _reverse_steps_jvp(settings: Settings, primals: Any, tangents: Any) -> Any:
    # The values of the call, as in `_steps_jvp`.
    run = lambda weights, *rest: scan.reverse_steps(settings, weights.params, *rest)  # noqa: E731
    return reverse_steps(settings, *primals), jax.jvp(run, primals, tangents)[1]


# --- calling --------------------------------------------------------------------------


def _steps(
    settings: Settings, weights: Weights, starts: Starts, inputs: Inputs
) -> tuple[LSTMState, Steps]:
    entry = starts.state
    initial = entry if starts.reset is None else starts.reset
    H = entry.h.shape[-1]
    final, (h, c, gates) = _call(
        "Forward",
        settings.reverse,
        (weights.forward, weights.params.b),
        states=(*initial, *entry),
        sequences=(weighted_input(inputs.x, weights.params.Wx),),
        masks=(inputs.valid, inputs.carried),
        results=(2, (H, H, 4 * H)),
    )
    kept = LSTMGates(*jnp.split(gates, 4, -1))
    return LSTMState(*final), Steps(LSTMState(h, c), kept)


def _reverse_steps(
    settings: Settings,
    weights: Weights,
    starts: Starts,
    inputs: Inputs,
    steps: Steps,
    dfinal: LSTMState,
    dys: Array,
) -> tuple[Starts, tuple[Array, None]]:
    # What the first step started from; what the others did stands in `new` and `reset`.
    carried = inputs.carried
    if carried is not None:
        carried = carried[-1 if settings.reverse else 0]
    first = trees.select(carried, starts.state, starts.reset).c
    (dh, dc, *dreset), (dz,) = _call(
        "Backward",
        settings.reverse,
        (weights.reverse,),
        states=(*dfinal, first if starts.reset is None else starts.reset.c, first),
        sequences=(dys, steps.new.c, concatenate(*steps.kept)),
        masks=(inputs.valid, inputs.carried),
        results=(4, (4 * dys.shape[-1],)),
    )
    reset = None if starts.reset is None else LSTMState(*dreset)
    return Starts(LSTMState(dh, dc), reset), (dz, None)


def _call(
    direction: str,
    reverse: bool,
    weights: Sequence[Array],
    *,
    states: Sequence[Array],
    sequences: Sequence[Array],
    masks: Sequence[Array | None],
    results: tuple[int, tuple[int, ...]],
) -> tuple[list[Array], list[Array]]:
    """Calls a compiled function, which knows one batch axis; there may be any number.

    Args:
        direction: "Forward" or "Backward".
        reverse: whether the steps go from the last to the first.
        weights: what has neither a time nor a batch axis.
        states: (*batch, H) each.
        sequences: (T, *batch, ...) each. The last result is written over the last one.
        masks: (T, *batch) each, or None for true.
        results: how many are like the states; and, of the others, (T, *batch, N), N.
    """
    (*batch, H), T, dtype = states[0].shape, sequences[0].shape[0], states[0].dtype
    B, (count, sizes) = math.prod(batch), results
    (*others, last), (*other_sizes, last_size) = sequences, sizes
    shapes = [(B, H)] * count + [(T, B, size) for size in other_sizes]
    shapes.append((T * B, last_size))  # as a product has it, or XLA copies it
    overwritten = len(weights) + len(states) + len(others)
    # Under vmap, arguments get leading axes: so many problems, one after the other.
    call = jax.ffi.ffi_call(
        f"lstm_jax_{direction}F{8 * dtype.itemsize}",
        [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes],
        vmap_method="broadcast_all",
        input_output_aliases={overwritten: len(shapes) - 1},
    )
    found = call(
        *weights,
        *(state.reshape(B, H) for state in states),
        *(sequence.reshape(T, B, sequence.shape[-1]) for sequence in others),
        last.reshape(T * B, last_size),
        *(jnp.ones((T, B), bool) if m is None else m.reshape(T, B) for m in masks),
        reverse=reverse,
    )
    return (
        [state.reshape(*batch, H) for state in found[:count]],
        [steps.reshape(T, *batch, steps.shape[-1]) for steps in found[count:]],
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
            "lstm_jax.engine.native could not be compiled, so LSTMs run as compiled "
            "scans, which are slower: %s",
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
    folder = default_cache_dir() / "native"
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


def _processor() -> str:
    """What this machine's instructions are: a library made for others would crash."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return f"{platform.platform()} {platform.machine()} {platform.processor()}"
    lines = info.read_text("utf-8", "replace").splitlines()
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))
