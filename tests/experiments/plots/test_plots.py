"""Pictures of whatever text comes from outside, whatever a matplotlibrc says."""

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from experiments import plots
from experiments.plots.canvas import literal

NASTY = (
    *("$$", "$x", r"\$$", r"$\frac{", "100%", "a_b^{", "two\nlines", "\x1b[31m\0"),
    *("\ud800", "\udcff", "字", "\N{PILE OF POO}", "", "x" * 5000, "_hidden", "&<|>"),
)


@pytest.fixture(autouse=True)
def usetex(monkeypatch):
    """Someone's matplotlibrc asks for TeX, which is not there."""
    monkeypatch.setitem(matplotlib.rcParams, "text.usetex", True)
    monkeypatch.setitem(matplotlib.rcParams, "savefig.bbox", "tight")


@pytest.fixture
def texts(monkeypatch):
    """All that pictures say, as it is drawn."""
    found, draw = [], Figure.draw

    def looking(self, *args, **kwargs):
        draw(self, *args, **kwargs)
        found.extend(self.findobj(Text))

    monkeypatch.setattr(Figure, "draw", looking)
    return lambda: [text.get_text() for text in found]


def scored(*words):
    scores = np.linspace(0.1, 0.9, len(words))
    return plots.ScoredText(words, scores, "a posi$t$ive review", "posi$t$ive")


def draw_reviews(path):
    plots.running_scores(path, [scored("$$", "well"), scored(*(3 * NASTY))])


def draw_runs(path):
    curves = {name or "none": ([1, 2], [0.5, 0.6]) for name in NASTY}
    plots.run_curves(path, {"accu$r$acy": curves, "l%ss": {}})


def draw_seeds(path):
    rows = [{"seed": 0, "step": 1, "error": 0.5}, {"seed": 0, "step": 2, "error": None}]
    curves = dict.fromkeys(NASTY, rows)
    plots.seed_curves(path, "adding, $x$\n100%", "error", curves, {"al$way$s": 0.1})


def draw_training(path):
    rows = [{"kind": k, "step": 1, "loss": 1, "accuracy": 0.5} for k in ("step", "?")]
    plots.training_curves(path, rows)


def draw_intervals(path):
    cells = {name: {"mean": 1.0, "half": None, "better": 1} for name in NASTY}
    plots.interval_chart(path, list(cells), "$$", {"ta$s$k": cells})


def draw_flow(path):
    norms = {"h": [1.0, 0.5, 0.1], "c": [0.0, 0.5, 0.1]}
    plots.gradient_flow(path, {"1": norms}, dict.fromkeys(NASTY, norms))


def draw_costs(path):
    panel = plots.Panel("ti$m$e", {"$$": [1.0, 2.0], "a%": [2.0, None]})
    plots.cost_curves(path, "$T$", "T", [1, 2], [panel] * 2, ["$$", "a%"])
    plots.cost_dots(path, "$T$", ["r$o$w", "2"], [panel] * 2, ["$$", "a%"])


def draw_comparison(path):
    """What a busy machine may measure: one takes thirty times as long as the other."""
    steps = (10.0 ** np.arange(-12, 0.0)).tolist()
    costs = {"milliseconds": 1.0, "temporary_mib": 0.0}
    result = {
        "differences": {"step": steps, "one-sided": steps, "central": steps},
        "lengths": {
            "steps": [1, 2],
            "errors": 2 * [{"automatic": 0.0, "graph": 1e-16, "forward": 1e-16}],
        },
        "cost": {"automatic": costs, "manual": {**costs, "milliseconds": 30.0}},
        "worst": {"automatic": 0.0, "graph": 1e-16, "numerical": 1e-9},
    }
    plots.gradient_comparison(path, "$$", result)
    plots.gradient_overview(path, dict.fromkeys(NASTY, result))


PICTURES = (
    *(draw_reviews, draw_runs, draw_seeds, draw_training, draw_intervals, draw_flow),
    *(draw_costs, draw_comparison),
)


@pytest.mark.parametrize("draw", PICTURES, ids=lambda draw: draw.__name__)
def test_text_from_outside_is_no_markup(draw, tmp_path, texts):
    draw(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert texts()


def test_text_is_drawn_letter_for_letter(tmp_path, texts):
    draw_reviews(tmp_path / "picture.png")
    drawn = {text.replace(r"\$", "$") for text in texts()}
    assert drawn >= {"$$", "$x", r"\$$", r"$\frac{", "100%", "two lines", "_hidden"}
    for text in NASTY[:4]:
        given = Text(text=literal(text), usetex=False)
        drawn_text, is_markup = given._preprocess_math(given.get_text())
        assert (drawn_text, is_markup) == (text, False)


def test_the_users_settings_are_as_they_were(tmp_path):
    draw_training(tmp_path / "picture.png")
    assert matplotlib.rcParams["text.usetex"]
    assert matplotlib.rcParams["savefig.bbox"] == "tight"


def test_a_curve_under_another_is_seen_beside_it(tmp_path, monkeypatch):
    lines, draw = [], Figure.draw

    def looking(self, *args, **kwargs):
        draw(self, *args, **kwargs)
        lines.extend(self.axes[1].lines)

    monkeypatch.setattr(Figure, "draw", looking)
    norms, other = {"h": [1.0, 0.5, 0.1]}, {"h": [1.0, 0.7, 0.3]}
    bias = {"1": {"h": [1.0, 0.5], "c": [0.0, 0.5]}}
    cells = {"lstm": norms, "gru": other, "peephole_lstm": norms}
    plots.gradient_flow(tmp_path / "flow.png", bias, cells)
    lstm, gru, peephole = (line.get_linewidth() for line in lines)
    assert lstm > 2 * peephole == 2 * gru


def test_marks_explain_themselves(tmp_path, texts):
    draw_reviews(tmp_path / "picture.png")
    assert {"widest rises", "widest falls"} <= set(texts())
    panel = plots.Panel("time", {"limit": [1.0, 2.0]}, limit="the products")
    plots.cost_curves(tmp_path / "costs.png", "", "T", [1, 2], [panel] * 2, ["limit"])
    assert "time\nlimit: the products" in texts()
