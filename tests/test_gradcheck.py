"""The gradient checker: right cells pass, wrong quantities are named, nothing leaks."""

import inspect
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sources import execute

from lstm_jax.cell import named
from lstm_jax.cells import CELLS
from lstm_jax.cells import lstm as lstm_file
from lstm_jax.engine import unrolling
from lstm_jax.gated import gated
from lstm_jax.gradcheck import Report, Row, Tolerances, check_gradients, check_vjp
from lstm_jax.gradcheck.flat_jaxpr import evaluate, trace
from lstm_jax.gradcheck.oracles import DISTANCES, Remainders, order

LSTM = CELLS["lstm"]
VARIANTS = ("plain", "reverse", "lengths", "resets")
RANDOM_CASES = 200


def planted(right, wrong):
    """The LSTM with one expression of its reverse changed."""
    text = inspect.getsource(inspect.unwrap(lstm_file.backward))
    assert text.count(right) == 1
    text = text.replace(right, wrong)
    scope = execute(text, "planted.py", dict(vars(lstm_file)))
    changed = gated(
        "planted",
        init=lstm_file.init,
        initial_state=LSTM.initial_state,
        equations=lstm_file.equations,
        backward=scope["backward"],
    )
    return LSTM._replace(backward=changed.backward, gradients=changed.gradients)


def assert_right(report):
    assert report.ok, str(report)
    assert report.first_wrong is None
    assert report.worst_error("automatic") <= 1e-12
    assert report.worst_error("graph") <= 1e-12
    assert all(abs(found - 2) <= 0.1 for found in report.orders.values())


# --- right cells -------------------------------------------------------------------


@pytest.mark.parametrize("name", CELLS)
def test_one_step_of_every_cell_is_right_four_ways(name):
    assert_right(check_gradients(CELLS[name], steps=0))


@pytest.mark.parametrize("variant", VARIANTS)
def test_sequences_of_the_lstm_are_right_five_ways(variant):
    report = check_gradients(LSTM, steps=4, variants=(variant,))
    assert_right(report)
    assert report.worst_error("forward") <= 1e-12
    found = {r.quantity for r in report.rows if "forward" in r.errors}
    assert found == {"dWx", "dWh", "db", "dh_prev", "dc_prev"}
    quantities = {row.quantity for row in report.rows if row.where == variant}
    assert quantities == {
        *("forward", "dh_t", "dc_t", "dWx", "dWh", "db", "dxs", "dh_prev", "dc_prev")
    }


def test_a_mask_that_all_gradients_of_the_engine_share_is_told(monkeypatch):
    """The oracles look at the equations, and have masks of their own."""
    right = unrolling._within
    monkeypatch.setattr(
        unrolling, "_within", lambda lengths, steps: right(lengths - 1, steps)
    )
    cell = LSTM._replace(name="a step too few")  # nothing known of it is kept
    report = check_gradients(cell, steps=3, variants=("lengths",))
    assert report.first_wrong.quantity == "forward"
    errors = {row.quantity: row.errors for row in report.rows if row.where == "lengths"}
    assert set(errors["dWh"]) == {"automatic", "graph", "forward", "numerical"}
    assert min(errors["dWh"].values()) > 1e-3


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", CELLS)
def test_sequences_of_every_cell_are_right_four_ways(name):
    assert_right(check_gradients(CELLS[name], steps=5))


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["states", "recompute"])
def test_every_memory_policy_is_right(memory):
    assert_right(check_gradients(LSTM, steps=5, variants=("lengths",), memory=memory))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", CELLS)
def test_no_right_cell_is_flagged_at_random_shapes_and_seeds(name):
    for case in random_cases(name):
        assert_right(check_gradients(CELLS[name], **case))


def random_cases(name):
    """A cell's share of the random cases: one step or a short sequence of any kind."""
    draw = random.Random(name)
    for _ in range(-(-RANDOM_CASES // len(CELLS))):
        yield {
            "input_size": draw.randint(1, 6),
            "hidden_size": draw.randint(1, 6),
            "batch": draw.randint(1, 5),
            "steps": draw.choice([0, 0, 0, 1, 2, 6]),
            "variants": (draw.choice(VARIANTS),),
            "seed": draw.randrange(10**6),
        }


def test_a_large_quantity_is_differenced_along_a_few_directions():
    report = check_gradients(LSTM, steps=0, max_entries=10)
    assert_right(report)
    rows = [row for row in report.rows if row.where == "one step"]
    assert all("numerical" in row.errors for row in rows)


# --- wrong ones --------------------------------------------------------------------


def test_the_first_wrong_quantity_is_named_with_its_equation_and_line():
    cell = planted("df = dc * c_prev  # (5)", "df = dc * i  # (5)")
    report = check_gradients(cell, steps=3)
    found = report.first_wrong
    assert not report.ok
    assert (found.quantity, found.equations) == ("df", (5,))
    assert found.agreeing == ("da", "dc")
    text = inspect.getsource(inspect.unwrap(lstm_file.backward)).splitlines()
    [line] = [k for k, words in enumerate(text, start=1) if "df = " in words]
    assert found.line == f"planted.py:{line} (backward)"
    # What comes after it is wrong as well, and is not named.
    wrong = {row.quantity for row in report.rows if not row.passed}
    assert {"df", "dz_f", "du", "dWx", "db"} <= wrong
    assert report.skipped == VARIANTS
    assert "Not checked before one step is right" in str(report)


def test_a_report_says_what_is_wrong(monkeypatch):
    right = "dc_prev = dc * f  # (5)"
    wrong = "dc_prev = dc * f * 2.0  # (5)"
    report = check_gradients(planted(right, wrong), steps=0)
    text = str(report.first_wrong)
    assert text.startswith("dc_prev (through (5)): relative error 1.0e+00; da and dc")
    assert "WRONG" in str(report)
    assert str(report).count("First wrong:") == 1
    assert repr(report).endswith("1 wrong)")
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert "dc_prev" in str(report).partition("First wrong:")[0]
    assert "<b>WRONG</b>" in report._repr_html_()


def test_a_gradient_of_the_wrong_shape_is_a_row_and_no_crash():
    def gradients(params, x, state, new_state, kept, dz):
        dparams, dx = LSTM.gradients(params, x, state, new_state, kept, dz)
        return dparams._replace(b=dz[0]), dx

    report = check_gradients(LSTM._replace(gradients=gradients), steps=0)
    assert report.first_wrong.quantity == "db"
    assert "shape (2, 16), expected (16,)" in str(report.first_wrong)


def test_a_gradient_that_is_not_finite_is_wrong():
    def gradients(params, x, state, new_state, kept, dz):
        dparams, dx = LSTM.gradients(params, x, state, new_state, kept, dz)
        return dparams, dx.at[0, 0].set(jnp.nan)

    report = check_gradients(LSTM._replace(gradients=gradients), steps=0)
    assert report.first_wrong.quantity == "dx"
    assert report.first_wrong.row.worst == (0, 0)


# --- the settings of the caller ----------------------------------------------------


@pytest.mark.jax_defaults
def test_the_check_is_in_float64_and_leaves_the_setting_alone():
    report = check_gradients(LSTM, steps=0)
    assert_right(report)
    assert not jax.config.jax_enable_x64
    assert jnp.zeros(()).dtype == jnp.float32


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"cell": LSTM._replace(backward=None)},
            ValueError,
            "no hand-derived backward",
        ),
        ({"hidden_size": 0}, ValueError, "hidden_size must be at least 1; got 0"),
        ({"batch": -1}, ValueError, "batch must be at least 1; got -1"),
        ({"points": 0}, ValueError, "points must be at least 1; got 0"),
        ({"steps": -1}, ValueError, "steps must be at least 0; got -1"),
        ({"variants": ("forward",)}, ValueError, "each of variants must be one of"),
        ({"memory": "none"}, ValueError, "memory must be one of"),
        ({"difference_step": 0.0}, ValueError, r"difference_step must be in \(0, 1\)"),
        ({"max_entries": 3}, ValueError, "max_entries must be at least 4; got 3"),
    ],
)
def test_the_door_says_what_it_expects(arguments, error, message):
    with pytest.raises(error, match=message):
        check_gradients(**{"cell": LSTM, **arguments})


# --- any function and its reverse --------------------------------------------------


def norm(x, w):
    s = named(jnp.sum(w * x**2), "s", 1)
    return named(jnp.sqrt(s), "r", 2)


def norm_forward(x, w):
    r = norm(x, w)
    return r, (x, w, r)


def norm_backward(residuals, dr):
    x, w, r = residuals
    ds = named(dr / (2 * r), "ds", 2)
    return 2 * ds * w * x, ds * x**2


def norm_backward_wrong(residuals, dr):
    x, w, r = residuals
    ds = named(dr / r, "ds", 2)
    return 2 * ds * w * x, ds * x**2


ARGS = (np.array([0.3, -1.2, 0.7]), np.array([1.0, 2.0, 0.5]))


def test_a_function_pair_that_is_right():
    report = check_vjp(norm, norm_forward, norm_backward, *ARGS)
    assert_right(report)
    assert [row.quantity for row in report.rows] == ["ds", "dx", "dw"]


def test_a_function_pair_that_is_wrong():
    found = check_vjp(norm, norm_forward, norm_backward_wrong, *ARGS).first_wrong
    assert (found.quantity, found.equations) == ("ds", (2,))
    assert "norm_backward_wrong" in found.line


def fan_out(x):
    y = named(jnp.sin(x), "y", 1)
    p = named(y**2, "p", 2)
    q = named(jnp.exp(y), "q", 3)
    return p * q


def fan_out_forward(x):
    return fan_out(x), (x, jnp.sin(x))


def fan_out_reverse(first):
    """A reverse that names dy once for each equation that y enters."""

    def reverse(residuals, d):
        x, y = residuals
        dp, dq = d * jnp.exp(y), d * y**2
        through_2 = named(first * dp * y, "dy", 2)
        through_3 = named(dq * jnp.exp(y), "dy", 3)
        return ((through_2 + through_3) * jnp.cos(x),)

    return reverse


def test_a_quantity_named_through_several_equations_is_judged_through_each():
    x = np.array([0.4, 1.1])
    report = check_vjp(fan_out, fan_out_forward, fan_out_reverse(2), x)
    assert_right(report)
    assert [row.through for row in report.rows] == [(2,), (3,), (1,)]
    wrong = check_vjp(fan_out, fan_out_forward, fan_out_reverse(3), x)
    assert wrong.first_wrong.equations == (2,)
    assert [row.passed for row in wrong.rows] == [False, True, False]


def pick(x, k):
    return x[k]


def pick_forward(x, k):
    return x[k], (x, k)


def pick_reverse(of_k):
    def reverse(residuals, d):
        x, k = residuals
        return jnp.zeros_like(x).at[k].set(d), of_k

    return reverse


@pytest.mark.parametrize("of_k", [None, 0.0, np.zeros((), jax.dtypes.float0)])
def test_integers_have_no_gradient_and_no_row(of_k):
    report = check_vjp(pick, pick_forward, pick_reverse(of_k), ARGS[0], 1)
    assert_right(report)
    assert [row.quantity for row in report.rows] == ["dx"]


def test_none_stands_for_zero():
    report = check_vjp(
        lambda x, w: jnp.sum(x),
        lambda x, w: (jnp.sum(x), x),
        lambda x, d: [d * jnp.ones_like(x), None],
        *ARGS,
    )
    assert_right(report)
    wrong = check_vjp(norm, norm_forward, lambda r, d: (None, None), *ARGS)
    assert {row.quantity for row in wrong.rows if not row.passed} == {"dx", "dw"}


@pytest.mark.parametrize("found", [0.0, (0.0,), {"x": 0.0}])
def test_a_reverse_of_another_form_is_refused(found):
    with pytest.raises(ValueError, match=r"one gradient an argument.*None for zero"):
        check_vjp(norm, norm_forward, lambda r, d: found, *ARGS)


def solve(A, b):
    return jnp.linalg.solve(A, b)


def solve_forward(A, b):
    x = solve(A, b)
    return x, (A, x)


def solve_reverse(residuals, dx):
    A, x = residuals
    db = jnp.linalg.solve(A.T, dx)
    return -jnp.outer(db, x), db


def sort_forward(a):
    order = jnp.argsort(a)
    return jnp.sort(a), order


def spectrum(a):
    return jnp.sum(jnp.abs(jnp.fft.rfft(a)) ** 2)


def spectrum_reverse(a, d):
    """Parseval's theorem, but for the two frequencies that are counted once."""
    signs = (-1.0) ** jnp.arange(len(a))
    once = jnp.sum(a) + jnp.sum(a * signs) * signs
    return (d * (len(a) * a + once),)


NO_RULE = {
    "solve": (
        solve,
        solve_forward,
        solve_reverse,
        np.eye(3) + 0.1 * np.ones((3, 3)),
        ARGS[0],
    ),
    "sort": (
        jnp.sort,
        sort_forward,
        lambda order, d: (jnp.zeros_like(d).at[order].set(d),),
        ARGS[0],
    ),
    "complex": (
        spectrum,
        lambda a: (spectrum(a), a),
        spectrum_reverse,
        np.arange(1.0, 5.0),
    ),
}


@pytest.mark.parametrize("name", NO_RULE)
def test_where_the_graph_has_no_rule_its_column_is_empty_and_says_so(name):
    report = check_vjp(*NO_RULE[name])
    assert report.ok, str(report)
    assert report.missing
    assert all(set(row.errors) == {"automatic", "numerical"} for row in report.rows)
    assert f"No gradients by the graph: {report.missing}"[:60] in str(report)


def scaled(power, x, n=2):
    return n * x**power


def test_what_custom_vjp_takes_is_taken():
    """Its objects, arguments that are not differentiated, defaults, sizes kept."""

    def forward(power, x, n=2):
        return scaled(power, x, n), (x, n, {"size": x.shape, "why": None})

    def reverse(power, residuals, d):
        x, n, kept = residuals
        return d * n * power * x ** (power - 1) * jnp.ones(kept["size"]), None

    rule = jax.custom_vjp(scaled, nondiff_argnums=(0,))
    rule.defvjp(forward, reverse)
    assert_right(check_vjp(rule, forward, reverse, 3, ARGS[0], nondiff_argnums=(0,)))


def test_integers_among_the_outputs_have_no_cotangent():
    def both(x):
        return jnp.sum(x**2), jnp.argmax(x)

    def reverse(x, d):
        assert d[1].dtype == jax.dtypes.float0
        return (2 * x * d[0],)

    assert_right(check_vjp(both, lambda x: (both(x), x), reverse, ARGS[0]))


def test_a_side_that_the_arguments_are_not_on_is_told():
    def rectified(x):
        return jnp.maximum(x, 0)

    report = check_vjp(
        rectified, lambda x: (rectified(x), x), lambda x, d: (d,), np.ones(3)
    )
    assert report.ok
    [side] = report.unreached
    assert side.startswith("max: the second is larger, test_gradcheck.py")


def test_a_forward_that_returns_something_else_is_refused():
    with pytest.raises(ValueError, match="fwd must return"):
        check_vjp(
            norm, lambda x, w: (2 * norm(x, w), (x, w, 1.0)), norm_backward, *ARGS
        )


# --- its parts ---------------------------------------------------------------------


def test_a_program_has_the_values_of_its_function():
    def fn(x, y):
        return jax.jit(jnp.tanh)(x) * named(y + 2.0, "s", 1), jnp.sum(y)

    args = jnp.ones(3), jnp.arange(3.0)
    program = trace(fn, *args)
    values = evaluate(program, args)
    for value, expected in zip(program.outputs, fn(*args), strict=True):
        np.testing.assert_array_equal(values[value], expected)
    [(name, named_value)] = program.names()
    assert name == "s (1)"
    assert program.line(named_value).startswith("test_gradcheck.py:")
    moved = evaluate(program, args, {named_value: jnp.ones(3)})
    np.testing.assert_allclose(moved[program.outputs[0]], jnp.tanh(1.0) * (args[1] + 3))


@pytest.mark.parametrize(("gradient", "expected"), [(3.0, 2.0), (3.1, 1.0)])
def test_the_order_tells_a_gradient_from_its_neighbour(gradient, expected):
    """J = 3 q + q² at 0."""
    around = 3 * DISTANCES[:, None] + DISTANCES[:, None] ** 2 + np.zeros((1, 1, 4))
    remainders = Remainders({"q": np.ones((4, 1))}, np.zeros(1), around)
    found = order(remainders, {"q": np.array([[gradient]])})
    assert found == pytest.approx(expected, abs=0.02)


def test_the_order_of_a_linear_function_is_two():
    around = 3 * DISTANCES[:, None] + np.zeros((1, 1, 4))
    remainders = Remainders({"q": np.ones((4, 1))}, np.zeros(1), around)
    assert order(remainders, {"q": np.array([[3.0]])}) == 2.0


def test_a_kink_in_one_direction_leaves_the_order_as_it_is():
    around = 3 * DISTANCES[:, None] + DISTANCES[:, None] ** 2 + np.zeros((1, 1, 4))
    around[..., 0] += np.maximum(0, DISTANCES - 1e-4)
    remainders = Remainders({"q": np.ones((4, 1))}, np.zeros(1), around)
    assert order(remainders, {"q": np.array([[3.0]])}) == pytest.approx(2, abs=0.02)


def test_only_a_report_without_failures_is_ok():
    right = Row("one step", "dq", (1,), {"automatic": 0.0}, (0,))
    wrong = right._replace(quantity="dp", errors={"graph": 1e-9}, needs=("dq",))
    assert Report("x", [right], {"one step": 2.0}, Tolerances()).ok
    assert not Report("x", [right, wrong], {"one step": 2.0}, Tolerances()).ok
    assert not Report("x", [right], {"one step": 1.0}, Tolerances()).ok
    assert not Report("x", [right], {"one step": float("nan")}, Tolerances()).ok
