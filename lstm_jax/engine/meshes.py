"""Device meshes: the types that a rule over all of a function's arguments needs.

A scan's carry keeps its type, and so do the cotangents of a hand-written rule. On a
mesh the type of an array says where its parts lie, and arguments rarely agree: the
inputs are split over devices, the weights and a state of zeros are not. `on_mesh`
makes them agree around a function, in the two ways that JAX has of running on a mesh.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.sharding import PartitionSpec, auto_axes, get_abstract_mesh


def on_mesh(
    function: Callable[..., Any], arguments: Any, out_specs: Callable[[], Any]
) -> Any:
    """``function(*arguments)``, on whatever mesh its caller runs.

    Under `jax.shard_map` all arguments are cast to vary over the same axes. The cast's
    transpose is the sum over devices, so that weights which all devices share get the
    gradient of the whole batch. Axes of the type Explicit are handed to the compiler
    for the time of the call, and the results laid out by `out_specs`.

    Args:
        function: a function of pytrees of arrays.
        arguments: its arguments.
        out_specs: makes the tree of `PartitionSpec` of its results.
    """
    arguments = share_varying_axes(arguments)
    explicit = get_abstract_mesh().explicit_axes
    if not explicit:
        return function(*arguments)
    return auto_axes(function, axes=explicit, out_sharding=out_specs())(*arguments)


def sees_one_device() -> bool:
    """Whether what is traced runs on one device, or, in `jax.shard_map`, on each."""
    return jax.device_count() == 1 or bool(get_abstract_mesh().manual_axes)


def leading_spec(x: Any, start: int, stop: int) -> PartitionSpec:
    """How axes `start` to `stop` of `x` lie on the mesh; what follows is whole."""
    return PartitionSpec(*jax.typeof(x).sharding.spec[start:stop])


def share_varying_axes(tree: Any) -> Any:
    """`tree`, every array of it cast to vary over all axes that any of them does.

    Outside of `jax.shard_map` none does.
    """
    leaves = jax.tree.leaves(tree)
    shared = frozenset().union(*map(_varying, leaves))

    def cast(a: Any) -> Any:
        missing = tuple(sorted(shared - _varying(a)))
        return lax.pcast(a, missing, to="varying") if missing else a

    return jax.tree.map(cast, tree) if shared else tree


def _varying(a: Any) -> frozenset[str]:
    return jax.typeof(a).manual_axis_type.varying
