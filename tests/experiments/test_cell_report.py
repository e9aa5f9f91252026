"""The page about a cell: its sections, what fails in one, its curves and drawings."""

import json
import math
import re
from html import unescape
from xml.etree import ElementTree

import numpy as np
import pytest
from fast_weights import FAST_WEIGHTS
from rich.console import Console

from experiments import cell_report
from experiments.cell_page import Asked, make_page
from experiments.cell_page import page as page_module
from experiments.cell_page.charts import Curve, bars, curves, powers, round_numbers
from experiments.cell_page.drawing import svg_of
from experiments.cell_page.equations import derivation, step_drawing
from experiments.cell_page.gradients import section as gradients
from experiments.cell_page.section import Section
from experiments.gradients import FlowConfig, flow_of
from lstm_jax.cells import CELLS, find_cell


def asked(place, folder, **changes):
    cell = find_cell(str(place), CELLS)
    console = Console(quiet=True)
    small = (3, 1, 2, 3)
    return Asked(cell, str(place), small, (), None, 1, folder, console)._replace(
        **changes
    )


def changed(file, old, new):
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new), "utf-8")
    return f"{file}:NAME"


@pytest.mark.jax_defaults
def test_the_page_of_a_cell_in_a_file(own_cell, tmp_path, capsys):
    out = tmp_path / "out"
    small = ["--tasks", "adding_problem", "--steps", "2", "--shape", "3", "1", "2", "3"]
    given = [f"{own_cell}:NAME", *small, "--out", str(out)]
    assert cell_report.main(given) == 0
    record = json.loads((out / "name" / "result.json").read_text("utf-8"))
    assert {n: record[n].get("error") for n in page_module.SECTIONS} == dict.fromkeys(
        page_module.SECTIONS
    )
    assert record["gradients"]["ok"]
    assert record["cell_file"]
    assert set(record["learning"]["adding_problem"]) == {"lstm", "name"}
    text = (out / "name" / "page.html").read_text("utf-8")
    assert "{{" not in text
    assert not re.search(r"(src|href)=.https?:", text)
    for name, (title, _) in page_module.SECTIONS.items():
        assert f'<section id="{name}"><h2>{title}</h2>' in text
    for picture in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(picture)
    assert f"see {out}" in capsys.readouterr().err.replace("\n", "")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("lstn", "cell must be one of 'rnn_tanh'"),
        ("lstm --tasks chess", "task must be one of"),
        ("lstm --seeds 0", "seeds must be at least 1"),
        ("lstm --steps 0", "steps must be at least 1"),
        ("lstm --shape 1 1 0 1", "shape must be at least 1"),
        ("nowhere.py:A", "there is no file"),
    ],
)
def test_what_cannot_be_asked_is_told_in_a_line(arguments, told, tmp_path, capsys):
    assert cell_report.main([*arguments.split(), "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith(f"error: {told}")
    assert not list(tmp_path.iterdir())


def test_what_fails_costs_only_its_section(own_cell, tmp_path, monkeypatch):
    def broken(asked):
        raise KeyError("<b>")

    def stopped(asked):
        raise KeyboardInterrupt

    made = {
        "graph": ("A & B", broken),
        "speed": ("Fast", lambda _: Section("so & so", "<p>fine</p>", {"a": math.inf})),
        "flow": ("Stopped", stopped),
    }
    monkeypatch.setattr(page_module, "SECTIONS", made)
    with pytest.raises(KeyboardInterrupt):
        make_page(asked(f"{own_cell}:NAME", tmp_path))
    record = json.loads((tmp_path / "name" / "result.json").read_text("utf-8"))
    assert record["graph"]["error"] == "KeyError: '<b>'"
    assert record["speed"]["a"] is None  # JSON knows no infinity
    assert "flow" not in record
    text = (tmp_path / "name" / "page.html").read_text("utf-8")
    assert "KeyError: &#x27;&lt;b&gt;&#x27;" in text
    assert "<p>fine</p>" in text


def test_a_wrong_line_is_shown_as_it_stands(own_cell, tmp_path):
    place = changed(own_cell, "dh * (1 - tanh(z) ** 2)", "dh * (1 + tanh(z) ** 2)")
    found = gradients(asked(place, tmp_path))
    assert found.good is False
    assert found.glance == "wrong: dz (through (2))"
    shown = unescape(found.body)
    assert "dz = dh * (1 + tanh(z) ** 2)  # (2)" in shown
    assert found.record["line"].startswith("my_cell.py:")
    beside = derivation(asked(place, tmp_path))
    assert beside.good is False
    assert "✗" in beside.body


def test_without_a_backward_one_is_written(own_cell, tmp_path):
    place = changed(own_cell, "    backward=backward,\n", "")
    own = asked(place, tmp_path)
    assert gradients(own).record == {"derived": False}
    found = derivation(own)
    assert found.good is None
    assert "def backward(" in found.body


@pytest.mark.parametrize("cell", [*CELLS.values(), FAST_WEIGHTS], ids=lambda c: c.name)
def test_every_step_is_drawn(cell):
    drawing = step_drawing(cell)
    picture = ElementTree.fromstring(svg_of(drawing))
    texts = [text.text for text in picture.iter("text")]
    assert {node.text for node in drawing.diagram.nodes} <= set(texts)
    assert len(list(picture.iter("rect"))) == len(drawing.diagram.nodes)


# --- curves -----------------------------------------------------------------------


def test_numbers_of_an_axis():
    assert round_numbers(0.0, 1000.0) == [0, 200, 400, 600, 800, 1000]
    assert round_numbers(0.0, 0.19) == pytest.approx([0, 0.05, 0.1, 0.15])
    assert round_numbers(3.0, 3.0) == [3]
    assert powers(1e-12, 1.0) == [1, 1e-2, 1e-4, 1e-6, 1e-8, 1e-10, 1e-12]
    assert powers(0.2, 0.3) == [0.2]


def test_curves_leave_out_what_has_no_place():
    lines = [
        Curve("a<b", [0, 1, 2], [1.0, math.nan, 0.1], own=True),
        Curve("gone", [0, 1], [0.0, math.inf]),
    ]
    picture = ElementTree.fromstring(curves(lines, "steps", logarithmic=True))
    ways = [path.get("d") for path in picture.iter("path")]
    assert len(ways) == 1
    assert ways[0].count("L") == 1
    names = [t.text for t in picture.iter("text") if "name" in t.get("class")]
    assert names == ["a<b"]


def test_names_of_curves_do_not_lie_on_each_other():
    lines = [Curve(f"c{k}", [0, 1], [0.0, k / 1000]) for k in range(4)]
    picture = ElementTree.fromstring(curves(lines, "steps", {"guess": 1.0}))
    places = sorted(
        float(t.get("y")) for t in picture.iter("text") if "name" in t.get("class")
    )
    assert np.diff(places).min() >= 12


def test_nothing_finite_is_no_error():
    lines = [Curve("lost", [0, 1], [math.nan, math.inf])]
    assert curves(lines, "steps") == "<p>Nothing is finite.</p>"
    assert "width: 100.0%" in bars([("a", 2.0, ""), ("b", 1.0, "")])


# --- the flow of cells unlike those of the table ----------------------------------


@pytest.mark.jax_defaults
def test_the_flow_of_a_memory_that_is_a_matrix():
    config = FlowConfig(steps=4, batch=2, input_size=2, hidden_size=3)
    by_hand = flow_of(FAST_WEIGHTS, config)
    without = FAST_WEIGHTS._replace(backward=None, gradients=None)
    by_jax = flow_of(without, config)
    assert by_hand.keys() == by_jax.keys() == {"h", "C"}
    for name, norms in by_hand.items():
        assert np.shape(norms) == (4,)
        np.testing.assert_allclose(norms, by_jax[name], rtol=1e-4)
