"""Event files for TensorBoard, through the optional package tensorboardX."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lstm_jax.data.optional import require


def require_writer() -> Any:
    """The package that writes event files.

    Raises:
        ModuleNotFoundError: it is not installed; the message says how to get it.
    """
    return require("tensorboardX", extra="tensorboard")


class EventFiles:
    """Writes the lines of metrics.jsonl as event files too: a number, a curve.

    Args:
        folder: where the files go.
        step: the last step of an earlier life of the run; TensorBoard leaves out what
            that one wrote of later ones.
    """

    def __init__(self, folder: Path, step: int) -> None:
        writer = require_writer().SummaryWriter
        # The name of a file is of its second alone, and a run may have two lives in one.
        suffix = f".after-{step}"
        self._writer = writer(str(folder), purge_step=step + 1, filename_suffix=suffix)

    def append(self, rows: Sequence[dict[str, Any]]) -> None:
        """Adds the numbers of some lines, under ``KIND/NAME``."""
        for row in rows:
            for name, value in row.items():
                if name not in ("kind", "step", "epoch"):
                    self._writer.add_scalar(f"{row['kind']}/{name}", value, row["step"])
        self._writer.flush()

    def close(self) -> None:
        """Ends the files."""
        self._writer.close()
