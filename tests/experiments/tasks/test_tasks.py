"""Every task from end to end at a tiny size."""

import hashlib
import importlib
import json
import re
import runpy
import sys

import numpy as np
import pytest

from experiments import cell_variants, command, plots
from experiments.data import (
    Encoded,
    EncodedReviews,
    reference_manual,
)
from experiments.tasks import EXPERIMENTS, find_cells, reviews
from experiments.tasks.seeds import check
from experiments.training import read_metrics

pytestmark = pytest.mark.jax_defaults

PROGRAMS = {name: command.program(own) for name, own in EXPERIMENTS.items()}
PROGRAMS["cell_variants"] = cell_variants.PROGRAM
PRESETS = [(n, preset) for n, own in EXPERIMENTS.items() for preset in own.presets]
TINY = (
    *("--cells", "rnn_tanh", "--seeds", "2", "--steps", "4", "--evaluations", "2"),
    *("--batch-size", "4", "--hidden-size", "3"),
)
OWN = {
    "adding_problem": ("--length", "4", "--held-out", "8"),
    "characters": ("--segment", "3", "--sample", "5"),
    "copy_memory": ("--delay", "1", "--held-out", "8"),
    "reviews": ("--reviews", "16", "--words", "8"),
}


@pytest.fixture(autouse=True)
def few_reviews(monkeypatch):
    """20 reviews of 1 to 9 words to train on, and 12 others."""

    def rows(count):
        lengths = 1 + np.arange(count) % 9
        tokens = np.arange(lengths.sum(), dtype=np.int32) * 997 % 9000
        offsets = np.insert(np.cumsum(lengths), 0, 0)
        return Encoded(tokens, offsets, np.arange(count, dtype=np.int32) % 2)

    few = EncodedReviews({"train": rows(20), "validation": rows(12)}, None, {}, {})
    monkeypatch.setattr(reviews, "encoded_imdb", lambda source: few)


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_presets_are_what_the_command_line_gives(name, preset):
    experiment = EXPERIMENTS[name]
    given = command.parse(PROGRAMS[name], ["--preset", preset])
    assert given.config == experiment.presets[preset]
    check(given.config)
    names = tuple(cell.name for cell in find_cells(given.config.cells))
    assert names == given.config.cells


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_tells_what_it_is(name, capsys, monkeypatch):
    module = importlib.import_module(f"experiments.{name}")
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(module.__file__, run_name="__main__")
    assert end.value.code == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert module.__doc__.splitlines()[0][:40] in shown
    assert "--seeds" in shown
    assert "Presets: default" in shown


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_leaves_its_records(name, tmp_path, capsys):
    arguments = [*TINY, *OWN.get(name, ()), "--runs", str(tmp_path)]
    assert command.execute(PROGRAMS[name], arguments) == 0
    folder = tmp_path / name / "default"
    experiment = EXPERIMENTS[name]

    result = json.loads((folder / "rnn_tanh" / "result.json").read_text())
    values = result[f"{experiment.measure}_of_seeds"]
    assert len(values) == result["seeds"] == 2
    assert result[experiment.measure] == pytest.approx(np.mean(values))
    assert result["steps"] == 4
    assert result["gradient"] == "manual"
    assert result["interrupted"] is None
    rows = read_metrics(folder / "rnn_tanh")
    assert [(row["step"], row["seed"]) for row in rows] == [
        *((2, 0), (2, 1), (4, 0), (4, 1))
    ]
    assert all(np.isfinite(row[experiment.measure]) for row in rows)
    config = json.loads((folder / "rnn_tanh" / "config.json").read_text())
    assert config["hidden_size"] == 3

    table = (folder / "results.md").read_text()
    assert "| rnn_tanh" in table
    assert table in capsys.readouterr().out
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    if name == "characters":
        sample = (folder / "rnn_tanh" / "sample.txt").read_text()
        assert sample.count("\nThe ") == 2
        sha256 = hashlib.sha256(reference_manual().encode()).hexdigest()
        assert result["text_sha256"] == sha256

    # What is done is kept: the table is there again, and nothing was trained.
    before = (folder / "rnn_tanh" / "result.json").stat().st_mtime_ns
    assert command.execute(PROGRAMS[name], arguments) == 0
    assert (folder / "rnn_tanh" / "result.json").stat().st_mtime_ns == before
    assert table in capsys.readouterr().out


def test_a_cell_of_ones_own(own_cell, tmp_path, capsys):
    def run():
        cells = ("--cells", "rnn_tanh", f"{own_cell}:NAME")  # the last ones given count
        arguments = [*TINY, *cells, "--runs", str(tmp_path)]
        return command.execute(PROGRAMS["vowels"], arguments)

    assert run() == 0
    folder = tmp_path / "vowels" / "default"
    assert "| name" in capsys.readouterr().out
    before = json.loads((folder / "name" / "result.json").read_text())
    assert before["gradient"] == "manual"
    assert run() == 0
    assert json.loads((folder / "name" / "result.json").read_text()) == before

    # The file is another: its results are measured anew, those of others kept.
    own_cell.write_text(own_cell.read_text() + "# changed\n")
    known = (folder / "rnn_tanh" / "result.json").stat().st_mtime_ns
    assert run() == 0
    now = json.loads((folder / "name" / "result.json").read_text())
    assert now["cell_file"] != before["cell_file"]
    assert (folder / "rnn_tanh" / "result.json").stat().st_mtime_ns == known


def test_cells_are_compared_with_ones_own(own_cell, tmp_path, capsys):
    cells = ["--cells", "lstm", f"{own_cell}:NAME", "--tasks", "vowels", "--seeds", "2"]
    where = ["--steps", "2", "--runs", str(tmp_path)]
    assert command.execute(cell_variants.PROGRAM, [*cells, *where]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"\| lstm +\| .*\n\| name +\|", shown)
    folder = tmp_path / "cell_variants" / "default"
    assert (folder / "intervals.png").is_file()


def test_a_name_that_another_cell_has_is_refused(own_cell, tmp_path, capsys):
    own_cell.write_text(own_cell.read_text().replace('"name"', '"gru"'))
    given = [*TINY, "--cells", f"{own_cell}:NAME", "--runs", str(tmp_path)]
    assert command.execute(PROGRAMS["vowels"], given) == 1
    assert 'is called "gru", as another one is' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--cells", "lstn"), "cell must be one of .*'lstn'"),
        (("--steps", "5"), "steps must be a multiple of evaluations"),
        (("--seeds", "0"), "seeds must be at least 1"),
        (("--learning-rate", "0"), "learning_rate must be above 0"),
        (("--seeds", f"1{12 * '0'}"), "seeds must be at most 10000"),
        (("--batch-size", f"1{12 * '0'}"), "batch_size must be at most 1048576"),
        (("--hidden-size", f"1{12 * '0'}"), "hidden_size must be at most 65536"),
        (("--warmup", "1.5"), "warmup must be from 0 to 1"),
    ],
)
def test_what_cannot_be_run_is_told_in_a_line(arguments, told, tmp_path, capsys):
    where = ["--runs", str(tmp_path)]
    assert command.execute(PROGRAMS["vowels"], [*TINY, *where, *arguments]) == 1
    error = capsys.readouterr().err
    assert re.search(f"(?m)^error: .*{told}", error)
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--prompt", "\N{SNOWMAN}"), "not in the alphabet"),
        (("--prompt", ""), "prompt must have at least 1 letter"),
        (("--sample", "0"), "sample must be at least 1; got 0"),
        (("--temperature", "0"), "temperature must be above 0"),
    ],
)
def test_a_sample_that_cannot_be_is_refused_before_training(
    arguments, told, tmp_path, capsys
):
    given = [*TINY, *OWN["characters"], "--runs", str(tmp_path), *arguments]
    assert command.execute(PROGRAMS["characters"], given) == 1
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_other_settings_under_one_name_are_refused(tmp_path, capsys):
    given = [*TINY, "--runs", str(tmp_path)]
    assert command.execute(PROGRAMS["vowels"], given) == 0
    assert command.execute(PROGRAMS["vowels"], [*given, "--steps", "6"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "a finished run of another config: steps (4 there, 6 now)" in said
    other = [*given, "--steps", "6", "--name", "longer"]
    assert command.execute(PROGRAMS["vowels"], other) == 0
    assert not list(tmp_path.rglob("*.previous"))


def test_a_picture_that_fails_costs_nothing_but_itself(tmp_path, capsys, monkeypatch):
    def fail(path, *_):
        raise OSError(f"could not write {path}")

    monkeypatch.setattr(plots, "seed_curves", fail)
    given = [*TINY, "--runs", str(tmp_path)]
    assert command.execute(PROGRAMS["vowels"], given) == 1
    said = capsys.readouterr()
    assert "| rnn_tanh" in said.out
    assert "could not write" in said.err
    monkeypatch.undo()
    assert command.execute(PROGRAMS["vowels"], given) == 0
    assert "finished before, and kept" in " ".join(capsys.readouterr().err.split())
    assert (tmp_path / "vowels" / "default" / "curves.png").is_file()


def test_reviews_are_divided_as_they_say():
    config = reviews.Config(reviews=16, words=5, vocabulary_size=4000)
    data = reviews.load(config)
    assert [len(part.labels) for part in data] == [16, 4, 12]
    for part in data:
        assert part.tokens.shape[1] == 5
        assert part.lengths.max() == 5
        assert part.tokens.max() < 4000
    assert (data.train.tokens == 1).any()  # the unknown word
    with pytest.raises(ValueError, match="reviews: expected from 4 to 16; got 17"):
        reviews.load(reviews.Config(reviews=17))
