"""Every task from end to end at a tiny size."""

import hashlib
import importlib
import io
import json
import re
import runpy
import shutil
import sys

import jax
import numpy as np
import pytest

import lstm_jax as lj
from experiments import cell_variants, command, plots, sample, score, state_tracking
from experiments.data import (
    Encoded,
    EncodedReviews,
    ReviewTokenizer,
    reference_manual,
)
from experiments.loading import load_run
from experiments.tasks import EXPERIMENTS, characters, find_cells, reviews
from experiments.tasks.seeds import check
from experiments.training import read_metrics

pytestmark = pytest.mark.jax_defaults

PROGRAMS = {name: command.program(own) for name, own in EXPERIMENTS.items()}
PROGRAMS["cell_variants"] = cell_variants.PROGRAM
PROGRAMS["state_tracking"] = state_tracking.PROGRAM
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


SERIES = ("regression", "series")


@pytest.fixture(scope="module")
def own_series(tmp_path_factory):
    """20 series of 1 to 5 steps of two numbers, half of each class."""
    file = tmp_path_factory.mktemp("own") / "series.npz"
    xs = np.random.default_rng(0).normal(size=(20, 5, 2))
    labels = np.arange(20) % 2
    np.savez(file, xs=xs + labels[:, None, None], lengths=1 + labels, labels=labels)
    return file


@pytest.fixture(autouse=True)
def few_reviews(monkeypatch):
    """20 reviews of 1 to 9 words to train on, and 12 others."""

    def rows(count):
        lengths = 1 + np.arange(count) % 9
        tokens = np.arange(lengths.sum(), dtype=np.int32) * 997 % 9000
        offsets = np.insert(np.cumsum(lengths), 0, 0)
        return Encoded(tokens, offsets, np.arange(count, dtype=np.int32) % 2)

    words = ReviewTokenizer.train(["a word"], 10)
    splits = {"train": rows(20), "validation": rows(12)}
    few = EncodedReviews(splits, words, {}, {}, np.arange(20))
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
def test_an_experiment_leaves_its_records(name, own_series, tmp_path, capsys):
    arguments = [*TINY, *OWN.get(name, ()), "--runs", str(tmp_path)]
    arguments += ["--data", str(own_series)] if name in SERIES else []
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
        said = (folder / "rnn_tanh" / "sample.txt").read_text()
        assert said.count(" ---\n") == 2
        sha256 = hashlib.sha256(reference_manual().encode()).hexdigest()
        assert result["text_sha256"] == sha256

    assert_loads_again(experiment, folder / "rnn_tanh", result)

    # What is done is kept: the table is there again, and nothing was trained.
    before = (folder / "rnn_tanh" / "result.json").stat().st_mtime_ns
    assert command.execute(PROGRAMS[name], arguments) == 0
    assert (folder / "rnn_tanh" / "result.json").stat().st_mtime_ns == before
    assert table in capsys.readouterr().out


GIVEN = {
    "adding_problem": (np.zeros((4, 3, 2)), (3,)),
    "characters": ("The end.", ()),
    "copy_memory": (np.zeros((21, 3), int), (21, 3)),
    "digits": (np.zeros((2, 8, 8)), (2, 10)),
    "regression": (np.zeros((2, 4, 2)), (2,)),
    "reviews": ("word word", ()),
    "series": ([np.zeros((3, 2)), np.zeros((1, 2))], (2, 2)),
    "vowels": ([np.zeros((5, 12)), np.ones((7, 12))], (2, 9)),
}
"""What each experiment's networks are given, and the shape of what they say."""


def assert_loads_again(experiment, folder, result):
    """The second seed's network does on the test data what it did after training."""
    run = load_run(folder, seed=1)
    data = experiment.load(run.config)
    task = experiment.make_task(run.config, run.model, data)
    found = jax.jit(task.evaluate)(run.params, data.test)[experiment.measure]
    told = result[f"{experiment.measure}_of_seeds"][1]
    assert float(found) == pytest.approx(told, rel=1e-5)
    given, shape = GIVEN[experiment.name]
    found = run.score(given)
    if isinstance(found, list):  # probabilities by the names of classes
        found = [[own[name] for name in ("0", "1")] for own in found]
    found = np.asarray(found)
    assert found.shape == shape
    assert np.isfinite(found).all()
    with pytest.raises(ValueError, match="seed must be at most 1; got 2"):
        load_run(folder, 2)


@pytest.fixture(scope="module")
def vowels_run(tmp_path_factory):
    """The folder of a tiny run."""
    runs = tmp_path_factory.mktemp("runs")
    assert command.execute(PROGRAMS["vowels"], [*TINY, "--runs", str(runs)]) == 0
    return runs / "vowels" / "default" / "rnn_tanh"


@pytest.fixture
def runs(vowels_run, tmp_path):
    """A copy of the folder of runs that it is in, to go on with."""
    return shutil.copytree(vowels_run.parents[2], tmp_path / "runs")


def test_any_lengths_are_scored_as_one_by_one(vowels_run):
    run = load_run(vowels_run)
    series = [np.ones((n, 12)) for n in (3, 9, 1)]
    found = run.score(series)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    alone = [run.score([one])[0] for one in series]
    np.testing.assert_allclose(found, alone, rtol=1e-4)
    for told, wrong in {
        "series 1: expected the shape": [series[0], np.ones((3, 11))],
        "series 0: expected the shape": [np.ones((0, 12))],
        "series: expected at least one": [],
    }.items():
        with pytest.raises(ValueError, match=told):
            run.score(wrong)


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        ("adding_problem", np.zeros((4, 3)), r"shape \(any, any, 2\), got \(4, 3\)"),
        ("copy_memory", np.zeros((0, 3), int), r"shape \(any, any\), got \(0, 3\)"),
        ("characters", "T\N{SNOWMAN}", "not in the alphabet"),
        ("characters", "T", "letters must be at least 2"),
    ],
)
def test_what_cannot_be_scored_is_told(name, given, told):
    experiment = EXPERIMENTS[name]
    config = experiment.presets["default"]
    scorer = experiment.scorer(config, lj.LSTM, {"alphabet": "Tabc"})
    params = jax.eval_shape(scorer.init, jax.random.key(0))
    with pytest.raises(ValueError, match=told):
        scorer.score(params, given)


def test_what_cannot_be_loaded_is_told(own_cell, tmp_path, capsys):
    cells = ("--cells", f"{own_cell}:NAME")
    arguments = [*TINY, *cells, "--runs", str(tmp_path)]
    assert command.execute(PROGRAMS["vowels"], arguments) == 0
    runs = tmp_path / "vowels" / "default"
    with pytest.raises(FileNotFoundError, match=r"perhaps one of .* in it: name"):
        load_run(runs)
    assert load_run(runs / "name").model.name == "name"
    own_cell.write_text(own_cell.read_text() + "# changed\n")
    with pytest.raises(ValueError, match="NAME was changed since it was trained"):
        load_run(runs / "name")
    shutil.rmtree(runs / "name" / "params")
    with pytest.raises(FileNotFoundError, match="no run here that came to an end"):
        load_run(runs / "name")
    assert score.main([str(tmp_path), "a"]) == 1
    assert "there is no run that can be loaded" in capsys.readouterr().err


def test_runs_are_scored_on_the_command_line(vowels_run, tmp_path, capsys):
    file, run = tmp_path / "series.npy", vowels_run
    np.save(file, np.ones((2, 5, 12)))
    capsys.readouterr()
    assert score.main([str(run), str(file), "--seed", "1"]) == 0
    said = capsys.readouterr().out
    found = np.asarray(said.replace("[", " ").replace("]", " ").split(), float)
    expected = load_run(run, 1).score(np.ones((2, 5, 12)))
    np.testing.assert_allclose(found.reshape(2, 9), expected, atol=1e-4)
    file.write_bytes(b"no array")
    assert score.main([str(run), str(file)]) == 1
    assert "series.npy: not an array of NumPy" in capsys.readouterr().err


@pytest.mark.parametrize("name", SERIES)
def test_series_of_ones_own_are_learned_and_scored(name, tmp_path, capsys):
    """The class is the sign of the first number, the number the sum of all."""
    xs = np.random.default_rng(0).normal(size=(60, 4, 1))
    xs[:, 0] += np.sign(xs[:, 0])
    targets = {
        "series": np.where(xs[:, 0, 0] > 0, "up", "down"),
        "regression": 100 + 10 * xs.sum(axis=(1, 2)),
    }[name]
    file = tmp_path / "mine.npz"
    np.savez(file, xs=xs, answers=targets)
    given = ["--data", str(file), "--target", "answers", "--cells", "gru"]
    given += ["--seeds", "1", "--steps", "150", "--evaluations", "1"]
    given += ["--hidden-size", "16", "--learning-rate", "0.02"]
    given += ["--runs", str(tmp_path)]
    assert command.execute(PROGRAMS[name], given) == 0
    run = load_run(tmp_path / name / "default" / "gru")
    measure = run.result[EXPERIMENTS[name].measure]
    if name == "series":
        assert measure > 0.8
        found = [max(own, key=own.get) for own in run.score(xs)]
        assert np.mean(np.asarray(found) == targets) > 0.8
    else:
        reference = np.std(targets)
        assert measure < 0.5 * reference
        assert np.std(run.score(xs) - targets) < 0.5 * reference
    capsys.readouterr()
    assert score.main([str(tmp_path / name / "default" / "gru"), str(file)]) == 0
    said = capsys.readouterr().out
    assert len(said.replace("[", " ").replace("]", " ").split()) in (60, 120)
    source = EXPERIMENTS[name].source(run.config)
    assert source.items() <= run.result.items()
    np.savez(file, xs=-xs, answers=targets)
    assert EXPERIMENTS[name].source(run.config) != source  # so it is learned anew


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((), "expected a file of series: --data FILE.npz"),
        (("--data", "no.npz"), "No such file"),
        (("--data", "{}", "--target", "y"), "there is no array 'y', only 'xs'"),
    ],
)
def test_series_that_cannot_be_learned_are_told(
    given, told, own_series, tmp_path, capsys
):
    given = [word.format(own_series) for word in given]
    arguments = [*TINY, "--runs", str(tmp_path), *given]
    assert command.execute(PROGRAMS["series"], arguments) == 1
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_cell_of_ones_own(own_cell, runs, capsys):
    def run():
        cells = ("--cells", "rnn_tanh", f"{own_cell}:NAME")  # the last ones given count
        arguments = [*TINY, *cells, "--runs", str(runs)]
        return command.execute(PROGRAMS["vowels"], arguments)

    assert run() == 0
    folder = runs / "vowels" / "default"
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


RHYME = "How much wood would a woodchuck chuck\r\nif a woodchuck could\r\n" * 9


def test_a_text_of_ones_own_is_learned_and_sampled(tmp_path, capsys, monkeypatch):
    file = tmp_path / "rhyme.txt"
    file.write_bytes(b"\xef\xbb\xbf" + RHYME.encode())
    given = [*TINY, *OWN["characters"], "--runs", str(tmp_path)]
    assert command.execute(PROGRAMS["characters"], [*given, "--text", str(file)]) == 0
    run = tmp_path / "characters" / "default" / "rnn_tanh"
    assert (run / "sample.txt").read_text().startswith("--- rnn_tanh, seed 0 ---\nHow ")
    capsys.readouterr()
    file.unlink()  # what was trained needs it no more
    asked = [str(run), "--prompt", "wood\n", "--length", "20"]
    said = []
    for more in ([], [], ["--seed", "1"], ["--network", "1"], ["--temperature", "9"]):
        assert sample.main([*asked, *more]) == 0
        said.append(capsys.readouterr().out)
        assert said[-1].startswith("wood\n")
        assert len(said[-1]) == len("wood\n") + 20 + 1
        assert set(said[-1]) <= set(RHYME) - {"\r"}
    assert said[0] == said[1]
    assert len(set(said)) == 4
    for wrong, told in (
        (["--prompt", "x-ray"], r"not in the alphabet: \['-', 'r', 'x', 'y'\]"),
        (["--prompt", ""], "prompt must have at least 1 letter"),
        (["--length", "0"], "length must be at least 1"),
        (["--temperature", "nan"], "temperature must be above 0"),
        (["--network", "2"], "seed must be at most 1"),
    ):
        assert sample.main([*asked, *wrong]) == 1
        assert re.search(told, capsys.readouterr().err)
    stdin = io.TextIOWrapper(io.BytesIO(RHYME.encode()))
    monkeypatch.setattr("sys.stdin", stdin)
    characters.standard_input.cache_clear()
    piped = [*given, "--text", "-", "--name", "piped"]
    assert command.execute(PROGRAMS["characters"], piped) == 0
    results = [
        load_run(tmp_path / "characters" / name / "rnn_tanh").result
        for name in ("default", "piped")
    ]
    for key in ("text_sha256", "bits_per_character_of_seeds"):
        assert results[0][key] == results[1][key]


@pytest.mark.parametrize(
    ("content", "more", "told"),
    [
        (RHYME.encode(), ("--prompt", "Zoë"), r"not in the alphabet: \['Z', 'ë'\]"),
        (b"", (), "text.txt: the file is empty"),
        (RHYME.encode("utf-16"), (), "text.txt, line 1: UTF-16, expected UTF-8"),
        (
            5 * b"A short one. ",
            ("--segment", "50"),
            "too short: 58 letters to train on, and a step reads 4 times 50",
        ),
        (b"A", (), "text: expected enough of it for three parts"),
        (None, (), "No such file"),
    ],
)
def test_a_text_that_cannot_be_learned_is_told_before_training(
    content, more, told, tmp_path, capsys
):
    file = tmp_path / "text.txt"
    if content is not None:
        file.write_bytes(content)
    given = [*TINY, *OWN["characters"], "--runs", str(tmp_path), *more]
    assert command.execute(PROGRAMS["characters"], [*given, "--text", str(file)]) == 1
    assert re.search(told, capsys.readouterr().err)
    assert not (tmp_path / "characters").exists()


def test_other_settings_under_one_name_are_refused(runs, capsys):
    given = [*TINY, "--runs", str(runs)]
    assert command.execute(PROGRAMS["vowels"], [*given, "--steps", "6"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "a finished run of another config: steps (4 there, 6 now)" in said
    other = [*given, "--steps", "6", "--name", "longer"]
    assert command.execute(PROGRAMS["vowels"], other) == 0
    assert not list(runs.rglob("*.previous"))


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
