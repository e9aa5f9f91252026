"""A run's folder: config.json, metrics.jsonl and result.json, and what ran where."""

import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax

from lstm_jax.data import write_whole

_PACKAGES = ("flax", "jax", "jaxlib", "numpy", "optax", "orbax-checkpoint")


class Records:
    """The records of one run, in a folder of its own.

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
        text = json.dumps(content, indent=2) + "\n"
        write_whole(self.folder / f"{name}.json", text.encode())

    def append(self, rows: Iterable[dict[str, Any]]) -> None:
        """Adds lines to metrics.jsonl, all of them or none.

        Raises:
            OSError: they could not be written; the message names the file.
        """
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        try:
            with open(self._metrics, "ab", buffering=0) as file:
                before = file.tell()
                try:
                    written = file.write(content)
                    while written < len(content):
                        written += file.write(content[written:])
                except OSError:
                    os.ftruncate(file.fileno(), before)
                    raise
        except OSError as error:
            message = f"could not write {self._metrics}: {error.strerror or error}"
            raise OSError(error.errno, message) from error


def read_metrics(folder: str | Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl.

    Raises:
        FileNotFoundError: the folder has none.
    """
    text = (Path(folder) / "metrics.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def environment() -> dict[str, Any]:
    """Versions, the device, and what else explains a time: ready for JSON."""
    device = jax.devices()[0]
    return {
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
        "device": f"{device.platform}: {device.device_kind}",
        "devices": jax.device_count(),
        "cpu_count": os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.system(),
    }
