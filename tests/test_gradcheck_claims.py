"""What a cell says of itself, how it names things, and the form of its functions."""

import inspect
import re

import jax
import jax.numpy as jnp
import pytest
from sources import execute

import lstm_jax as lj
from lstm_jax.cells import CELLS, gru
from lstm_jax.cells.lstm import LSTMState
from lstm_jax.engine import associative_scan, runners
from lstm_jax.gradcheck import check_gradients

LSTM, GRU = CELLS["lstm"], CELLS["gru"]


def claims(report):
    return {row.quantity: row for row in report.rows if row.where == "claims"}


# --- claims ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_a_cell_that_wrongly_calls_itself_linear_is_told(name):
    report = check_gradients(CELLS[name]._replace(linear=True))
    assert not report.ok
    assert report.first_wrong.quantity == "linear"
    assert re.search(
        r"linear in 'claims': [hc] is not a \* [hc]_prev \+ b, number by number: off",
        str(report.first_wrong),
    )
    assert set(report.skipped) == {"plain", "reverse", "lengths", "resets"}


def test_wrong_sizes_are_told():
    def sizes(params):
        return {"input_size": params.Wx.shape[0], "hidden_size": params.Wx.shape[1]}

    report = check_gradients(LSTM._replace(sizes=sizes), steps=0)
    assert "sizes says {'input_size': 3, 'hidden_size': 16}" in str(report.first_wrong)


@pytest.mark.parametrize(
    ("initial_state", "message"),
    [
        (lambda p, b: LSTMState(*jnp.zeros((2, *b[:1], 4))), r"for the batch \(2, 3\)"),
        (
            lambda p, b: LSTMState(*jnp.zeros((2, *b, 4), jnp.float32)),
            "h is float32, the parameters are float64",
        ),
    ],
)
def test_a_wrong_initial_state_is_told(initial_state, message):
    def initial(params, batch_shape):
        return initial_state(params, batch_shape)

    # Of one example, the first one is right.
    report = check_gradients(LSTM._replace(initial_state=initial), steps=0)
    row = claims(report)["initial"]
    assert not row.passed
    assert re.search(message, row.note)


@pytest.mark.promotes_ranks
def test_examples_that_see_each_other_are_told():
    def step(params, state, u):
        return LSTM.step(params, state, u - jnp.mean(u, axis=0) if u.ndim > 1 else u)

    report = check_gradients(LSTM._replace(step=step), steps=0)
    assert "of an example depends on others" in claims(report)["examples"].note


def test_units_that_see_each_other_in_a_gated_cell_are_told():
    def equations(params, state, u, v):
        return LSTM.step.equations(params, state, u + jnp.roll(v, 1, axis=-1), v)

    step = type(LSTM.step)(equations)
    report = check_gradients(LSTM._replace(step=step), steps=0)
    assert "of a unit depends on other units" in claims(report)["units"].note


def test_what_is_compared_is_the_runner_that_serves_the_cell(monkeypatch):
    """Here one that leaves out the last step's input."""
    cell = CELLS["min_gru"]
    assert check_gradients(cell, steps=3, variants=("plain",)).ok

    def steps(settings, weights, starts, inputs):
        wrong = inputs._replace(x=inputs.x.at[-1].set(0))
        return associative_scan.steps(settings, weights, starts, wrong)

    wrong = runners.ASSOCIATIVE_SCAN._replace(steps=steps)
    monkeypatch.setattr(runners, "ASSOCIATIVE_SCAN", wrong)
    jax.clear_caches()
    report = check_gradients(cell, steps=3, variants=("plain",))
    jax.clear_caches()
    assert not report.ok
    assert report.first_wrong.quantity == "forward"


# --- names ----------------------------------------------------------------------------


def renamed(right, wrong):
    """The GRU with one name or number of its reverse changed."""
    text = inspect.getsource(inspect.unwrap(gru.backward))
    assert text.count(right) == 1
    number = 1 + text[: text.index(right)].count("\n")
    scope = execute(text.replace(right, wrong), "renamed.py", dict(vars(gru)))
    backward = type(GRU.backward)(scope["backward"])
    return GRU._replace(backward=backward), f"renamed.py:{number} (backward)"


def test_a_name_that_is_misspelt_is_told_with_the_nearest():
    cell, line = renamed(
        "dn = dh * (1 - z)  # (6)", "dN = dh * (1 - z)  # (6)\n    dn = dN"
    )
    found = check_gradients(cell, steps=0).first_wrong
    assert "did you mean dn?" in str(found), str(found)
    assert found.line == line


def test_a_number_that_the_forward_contradicts_is_told():
    cell, line = renamed("dn = dh * (1 - z)  # (6)", "dn = dh * (1 - z)  # (3)")
    found = check_gradients(cell, steps=0).first_wrong
    assert "n enters (6), not (3)" in str(found)
    assert found.line == line


# --- the form of functions ------------------------------------------------------------


def gru_with(**changes):
    gated = {
        "equations": lambda f: {"step": type(GRU.step)(f)},
        "derived": lambda f: {"backward": type(GRU.backward)(f)},
    }
    fields = {}
    for name, value in changes.items():
        fields |= gated.get(name, lambda f, n=name: {n: f})(value)
    return GRU._replace(**fields)


SLIPS = {
    "state alone": (
        {"equations": lambda *a: GRU.step.equations(*a)[0]},
        r"equations of cell 'gru' must return \(new_state OutputState\(h \(2, 4\)\), "
        r"kept\); it returned OutputState\(h \(2, 4\)\)",
    ),
    "no tuple of a state": (
        {"step": lambda *a: (GRU.step(*a)[0].h, None)},
        r"step of cell 'gru' must return .*; it returned \(\(2, 4\), None\)",
    ),
    "no gradients of the products": (
        {"derived": lambda *a: GRU.backward.backward(*a)[0]},
        r"backward of cell 'gru' must return \(dstate OutputState\(h \(2, 4\)\), du "
        r"\(2, 12\)\)?.*it returned OutputState",
    ),
    "a gradient of the wrong width": (
        {"derived": lambda *a: (GRU.backward.backward(*a)[0], jnp.zeros((2, 4)))},
        r"backward of cell 'gru' must return .*du \(2, 12\).*it returned",
    ),
    "an operation that fails": (
        {"equations": lambda p, s, u, v: u @ v},
        r"equations of cell 'gru' failed when called with GRUParams\(.*dot_general",
    ),
    "one gradient": (
        {"gradients": lambda *a: GRU.gradients(*a)[0]},
        r"gradients of cell 'gru' must return \(dparams GRUParams\(.*dx \(2, 3\)\)",
    ),
    "a dictionary of parameters": (
        {"init": lambda key, input_size, hidden_size, dtype: {}},
        "init of cell 'gru' must return params, a NamedTuple of arrays; it returned {}",
    ),
    "other names": (
        {"init": lambda key, D, H, dtype: GRU.init(key, D, H, dtype=dtype)},
        r"init of cell \"gru\" must take the arguments \(key, input_size, hidden_size, "
        r"\*, dtype\).*it takes \(key, D, H, dtype\)",
    ),
    "no sizes": (
        {"sizes": lambda params: (3, 4)},
        r"sizes of cell 'gru' must return a dictionary of sizes; it returned \(",
    ),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_of_form_is_told_at_the_door(slip):
    changes, message = SLIPS[slip]
    with pytest.raises(TypeError, match=f"(?s){message}"):
        check_gradients(gru_with(**changes), steps=0)


def test_unroll_too_says_that_init_has_other_names():
    cell = gru_with(init=lambda key, D, H, dtype: GRU.init(key, D, H, dtype=dtype))
    params = GRU.init(jax.random.key(0), 3, 4, dtype=jnp.float64)
    with pytest.raises(TypeError, match=r"init of cell .* must take the arguments"):
        lj.unroll(cell, params, jnp.zeros((5, 2, 3)))
