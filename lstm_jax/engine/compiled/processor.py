"""What this machine's processor is, for libraries that are compiled for it."""

import platform
from functools import cache
from pathlib import Path


@cache
def processor() -> str:
    """What its instructions are: a library made for others would crash."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return f"{platform.platform()} {platform.machine()} {platform.processor()}"
    lines = info.read_text("utf-8", "replace").splitlines()
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))


@cache
def vector_bytes() -> int:
    """How long one of its vector registers is.

    A library is right with any length, and slow with a longer one: compilers keep a
    vector that no register holds in memory.
    """
    if "avx512f" in processor().split():
        return 64
    # jaxlib for x86 runs on no processor without AVX.
    return 32 if platform.machine() in ("x86_64", "AMD64") else 16
