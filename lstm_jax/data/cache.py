"""Files written whole or not at all, and a cache of arrays that checks itself."""

import hashlib
import io
import json
import os
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

_DIGEST_SIZE = 32
_STALE_SECONDS = 3600.0


def default_cache_dir() -> Path:
    """`$XDG_CACHE_HOME/lstm_jax`, or `~/.cache/lstm_jax` where that is not set."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "lstm_jax"


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file so that it is seen whole or not at all.

    The content goes to a temporary file in the same folder, to the disk, and then
    into place by a rename. Folders are made as needed. On any error the temporary
    file is removed and a file that was there before is untouched; after a kill or a
    power cut a `.tmp` file may stay behind, which the next write of the same name
    removes once it is an hour old.

    Raises:
        OSError: it could not be written (a full disk, say); the message names `path`.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path)
        descriptor, name = tempfile.mkstemp(
            prefix=f".{path.name}.", suffix=".tmp", dir=path.parent
        )
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
            message = f"could not write {path} ({len(content)} bytes): {reason}"
            raise OSError(error.errno, message) from error
        raise


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


def _remove_stale(path: Path) -> None:
    for left_over in path.parent.glob(f".{path.name}.*.tmp"):
        try:
            if time.time() - left_over.stat().st_mtime > _STALE_SECONDS:
                left_over.unlink()
        except FileNotFoundError:  # another process was faster
            continue
