"""NVRTC, CUDA's compiler as a library: from a kernel's text to an image for a device.

It comes with JAX's CUDA wheels, and the wheel `nvidia-cuda-nvrtc` installs on any
machine: no GPU is needed to compile.
"""

import contextlib
import ctypes
import hashlib
import importlib.util
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from lstm_jax.engine.compiled.build import NotBuilt
from lstm_jax.files import default_cache_dir, write_whole

SYSTEMS = ("libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12")
"""What the library is called where CUDA is installed, and no wheel."""


@cache
def library() -> ctypes.CDLL:
    """NVRTC, of a wheel or else of the system.

    Raises:
        NotBuilt: there is none.
    """
    for name in (*_in_wheels(), *SYSTEMS):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise NotBuilt("NVRTC is not installed (pip install nvidia-cuda-nvrtc)")


def _in_wheels() -> list[str]:
    spec = importlib.util.find_spec("nvidia")
    folders = (spec.submodule_search_locations if spec else None) or ()
    found = (p for folder in folders for p in Path(folder).rglob("libnvrtc.so.*"))
    return sorted(str(p) for p in found if ".alt." not in p.name)


def version() -> tuple[int, int]:
    """NVRTC's version, major and minor."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return major.value, minor.value


def compiled(text: str, architecture: str, *options: str) -> tuple[bytes, str]:
    """The image of a text, and what the compiler says.

    Args:
        text: CUDA C++ that includes nothing.
        architecture: such as "sm_90".
        options: more options of NVRTC.

    Raises:
        NotBuilt: the text is wrong, or there is no NVRTC.
    """
    nvrtc, program = library(), ctypes.c_void_p()
    words = [o.encode() for o in ("-std=c++17", f"-arch={architecture}", *options)]
    code = nvrtc.nvrtcCreateProgram(
        ctypes.byref(program), text.encode(), b"steps.cu", 0, None, None
    )
    if code:
        raise NotBuilt(f"NVRTC cannot start (error {code})")
    try:
        code = nvrtc.nvrtcCompileProgram(
            program, len(words), (ctypes.c_char_p * len(words))(*words)
        )
        log = _bytes(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program)
        said = log.rstrip(b"\0").decode("utf-8", "replace")
        if code:
            raise NotBuilt(said or f"NVRTC: error {code}")
        return _bytes(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN, program), said
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _bytes(
    get_size: Callable[..., Any], get: Callable[..., Any], program: ctypes.c_void_p
) -> bytes:
    size = ctypes.c_size_t()
    get_size(program, ctypes.byref(size))
    found = ctypes.create_string_buffer(size.value)
    get(program, found)
    return found.raw


def image(text: str, architecture: str) -> bytes:
    """`compiled`, once for each text, architecture and version of NVRTC.

    An image is kept in the user's cache folder, after a checksum: one that was cut
    short, or that something else was written into, is made anew.

    Raises:
        NotBuilt: as `compiled`.
    """
    key = "\n".join((text, architecture, str(version())))
    try:
        folder = default_cache_dir() / "cuda"
    except RuntimeError:  # no home directory
        return compiled(text, architecture)[0]
    path = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.cubin"
    found = _kept(path)
    if found is None:
        found, _ = compiled(text, architecture)
        # Compiling takes half a second: where nothing can be kept it is done again.
        with contextlib.suppress(OSError):
            write_whole(path, hashlib.sha256(found).digest() + found)
    return found


def _kept(path: Path) -> bytes | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, found = content[:32], content[32:]
    return found if hashlib.sha256(found).digest() == digest else None
