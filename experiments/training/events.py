"""Event files for TensorBoard, through the optional package tensorboardX."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.optional import require


def require_writer() -> Any:
    """The package that writes event files.

    Raises:
        ModuleNotFoundError: it is not installed; the message says how to get it.
    """
    return require("tensorboardX", extra="tensorboard")


class EventFiles:
    """Writes the lines of metrics.jsonl as event files too: a number, a curve.

    What was in their folder before goes: a run that continues writes all its lines
    again, since a kill may have taken some that were not on the disk yet.

    Args:
        folder: where the files go.
    """

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self._writer = require_writer().SummaryWriter(str(folder), flush_secs=10)

    def append(self, rows: Sequence[dict[str, Any]]) -> None:
        """Adds the numbers of some lines, under ``KIND/NAME``."""
        for row in rows:
            for name, value in row.items():
                if name not in ("kind", "step", "epoch"):
                    self._writer.add_scalar(f"{row['kind']}/{name}", value, row["step"])

    def close(self) -> None:
        """Ends the files."""
        self._writer.close()
