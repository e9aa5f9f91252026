"""A cache of arrays that checks itself."""

import hashlib
import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from lstm_jax.files import write_whole

_DIGEST_SIZE = 32


def cache_key(recipe: dict[str, Any]) -> str:
    """The name of what `recipe` makes: a hash of its canonical JSON."""
    canonical = json.dumps(recipe, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes named arrays behind a SHA-256 of themselves, whole or not at all."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # ty: ignore[invalid-argument-type]
    content = buffer.getvalue()
    write_whole(path, hashlib.sha256(content).digest() + content)


def load_arrays(path: Path) -> dict[str, np.ndarray] | None:
    """Reads what `save_arrays` wrote; None where there is no sound file.

    A file that does not match its checksum is passed over with a warning: whoever
    asks makes the arrays again and replaces it.
    """
    try:
        stored = path.read_bytes()
    except FileNotFoundError:
        return None
    digest, content = stored[:_DIGEST_SIZE], stored[_DIGEST_SIZE:]
    if hashlib.sha256(content).digest() != digest:
        warnings.warn(
            f"the cache file {path} is damaged; it is made again", stacklevel=2
        )
        return None
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return dict(arrays)
