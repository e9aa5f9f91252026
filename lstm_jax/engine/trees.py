"""Trees of arrays whose leading axes are time or batch: masked, shifted, summed."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax


def select(mask: Array | None, chosen: Any, other: Any) -> Any:
    """`chosen` where the mask over the leading axes is true, `other` elsewhere."""
    if mask is None:
        return chosen
    return jax.tree.map(lambda a, b: jnp.where(_widen(mask, a), a, b), chosen, other)


def masked(mask: Array | None, tree: Any) -> Any:
    """`tree` where the mask over the leading axes is true, 0 elsewhere."""
    return select(mask, tree, jax.tree.map(jnp.zeros_like, tree))


def select_time(mask: Array | None, chosen: Any, other: Any) -> Any:
    """`select` of all steps, where `other` is the same in all."""
    if mask is None:
        return chosen
    every = jax.tree.map(lambda a, b: jnp.broadcast_to(a, b.shape), other, chosen)
    return select(mask, chosen, every)


def shift(entry: Any, new: Any, *, reverse: bool) -> Any:
    """The values before each step, from the one before all and those after each."""

    def shifted(entry: Array, new: Array) -> Array:
        if reverse:
            return jnp.concatenate([new[1:], entry[None]])
        return jnp.concatenate([entry[None], new[:-1]])

    return jax.tree.map(shifted, entry, new)


def last(new: Any, *, reverse: bool) -> Any:
    """The values after the last step that is run."""
    return jax.tree.map(lambda a: a[0] if reverse else a[-1], new)


def move_time(tree: Any, source: int, destination: int) -> Any:
    """`tree` with the time axis elsewhere; the very arrays where it stays in place.

    So NumPy's stay NumPy's, whose dtype is still to be checked, and no program runs.
    """
    if source == destination:
        return tree

    def moved(a: Any) -> Any:
        library = np if isinstance(a, np.ndarray) else jnp
        return library.moveaxis(a, source, destination)

    return jax.tree.map(moved, tree)


def hold(valid: Array, tree: Any, first: Any, *, reverse: bool) -> Any:
    """`tree` where valid, and elsewhere what it was at the valid step run before.

    Args:
        valid: booleans, (T, *batch).
        tree: arrays (T, *batch, ...).
        first: stands for the steps before the first valid one, (*batch, ...).
        reverse: whether steps run from the last to the first.
    """
    steps = valid.shape[0]
    times = jnp.arange(steps).reshape(steps, *(1,) * (valid.ndim - 1))
    if reverse:
        source = lax.cummin(jnp.where(valid, times, steps), reverse=True)
    else:
        source = lax.cummax(jnp.where(valid, times, -1))
    begun = (source >= 0) & (source < steps)
    source = jnp.clip(source, 0, steps - 1)

    def held(a: Array) -> Array:
        return jnp.take_along_axis(a, _widen(source, a), axis=0)

    return select_time(begun, jax.tree.map(held, tree), first)


def add(a: Any, b: Any) -> Any:
    """The sum over fan-out, in the dtype of `a`."""
    return jax.tree.map(lambda x, y: x + y.astype(x.dtype), a, b)


def add_output(dstate: Any, dy: Any) -> Any:
    """The gradient of a state that goes to the next step, and is also returned.

    What is returned is its first field, the output, or all of it; `dy` is alike.
    """
    if isinstance(dy, type(dstate)):
        return add(dstate, dy)
    first, *rest = dstate
    return type(dstate)(first + dy, *rest)


def lead(tree: Any) -> Any:
    """`tree` with a leading axis of one entry."""
    return jax.tree.map(lambda a: a[None], tree)


def cast_like(gradients: Any, primals: Any) -> Any:
    """Cotangents in the dtype of their primals."""
    return jax.tree.map(lambda g, p: g.astype(p.dtype), gradients, primals)


def _widen(mask: Array, like: Array) -> Array:
    return mask.reshape(*mask.shape, *(1,) * (like.ndim - mask.ndim))
