"""A run's folder: config.json, metrics.jsonl and result.json, and what ran where."""

import importlib.metadata
import io
import json
import os
import platform
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

import lstm_jax
from experiments.training.devices import is_first
from lstm_jax.files import write_whole

_PACKAGES = ("flax", "jax", "jaxlib", "numpy", "optax", "orbax-checkpoint")


class Records:
    """The records of one run, in a folder of its own.

    Of several processes the first writes them; in the others nothing happens.

    Attributes:
        folder: where they are, an absolute path.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).resolve()
        self._metrics = self.folder / "metrics.jsonl"

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Writes ``name.json``, whole or not at all.

        Raises:
            OSError: it could not be written; the message names the file.
        """
        if is_first():
            text = json.dumps(content, indent=2) + "\n"
            write_whole(self.folder / f"{name}.json", text.encode())

    def read(self, name: str) -> dict[str, Any] | None:
        """What ``name.json`` says; None where there is no such file.

        Raises:
            ValueError: it holds no JSON object, because it was cut off or edited; it
                is named.
        """
        file = self.folder / f"{name}.json"
        return _object(file.read_bytes(), file) if file.is_file() else None

    def read_result(self) -> dict[str, Any] | None:
        """What result.json says; None where there is none.

        Raises:
            ValueError: as `read`, or it doesn't say whether the run was interrupted.
        """
        result = self.read("result")
        if result is not None and "interrupted" not in result:
            file = self.folder / "result.json"
            raise ValueError(f'{file}: expected a field "interrupted", found none')
        return result

    def append(self, rows: Iterable[dict[str, Any]]) -> None:
        """Adds lines to metrics.jsonl, all of them or none.

        Raises:
            OSError: they could not be written; the message names the file.
        """
        if not is_first():
            return
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        with self._opened() as file:
            before = file.seek(0, os.SEEK_END)
            try:
                written = file.write(content)
                while written < len(content):
                    written += file.write(content[written:])
            except OSError:
                file.truncate(before)
                raise

    def size(self) -> int:
        """The bytes of metrics.jsonl, all of which are on the disk from here on.

        In processes other than the first, 0.
        """
        if not is_first():
            return 0
        with self._opened() as file:
            os.fsync(file.fileno())
            return file.seek(0, os.SEEK_END)

    def cut(self, size: int) -> None:
        """Takes away all lines of metrics.jsonl after so many bytes.

        Raises:
            ValueError: there are fewer.
        """
        if not is_first():
            return
        with self._opened() as file:
            if file.seek(0, os.SEEK_END) < size:
                raise ValueError(
                    f"{self._metrics}: expected at least {size} bytes, "
                    f"got {file.tell()}: lines were lost"
                )
            file.truncate(size)

    @contextmanager
    def _opened(self) -> Generator[io.FileIO]:
        """metrics.jsonl for reading and writing, made if need be."""
        try:
            descriptor = os.open(self._metrics, os.O_RDWR | os.O_CREAT, 0o666)
            with io.FileIO(descriptor, "r+") as file:
                yield file
        except OSError as error:
            message = f"could not write {self._metrics}: {error.strerror or error}"
            raise OSError(error.errno, message) from error


def read_metrics(folder: str | Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl; one that was cut off by a kill is left out.

    Raises:
        FileNotFoundError: the folder has none.
        ValueError: a line is no JSON object; it is named.
    """
    file = Path(folder) / "metrics.jsonl"
    lines = file.read_bytes().split(b"\n")[:-1]
    return [_object(line, f"{file}, line {n}") for n, line in enumerate(lines, 1)]


def _object(content: bytes, where: object) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError as error:
        raise ValueError(f"{where}: not JSON, cut off or edited: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{where}: expected a JSON object, got {found!r:.60}")
    return found


def environment() -> dict[str, Any]:
    """Versions, the device, and what else explains a time: ready for JSON."""
    device = jax.devices()[0]
    return {
        "versions": {
            "python": platform.python_version(),
            "lstm_jax": lstm_jax.__version__,
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
        "device": f"{device.platform}: {device.device_kind}",
        "devices": jax.device_count(),
        "cpu_count": os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.system(),
    }
