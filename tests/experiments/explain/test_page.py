"""The page: its numbers, its parts, where its nodes stand."""

import base64
import json
import re
from itertools import pairwise

import numpy as np
import pytest
from random_reading import HIDDEN, STEPS, random_reading, random_trace

from experiments.explain_page import case_of, write_page
from experiments.explain_page.lines import equations_of, reverse_of, rows_of
from experiments.explain_page.packing import bfloat16, relative
from experiments.pages import lay_out
from lstm_jax.cells import CELLS


def numbers(text, dtype="<f4"):
    return np.frombuffer(base64.b64decode(text), dtype)


@pytest.fixture(scope="module")
def lstm():
    return random_trace("lstm"), case_of(random_reading("lstm"), units=3)


def test_units_are_those_that_most_gradient_reaches_and_then_the_mean(lstm):
    found, case = lstm
    flow = np.abs(found.back.arriving.h).mean(axis=(0, 1))
    assert case["units"] == sorted(np.argsort(flow)[-3:])
    for loss in range(2):
        for name in ("h", "c", "i", "z_g", "c_prev", "h_prev"):
            packed = numbers(case["gradients"][loss][name]).reshape(STEPS, 4)
            d = np.asarray(found.gradients[name])[:, loss]
            np.testing.assert_allclose(packed[:, :3], d[:, case["units"]], rtol=1e-6)
            np.testing.assert_allclose(packed[:, 3], np.abs(d).mean(1), rtol=1e-6)
    # The products' features, and the input's, are no units.
    assert np.isnan(numbers(case["values"]["u"]).reshape(STEPS, 4)[:, :3]).all()
    assert np.isnan(numbers(case["values"]["x"]).reshape(STEPS, 4)[:, :3]).all()


def test_an_edge_from_a_product_carries_its_block(lstm):
    found, case = lstm
    edge = numbers(case["edges"][0]["v>z_f"]).reshape(STEPS, 4)
    expected = np.asarray(found.gradients["z_f"])[:, 0][:, case["units"]]
    np.testing.assert_allclose(edge[:, :3], expected, rtol=1e-6)


def test_lines_are_those_of_the_file_with_all_that_they_light(lstm):
    _, case = lstm
    [row] = [r for r in case["backward"] if r["code"] == "df = dc * c_prev"]
    assert row["equation"] == 5
    [target] = row["targets"]
    assert target["parts"] == [["name", "dc"], ["text", " * "], ["name", "c_prev"]]
    assert target["nodes"] == ["f", "c_prev"]
    assert target["edges"] == [["f", "c"]]
    [row] = [r for r in case["backward"] if r["code"].startswith("dc =")]
    assert row["targets"][0]["edges"] == [["c", "next step"], ["c", "a"]]
    [row] = [r for r in case["forward"] if r["code"].startswith("c =")]
    edges = row["targets"][0]["edges"]
    assert edges == [[source, "c"] for source in ("c_prev", *"ifg")]


@pytest.mark.parametrize("name", ["lstm", "mgu", "rnn_relu"])
def test_rows_say_what_stands_in_the_file(name):
    for function in (equations_of(CELLS[name]), reverse_of(CELLS[name])):
        with open(function.__code__.co_filename, encoding="utf-8") as file:
            lines = file.read().splitlines()
        rows = rows_of(function)
        assert rows[-1].code.startswith(("return", ")")) or rows[-1].code
        for number, code, _ in rows:
            assert lines[number - 1].split("#")[0].strip() == code.strip()


def test_a_mistakes_errors_are_those_of_its_reverse(lstm):
    found, case = lstm
    planted = next(m for m in case["mistakes"] if m["text"] == "dc")
    assert (planted["target"], planted["kind"]) == ("di", "factor forgotten")
    halves = numbers(planted["errors"][0]["i"], "<u2").astype("<u4") << 16
    dc, g = (np.asarray(a)[:, 0] for a in (found.gradients["c"], found.values["g"]))
    last = np.linalg.norm(dc[-1] - (dc * g)[-1]) / np.linalg.norm((dc * g)[-1])
    assert halves.view("<f4")[-1] == pytest.approx(last, rel=1 / 256)
    assert set(planted["params"][0]) == {"Wx", "Wh", "b"}
    assert "o" in planted["errors"][0]  # at the steps before


def test_mistakes_of_shape_are_left_out():
    case = case_of(random_reading("layer_norm_lstm"), units=1)
    texts = {m["text"] for m in case["mistakes"] if m["target"] == "dn"}
    assert texts == {"-(dz_c * across(params.gain_c, dz_c))", "dz_c"}


def test_what_is_off_and_what_is_not():
    right, wrong = np.ones((3, 2)), np.ones((3, 2))
    wrong[0] = 3.0
    right[1] = wrong[1] = 0.0
    right[2] = 0.0
    np.testing.assert_array_equal(relative(wrong, right), [2.0, 0.0, np.inf])
    back = numbers(bfloat16(np.array([1.0, 0.37, np.inf])), "<u2").astype("<u4") << 16
    np.testing.assert_allclose(back.view("<f4"), [1.0, 0.37, np.inf], rtol=1 / 256)


@pytest.mark.parametrize("name", ["lstm", "gru", "min_gru"])
def test_nodes_stand_below_what_they_are_made_of_and_apart(name):
    found = random_trace(name)
    edges = [(a, b) for b, sources in found.reads.items() for a in sources]
    used = {node for edge in edges for node in edge}
    places, paths = lay_out([node for node in found.values if node in used], edges)
    for (source, target), path in paths.items():
        layers = [layer for layer, _ in path]
        assert layers == list(range(places[source][0], places[target][0] + 1))
        assert path[0] == places[source]
        assert path[-1] == places[target]
    taken = [*places.values()]
    taken += [place for path in paths.values() for place in path[1:-1]]
    for (layer, one), (next_layer, other) in pairwise(sorted(taken)):
        assert layer != next_layer or other - one > 1 - 1e-9


def test_the_file_is_whole_and_asks_for_nothing(tmp_path):
    path = tmp_path / "page.html"
    readings = [random_reading("min_gru"), random_reading("rnn_relu")]
    size = write_page(path, readings, units=2)
    text = path.read_text("utf-8")
    assert size == path.stat().st_size
    assert not re.search(r"""(src|href)=["'](?!data:)|@import|url\(|\{\{""", text)
    addresses = set(re.findall(r"https?://[^\s\"']+", text))
    assert addresses == {"http://www.w3.org/2000/svg"}  # SVG's name, not a place
    data = re.search(r'(?s)id="data">(.*?)</script>', text)
    cases = json.loads(data[1])["cases"]
    assert [case["cell"] for case in cases] == ["min_gru", "rnn_relu"]
    assert cases[0]["words"][1] == "</script>"
    assert cases[0]["size"] == HIDDEN


def test_nothing_is_written_where_a_cell_cannot_be_shown(tmp_path):
    path = tmp_path / "page.html"
    readings = [random_reading("rnn_tanh"), random_reading("multiplicative_lstm")]
    with pytest.raises(ValueError, match="multiplicative_lstm"):
        write_page(path, readings)
    assert not path.exists()
