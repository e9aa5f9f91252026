"""The experiments from end to end at a tiny size, and what they share."""

import dataclasses
import hashlib
import importlib
import json
import re
import runpy
import signal
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from experiments import cell_variants, command, everything, plots, reviews, seeds
from experiments.data import (
    Encoded,
    EncodedReviews,
    adding_problem_baseline,
    reference_manual,
)
from experiments.training import Options, open_run, read_metrics

pytestmark = pytest.mark.jax_defaults

NAMES = ("adding_problem", "characters", "copy_memory", "digits", "reviews", "vowels")
MODULES = {name: importlib.import_module(f"experiments.{name}") for name in NAMES}
PROGRAMS = {name: command.program(m.EXPERIMENT) for name, m in MODULES.items()}
PROGRAMS["cell_variants"] = cell_variants.PROGRAM
PRESETS = [(n, preset) for n, m in MODULES.items() for preset in m.PRESETS]
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
QUIET = Console(quiet=True)


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


# --- every experiment -------------------------------------------------------------


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_presets_are_what_the_command_line_gives(name, preset):
    module = MODULES[name]
    given = command.parse(PROGRAMS[name], ["--preset", preset])
    assert given.config == module.PRESETS[preset]
    assert type(given.config) is module.Config
    seeds.check(given.config)
    for cell in given.config.cells:
        assert command.find_cell(cell).name == cell


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


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_leaves_its_records(name, tmp_path, capsys):
    arguments = [*TINY, *OWN.get(name, ()), "--runs", str(tmp_path)]
    assert command.execute(PROGRAMS[name], arguments) == 0
    folder = tmp_path / name / "default"
    experiment = MODULES[name].EXPERIMENT

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


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--cells", "lstn"), "cells: expected some of .*'lstn'"),
        (("--steps", "5"), "steps must be a multiple of evaluations"),
        (("--seeds", "0"), "seeds must be at least 1"),
        (("--learning-rate", "0"), "learning_rate must be above 0"),
    ],
)
def test_what_cannot_be_run_is_told_in_a_line(arguments, told, tmp_path, capsys):
    where = ["--runs", str(tmp_path)]
    assert command.execute(PROGRAMS["vowels"], [*TINY, *where, *arguments]) == 1
    error = capsys.readouterr().err
    assert re.search(f"(?m)^error: .*{told}", error)
    assert "Traceback" not in error


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


# --- training with several seeds --------------------------------------------------


class Toy:
    """A walk to the minimum of ‖p - target‖², its noise from the key, in few steps."""

    data = seeds.Data(*(np.full(3, goal, np.float32) for goal in (1, 1, 0)))
    task = seeds.Task(
        init=lambda key: jax.random.normal(key, (3,)),
        loss=lambda p, carry, key, target: (
            jnp.sum((p - target + 0.1 * jax.random.normal(key, (3,))) ** 2),
            carry + 1,
        ),
        evaluate=lambda p, target: {"squared_error": jnp.sum((p - target) ** 2)},
        start=lambda p: jnp.zeros((), jnp.int32),
    )

    @staticmethod
    def config(**changed):
        given = {"steps": 40, "evaluations": 4, "learning_rate": 0.1}
        return seeds.Training(**given | changed)

    @classmethod
    def train(cls, folder, show=lambda step: None, **changed):
        config = cls.config(**changed)
        run = open_run(folder, config, Options(checkpoint_every=10), QUIET)
        trained = seeds.train_seeds(cls.task, cls.data, config, run, show)
        run.finish({"interrupted": trained.interrupted})
        return trained


def test_training_reaches_the_minimum(tmp_path):
    trained = Toy.train(tmp_path, steps=400)
    np.testing.assert_allclose(trained.params, 1, atol=0.1)
    np.testing.assert_allclose(trained.test["squared_error"], 3, atol=0.5)
    assert trained.steps == 400


def test_a_seed_does_not_depend_on_how_many_there_are(tmp_path):
    one, three = (Toy.train(tmp_path / str(n), seeds=n) for n in (1, 3))
    np.testing.assert_array_equal(one.params[0], three.params[0])
    assert len({row.tobytes() for row in np.asarray(three.params)}) == 3


def test_seeds_side_by_side_are_seeds_one_after_another(tmp_path, monkeypatch):
    one = Toy.train(tmp_path / "one")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    other = Toy.train(tmp_path / "other")
    np.testing.assert_allclose(one.params, other.params, rtol=1e-5)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path, kind):
    whole = Toy.train(tmp_path / "whole")
    stop = {20: lambda: signal.raise_signal(kind)}
    first = Toy.train(tmp_path / "cut", lambda n: stop.get(n, int)())
    assert (first.interrupted, first.steps) == (kind.name, 20)
    second = Toy.train(tmp_path / "cut")
    assert (second.interrupted, second.steps) == (None, 40)
    np.testing.assert_array_equal(whole.params, second.params)
    assert whole.test == second.test
    assert read_metrics(tmp_path / "cut") == read_metrics(tmp_path / "whole")


def test_results_of_other_data_are_not_mixed(tmp_path, monkeypatch):
    """Cells trained on one text, then one of them on another: two tables of one."""
    monkeypatch.setattr(command.plots, "seed_curves", lambda *_: None)
    both = Toy.config(cells=("lstm", "gru"), seeds=1)

    def on(text, *cells):
        toy = command.Experiment(
            name="toy",
            description="",
            presets={},
            load=lambda config: Toy.data,
            make_task=lambda *_: Toy.task,
            measure="squared_error",
            source=lambda: {"text_sha256": text},
        )
        config = dataclasses.replace(both, cells=cells)
        command.run(toy, config, tmp_path, Options(), QUIET)
        command.compare(toy, both, tmp_path, toy.source())
        table = (tmp_path / "results.md").read_text()
        return [name for name in both.cells if f"| {name} " in table]

    assert on("old", "lstm", "gru") == ["lstm", "gru"]
    assert on("new", "lstm") == ["lstm"]
    assert on("old") == ["gru"]
    told = {
        name: json.loads((tmp_path / name / "result.json").read_text())["text_sha256"]
        for name in ("lstm", "lstm.previous", "gru")
    }
    assert told == {"lstm": "new", "lstm.previous": "old", "gru": "old"}


def test_what_diverges_is_told_and_not_hidden(tmp_path):
    trained = Toy.train(tmp_path, learning_rate=1e30)
    found = seeds.summary("error", trained.test["squared_error"])
    expected = {"error": None, "error_std": None, "error_of_seeds": [None] * 3}
    assert found == expected
    assert command.shown({"measure": "error", **found}) == "diverged"
    assert all(row["squared_error"] is None for row in read_metrics(tmp_path)[-3:])


def test_mean_and_deviation_by_hand():
    found = seeds.summary("error", [1.0, 2.0, 6.0, float("nan")])
    assert found["error"] == 3.0
    assert found["error_std"] == pytest.approx(np.sqrt((4 + 1 + 9) / 2))
    assert found["error_of_seeds"] == [1.0, 2.0, 6.0, None]
    shown = command.shown({"measure": "error", **found})
    assert shown == "3.0000 ± 2.6458 (1 diverged)"
    assert command.shown({"measure": "e", **seeds.summary("e", [0.5])}) == "0.5000"


# --- the comparison of cells ------------------------------------------------------


def result(values, measure="accuracy"):
    return {"measure": measure, "seeds": len(values), **seeds.summary(measure, values)}


def test_the_interval_by_hand():
    found = cell_variants.interval(result([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert found.mean == 3.0
    # Student's t at 0.975 with 4 degrees of freedom is 2.776.
    assert found.half == pytest.approx(2.776445 * np.sqrt(2.5) / np.sqrt(5), rel=1e-6)
    assert (found.diverged, found.better) == (0, 1)
    lost = cell_variants.interval(result([1.0, float("nan")], "mean_squared_error"))
    assert lost == (1.0, None, 1, -1)


def test_intervals_hold_the_mean_as_often_as_they_say():
    rng = np.random.default_rng(0)
    inside = [
        abs(found.mean) <= found.half
        for values in rng.normal(size=(2000, 4))
        for found in [cell_variants.interval(result(values.tolist()))]
    ]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.015)


def test_a_mean_that_exploded_leaves_the_others_readable(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: figures.append(figure))
    means = {"lstm": 3.0, "gru": 2.9, "rnn_tanh": 3.4, "no_output_tanh": 165.0}
    cells = {n: {"mean": m, "half": 0.1, "better": -1} for n, m in means.items()}
    plots.interval_chart(tmp_path / "a.png", list(means), "lstm", {"task": cells})
    (axes,) = figures[0].axes
    assert axes.get_xlim()[1] < 4
    assert [text.get_text() for text in axes.texts] == ["165 \N{RIGHTWARDS ARROW}"]


def test_cells_are_marked_where_intervals_do_not_meet():
    base = cell_variants.interval(result([0.90, 0.91, 0.92]))
    for values, marked in (
        ([0.80, 0.81, 0.82], True),
        ([0.89, 0.90, 0.91], False),
        ([float("nan")] * 3, True),
    ):
        own = cell_variants.interval(result(values))
        assert cell_variants.apart(own, base) is marked
        table = cell_variants.table({"vowels": {"lstm": base, "gru": own}})
        row = next(line for line in table.splitlines() if "| gru" in line)
        assert ("*" in row) is marked


def test_the_report_is_of_all_tasks_in_the_folder(tmp_path):
    cell_variants.report(tmp_path)  # nothing is there yet
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
    cell_variants.report(tmp_path)
    assert (tmp_path / "results.md").read_text().splitlines() == [
        "| cell     | digits (accuracy)  | vowels (accuracy)  |",
        "|----------|--------------------|--------------------|",
        "| rnn_tanh | 0.800 (1 diverged) | 0.900 (1 diverged) |",
        "| gru      |                    | 0.805 ± 0.064      |",
        "| lstm     | 0.805 ± 0.064      | 0.905 ± 0.064      |",
    ]
    found = json.loads((tmp_path / "result.json").read_text())
    assert found["digits"]["lstm"]["mean"] == pytest.approx(0.805)
    assert (tmp_path / "intervals.png").read_bytes().startswith(b"\x89PNG")


def test_the_report_is_of_one_text(tmp_path):
    here = MODULES["characters"].EXPERIMENT.source()
    for name, source in {"lstm": here, "gru": {"text_sha256": "other"}}.items():
        folder = tmp_path / "characters" / name
        folder.mkdir(parents=True)
        content = result([2.0, 2.1], "bits_per_character") | {"interrupted": None}
        (folder / "result.json").write_text(json.dumps(content | source))
    cell_variants.report(tmp_path)
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
    assert "tasks: expected some of" in capsys.readouterr().err


# --- all of them ------------------------------------------------------------------


@pytest.mark.parametrize(
    "job", everything.JOBS, ids=lambda job: "_".join(job.arguments)
)
def test_jobs_are_commands(job):
    module, *arguments = job.arguments
    given = command.parse(PROGRAMS[module], arguments)
    assert job.folder == f"{module}/{given.name or given.preset}"
    assert given.config.seeds >= 3


def test_jobs_are_all_experiments_and_all_tasks():
    assert {job.arguments[0] for job in everything.JOBS} >= {
        *(set(NAMES) - {"reviews"}),
        "cell_variants",
    }
    compared = [j.arguments[2] for j in everything.JOBS if "--tasks" in j.arguments]
    assert sorted(compared) == sorted(cell_variants.TASKS)


JOBS = (
    everything.Job("One", ("one",), "one/default"),
    everything.Job("Bad", ("bad",), "bad/default"),
    everything.Job("Two", ("two", "--preset", "x"), "two/x"),
)
STAND_IN = """#!/bin/sh
# Called as: -m experiments.NAME ... --runs FOLDER --resume
name=${2#experiments.}
for last; do case $before in --runs) runs=$last;; esac; before=$last; done
folder=$runs/$name/default
[ "$3" = --preset ] && folder=$runs/$name/$4
mkdir -p "$folder"
case $name in
  bad) echo 'it broke' >&2; exit 1;;
  slow) trap 'echo ended > "$folder/results.md"; exit 143' TERM
        touch "$runs/begun"; while :; do sleep 0.05; done;;
  *) echo "| table of $name $before |" > "$folder/results.md";;
esac
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A program in the place of Python, which trains nothing."""
    program = tmp_path / "python"
    program.write_text(STAND_IN)
    program.chmod(0o755)
    monkeypatch.setattr(everything.sys, "executable", str(program))


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("cores", [1, None])
def test_all_run_and_a_failure_is_told(tmp_path, capsys, cores):
    options = everything.Options(runs=tmp_path / "runs", cores=cores)
    assert everything.main(options, JOBS) == 1
    said = capsys.readouterr()
    expected = (
        "### One\n\n| table of one --resume |\n\n### Two\n\n| table of two --resume |\n"
    )
    assert said.out == expected
    assert (options.runs / "results.md").read_text() == expected
    assert "failed: bad" in said.err
    assert "it broke" in (options.runs / "logs" / "bad.txt").read_text()
    good = everything.Options(runs=tmp_path / "runs", resume=False)
    assert everything.main(good, JOBS[:1]) == 0
    assert "--no-resume" in capsys.readouterr().out


@pytest.mark.usefixtures("stand_in")
def test_a_signal_ends_what_runs_and_begins_nothing(tmp_path, capsys, monkeypatch):
    options = everything.Options(runs=tmp_path / "runs", cores=1)
    jobs = (everything.Job("Slow", ("slow",), "slow/default"), *JOBS)

    def sleep(seconds):
        if (options.runs / "begun").exists():
            signal.raise_signal(signal.SIGTERM)
            monkeypatch.undo()

    monkeypatch.setattr(everything.time, "sleep", sleep)
    assert everything.main(options, jobs) == 143
    assert (options.runs / "slow/default/results.md").read_text() == "ended\n"
    assert not (options.runs / "one").exists()


@pytest.mark.usefixtures("stand_in")
def test_a_job_has_a_core_of_its_own(tmp_path, monkeypatch):
    pinned = []
    monkeypatch.setattr(
        everything.os, "sched_setaffinity", lambda *a: pinned.append(a), raising=False
    )
    process = everything.start(JOBS[0], 3, everything.Options(runs=tmp_path))
    assert process.wait() == 0
    assert pinned == [(process.pid, {3})]


def test_the_readme_shows_every_table():
    text = (command.Path(everything.__file__).parent / "README.md").read_text("utf-8")
    for job in everything.JOBS:
        assert f"### {job.title}\n" in text


def test_the_reference_is_on_the_table():
    config = MODULES["adding_problem"].Config()
    references = MODULES["adding_problem"].EXPERIMENT.references(config)
    row = {"cell": "lstm", "parameters": 1234, "steps": 5000, "seconds": 6.7}
    told = command.table([row | result([0.1, 0.2], "error")], references)
    assert told.splitlines()[2].split("|")[1:3] == [" lstm     ", " 1,234      "]
    assert f"| always 1 |            | {adding_problem_baseline():.4f}" in told
