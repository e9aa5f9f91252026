"""One process at a time in a run's folder."""

import errno
import fcntl
import os
import socket
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What file systems say that know no locks."""


@contextmanager
def locked(folder: Path) -> Generator[None]:
    """Keeps other processes out of a folder as long as it is entered.

    The lock is on a file beside the folder, ``.NAME.lock``, which says who has it. The
    system takes it back when a process ends, however it ends. Where the file system
    knows no locks, nothing is kept out.

    Raises:
        BlockingIOError: another process has it; it is named.
        OSError: the file could not be written.
    """
    file = folder.with_name(f".{folder.name}.lock")
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _lock(file, folder)
    try:
        os.ftruncate(descriptor, 0)
        os.write(
            descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode()
        )
        yield
    finally:
        file.unlink(missing_ok=True)
        os.close(descriptor)


def _lock(file: Path, folder: Path) -> int:
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace")
            os.close(descriptor)
            raise BlockingIOError(
                f"{folder}: {holder or 'another process'} is training here. Wait for "
                "its end, or choose another --name"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(descriptor)
                raise
        # Whoever had the lock before took the file away: then it is no lock any more.
        if _is_at(file, descriptor):
            return descriptor
        os.close(descriptor)


def _is_at(file: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(file.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
