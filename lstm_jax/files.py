"""The user's cache folder, and files written whole or not at all."""

import os
import secrets
import time
from pathlib import Path

_STALE_SECONDS = 3600.0


def default_cache_dir() -> Path:
    """`$XDG_CACHE_HOME/lstm_jax`, or `~/.cache/lstm_jax` where that is not set."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "lstm_jax"


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file so that it is seen whole or not at all; its mode is the umask's.

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
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
        with open(temporary, "xb") as file:
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


def _remove_stale(path: Path) -> None:
    for left_over in path.parent.glob(f".{path.name}.*.tmp"):
        try:
            if time.time() - left_over.stat().st_mtime > _STALE_SECONDS:
                left_over.unlink()
        except FileNotFoundError:  # another process was faster
            continue
