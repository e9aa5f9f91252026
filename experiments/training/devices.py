"""Devices: a mesh from one flag, several processes, and how arrays lie on them.

Everything here follows the mesh that `on_devices` sets; where none is set, arrays lie
on one device as they always do. The axes of a mesh are of the type Auto: the program
says what is split, and the compiler puts in the communication, so that a step means
the same on any number of devices, down to its random numbers.
"""

import math
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import AxisType, PartitionSpec, get_abstract_mesh

from experiments.checks import at_least

DATA = "data"
"""The axis of the mesh over which the rows of a batch are split."""
HIDDEN = "hidden"
"""The axis over which the columns of weights are split, and with them hidden units."""

HEARTBEAT_SECONDS = 20
"""After so long without a sign of life a process counts as dead, and all others end."""


def parse_mesh(text: str) -> dict[str, int]:
    """The axes of a mesh and their sizes: ``"data=2,hidden=2"`` -> {"data": 2, ...}.

    Raises:
        ValueError: it is none.
    """
    axes: dict[str, int] = {}
    for part in text.split(","):
        name, _, size = part.partition("=")
        if name not in (DATA, HIDDEN) or name in axes or not size.isdecimal():
            break
        axes[name] = int(size)
    else:
        if min(axes.values()) > 0:
            return axes
    raise ValueError(
        f"mesh must be like data=4 or data=2,hidden=2, with sizes above 0; got {text!r}"
    )


@contextmanager
def on_devices(
    mesh: str | None = None,
    *,
    processes: int = 1,
    process_id: int | None = None,
    coordinator: str | None = None,
) -> Generator[None]:
    """Runs what is inside over a mesh of devices, of this process or of several.

    Args:
        mesh: as for `parse_mesh`; None for a single device.
        processes: how many take part, each running the same program.
        process_id: which of them this is, from 0; None where JAX can find out (SLURM,
            Open MPI, Kubernetes, TPU pods).
        coordinator: the host:port at which process 0 listens; None likewise.

    Raises:
        ValueError: there are not so many devices, or several processes and a mesh
            that is not of all their devices.
    """
    axes = parse_mesh(mesh) if mesh else None
    at_least(1, processes=processes)
    if processes == 1:
        with _mesh(axes):
            yield
        return
    jax.distributed.initialize(
        coordinator,
        processes,
        process_id,
        heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        shutdown_timeout_seconds=HEARTBEAT_SECONDS,
    )
    with _mesh(axes):
        yield
    jax.distributed.shutdown()  # waits for all, so not after an error


@contextmanager
def _mesh(axes: dict[str, int] | None) -> Generator[None]:
    count, several = len(jax.devices()), jax.process_count() > 1
    if axes is None:
        if several:
            raise ValueError(
                f"{jax.process_count()} processes need a mesh: data={count}"
            )
        yield
        return
    size = math.prod(axes.values())
    if size > count or (several and size < count):
        raise ValueError(
            f"mesh {axes} is of {size} devices, and there are {count}"
            + (", all of which it must have" if several else "")
        )
    auto = (AxisType.Auto,) * len(axes)
    chosen = jax.devices()[:size]
    made = jax.make_mesh(tuple(axes.values()), tuple(axes), auto, devices=chosen)
    with jax.set_mesh(made):
        yield


def replicate(tree: Any) -> Any:
    """Puts arrays on every device of the mesh, whole."""
    if get_abstract_mesh().empty:
        return jax.device_put(tree)
    return jax.device_put(tree, PartitionSpec())


def place(tree: Any) -> Any:
    """Puts parameters, and what is shaped like them, where `split_columns` says."""
    return tree if get_abstract_mesh().empty else _placed(tree)


@jax.jit
def _placed(tree: Any) -> Any:
    return split_columns(tree)


def split_rows(tree: Any) -> Any:
    """Inside `jax.jit`: splits the first axis of arrays over the mesh's data axis.

    Raises:
        ValueError: it is not a multiple of the devices.
    """
    shape = get_abstract_mesh().shape

    def split(a: Any) -> Any:
        if a.shape[0] % shape[DATA]:
            raise ValueError(
                f"a batch of {a.shape[0]} rows cannot be split evenly over "
                f"{shape[DATA]} devices"
            )
        return lax.with_sharding_constraint(a, PartitionSpec(DATA))

    return jax.tree.map(split, tree) if DATA in shape else tree


def whole(tree: Any) -> Any:
    """Inside `jax.jit`: has arrays whole on each device, so that the host can read."""
    if get_abstract_mesh().empty:
        return tree
    return lax.with_sharding_constraint(tree, PartitionSpec())


def split_columns(tree: Any) -> Any:
    """Inside `jax.jit`: splits the columns of weights over the mesh's hidden axis.

    Whatever has fewer than two axes, or a last one that is not a multiple of the
    devices, is whole on each of them.
    """
    mesh = get_abstract_mesh()
    devices = mesh.shape.get(HIDDEN, 1)

    def split(a: Any) -> Any:
        even = a.ndim > 1 and a.shape[-1] % devices == 0 and devices > 1
        before = (None,) * (a.ndim - 1)
        spec = PartitionSpec(*before, HIDDEN) if even else PartitionSpec()
        return lax.with_sharding_constraint(a, spec)

    return tree if mesh.empty else jax.tree.map(split, tree)


def is_first() -> bool:
    """Whether this is the process that writes the records: the first, or the only."""
    return jax.process_index() == 0


def wait_for_all(where: str) -> None:
    """Waits until all processes have come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(where)


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any of the processes, which all ask at once."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.asarray(flag)).any())
