"""What the page's tests read: random numbers."""

from functools import lru_cache

import numpy as np
from oracles import drawn_params, on_device

from experiments.explain_page import Reading, Trace, trace
from lstm_jax.cells import CELLS

STEPS, INPUTS, HIDDEN = 4, 3, 4


@lru_cache
def random_reading(name: str) -> Reading:
    """A cell with random parameters that reads random numbers; two losses."""
    cell, rng = CELLS[name], np.random.default_rng(3)
    params = drawn_params(cell, INPUTS, HIDDEN)
    xs = rng.normal(size=(STEPS, INPUTS))
    dys = rng.normal(size=(STEPS, cell.initial_state(params, ())[0].size))
    last = np.zeros_like(dys)
    last[-1] = dys[-1]
    return Reading(
        cell=cell,
        params=params,
        xs=on_device(xs),
        dys=on_device({"all": dys, "last": last}),
        words=["one", "</script>", "<b>", "four"],
        about="random",
    )


@lru_cache
def random_trace(name: str) -> Trace:
    """All numbers of it."""
    return trace(random_reading(name))
