"""Cells that are linear in their state: as a parallel scan, and step after step."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from oracles import (
    EACH_CELL,
    assert_close,
    drawn_inputs,
    pulled,
    results_like,
)

import lstm_jax as lj
from lstm_jax.engine.associative_scan import linear_recurrence
from lstm_jax.gradcheck.claims import check_linear
from lstm_jax.gradcheck.oracles import DIFFERENCE_STEP
from lstm_jax.gradcheck.points import Sizes, choose, forward_only

LINEAR = {name: cell for name, cell in lj.CELLS.items() if cell.linear}
EACH_LINEAR = pytest.mark.parametrize("cell", LINEAR.values(), ids=LINEAR)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_the_recurrence_is_a_loops(steps, reverse):
    rng = np.random.default_rng(steps)
    a, b = rng.normal(size=(2, steps, 3))
    a[0] = 0  # a reset
    h = entry = rng.normal(size=3)
    given = (a,), (b,), (entry,)
    expected = np.empty_like(a)
    times = range(steps)
    for t in reversed(times) if reverse else times:
        expected[t] = h = a[t] * h + b[t]
    found = jax.jit(partial(linear_recurrence, reverse=reverse))(*given)
    assert_close(found, (expected,), 1e-14)


@EACH_CELL
def test_a_cell_is_linear_if_it_says_so(cell):
    """And if it could say so, it does."""
    sizes = Sizes(3, 4, 2, 0, 0, DIFFERENCE_STEP, 128)
    forward = forward_only(cell)
    row = check_linear(forward, choose(forward, sizes).points)
    assert cell.linear == (not row.note)


# 53 steps are chunks of eight and a shorter one. A compilation a cell and way.
@pytest.mark.parametrize(
    ("cell", "gradient"),
    [
        pytest.param(
            cell,
            gradient,
            id=f"{name}-{gradient}",
            marks=() if name == "min_gru" or gradient == "manual" else pytest.mark.slow,
        )
        for name, cell in LINEAR.items()
        for gradient in ("manual", "automatic")
    ],
)
def test_both_ways_say_the_same(cell, gradient):
    arguments = drawn_inputs(cell, 53, (3,))
    options = {
        "lengths": np.array([0, 53, 30]),
        "resets": np.random.default_rng(0).random((53, 3)) < 0.1,
        "reverse": gradient == "manual",
        "gradient": gradient,
    }
    dout = results_like(*arguments)
    one_by_one = cell._replace(linear=False)
    expected = pulled(one_by_one, *arguments, dout, **options)
    assert_close(pulled(cell, *arguments, dout, **options), expected)


def loops(jaxpr):
    """The lengths of all loops in a jaxpr."""
    own = [e.params["length"] for e in jaxpr.eqns if e.primitive.name == "scan"]
    inner = [j for e in jaxpr.eqns for j in jaxprs_in_params(e.params)]
    return own + [length for j in inner for length in loops(j)]


@EACH_LINEAR
@pytest.mark.parametrize("memory", ["store", "states", "recompute"])
def test_no_loop_is_over_steps(cell, memory):
    """Loops of value and gradient are over chunks: 60 steps are ten of six."""
    params, xs, _ = drawn_inputs(cell, 60, (2,))

    def loss(cell, params, xs):
        return jnp.sum(lj.unroll(cell, params, xs, memory=memory)[0] ** 2)

    def found(cell):
        gradients = jax.grad(partial(loss, cell), (0, 1))
        return set(loops(jax.make_jaxpr(gradients)(params, xs).jaxpr))

    assert found(cell) == {10}
    # Step by step, and not compiled.
    scanned = cell._replace(linear=False, project=lambda *a: cell.project(*a))
    assert found(scanned) == {10, 6}
