"""The last good checkpoints of something, on the disk, through orbax."""

import errno
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax import Array, lax

from experiments.training.devices import is_first, wait_for_all, whole

_WORDS = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint32}


class Checkpoints:
    """A folder that holds the newest checkpoints that were written whole.

    A new one is complete, under a name of its own, before an old one is removed; a
    kill or a full disk in between leaves the old one. Each carries a fingerprint of
    its arrays, since what orbax reads back from a damaged file may be other numbers.

    Attributes:
        folder: where it is, an absolute path.
        keep: how many it holds.
    """

    def __init__(self, folder: str | Path, keep: int = 1) -> None:
        self.folder = Path(folder).resolve()
        self.keep = keep

    @property
    def steps(self) -> list[int]:
        """The steps of the checkpoints, the newest first."""
        if not self.folder.is_dir():
            return []
        with self._manager() as manager:
            return sorted(manager.all_steps(), reverse=True)

    @property
    def step(self) -> int | None:
        """The step of the newest checkpoint; None where there is none."""
        return next(iter(self.steps), None)

    def save(self, step: int, tree: Any, note: Mapping[str, Any] | None = None) -> None:
        """Writes a pytree of arrays as the checkpoint of this step.

        Args:
            step: later than that of the newest one.
            tree: the arrays.
            note: what else to keep, ready for JSON.

        Raises:
            OSError: it could not be written; the message names the folder, and the
                step of the checkpoint that is still there.
            ValueError: the step is not later.
        """
        arguments = ocp.args.Composite(
            tree=ocp.args.StandardSave(tree),
            note=ocp.args.JsonSave({"note": note, "fingerprint": fingerprint(tree)}),
        )
        try:
            with self._manager() as manager:
                saved = manager.save(step, args=arguments)
        except Exception as error:  # tensorstore's are of many types
            kept = self.step
            raise OSError(
                getattr(error, "errno", None) or errno.EIO,
                f"could not write the checkpoint of step {step} in {self.folder}: "
                f"{error}. "
                + ("There is none yet" if kept is None else f"Step {kept} is kept"),
            ) from error
        if not saved:
            raise ValueError(f"{self.folder}: step {step} is not after {self.step}")

    def restore(self, like: Any, step: int | None = None) -> Any:
        """The arrays of a checkpoint, with the structure, shapes and dtypes of `like`.

        Args:
            like: a pytree of arrays or of `jax.ShapeDtypeStruct`.
            step: the newest one if None.

        Raises:
            FileNotFoundError: there is no checkpoint.
            ValueError: it is broken, or another tree's; the message names the folder.
        """
        step = self._found(step)
        try:
            with self._manager() as manager:
                items = ocp.args.Composite(tree=ocp.args.StandardRestore(like))
                tree = manager.restore(step, args=items)["tree"]
            if fingerprint(tree) != self._json(step)["fingerprint"]:
                raise ValueError("the numbers are not those that were written")
        except Exception as error:
            raise ValueError(
                f"{self.folder}: cannot restore step {step}: {error}"
            ) from error
        return tree

    def note(self, step: int | None = None) -> dict[str, Any]:
        """What was kept beside the arrays; raises as `restore` does."""
        step = self._found(step)
        try:
            return self._json(step)["note"]
        except Exception as error:
            raise ValueError(
                f"{self.folder}: cannot read step {step}: {error}"
            ) from error

    def set_aside(self, step: int) -> None:
        """Renames a checkpoint to ``damaged-STEP``, so that its step is free again."""
        if is_first():
            damaged = self.folder / f"damaged-{step}"
            shutil.rmtree(damaged, ignore_errors=True)
            os.replace(self.folder / str(step), damaged)
        wait_for_all(f"set aside {step}")

    def _found(self, step: int | None) -> int:
        step = self.step if step is None else step
        if step is None:
            raise FileNotFoundError(f"{self.folder}: there is no checkpoint")
        return step

    def _json(self, step: int) -> dict[str, Any]:
        items = ocp.args.Composite(note=ocp.args.JsonRestore())
        with self._manager() as manager:
            return manager.restore(step, args=items)["note"]

    def _manager(self) -> ocp.CheckpointManager:
        options = ocp.CheckpointManagerOptions(
            max_to_keep=self.keep, enable_async_checkpointing=False
        )
        return ocp.CheckpointManager(self.folder, options=options)


def fingerprint(tree: Any) -> list[int]:
    """A number for each array, which changes with any single bit of it."""
    return np.asarray(_weighted_sums(jax.tree.leaves(tree))).tolist()


@jax.jit
def _weighted_sums(leaves: list[Any]) -> Array:
    return whole(jnp.stack([_weighted_sum(leaf) for leaf in leaves]))


def _weighted_sum(leaf: Any) -> Array:
    """The sum of an array's words, each times an odd number of its own, modulo 2^32.

    The order of such a sum does not matter, so it is the same on any mesh.
    """
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    if leaf.dtype == bool:
        leaf = leaf.astype(jnp.uint8)
    words = lax.bitcast_convert_type(leaf, _WORDS[leaf.dtype.itemsize])
    words = words.astype(jnp.uint32)
    place = jnp.arange(words.size, dtype=jnp.uint32).reshape(words.shape)
    odd = 2 * place + jnp.uint32(1)
    return (words * odd).sum(dtype=jnp.uint32)
