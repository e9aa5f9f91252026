"""Every planted mistake is caught, and its equation named."""

from itertools import islice

import jax
import jax.numpy as jnp
import pytest

from benchmarks.mutations import (
    Mutant,
    engine_mutants,
    mutants,
    one_step,
    passes_check_grads,
)
from lstm_jax.cells import CELLS, LSTM
from lstm_jax.cells.gru import GRU
from lstm_jax.cells.indrnn import INDRNN
from lstm_jax.cells.peephole import PEEPHOLE_LSTM
from lstm_jax.cells.slstm import SLSTM
from lstm_jax.gradcheck import check_gradients, flat_jaxpr, sequence
from lstm_jax.gradcheck.points import Sizes, draw, forward_only

SIZES = Sizes(3, 4, 2, 0, 0, 1e-5, 128)

# A mistake in the rule that all cells share shows in a cell that uses that part of it:
# different gradients of u and v, a path to h_prev beside v, parameters of its own, no
# recurrent product, several heads.
SHARED_BY = (GRU, PEEPHOLE_LSTM, INDRNN, SLSTM, LSTM)


def report_of(mutant: Mutant):
    """The report; None where the mutant's shapes or trees don't fit, as Python says."""
    try:
        return check_gradients(mutant.cell, steps=0)
    except (AttributeError, TypeError, ValueError):
        return None


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", CELLS)
def test_every_mutant_of_a_cell_is_caught_and_its_equation_named(name):
    assert check_gradients(CELLS[name], steps=0).ok
    count = 0
    for mutant in mutants(CELLS[name]):
        count += 1
        report = report_of(mutant)
        if report is not None:
            assert not report.ok, f"survived: {mutant}"
            assert_named(mutant, report)
    assert count


def assert_named(mutant, report):
    """The first wrong quantity is the one whose equation was touched, at its line."""
    if not mutant.quantities:
        return
    found = report.first_wrong
    assert mutant.is_named_by(found), f"{mutant}\n{found}"
    if len(mutant.quantities) == 1:
        line = int(found.line.split(":")[1].split()[0])
        assert mutant.lines[0] <= line <= mutant.lines[1], f"{mutant}\n{found}"


@pytest.mark.timeout(900)
def test_every_mutant_of_the_shared_rule_is_caught_by_a_cell_that_uses_it():
    survivors = None
    for cell in SHARED_BY:
        assert check_gradients(cell, steps=0).ok
        passed = set()
        for mutant in mutants(cell, shared=True):
            report = report_of(mutant)
            if report is not None and report.ok:
                passed.add(str(mutant))
        survivors = passed if survivors is None else survivors & passed
    assert not survivors


def test_a_reverse_with_a_line_changed_compiles_that_line_alone():
    """Against the same forward, the other operations are found compiled."""
    check_gradients(LSTM, steps=0)
    first, *others = islice(mutants(LSTM), 6)
    report_of(first)
    for mutant in others:
        compiled = flat_jaxpr._batched._cache_size()
        assert compiled
        report_of(mutant)
        assert flat_jaxpr._batched._cache_size() <= compiled + 2, str(mutant)


def test_a_scaled_factor_passes_jaxs_own_check_in_float32_and_not_here():
    scaled = next(m for m in mutants(CELLS["lstm"]) if m.kind == "factor scaled")
    assert passes_check_grads(scaled.cell, SIZES, jnp.float32)
    assert not passes_check_grads(scaled.cell, SIZES, jnp.float64)
    assert not check_gradients(scaled.cell, steps=0).ok


def test_the_step_that_jaxs_own_check_gets_is_the_cells():
    cell = CELLS["lstm"]
    assert passes_check_grads(cell, SIZES, jnp.float32)
    assert passes_check_grads(cell, SIZES, jnp.float64)
    point = draw(forward_only(cell), SIZES)
    new = one_step(cell)(point.params, point.xs[0], point.state)
    assert jax.tree.structure(new) == jax.tree.structure(point.state)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_mutant_of_the_engine_is_caught(monkeypatch):
    # By another name, since the scan is meant: the LSTM's own steps may be compiled.
    cell, survivors = CELLS["lstm"]._replace(name="scanned"), []
    for variant, memory in RUNS:
        assert check(cell, variant, memory).ok
    for mutant in engine_mutants():
        monkeypatch.setattr(sequence, "unrolling", mutant.module)
        if not any(caught(cell, variant, memory) for variant, memory in RUNS):
            survivors.append(mutant)
    assert [str(mutant) for mutant in survivors] == []


RUNS = (
    ("plain", "store"),
    ("reverse", "store"),
    ("lengths", "store"),
    ("resets", "store"),
    ("lengths", "states"),
    ("resets", "states"),
    ("resets", "recompute"),
)


def check(cell, variant, memory):
    return check_gradients(cell, steps=3, variants=(variant,), memory=memory)


def caught(cell, variant, memory):
    """Whether a run is not right, and if so whether its report says where."""
    try:
        report = check(cell, variant, memory)
    except (TypeError, ValueError):  # shapes or structures that don't fit
        return True
    if not report.ok:
        assert report.first_wrong is None or report.first_wrong.row.where == variant
    return not report.ok
