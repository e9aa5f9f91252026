"""Training with several seeds, and the table of what it found."""

import dataclasses
import json
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from experiments.data import adding_problem_baseline
from experiments.tasks import EXPERIMENTS, experiment, seeds
from experiments.training import Options, open_run, read_metrics

pytestmark = pytest.mark.jax_defaults

QUIET = Console(quiet=True)


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
        with open_run(folder, config, Options(checkpoint_every=10), QUIET) as run:
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


def test_results_of_other_data_are_not_mixed(tmp_path):
    """Cells trained on one text, then one of them on another: two tables of one."""
    both = Toy.config(cells=("lstm", "gru"), seeds=1)

    def on(text, *cells):
        toy = experiment.Experiment(
            name="toy",
            description="",
            presets={},
            load=lambda config: Toy.data,
            make_task=lambda *_: Toy.task,
            measure="squared_error",
            scorer=lambda *_: seeds.Scorer(Toy.task.init, lambda p, given: p),
            source=lambda config: {"text_sha256": text},
        )
        config = dataclasses.replace(both, cells=cells)
        experiment.run(toy, config, tmp_path, Options(), QUIET)
        experiment.report(toy, both, tmp_path)
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
    assert experiment.shown({"measure": "error", **found}) == "diverged"
    assert all(row["squared_error"] is None for row in read_metrics(tmp_path)[-3:])


def test_mean_and_deviation_by_hand():
    found = seeds.summary("error", [1.0, 2.0, 6.0, float("nan")])
    assert found["error"] == 3.0
    assert found["error_std"] == pytest.approx(np.sqrt((4 + 1 + 9) / 2))
    assert found["error_of_seeds"] == [1.0, 2.0, 6.0, None]
    shown = experiment.shown({"measure": "error", **found})
    assert shown == "3.0000 ± 2.6458 (1 diverged)"
    assert experiment.shown({"measure": "e", **seeds.summary("e", [0.5])}) == "0.5000"


def test_the_reference_is_on_the_table():
    config = EXPERIMENTS["adding_problem"].presets["default"]
    references = EXPERIMENTS["adding_problem"].references(config)
    row = {"cell": "lstm", "parameters": 1234, "steps": 5000, "seconds": 6.7}
    told = experiment.table(
        [row | {"measure": "error", "seeds": 2, **seeds.summary("error", [0.1, 0.2])}],
        references,
    )
    assert told.splitlines()[2].split("|")[1:3] == [" lstm     ", " 1,234      "]
    assert f"| always 1 |            | {adding_problem_baseline():.4f}" in told
