"""From the text of a library to its functions: compiled once, then read from a cache.

A library is compiled when it is first needed, once for each machine, into the user's
cache folder. Its file is named after what it was made from and after a checksum of what
it holds, so that one that was cut short, or that something else was written into, is
seen before it is loaded, and made anew. A cache that cannot be written to costs a
compilation in every process, and a line that says so.
"""

import ctypes
import hashlib
import logging
import os
import shlex
import shutil
import subprocess
import tempfile
import threading
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from lstm_jax.engine.compiled.processor import processor
from lstm_jax.engine.compiled.source import HEADERS
from lstm_jax.files import default_cache_dir, write_whole

OPTIONS = (
    *("-std=c++17", "-O3", "-march=native", "-fPIC", "-shared", "-pthread"),
    *("-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"),
)
COMPILERS = ("c++", "g++", "clang++")
FUNCTIONS = ("LargePages", "Forward", "Backward", "WeightGradients")

_lock = threading.Lock()


class NotBuilt(Exception):
    """A library that cannot be had here; the message says why."""


def switched_off() -> bool:
    """Whether LSTM_JAX_NATIVE, in the environment, does without compiled steps."""
    return os.environ.get("LSTM_JAX_NATIVE", "1").lower() in ("0", "false", "off", "no")


def registered(source: str) -> str:
    """Compiles a library if need be, and registers its functions with JAX.

    Args:
        source: the text of the library, as `lstm_jax.engine.compiled.source` writes it.

    Returns:
        What JAX's names of its `FUNCTIONS` begin with.

    Raises:
        NotBuilt: there is no compiler, say.
    """
    with _lock:  # of several threads one compiles, and the others find it done
        found = _registered(source)
    if isinstance(found, NotBuilt):
        raise NotBuilt(str(found))
    return found


@cache
def _registered(source: str) -> str | NotBuilt:
    """As `registered`; an error is returned, so that it is not met a second time."""
    try:
        key, library = load(source)
        name = f"lstm_jax_{key}"
        for function in FUNCTIONS:
            capsule = jax.ffi.pycapsule(_function(library, function))
            jax.ffi.register_ffi_target(f"{name}_{function}", capsule, platform="cpu")
    except NotBuilt as error:
        say_once(f"steps run as scans, which are slower: {error}")
        return error
    return name


def _function(library: ctypes.CDLL, name: str) -> Any:
    try:
        return getattr(library, name)
    except AttributeError:
        raise NotBuilt(f"the library has no function {name}") from None


def load(source: str) -> tuple[str, ctypes.CDLL]:
    """A library and what it is called after, from the cache if it is there.

    Raises:
        NotBuilt: as `registered`.
    """
    try:
        return _load(source)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise NotBuilt(_told(error)) from error


def _told(error: Exception) -> str:
    """The line of an error that says most."""
    said = getattr(error, "stderr", None) or str(error)
    if isinstance(said, bytes):  # of a compiler, which may speak any language
        said = said.decode("utf-8", "replace")
    lines = said.strip().splitlines() or [type(error).__name__]
    return next((line for line in lines if "error" in line), lines[0])


def _load(source: str) -> tuple[str, ctypes.CDLL]:
    """As `load`, with whatever error comes up.

    Raises:
        OSError: no compiler, or no place to compile in.
        subprocess.SubprocessError: the compiler failed.
        ValueError: `CXX` or `CXXFLAGS` are not words of a command line.
    """
    compiler = _compiler()
    parts = (source, *(header.read_text("utf-8") for header in HEADERS), *compiler)
    text = "\n".join((*parts, version("jaxlib"), processor()))
    key = hashlib.sha256(text.encode()).hexdigest()[:24]
    try:
        folder = default_cache_dir() / "compiled"
    except RuntimeError as error:  # no home directory
        return key, _for_now(_compiled(compiler, source), str(error))
    if (found := _sound(folder, key)) is not None:
        return key, ctypes.CDLL(str(found))
    content = _compiled(compiler, source)
    path = folder / f"{key}-{_checksum(content)}.so"
    try:
        write_whole(path, content)
    except OSError as error:
        return key, _for_now(content, error.strerror or str(error))
    return key, ctypes.CDLL(str(path))


def _for_now(content: bytes, why: str) -> ctypes.CDLL:
    """A library that no cache keeps: once loaded it does not need its file."""
    say_once(f"compiled steps are made again in every process: {why}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "steps.so"
        path.write_bytes(content)
        return ctypes.CDLL(str(path))


@cache
def say_once(line: str) -> None:
    """Logs a warning, unless it was logged before."""
    logging.getLogger("lstm_jax").warning("lstm_jax: %s", line)


def _sound(folder: Path, key: str) -> Path | None:
    """The cached library; None if there is none, or none that is what its name says."""
    for path in folder.glob(f"{key}-*.so"):
        try:
            if path.stem == f"{key}-{_checksum(path.read_bytes())}":
                return path
            say_once(f"{path} is damaged; it is made again")
            path.unlink()
        except OSError:  # another process was faster, or it cannot be read
            continue
    return None


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:40]


def _compiler() -> list[str]:
    """The command that compiles, with its options: `CXX` and `CXXFLAGS` if set."""
    command = shlex.split(os.environ.get("CXX", ""))
    if not command:
        found = next(filter(shutil.which, COMPILERS), None)
        if found is None:
            raise FileNotFoundError(f"no C++ compiler ({', '.join(COMPILERS)})")
        command = [found]
    return [*command, *OPTIONS, *shlex.split(os.environ.get("CXXFLAGS", ""))]


def _compiled(compiler: list[str], source: str) -> bytes:
    includes = ["-I", str(HEADERS[0].parent), "-isystem", jax.ffi.include_dir()]
    with tempfile.TemporaryDirectory() as folder:
        text, made = Path(folder) / "steps.cc", Path(folder) / "steps.so"
        text.write_text(source, "utf-8")
        subprocess.run(
            [*compiler, *includes, str(text), "-o", str(made)],
            check=True,
            capture_output=True,
            timeout=300,
        )
        return made.read_bytes()
