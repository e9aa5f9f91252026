"""The comparison of cells: intervals, marks, the report."""

import json

import numpy as np
import pytest

from experiments import cell_variants, command, plots
from experiments.plots import intervals
from experiments.tasks import EXPERIMENTS, seeds, variants

pytestmark = pytest.mark.jax_defaults


def result(values, measure="accuracy"):
    return {"measure": measure, "seeds": len(values), **seeds.summary(measure, values)}


def test_the_interval_by_hand():
    found = variants.interval(result([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert found.mean == 3.0
    # Student's t at 0.975 with 4 degrees of freedom is 2.776.
    assert found.half == pytest.approx(2.776445 * np.sqrt(2.5) / np.sqrt(5), rel=1e-6)
    assert (found.diverged, found.better) == (0, 1)
    lost = variants.interval(result([1.0, float("nan")], "mean_squared_error"))
    assert lost == (1.0, None, 1, -1)


def test_intervals_hold_the_mean_as_often_as_they_say():
    rng = np.random.default_rng(0)
    inside = [
        abs(found.mean) <= found.half
        for values in rng.normal(size=(2000, 4))
        for found in [variants.interval(result(values.tolist()))]
    ]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.015)


def test_a_mean_that_exploded_leaves_the_others_readable(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(intervals, "save", lambda figure, path: figures.append(figure))
    means = {"lstm": 3.0, "gru": 2.9, "rnn_tanh": 3.4, "no_output_tanh": 165.0}
    cells = {n: {"mean": m, "half": 0.1, "better": -1} for n, m in means.items()}
    plots.interval_chart(tmp_path / "a.png", list(means), "lstm", {"task": cells})
    (axes,) = figures[0].axes
    assert axes.get_xlim()[1] < 4
    assert [text.get_text() for text in axes.texts] == ["165 \N{RIGHTWARDS ARROW}"]


def test_cells_are_marked_where_intervals_do_not_meet():
    base = variants.interval(result([0.90, 0.91, 0.92]))
    for values, marked in (
        ([0.80, 0.81, 0.82], True),
        ([0.89, 0.90, 0.91], False),
        ([float("nan")] * 3, True),
    ):
        own = variants.interval(result(values))
        assert variants.apart(own, base) is marked
        table = variants.table({"vowels": {"lstm": base, "gru": own}})
        row = next(line for line in table.splitlines() if "| gru" in line)
        assert ("*" in row) is marked


def test_the_report_is_of_all_tasks_in_the_folder(tmp_path):
    variants.report(tmp_path)  # nothing is there yet
    assert not list(tmp_path.iterdir())
    values = {"lstm": [0.9, 0.91], "gru": [0.8, 0.81], "rnn_tanh": [0.9, np.nan]}
    for task, worse in {"vowels": 0.0, "digits": 0.1}.items():
        for name, accuracies in values.items():
            folder = tmp_path / task / name
            folder.mkdir(parents=True)
            content = result([a - worse for a in accuracies]) | {"interrupted": None}
            (folder / "result.json").write_text(json.dumps(content))
    (tmp_path / "digits" / "gru").rename(tmp_path / "digits" / "gru.previous")
    cut = tmp_path / "digits" / "mgu"
    cut.mkdir()
    content = result([0.5, 0.6]) | {"interrupted": "SIGINT"}
    (cut / "result.json").write_text(json.dumps(content))
    variants.report(tmp_path)
    assert (tmp_path / "results.md").read_text().splitlines() == [
        "| cell     | digits (accuracy)  | vowels (accuracy)  |",
        "|----------|--------------------|--------------------|",
        "| rnn_tanh | 0.800 (1 diverged) | 0.900 (1 diverged) |",
        "| gru      |                    | 0.805 ± 0.064      |",
        "| lstm     | 0.805 ± 0.064      | 0.905 ± 0.064      |",
    ]
    found = json.loads((tmp_path / "result.json").read_text())
    assert found["digits"]["lstm"]["mean"] == pytest.approx(0.805)
    variants.draw_comparison(variants.Config(tasks=()), tmp_path)
    assert (tmp_path / "intervals.png").read_bytes().startswith(b"\x89PNG")


def test_the_report_is_of_one_text(tmp_path):
    here = EXPERIMENTS["characters"].source(variants.TASKS["characters"][1])
    for name, source in {"lstm": here, "gru": {"text_sha256": "other"}}.items():
        folder = tmp_path / "characters" / name
        folder.mkdir(parents=True)
        content = result([2.0, 2.1], "bits_per_character") | {"interrupted": None}
        (folder / "result.json").write_text(json.dumps(content | source))
    variants.report(tmp_path)
    found = json.loads((tmp_path / "result.json").read_text())
    assert list(found["characters"]) == ["lstm"]


@pytest.mark.slow
def test_cells_are_compared(tmp_path, capsys):
    """Two runs of one name, a task each, make one comparison."""
    given = ["--cells", "rnn_relu", "rnn_tanh", "--seeds", "2", "--steps", "2"]
    for task in ("vowels", "digits"):
        where = ["--tasks", task, "--runs", str(tmp_path)]
        assert command.execute(cell_variants.PROGRAM, [*given, *where]) == 0
    folder = tmp_path / "cell_variants" / "default"
    found = json.loads((folder / "result.json").read_text())
    assert {task: set(cells) for task, cells in found.items()} == {
        "vowels": {"rnn_relu", "rnn_tanh"},
        "digits": {"rnn_relu", "rnn_tanh"},
    }
    table = (folder / "results.md").read_text()
    assert table in capsys.readouterr().out
    assert table.index("digits (accuracy)") < table.index("vowels (accuracy)")
    assert table.count("±") == 4
    assert (folder / "intervals.png").read_bytes().startswith(b"\x89PNG")
    unknown = ["--tasks", "vowel", "--runs", str(tmp_path)]
    assert command.execute(cell_variants.PROGRAM, unknown) == 1
    assert "task must be one of" in capsys.readouterr().err
