"""The page's numbers against automatic gradients, for every cell that it shows."""

import jax
import jax.numpy as jnp
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
        state, hs = cell.initial_state(params, ()), []
        for t, x in enumerate(reading.xs):

            def nudged(value, quantity, equation, t=t):
                return value + nudges[quantity][t] if quantity in nudges else value

            monkeypatch.setitem(equations_of(cell).__globals__, NAMED, nudged)
            state, _ = cell.step(params, state, cell.project(params, x))
            hs.append(state[0])
        return jnp.stack(hs)

    nudges = {name: jnp.zeros(value[:, 0].shape) for name, value in named.items()}
    _, pull = jax.vjp(run, nudges, reading.params)
    monkeypatch.undo()
    return [pull(dys) for dys in reading.dys.values()]


@pytest.mark.parametrize("name", SHOWN)
def test_every_gradient_is_the_automatic_one(name, monkeypatch):
    reading, found = random_reading(name), random_trace(name)
    named = {line.quantity for line in lines_of(equations_of(reading.cell))}
    values = {quantity: found.values[quantity] for quantity in sorted(named)}
    by_hand = manual_gradients(found.back)
    for k, (by_jax, of_params) in enumerate(automatic(reading, values, monkeypatch)):
        for quantity, expected in by_jax.items():
            close(found.gradients[quantity][:, k], expected)
            if quantity in by_hand:
                close(by_hand[quantity][:, k], expected)
        jax.tree.map(close, found.back.params[k], of_params)
    for quantity, d in found.gradients.items():
        shares = [share for (q, _), share in found.edges.items() if q == quantity]
        close(sum(shares), d)


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


def test_what_comes_from_beyond_the_step_is_the_next_steps_and_the_outputs():
    reading = random_reading("lstm")
    found = random_trace("lstm")
    after = found.gradients["h_prev"]
    np.testing.assert_allclose(found.edges["h", NEXT][:-1], after[1:], atol=1e-14)
    np.testing.assert_allclose(
        found.edges["c", NEXT][:-1], found.gradients["c_prev"][1:], atol=1e-14
    )
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
