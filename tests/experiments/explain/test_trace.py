"""The page's numbers against automatic gradients, for every cell that it shows."""

import jax
import numpy as np
import pytest
from random_reading import random_reading, random_trace

from experiments.explain_page import trace
from experiments.explain_page.case import NEXT, OUTPUT, manual_gradients
from experiments.explain_page.lines import equations_of, lines_of
from lstm_jax.cells import CELLS
from lstm_jax.numbered import NAMED

ELSEWHERE = ("multiplicative_lstm", "projected_lstm")
"""Part of their equations stands in the LSTM's file."""

SHOWN = [name for name in CELLS if name not in ELSEWHERE]


def automatic(reading, named, monkeypatch):
    """For each loss ∂J/∂q at every step, and the parameters' gradients, by JAX.

    The cell's own equations run, with a number of 0 added to whatever they name.
    """
    cell = reading.cell

    def run(nudges, params):
        def step(state, given):
            x, nudge = given

            def nudged(value, quantity, equation):
                return value + nudge[quantity] if quantity in nudge else value

            monkeypatch.setitem(equations_of(cell).__globals__, NAMED, nudged)
            state, _ = cell.step(params, state, cell.project(params, x))
            return state, state[0]

        first = cell.initial_state(params, ())
        return jax.lax.scan(step, first, (reading.xs, nudges))[1]

    @jax.jit
    def gradients(nudges, params):
        _, pull = jax.vjp(run, nudges, params)
        return [pull(dys) for dys in reading.dys.values()]

    nudges = {name: np.zeros_like(value)[:, 0] for name, value in named.items()}
    found = gradients(nudges, reading.params)
    monkeypatch.undo()
    return found


@pytest.mark.parametrize("name", SHOWN)
def test_every_gradient_is_the_automatic_one(name, monkeypatch):
    reading, found = random_reading(name), random_trace(name)
    named = {line.quantity for line in lines_of(equations_of(reading.cell))}
    values = {quantity: found.values[quantity] for quantity in sorted(named)}
    by_hand = manual_gradients(found.back)
    assert len(found.back.params) == len(reading.dys) == 2
    for k, (by_jax, of_params) in enumerate(automatic(reading, values, monkeypatch)):
        for quantity, expected in by_jax.items():
            close(np.asarray(found.gradients[quantity])[:, k], expected)
            if quantity in by_hand:
                close(np.asarray(by_hand[quantity])[:, k], expected)
        jax.tree.map(close, found.back.params[k], of_params)
    edges = found.edges.items()
    for quantity, d in found.gradients.items():
        close(sum(np.asarray(share) for (q, _), share in edges if q == quantity), d)


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


def test_what_comes_from_beyond_the_step_is_the_next_steps_and_the_outputs():
    reading = random_reading("lstm")
    found = jax.tree.map(np.asarray, random_trace("lstm")._replace(wrong=None))
    for name in ("h", "c"):
        after = found.gradients[f"{name}_prev"]
        np.testing.assert_allclose(found.edges[name, NEXT][:-1], after[1:], atol=1e-14)
    for k, dys in enumerate(reading.dys.values()):
        np.testing.assert_array_equal(found.edges["h", OUTPUT][:, k], dys)


def test_edges_are_what_equations_read():
    reads = random_trace("gru").reads
    assert set(reads["z_n"]) == {"u", "r", "s"}
    assert set(reads["h"]) == {"n", "z", "h_prev"}
    assert reads["v"] == ["h_prev"]


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_cell_in_two_files_is_refused(name):
    with pytest.raises(ValueError, match=f"{name}: not every field of its state"):
        trace(random_reading(name))


def test_a_cell_without_a_reverse_is_refused():
    reading = random_reading("lstm")
    cell = reading.cell._replace(backward=None, gradients=None)
    with pytest.raises(ValueError, match="expected a cell with a reverse"):
        trace(reading._replace(cell=cell))
