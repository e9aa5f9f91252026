"""Cells from papers that are not in the table, right and with mistakes planted.

What a point does not see is not checked, so these are about branches too: mistakes on
one side of a maximum, on a side that few points reach, on one that only a long sequence
does.
"""

import inspect

import jax.numpy as jnp
import papers
import pytest
from papers import LIGRU, MLSTM, PAPERS
from sources import execute

import lstm_jax as lj
from benchmarks.mutations import mutants
from lstm_jax.cells.lstm import LSTMState
from lstm_jax.numbered import numbered


def planted(function, right, wrong):
    """A function of `papers` with one expression changed, and the line it is on."""
    text = inspect.getsource(inspect.unwrap(function))
    assert text.count(right) == 1
    number = 1 + text[: text.index(right)].count("\n")
    scope = execute(text.replace(right, wrong), "planted.py", dict(vars(papers)))
    return scope[function.__name__], f"planted.py:{number} ({function.__name__})"


@pytest.mark.parametrize("cell", PAPERS.values(), ids=PAPERS)
def test_a_cell_that_is_right_passes(cell):
    report = lj.check_gradients(cell, steps=3, variants=("lengths",))
    assert report.ok, str(report)
    assert not report.unreached


MISTAKES = [
    (LIGRU, papers.ligru_backward, "jnp.where(c > 0, dc, 0)", "dc", "dp", 3),
    (LIGRU, papers.ligru_backward, "(h_prev - c)", "(h_prev + c)", "dz", 4),
    (MLSTM, papers.mlstm_backward, "dd * jnp.sign(s)", "dd", "ds", 10),
    (MLSTM, papers.mlstm_backward, "jnp.abs(s) > 1, dd", "s > 1, dd", "ds", 10),
    (MLSTM, papers.mlstm_backward, "ds * n + ", "", "dq", 11),
    (papers.RHN, papers.rhn_backward, " + dsecond @ params.Rs.T", "", "ds", 5),
    (papers.RHN, papers.rhn_backward, "(k - s)", "k", "dr", 8),
]


@pytest.mark.parametrize(
    ("cell", "function", "right", "wrong", "quantity", "equation"), MISTAKES
)
def test_a_planted_mistake_is_led_back_to_its_line(
    cell, function, right, wrong, quantity, equation
):
    backward, line = planted(function, right, wrong)
    backward = type(cell.backward)(backward) if cell is LIGRU else backward
    found = lj.check_gradients(cell._replace(backward=backward), steps=0).first_wrong
    assert (found.quantity, found.equations) == (quantity, (equation,)), str(found)
    assert found.line == line


@pytest.mark.parametrize(
    "seed",
    [*range(3), *(pytest.param(k, marks=pytest.mark.slow) for k in range(3, 10))],
)
def test_a_sign_that_one_point_rarely_sees_is_missed_at_no_seed(seed):
    backward, _ = planted(papers.mlstm_backward, "dd * jnp.sign(s)", "dd")
    report = lj.check_gradients(MLSTM._replace(backward=backward), steps=0, seed=seed)
    assert report.first_wrong.quantity == "ds"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("cell", PAPERS.values(), ids=PAPERS)
def test_every_mutant_is_caught_and_its_equation_named(cell):
    count = 0
    for mutant in mutants(cell):
        count += 1
        try:
            report = lj.check_gradients(mutant.cell, steps=0)
        except TypeError:  # a wrong shape
            continue
        assert not report.ok, f"survived: {mutant}"
        if mutant.quantities:
            found = report.first_wrong
            assert found.quantity in mutant.quantities, f"{mutant}\n{found}"
            assert mutant.equation in (None, *found.equations), f"{mutant}\n{found}"
    assert count > 20


# --- sides that are not reached -------------------------------------------------------


@numbered
def clipped_equations(params, state, u, v):
    (h_prev,) = state
    a, p = jnp.split(u + v, 2, axis=-1)  # (1)
    z = papers.sigmoid(a)  # (2)
    c = jnp.maximum(p, -1e300)  # (3)
    h = z * h_prev + (1 - z) * c  # (4)
    return papers.OutputState(h), papers.LiGRUKept(z, c)


def test_a_side_that_no_point_reaches_is_told():
    step = type(LIGRU.step)(clipped_equations)
    backward, _ = planted(papers.ligru_backward, "c > 0", "c > -1e300")
    cell = LIGRU._replace(step=step, backward=type(LIGRU.backward)(backward))
    report = lj.check_gradients(cell, steps=0)
    assert report.ok
    [side] = report.unreached
    assert side.startswith("max in (3): the second is larger, test_gradcheck_papers.py")
    assert f"Never reached: {side}"[:60] in str(report)


@numbered
def counting_equations(params, state, u, v):
    h_prev, t_prev = state
    a, p = jnp.split(u + v, 2, axis=-1)  # (1)
    z = papers.sigmoid(a)  # (2)
    t = t_prev + 1  # (3)
    g = jnp.where(t > 20, 2 * p, p)  # (4)
    h = z * h_prev + (1 - z) * g  # (5)
    return LSTMState(h, t), (z, g)


@numbered
def counting_backward(params, state, new_state, kept, dnew):
    h_prev, _ = state
    z, g = kept
    dz = dnew.h * (h_prev - g)  # (5)
    dg = dnew.h * (1 - z)  # (5)
    dh_prev = dnew.h * z  # (5)
    dp = jnp.where(new_state.c > 20, 3 * dg, dg)  # (4)
    dt_prev = dnew.c
    da = dz * z * (1 - z)  # (2)
    return LSTMState(dh_prev, dt_prev), jnp.concatenate([da, dp], axis=-1)


def test_a_mistake_that_only_a_long_sequence_meets_is_led_back_to_its_line():
    cell = lj.gated(
        "counting",
        init=papers.ligru_init,
        initial_state=papers.ZeroState(LSTMState),
        equations=counting_equations,
        backward=counting_backward,
    )
    short = lj.check_gradients(cell, steps=4, variants=("plain",))
    assert short.ok, str(short)
    assert len(short.unreached) == 1
    found = lj.check_gradients(cell, steps=23, variants=("plain",)).first_wrong
    assert (found.quantity, found.equations) == ("dp", (4,))
    assert found.row.where == "steps of plain"
    assert found.line.endswith("(counting_backward)")
