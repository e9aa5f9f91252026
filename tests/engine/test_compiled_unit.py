"""A cell's equations as a program of one hidden unit, and as text."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import drawn_params

import lstm_jax as lj
from lstm_jax.cell import OutputState
from lstm_jax.cells.elman import RNN_TANH
from lstm_jax.engine import compiled
from lstm_jax.gated import GatedStep

GATED = [cell for cell in lj.CELLS.values() if isinstance(cell.step, GatedStep)]
EACH_GATED = pytest.mark.parametrize("cell", GATED, ids=lambda cell: cell.name)


def cell_of(equations):
    """The plain recurrent network with other equations."""
    return RNN_TANH._replace(step=GatedStep(equations), backward=None)


def keeping_nothing(function):
    """Equations whose new output is a function of z and the old one."""

    def equations(params, state, u, v):
        return OutputState(function(u + v, state.h)), None

    return cell_of(equations)


def text_of(cell, function="Step", dtype="float64"):
    return compiled.write(compiled.trace(cell, np.dtype(dtype)).forward, function)


@EACH_GATED
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_every_gated_cell_is_traced(cell, dtype):
    unit = compiled.trace(cell, jnp.dtype(dtype))
    assert unit.forward.outputs["new"]
    assert unit.backward is not None
    assert len(unit.backward.outputs["dold"]) == len(unit.state)
    assert len(unit.backward.outputs["du"]) == len(unit.forward.inputs["u"])
    assert unit.recurrent == ("Wh" in drawn_params(cell)._fields)


@pytest.mark.parametrize("name", ["gru_before", "layer_norm_lstm", "mgu"])
def test_other_cells_are_not(name):
    with pytest.raises(compiled.NotUnitByUnit, match=f"{name} is not made by `gated`"):
        compiled.trace(lj.CELLS[name], np.dtype("float64"))


def test_a_line_of_the_lstm():
    text = text_of(lj.LSTM)
    assert "  const Real c = i * g + f * c_prev;  // (5)\n" in text
    assert "  const Real h = o * a;  // (7)\n" in text


def test_the_reverse_reads_only_what_it_needs():
    unit = compiled.trace(lj.LSTM, np.dtype("float64"))
    assert unit.backward.reads("old") == (1,)
    assert unit.backward.reads("new") == (1,)
    assert unit.one_gradient
    gru = compiled.trace(lj.CELLS["gru"], np.dtype("float64"))
    assert gru.backward.reads("new") == ()
    assert not gru.one_gradient


# --- what is refused, and why ---------------------------------------------------------


def flipped(z, h):
    return jnp.tanh(z + jnp.flip(h, axis=-1))


def first_unit(z, h):
    return jnp.tanh(z + jnp.broadcast_to(h[..., :1], h.shape))


def by_place(z, h):
    return z + jnp.arange(h.shape[-1], dtype=h.dtype)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (flipped, "mix units: new depends on another unit's h"),
        (first_unit, "mix units: new depends on another unit's h"),
        (by_place, "the primitive 'iota' is not elementwise"),
        (
            lambda z, h: jax.nn.softmax(z),
            "the primitive 'reduce_max' is not elementwise",
        ),
        (lambda z, h: z * h.shape[-1], "new is not the same function"),
        (lambda z, h: jnp.sort(z), "no row for the primitive 'sort'"),
        (lambda z, h: jnp.tanh(z)[..., :2], "has the shape"),
        (lambda z, h: z + jnp.ones(7, z.dtype), "could not be traced"),
    ],
)
def test_what_is_not_unit_by_unit(function, reason):
    with pytest.raises(compiled.NotUnitByUnit, match=reason):
        compiled.trace(keeping_nothing(function), np.dtype("float64"))


def test_equations_that_read_a_matrix():
    def equations(params, state, u, v):
        return OutputState(u + v * params.b), None

    with pytest.raises(compiled.NotUnitByUnit, match=r"params\.b"):
        compiled.trace(cell_of(equations), np.dtype("float64"))


def test_what_is_kept_of_all_units_together():
    def equations(params, state, u, v):
        return OutputState(u + v), u.mean(axis=-1, keepdims=True)

    with pytest.raises(compiled.NotUnitByUnit, match="'reduce_sum' is not elementwise"):
        compiled.trace(cell_of(equations), np.dtype("float64"))


def test_a_row_is_added(monkeypatch):
    """The message says how."""
    cell = keeping_nothing(lambda z, h: jax.lax.erf_inv(z))
    with pytest.raises(
        compiled.NotUnitByUnit, match=r"expression\('erf_inv', \.\.\.\)"
    ):
        compiled.trace(cell, np.dtype("float64"))
    monkeypatch.setitem(compiled.EXPRESSIONS, "erf_inv", "ErfInv({a}) + Real(1)")
    assert "new_[0] = (ErfInv((u[0] + v[0])) + Real(1));" in text_of(cell)


# --- the text -------------------------------------------------------------------------


def expression_of(function):
    """What is written of a function of u + v."""
    text = text_of(keeping_nothing(function), dtype="float32")
    return text.split("new_[0] = ")[1].split(";")[0]


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda z, h: 2 - (z - 3) - h, "2.0f - (u[0] + v[0] - 3.0f) - h_prev"),
        (lambda z, h: -(z * h), "-((u[0] + v[0]) * h_prev)"),
        (lambda z, h: h / (h / z), "h_prev / (h_prev / (u[0] + v[0]))"),
        (lambda z, h: z * jnp.float32(0.1), "(u[0] + v[0]) * 0.1f"),
        (lambda z, h: z * -jnp.inf, "(u[0] + v[0]) * (-kInfinity)"),
        (lambda z, h: jnp.full_like(z, -0.0), "(-0.0f)"),
        (lambda z, h: z**-3, "Power<-3>(u[0] + v[0])"),
        (lambda z, h: jnp.maximum(z, 0), "Max(u[0] + v[0], 0.0f)"),
        (lambda z, h: jax.checkpoint(jnp.tanh)(z), "Tanh(u[0] + v[0])"),
        (
            lambda z, h: jnp.where((z > 0) & ~(h == 1), z, 1e-30),
            "Where((t1 > 0.0f) & !(h_prev == 1.0f), t1, 1e-30f)",
        ),
        (
            lambda z, h: jnp.concatenate(jnp.split(z, 1))[::1].reshape(z.shape),
            "u[0] + v[0]",
        ),
    ],
)
def test_expressions(function, text):
    assert expression_of(function) == text


def test_names_that_no_language_takes():
    def equations(params, state, u, v):
        names = ("do (1)", "H (2)", "z' (3)", "2z (4)", "c̃ (5)", "do (6)", "u (7)")
        values, z = [], u + v
        for name in names:
            z = jax.ad_checkpoint.checkpoint_name(jnp.tanh(z), name)
            values.append(z)
        return OutputState(z), values

    text = text_of(cell_of(equations))
    for line in (
        "Real do_ = Tanh(u[0] + v[0]);  // do (1)",
        "Real H_ = Tanh(do_);  // H (2)",
        "Real z_ = Tanh(H_);  // z' (3)",
        "Real n2z = Tanh(z_);  // 2z (4)",
        "Real do_1 = Tanh(",
        "Real u1 = Tanh(do_1);  // u (7)",
    ):
        assert line in text
