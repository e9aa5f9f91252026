"""What the page's tests read: random numbers."""

from functools import lru_cache

import jax
import jax.numpy as jnp

from experiments.explain_page import Reading, Trace, trace
from lstm_jax.cells import CELLS

STEPS, INPUTS, HIDDEN = 4, 3, 4


@lru_cache
def random_reading(name: str) -> Reading:
    """A cell with random parameters that reads random numbers; two losses."""
    cell = CELLS[name]
    keys = jax.random.split(jax.random.key(3), 4)
    params = cell.init(keys[0], INPUTS, HIDDEN, dtype=jnp.float64)
    leaves, tree = jax.tree.flatten(params)
    each = zip(jax.random.split(keys[1], len(leaves)), leaves, strict=True)
    moved = [leaf + 0.2 * jax.random.normal(key, leaf.shape) for key, leaf in each]
    output = cell.initial_state(params, ())[0].size
    dys = jax.random.normal(keys[2], (STEPS, output))
    return Reading(
        cell=cell,
        params=jax.tree.unflatten(tree, moved),
        xs=jax.random.normal(keys[3], (STEPS, INPUTS)),
        dys={"all": dys, "last": jnp.zeros_like(dys).at[-1].set(dys[-1])},
        words=["one", "</script>", "<b>", "four"],
        about="random",
    )


@lru_cache
def random_trace(name: str) -> Trace:
    """All numbers of it."""
    return trace(random_reading(name))
