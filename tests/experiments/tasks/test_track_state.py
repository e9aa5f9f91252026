"""The comparison of cells that track a state: what is tested, chosen, kept and told."""

import json

import numpy as np
import pytest

from experiments import command, state_tracking
from experiments.data import NOTHING, Examples
from experiments.tasks import state_tracking as tracking
from experiments.training import read_metrics

pytestmark = pytest.mark.jax_defaults

TINY = (
    *("--cells", "rnn_tanh", "--tasks", "parity", "recall", "--seeds", "2"),
    *("--steps", "4", "--search-steps", "2", "--learning-rates", "0.001", "0.1"),
    *("--batch-size", "2", "--hidden-size", "3", "--length", "4"),
    *("--longest", "8", "--held-out", "12"),
)


@pytest.fixture
def short_chunks(monkeypatch):
    monkeypatch.setattr(tracking, "CHUNK", 2)


def run(folder, *more):
    return command.execute(
        state_tracking.PROGRAM, [*TINY, "--runs", str(folder), *more]
    )


def test_a_comparison_leaves_its_records_and_goes_on(
    short_chunks, tmp_path, capsys, monkeypatch
):
    assert run(tmp_path) == 0
    folder = tmp_path / "state_tracking" / "default"
    own = folder / "rnn_tanh"
    rows = read_metrics(own)
    kinds = [(r["task"], r["trial"], r["seed"], r["steps"]) for r in rows]
    assert kinds == [
        (task, *more)
        for task in ("parity", "recall")
        for more in [(True, 0, 2)] * 2 + [(False, 0, 4), (False, 1, 4)]
    ]
    result = json.loads((own / "result.json").read_text())
    curves = np.asarray(result["tasks"]["parity"]["curve_of_seeds"])
    assert curves.shape == (2, 4)
    assert result["gradient"] == "manual"
    table = (folder / "results.md").read_text()
    assert table in capsys.readouterr().out
    for head in ("up to 4 steps, as in training", "beyond 4 steps", "What it costs"):
        assert head in table
    assert table.count("| rnn_tanh") == 3
    assert f"{curves[:, 2:].mean(axis=1).mean():.3f} ±" in table
    for picture in ("curves.png", "training.png"):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")

    # Finished, it is kept.
    before = (own / "result.json").stat().st_mtime_ns
    assert run(tmp_path) == 0
    assert (own / "result.json").stat().st_mtime_ns == before

    # Killed while its last line was written, it trains that network alone, and comes
    # to the same numbers.
    (own / "result.json").unlink()
    whole = (own / "metrics.jsonl").read_bytes()
    (own / "metrics.jsonl").write_bytes(whole[:-20])
    learned = []
    learn = tracking.learn
    monkeypatch.setattr(
        tracking, "learn", lambda *given: learned.append(given[2]) or learn(*given)
    )
    assert run(tmp_path) == 0
    assert learned == ["recall"]
    again = [row | {"seconds": 0} for row in read_metrics(own)]
    assert again == [row | {"seconds": 0} for row in rows]


def test_the_rate_of_the_lowest_loss_is_taken():
    config = tracking.Config(tasks=("s3",), learning_rates=(1.0, 2.0, 3.0), seeds=2)
    done = {}
    losses = {1.0: 0.5, 2.0: 0.25, 3.0: None}  # the last one diverged
    for wanted in tracking.networks(config, done):
        done[wanted] = {"losses": [9.0, losses[wanted.rate]]}
    assert [wanted.rate for wanted in done] == [1.0, 2.0, 3.0, 2.0, 2.0]
    assert [wanted.trial for wanted in done] == [True] * 3 + [False] * 2


def test_points_of_a_curve():
    held = tracking.held_out("parity", 8, 16, 3)
    assert held.point.shape == (16, 3)
    assert held.point[:, 0].tolist() == [n // 4 for n in range(16)]
    held = tracking.held_out("recall", 8, 16, 12)  # 3 of each length: 4, 8, 12, 16
    assert held.point.shape == held.examples.symbols.shape == (16, 12)
    for column, length in ((0, 4), (4, 8), (11, 16)):
        asked = held.point[:, column] >= 0
        assert asked.nonzero()[0].tolist() == list(range(length // 2, length))
        assert set(held.point[asked, column]) == {length // 4 - 1}


def test_a_curve_by_hand():
    point = np.asarray([[0, 0], [-1, 1], [1, 1]])
    right = np.asarray([[1, 0], [1, 0], [1, 1]])
    assert tracking.curve(right, point) == [0.5, pytest.approx(2 / 3)]


def test_what_is_answered_without_memory():
    """Symbol 1 is followed by 5 for those learned from, and in one of two others."""
    symbols = np.asarray([[1, 1, 1, 1], [2, 2, 2, 2]])
    answers = np.asarray([[5, 5, 5, 3], [NOTHING, 0, 0, 0]])
    values = np.full_like(symbols, NOTHING)
    point = np.where(answers == NOTHING, -1, [[0], [1]])
    held = tracking.HeldOut(Examples(symbols, values, answers), point)
    assert tracking.without_memory(held) == [0.5, 1.0]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (("--tasks", "party"), "task must be one of"),
        (("--steps", "150"), "steps must be a multiple of 100; got 150"),
        (("--search-steps", "0"), "search_steps must be a multiple of 100; got 0"),
        (("--length", "6"), "length must be a multiple of 4; got 6"),
        (("--longest", "9"), "longest must be a multiple of 2; got 9"),
        (("--learning-rates", "0"), "learning_rates must be above 0"),
        (("--seeds", "0"), "seeds must be at least 1"),
    ],
)
def test_what_cannot_be_run_is_told_in_a_line(changed, told, tmp_path, capsys):
    steps = ("--steps", "100", "--search-steps", "100")
    assert run(tmp_path, *steps, *changed) == 1
    assert f"error: {told}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
