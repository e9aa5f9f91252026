"""Calls of what the compiler cannot look into, on several devices and under `vmap`.

A compiled function knows problems, time and a batch. On several devices each takes its
part of the batch, and under `vmap` arrays get leading axes: that many problems.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.custom_batching import custom_vmap
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import (
    AbstractMesh,
    NamedSharding,
    PartitionSpec,
    use_abstract_mesh,
)

from lstm_jax.engine.meshes import sees_one_device, share_varying_axes

Function = Callable[..., Sequence[Array]]


class Axes(NamedTuple):
    """The axes of an array, but for those of `vmap`, which come before them.

    Attributes:
        rank: their number.
        batch: which of them is the batch's; None if none is.
    """

    rank: int
    batch: int | None


def over_batch(
    function: Function, operands: Sequence[Axes], results: Sequence[Axes]
) -> Function:
    """`function`, on several devices and under `vmap`.

    Args:
        function: a function of arrays, to a list of arrays. All have the same leading
            axes, any number of them, and those with a batch do the same to each of its
            sequences, whatever the others are. `vmap` gives all arrays a leading axis.
        operands: the axes of its arguments.
        results: those of its results.
    """

    def call(*arguments: Array) -> Sequence[Array]:
        arguments = share_varying_axes(arguments)
        if not sees_one_device():
            return over_problems(*arguments)
        # Under `jax.shard_map` results vary over the axes that the arguments do.
        _, found = share_varying_axes((arguments, list(function(*arguments))))
        return found

    @custom_vmap
    def over_problems(*arguments: Array) -> list[Array]:
        problems = arguments[0].ndim - operands[0].rank
        return list(_split(function, operands, results, problems)(*arguments))

    @over_problems.def_vmap
    def _(
        size: int, batched: Sequence[bool], *arguments: Array
    ) -> tuple[list[Array], list[bool]]:
        every = (
            a if has else jnp.broadcast_to(a, (size, *a.shape))
            for a, has in zip(arguments, batched, strict=True)
        )
        return over_problems(*every), [True] * len(results)

    return call


def _split(
    function: Function, operands: Sequence[Axes], results: Sequence[Axes], problems: int
) -> Function:
    """`function`, each device on its part of the batch, and of the problems."""
    shared = [f"p{k}" for k in range(problems)]
    alone: list[str] = []  # axes that no device may have a part of

    def factors(axes: Axes) -> str:
        own = []
        for k in range(axes.rank):
            if k == axes.batch:
                own.append("b")
            else:
                alone.append(f"a{len(alone)}")
                own.append(alone[-1])
        return " ".join((*shared, *own))

    left, right = (", ".join(map(factors, of)) for of in (operands, results))
    guide, place = next(
        (k, axes.batch) for k, axes in enumerate(operands) if axes.batch is not None
    )

    def shardings(of: Sequence[Axes], mesh: Any, like: Any) -> list[NamedSharding]:
        """As an operand with a batch has its problems and its batch on the mesh."""
        spec = (*like[guide].sharding.spec, *(None,) * like[guide].ndim)
        batch = spec[problems + place]
        return [
            NamedSharding(
                mesh,
                PartitionSpec(
                    *spec[:problems],
                    *(batch if k == axes.batch else None for k in range(axes.rank)),
                ),
            )
            for axes in of
        ]

    def part(*arguments: Array) -> list[Array]:
        # A device's part knows nothing of a mesh, whatever its caller has set.
        with use_abstract_mesh(AbstractMesh((), ())):
            return list(function(*arguments))

    def partition(mesh: Any, arguments: Any, _: Any) -> tuple[Any, ...]:
        return (
            mesh,
            part,
            shardings(results, mesh, arguments),
            tuple(shardings(operands, mesh, arguments)),
        )

    split = custom_partitioning(lambda *arguments: list(function(*arguments)))
    split.def_partition(
        partition,
        infer_sharding_from_operands=lambda mesh, arguments, _: shardings(
            results, mesh, arguments
        ),
        sharding_rule=f"{left} -> {right}",
        need_replication_factors=tuple(alone),
    )
    return split
