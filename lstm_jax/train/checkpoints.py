"""The last good checkpoint of something, on the disk, through orbax."""

import errno
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp


class Checkpoints:
    """A folder that holds one checkpoint: the newest one written whole.

    A new one is complete, under a name of its own, before the one before it is
    removed; a kill or a full disk in between leaves that one.

    Attributes:
        folder: where it is, an absolute path.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).resolve()

    @property
    def step(self) -> int | None:
        """The step of the checkpoint; None where there is none."""
        if not self.folder.is_dir():
            return None
        with self._manager() as manager:
            return manager.latest_step()

    def save(self, step: int, tree: Any) -> None:
        """Writes a pytree of arrays as the checkpoint of this step.

        Raises:
            OSError: it could not be written; the message names the folder, and the
                step of the checkpoint that is still there.
        """
        try:
            with self._manager() as manager:
                manager.save(step, args=ocp.args.StandardSave(tree))
        except Exception as error:  # tensorstore's are of many types
            kept = self.step
            raise OSError(
                getattr(error, "errno", None) or errno.EIO,
                f"could not write the checkpoint of step {step} in {self.folder}: "
                f"{error}. "
                + ("There is none yet" if kept is None else f"Step {kept} is kept"),
            ) from error

    def restore(self, like: Any) -> Any:
        """The checkpoint, in the structure, shapes and dtypes of `like`.

        Args:
            like: a pytree of arrays or of `jax.ShapeDtypeStruct`.

        Raises:
            FileNotFoundError: there is no checkpoint.
            ValueError: it is broken, or another tree's; the message names the folder.
        """
        if (step := self.step) is None:
            raise FileNotFoundError(f"{self.folder}: there is no checkpoint")
        try:
            with self._manager() as manager:
                return manager.restore(step, args=ocp.args.StandardRestore(like))
        except Exception as error:
            raise ValueError(
                f"{self.folder}: cannot restore step {step}: {error}"
            ) from error

    def _manager(self) -> ocp.CheckpointManager:
        options = ocp.CheckpointManagerOptions(
            max_to_keep=1, enable_async_checkpointing=False
        )
        return ocp.CheckpointManager(self.folder, options=options)
