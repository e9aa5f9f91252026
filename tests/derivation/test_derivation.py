"""Derived backward passes: right for every cell, and beside every hand-written line."""

import inspect
import json
import re
import shutil
import subprocess
from functools import cache, partial
from importlib.resources import files
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import tree
from papers import LIGRU, MLSTM, RHN
from sources import execute

import lstm_jax as lj
from benchmarks.mutations import mutants
from lstm_jax.cell import OutputState
from lstm_jax.cells import CELLS
from lstm_jax.cells import lstm as lstm_file
from lstm_jax.cells.elman import RNN_TANH
from lstm_jax.cells.lstm import LSTMGates
from lstm_jax.derivation import (
    NotDerivable,
    derive,
    evaluation,
    operation,
    operations,
    reading,
    writing,
)
from lstm_jax.derivation.__main__ import main
from lstm_jax.derivation.comparison import random_values
from lstm_jax.gated import GatedStep, gated, no_elementwise
from lstm_jax.gradcheck import check_gradients
from lstm_jax.gradcheck.points import advance, forward_only
from lstm_jax.graph import backprop
from lstm_jax.graph import rules as graph_rules
from lstm_jax.initializers import ZeroState
from lstm_jax.numbered import numbered

LSTM = CELLS["lstm"]
ALL = {**CELLS, **{cell.name: cell for cell in (LIGRU, MLSTM, RHN)}}


@cache
def derived(name):
    """The derivation of a cell, made once for all tests."""
    return derive(ALL[name])


# --- every hand-written line ---------------------------------------------------------

# The reverse of a norm and of a guarded root is written in a way of its own, and f > i
# where the derivation says l > z_i. All other lines of the table's cells are the very
# expressions that are derived.
NUMBERS_ALONE = {
    "rg_lru": {"l"},
    "layer_norm_lstm": {"c", "v", "p"},
    "slstm": {"l", "z_i"},
    "mlstm": {"l", "z_i"},
}
UNREAD = {"mlstm": {"h_prev"}}
"""What a step is given and does not read."""


@pytest.mark.parametrize("name", CELLS)
def test_every_line_of_every_cell_agrees(name):
    derivation = derived(name)
    assert not derivation.disagreeing, str(derivation)
    lines = {row.quantity: row.lines for row in derivation.rows if row.lines}
    assert all(line.error < 1e-12 for found in lines.values() for line in found)
    apart = {q for q, found in lines.items() if not all(line.same for line in found)}
    assert apart == NUMBERS_ALONE.get(name, set())
    arguments = {"x", *derivation.forward.inputs}
    assert arguments - UNREAD.get(name, set()) <= set(lines)


@pytest.mark.parametrize("name", ["li_gru", "plain_mlstm", "rhn"])
def test_cells_from_papers_agree(name):
    derivation = derived(name)
    assert not derivation.disagreeing, str(derivation)
    assert [row for row in derivation.rows if row.lines]


@pytest.mark.parametrize("name", ["gru_before", "layer_norm_lstm", "slstm"])
def test_the_derived_gradients_are_those_of_automatic_differentiation(name):
    """Not by way of the hand-written reverse, which might share a mistake."""
    derivation = derived(name)
    forward = derivation.forward
    known, *_ = random_values(ALL[name], forward, derivation.steps)
    values = [known[argument] for argument in forward.inputs]
    given = tree.unflatten(tree.structure(forward.args), values)
    arriving = {row.quantity: row.uses[0].gradient for row in derivation.rows}
    dnew = [known[arriving[q].data[0]] for q in forward.state.values()]

    @jax.jit
    def gradients(given, dnew):
        new, pull = jax.vjp(lambda *args: advance(ALL[name], *args)[0], *given)
        return pull(tree.unflatten(tree.structure(new), dnew))

    found = gradients(given, dnew)
    for argument, expected in zip(forward.inputs, tree.leaves(found), strict=True):
        gradient = known[f"d{argument}"]
        np.testing.assert_allclose(gradient, expected, rtol=1e-10, atol=1e-10)


def test_a_line_stands_beside_its_derivation():
    row = derived("lstm").row("c")
    assert [(use.name, use.number) for use in row.uses] == [("", None), ("a", 6)]
    [line] = row.lines
    assert line.text == "dc = dc_next + da * (1 - a**2)  # (6)"
    assert re.fullmatch(r"lstm\.py:\d+", line.place)
    assert (line.number, line.same, row.through, row.agrees) == (6, True, (6,), True)
    assert derived("lstm").row("h").given


# --- mistakes -------------------------------------------------------------------------


def test_a_mistake_planted_in_any_line_is_shown_beside_the_right_one():
    """Each line of the LSTM's reverse with each kind of mistake."""
    each = {(mutant.quantities, mutant.kind): mutant for mutant in mutants(LSTM)}
    seen = set()
    for mutant in each.values():
        derivation = derive(mutant.cell)
        wrong = {row.gradient.data[0] for row in derivation.disagreeing}
        assert wrong, str(mutant)
        if mutant.equation is not None:
            # Its own line alone is wrong, not those that are computed from it.
            assert wrong <= mutant.quantities, f"{mutant}: {wrong}"
            seen |= wrong
        said = derivation.verdict()
        assert said.startswith("Wrong in the hand-written reverse:")
        assert "computes  d" in said
        assert "derived   d" in said
    hand_written = {
        row.gradient.data[0]
        for row in derived("lstm").rows
        for line in row.lines
        if line.number is not None
    }
    assert len(hand_written) == 11
    assert seen == hand_written


def test_the_wrong_and_the_right_expression_are_printed():
    text = inspect.getsource(inspect.unwrap(lstm_file.backward))
    text = text.replace("df = dc * c_prev", "df = dc * c")
    scope = execute(text, "planted_in_df.py", dict(vars(lstm_file)))
    cell = lj.gated(
        "planted",
        init=LSTM.init,
        initial_state=LSTM.initial_state,
        equations=lstm_file.equations,
        backward=scope["backward"],
    )
    derivation = derive(cell)
    assert [row.quantity for row in derivation.disagreeing] == ["f"]
    said = str(derivation).partition("Wrong in the hand-written reverse:\n")[2]
    place, computes, derived = said.splitlines()
    assert re.fullmatch(r"  planted_in_df\.py:\d+  df = dc \* c  # \(5\)", place)
    assert computes == "    computes  df = dc * c"
    assert derived == "    derived   df = dc * c_prev"


# --- a cell without a reverse: the one to write ---------------------------------------


def written(cell, tmp_path):
    """The cell with the reverse that the program writes in the place of its own."""
    params = jax.eval_shape(partial(cell.init, jax.random.key(0), 3, 4))
    state = jax.eval_shape(lambda params: cell.initial_state(params, ()), params)
    types = type(params), type(state)
    imports = [f"from {t.__module__} import {t.__name__}\n" for t in types]
    file = tmp_path / f"{cell.name}_reverse.py"
    text = derive(forward_only(cell)).python()
    file.write_text("".join([*imports, "\n", text]), "utf-8")
    scope = execute(file.read_text("utf-8"), str(file), {"__name__": file.stem})
    if not isinstance(cell.step, GatedStep):
        return cell._replace(backward=scope["backward"], gradients=scope["gradients"])
    return gated(
        cell.name,
        init=cell.init,
        initial_state=cell.initial_state,
        equations=cell.step.equations,
        backward=scope["backward"],
        elementwise=scope.get("elementwise", no_elementwise),
        sizes=cell.sizes,
        linear=cell.linear,
    )


class Keeping(NamedTuple):
    kept: Any
    z_i: Any


def keeping_z_i(cell):
    """The sLSTM or the mLSTM, whose own reverse finds a way around z_i."""

    def equations(params, state, u, v):
        new, kept = cell.step.equations(params, state, u, v)
        return new, Keeping(kept, jnp.split(u + v, 4, axis=-1)[0])

    def step(params, state, u):
        new, kept = cell.step(params, state, u)
        return new, Keeping(kept, u[..., -2:-1])

    gated = isinstance(cell.step, GatedStep)
    return cell._replace(step=GatedStep(equations) if gated else step)


def test_what_the_step_does_not_keep_and_should_is_told():
    text = derive(forward_only(CELLS["slstm"])).python()
    assert "# `kept` must have these as well: z_i.\n" in text
    assert "kept.z_i" in text
    text = derive(forward_only(keeping_z_i(CELLS["slstm"]))).python()
    assert "must have" not in text


@pytest.mark.parametrize("name", ALL)
def test_the_reverse_that_is_written_is_the_derived_one(name, tmp_path):
    cell = keeping_z_i(ALL[name]) if name in ("slstm", "mlstm") else ALL[name]
    cell = written(cell, tmp_path)
    derivation = derive(cell)
    assert not derivation.disagreeing, str(derivation)
    assert len([row for row in derivation.rows if row.lines]) > len(
        derivation.parameters
    )


@pytest.mark.parametrize("name", ["lstm", "gru_before"])
def test_the_reverse_that_is_written_passes_the_gradient_check(name, tmp_path):
    report = check_gradients(written(ALL[name], tmp_path), steps=0)
    assert report.ok, str(report)


def test_without_a_reverse_it_says_so():
    derivation = derive(forward_only(LSTM))
    assert all(row.lines == () and row.agrees is None for row in derivation.rows)
    assert "There is no hand-written reverse" in str(derivation)
    assert "dc = dc_next + da * (1 - a**2)  # (6)" in derivation.python()


# --- equations in other forms ---------------------------------------------------------


def lstm_of(equations):
    return gated(
        "one_array_of_gates",
        init=LSTM.init,
        initial_state=LSTM.initial_state,
        equations=equations,
    )


@numbered
def numbered_equations(params, state, u, v):
    size = state.c.shape[-1]
    z = u + v  # (1)
    gates = jax.nn.sigmoid(z[..., : 3 * size])  # (2)
    i, f, o = jnp.split(gates, 3, axis=-1)  # (3)
    g = jnp.tanh(z[..., 3 * size :])  # (4)
    c = i * g + f * state.c  # (5)
    h = o * jnp.tanh(c)  # (6)
    return lj.LSTMState(h, c), (i, f, o, g)


def plain_equations(params, state, u, v):
    size = state.c.shape[-1]
    gates = jax.nn.sigmoid((u + v)[..., : 3 * size])
    i, f, o = jnp.split(gates, 3, axis=-1)
    g = jnp.tanh((u + v)[..., 3 * size :])
    c = i * g + f * state.c
    return lj.LSTMState(o * jnp.tanh(c), c), LSTMGates(i, f, o, g)


def test_gates_in_one_array():
    derivation = derive(lstm_of(numbered_equations))
    text = str(derivation)
    assert "∂J/∂gates = [di, df, do]" in text
    assert "∂J/∂z = [dgates * gates * (1 - gates), dg * (1 - g²)]" in text
    # What is kept are the parts of what is needed.
    assert "gates = concatenate(i, f, o)  # (2) again" in derivation.python()
    assert "i, f, o, g = kept\n" in derivation.python()


def test_without_numbers_the_letters_are_those_of_state_and_what_is_kept():
    derivation = derive(lstm_of(plain_equations))
    text = str(derivation)
    assert "  i = σ(u_i + v_i)\n" in text
    assert (
        "[di * i * (1 - i), df * f * (1 - f), do * o * (1 - o), dg * (1 - g²)]" in text
    )
    assert "∂J/∂v = du" in text


@pytest.mark.parametrize("equations", [numbered_equations, plain_equations])
def test_their_reverse_is_right_too(equations, tmp_path):
    cell = written(lstm_of(equations), tmp_path)
    assert not derive(cell).disagreeing
    assert derive(cell).row("h_prev").lines


class TwiceAndOld(NamedTuple):
    h: Any
    again: Any
    old: Any


def test_a_state_that_is_the_output_again_or_the_old_one(tmp_path):
    @numbered
    def equations(params, state, u, v):
        a = jnp.tanh(u + v)  # (1)
        h = a * state.old  # (2)
        return TwiceAndOld(h, h, state.again), a

    cell = gated(
        "twice_and_old",
        init=RNN_TANH.init,
        initial_state=ZeroState(TwiceAndOld),
        equations=equations,
    )
    text = str(derive(cell))
    assert "h goes to again and the next step" in text
    assert (
        "∂J/∂h = dh_next + ∂J/∂again * ∂again/∂h\n          = dh_next + dagain" in text
    )
    cell = written(cell, tmp_path)
    derivation = derive(cell)
    assert not derivation.disagreeing, str(derivation)
    assert {"h_prev", "again_prev", "old_prev"} <= {r.quantity for r in derivation.rows}


def test_heads():
    cell = LSTM._replace(init=partial(LSTM.init, heads=2))
    derivation = derive(cell, hidden_size=14)
    assert not derivation.disagreeing
    assert derivation.row("Wh").lines


# --- operations that the tables don't have --------------------------------------------


def cell_of(activation):
    """The simple recurrent cell with some other function for tanh."""

    @numbered
    def equations(params, state, u, v):
        z = u + v  # (1)
        h = activation(z)  # (2)
        return OutputState(h), z

    return gated(
        "other",
        init=RNN_TANH.init,
        initial_state=RNN_TANH.initial_state,
        equations=equations,
    )


def test_an_operation_without_a_row_is_written_by_its_name():
    row = derive(cell_of(lambda z: jnp.arctan(z))).row("z")
    assert "power" in repr(row.result)
    text = str(derive(cell_of(jax.lax.erf)))
    assert "h = erf(z)" in text


def test_what_has_no_rule_is_named_with_the_way_to_add_one():
    with pytest.raises(
        lj.graph.UnknownPrimitiveError, match=r"(?s)'lgamma'.*graph\.rule"
    ):
        derive(cell_of(jax.lax.lgamma))


def test_a_rule_that_is_added_is_used(monkeypatch):
    monkeypatch.setattr(graph_rules, "RULES", dict(graph_rules.RULES))
    monkeypatch.setattr(backprop, "RULES", graph_rules.RULES)

    @lj.graph.rule("lgamma", "digamma {a}")
    def _(dc, c, a):
        return dc * jax.lax.digamma(a)

    derivation = derive(cell_of(jax.lax.lgamma))
    assert "= dh * digamma(z)" in str(derivation)
    assert "dz = dh * jax.lax.digamma(z)" in derivation.python()


def test_an_operation_is_written_as_it_is_told(monkeypatch):
    monkeypatch.setattr(operations, "OPERATIONS", dict(operations.OPERATIONS))
    for module in (evaluation, reading, writing):
        monkeypatch.setattr(module, "OPERATIONS", operations.OPERATIONS)
    operation("erf", text="Φ({0})", latex=r"\Phi({0})")
    derivation = derive(cell_of(lambda z: jax.lax.erf(z) * 2))
    assert "h = 2 * Φ(z)" in str(derivation)
    assert r"h &= 2 * \Phi(z)" in derivation.latex()


def test_what_cannot_be_written_is_named_with_the_way_to_add_it():
    with pytest.raises(NotDerivable, match=r"(?s)'sort'.*reading.row\('sort'\)"):
        derive(cell_of(lambda z: jnp.sort(z, axis=-1)))


def test_a_letter_for_two_quantities_is_refused():
    def step(params, state, u):
        b = lj.named(jnp.tanh(u), "b", 2)  # and a parameter
        return OutputState(b * state.h), None

    cell = RNN_TANH._replace(step=step, backward=None, gradients=None)
    told = r"an argument of the step is called b, and so is b \(2\)"
    with pytest.raises(NotDerivable, match=told):
        derive(cell)


# --- as a reader sees it --------------------------------------------------------------


def formulas(derivation):
    """The lines of the LaTeX, each by itself, without the marks that align them."""
    body = derivation.latex().split("\n")[1:-1]
    for line in body:
        yield re.sub(r"&&.*|&|\\\\$", "", line).strip()


@pytest.mark.parametrize("name", ALL)
def test_every_formula_can_be_set(name):
    pytest.importorskip("matplotlib")
    found = list(formulas(derived(name)))
    assert len(found) > 5
    assert all(map(is_set, found))


@cache  # more than half of the formulas are those of several cells
def is_set(formula):
    """Raises where it can't."""
    from matplotlib.mathtext import MathTextParser

    return MathTextParser("path").parse(f"${formula}$").width > 0


MATHJAX = """
const texts = JSON.parse(require('fs').readFileSync(0));
const settings = {loader: {load: ['input/tex', 'adaptors/liteDOM']},
                  tex: {packages: {'[-]': ['noundefined']}}};
require(process.argv[1]).init(settings).then((MathJax) => {
  for (const text of texts) {
    if (MathJax.tex2mml(text).includes('merror')) console.log(text);
  }
});
"""

KATEX = """
const texts = JSON.parse(require('fs').readFileSync(0));
for (const text of texts)
  require(process.argv[1]).renderToString(text, {displayMode: true, strict: 'error'});
"""


def run_by_node(program, module, texts):
    command = ["node", "-e", program, module]
    given = json.dumps(texts)
    return subprocess.run(command, input=given, capture_output=True, text=True)


def in_latex():
    """One derivation as a whole, and every formula of the others, each once."""
    whole = derive("lstm", letters="article").latex()
    return [whole, *{formula for name in ALL for formula in formulas(derived(name))}]


def test_the_mathjax_of_the_site_sets_every_derivation():
    site = pytest.importorskip("mathjax")
    if shutil.which("node") is None:
        pytest.skip("no node")
    module = str(files(site) / "static/mathjax/es5/node-main.js")
    run = run_by_node(MATHJAX, module, in_latex())
    assert (run.returncode, run.stdout) == (0, ""), run.stderr
    wrong = [r"\frac{a}{b", r"\nonsense"]
    assert run_by_node(MATHJAX, module, wrong).stdout.split() == wrong


def test_katex_sets_every_derivation():
    if shutil.which("node") is None:
        pytest.skip("no node")
    found = run_by_node("console.log(require.resolve('katex'))", "", [])
    if found.returncode:
        pytest.skip("node has no katex")
    run = run_by_node(KATEX, found.stdout.strip(), in_latex())
    assert run.returncode == 0, run.stderr


def test_the_articles_letters():
    derivation = derive("lstm", letters="article")
    text = str(derivation)
    assert "c⟨t⟩ = Γ_i * c̃⟨t⟩ + Γ_f * c⟨t-1⟩" in text
    assert "∂J/∂Γ_f = ∂J/∂c⟨t⟩ * ∂c⟨t⟩/∂Γ_f" in text
    # The article's one equation for two steps, and its weighted-input rule.
    assert "= ∂J/∂c⟨t+1⟩ * Γ_f⟨t+1⟩ + ∂J/∂ã⟨t⟩ * (1 - ã⟨t⟩²)" in text
    assert "∂J/∂W_x = 1/m * ∂J/∂U · x⟨t⟩ᵀ" in text
    assert "W_aᵀ · ∂J/∂V" in text  # examples in columns
    latex = derivation.latex()
    assert (
        r"\frac{\partial J}{\partial c^{\langle t \rangle}} * c^{\langle t-1 \rangle}"
        in latex
    )
    with pytest.raises(ValueError, match="LSTM's; there is none for"):
        derive("gru", letters="article")


def test_it_is_shown_in_a_notebook():
    derivation = derived("lstm")
    assert derivation._repr_latex_().startswith("$$\n\\begin{aligned}")
    markdown = derivation._repr_markdown_()
    assert markdown == derivation.markdown()
    assert (
        "| (5) | $c = i * g + f * c_{\\mathrm{prev}}$ | $a$ (6) and the next step |"
        in markdown
    )


def test_the_command_prints_each_form(capsys):
    for form in ("text", "markdown", "latex", "python"):
        main(["rnn_tanh", f"--{form}"])
        printed = capsys.readouterr().out
        assert printed == getattr(derive("rnn_tanh"), form)()
    main(["lstm", "--letters", "article"])
    assert "Γ_f" in capsys.readouterr().out


def test_the_command_says_what_is_wrong(capsys, tmp_path):
    file = tmp_path / "wrong.py"
    file.write_text(
        "from lstm_jax.cells.elman import RNN_TANH\n"
        "WRONG = RNN_TANH._replace(backward=lambda p, s, n, k, d:\n"
        "    (s, (d.h, None)))\n",
        "utf-8",
    )
    with pytest.raises(SystemExit) as ended:
        main([f"{file}:WRONG"])
    assert ended.value.code == 1
    assert "WRONG" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["lstn"])
    assert ended.value.code == 2
    assert "cell must be one of" in capsys.readouterr().err


def test_bad_arguments():
    with pytest.raises(ValueError, match="cell must be one of"):
        derive("lstn")
    with pytest.raises(TypeError, match=r"lstm_jax\.([cC]ell)"):
        derive(3)
    with pytest.raises(ValueError, match="letters must be one of"):
        derive("lstm", letters="greek")
