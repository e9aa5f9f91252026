"""The training loop: compiled segments, records, checkpoints, clean ends."""

import errno
import fcntl
import gc
import itertools
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from rich.console import Console

from experiments.data import BatchSchedule, Bucket
from experiments.training import (
    Checkpoints,
    Interrupts,
    Options,
    Records,
    Run,
    environment,
    fit,
    init_state,
    kept_result,
    make_optimizer,
    open_run,
    predict_rows,
    read_metrics,
    train_segment,
)
from experiments.training.checkpoints import fingerprint

pytestmark = pytest.mark.jax_defaults

SCHEDULE = BatchSchedule(sizes=(6, 10), batch_size=2, steps_per_segment=2, seed=0)
OPTIMIZER = make_optimizer(0.1, 50, warmup_steps=2, weight_decay=0.1)


def buckets(rows=16):
    """Two buckets of rows whose label is whether their first token is odd."""
    tokens = np.random.default_rng(0).integers(0, 9, (rows, 3)).astype(np.int32)
    order = np.random.default_rng(1).permutation(rows).astype(np.int32)
    labels = tokens[:, 0] % 2
    return tuple(
        Bucket(tokens[r], np.full(len(r), 3, np.int32), labels[r], r)
        for r in (order[:6], order[6:])
    )


def params():
    return {"table": jnp.zeros((9, 1)), "bias": jnp.zeros(1)}


def noisy_loss(params, key, batch):
    """Logistic regression on the first token, with noise that follows from the key."""
    logits = (params["table"][batch.tokens[:, 0]] + params["bias"])[:, 0]
    labels = batch.labels.astype(logits.dtype)
    loss = optax.sigmoid_binary_cross_entropy(logits, labels).mean()
    noise = 0.01 * jax.random.normal(key) * params["bias"].sum()
    return loss + noise, {"accuracy": ((logits > 0) == (labels > 0)).mean()}


def start():
    return init_state(params(), OPTIMIZER, jax.random.key(0))


def equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@dataclass(frozen=True)
class Config:
    seed: int = 0


def fit_in(folder, config=Config(), options=None, **other):
    """`fit` on the two buckets, with any argument replaced."""
    quiet = Console(quiet=True)
    arguments = {
        "loss": noisy_loss,
        "optimizer": OPTIMIZER,
        "data": buckets(),
        "schedule": SCHEDULE,
        "epochs": 2,
        "evaluate": lambda _: {"accuracy": 0.5, "loss": 0.7},
        "average_decay": 0.5,
        "console": quiet,
    }
    with open_run(folder, config, options, quiet) as opened:
        outcome = fit(opened, start(), **arguments | other)
        opened.finish(outcome.result())
    return outcome


@pytest.fixture
def run(tmp_path):
    """`fit_in` a folder of this name."""
    return lambda name="", *given, **other: fit_in(tmp_path / name, *given, **other)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder and the outcome of a run that was never interrupted."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return folder, fit_in(folder)


@pytest.fixture
def finished(whole, tmp_path):
    """A copy of its folder, to go wrong."""
    return shutil.copytree(whole[0], tmp_path / "finished")


@pytest.fixture
def stop_after(monkeypatch):
    """Sends SIGTERM once after so many lines."""

    def stop_after(lines):
        append = Records.append

        def interrupting(self, rows):
            append(self, rows)
            if len(read_metrics(self.folder)) == lines:
                monkeypatch.setattr(Records, "append", append)
                os.kill(os.getpid(), signal.SIGTERM)

        monkeypatch.setattr(Records, "append", interrupting)

    return stop_after


# --- steps ------------------------------------------------------------------------


def test_steps_do_not_depend_on_how_they_are_grouped():
    indices = np.asarray([[0, 1], [2, 3], [4, 5], [1, 4]], np.int32)
    data = jax.device_put(buckets()[0])
    step = partial(train_segment, noisy_loss, OPTIMIZER, 0.9)
    whole, losses = step(start(), data, indices)
    half, first = step(start(), data, indices[:2])
    half, second = step(half, data, indices[2:])
    equal((whole.params, whole.average), (half.params, half.average))
    equal(losses["loss"], jnp.concatenate([first["loss"], second["loss"]]))
    assert int(whole.step) == 4
    # The learning rate of the first step is 0.
    assert len(set(losses["loss"].tolist())) == 3


def test_a_segment_is_the_optimizer_applied_step_by_step():
    data = jax.device_put(buckets()[0])
    indices = np.asarray([[0, 1], [2, 3], [4, 5]], np.int32)
    found, measures = train_segment(noisy_loss, OPTIMIZER, 0.9, start(), data, indices)
    state = start()
    expected, average, opt_state = state.params, state.average, state.opt_state

    @jax.jit
    def step(params, opt_state, n, batch):
        key = jax.random.fold_in(state.key, n)
        gradient, _ = jax.grad(noisy_loss, has_aux=True)(params, key, batch)
        updates, opt_state = OPTIMIZER.update(gradient, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, gradient

    for n, rows in enumerate(indices):
        batch = jax.tree.map(lambda a, r=rows: np.asarray(a)[r], data)
        expected, opt_state, gradient = step(expected, opt_state, n, batch)
        squares = [(np.asarray(g) ** 2).sum() for g in jax.tree.leaves(gradient)]
        norm = np.sqrt(sum(squares))
        assert measures["gradient_norm"][n] == pytest.approx(norm, rel=1e-5)
        keep = min(0.9, (1 + n) / (10 + n))
        average = jax.tree.map(
            lambda a, p, k=keep: k * np.asarray(a) + (1 - k) * np.asarray(p),
            average,
            expected,
        )
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, (found.params, found.average), (expected, average))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_step_keeps_dtypes_where_64_bits_are_on(dtype):
    with jax.enable_x64(True):
        drawn = jax.tree.map(lambda p: p.astype(dtype), params())
        state = init_state(drawn, OPTIMIZER, jax.random.key(0))
        before = jax.tree.map(lambda a: a.dtype, state)
        data = jax.device_put(buckets()[0])
        indices = np.asarray([[0, 1]], np.int32)
        after, _ = train_segment(noisy_loss, OPTIMIZER, 0.9, state, data, indices)
    assert jax.tree.map(lambda a: a.dtype, after) == before


def test_decay_shrinks_weights_and_leaves_biases():
    optimizer = make_optimizer(0.1, 10, weight_decay=0.5)
    start = {"weight": np.full((2, 2), 2.0), "bias": np.full(2, 2.0)}
    zero = jax.tree.map(np.zeros_like, start)
    update = jax.jit(lambda zero, p: optimizer.update(zero, optimizer.init(p), p)[0])
    updates = update(zero, start)
    np.testing.assert_allclose(updates["weight"], -0.1 * 0.5 * 2.0, rtol=1e-6)
    np.testing.assert_array_equal(updates["bias"], 0.0)


def test_the_learning_rate_rises_and_falls_to_zero():
    optimizer = make_optimizer(1.0, 10, warmup_steps=4, clip_norm=1e9)
    value = {"w": jnp.zeros(())}
    state = optimizer.init(value)
    sizes = []
    step = jax.jit(optimizer.update)
    for _ in range(11):
        update, state = step({"w": np.ones(())}, state, value)
        sizes.append(-float(update["w"]))  # Adam's step for a constant gradient is 1
    assert sizes[:5] == pytest.approx([0, 0.25, 0.5, 0.75, 1.0], abs=1e-3)
    assert sizes[10] == pytest.approx(0.0, abs=1e-6)
    assert all(a > b for a, b in itertools.pairwise(sizes[4:]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight_decay": float("nan")}, "weight_decay must be at least 0; got nan"),
        ({"warmup_steps": 10}, "warmup_steps must be from 0 to total_steps"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0; got 0.0"),
        ({"clip_norm": -1.0}, "clip_norm must be above 0; got -1.0"),
    ],
)
def test_an_optimizer_of_numbers_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_optimizer(**{"learning_rate": 0.1, "total_steps": 10} | arguments)


@pytest.mark.parametrize("batch_size", [1, 4, 7, 100])
def test_every_row_is_predicted_once_and_in_its_place(batch_size):
    data = buckets()
    found = predict_rows(first_token, jnp.float32(0.5), data, batch_size)
    expected = np.empty(16)
    for bucket in data:
        expected[bucket.rows] = bucket.tokens[:, 0] + 0.5
    np.testing.assert_array_equal(found, expected)


def first_token(offset, batch):
    return batch.tokens[:, 0] + offset


# --- the loop ---------------------------------------------------------------------


def test_every_step_and_evaluation_is_recorded(run, tmp_path):
    outcome = run()
    rows = read_metrics(tmp_path)
    steps = [row for row in rows if row["kind"] == "step"]
    total = SCHEDULE.total_steps(2)
    assert [row["step"] for row in steps] == list(range(1, total + 1))
    assert {frozenset(row) for row in steps} == {
        frozenset({"kind", "epoch", "step", "loss", "gradient_norm", "accuracy"})
    }
    evaluations = [row for row in rows if row["kind"] == "evaluation"]
    assert [row["epoch"] for row in evaluations] == [1, 2]
    assert evaluations[0]["step"] == SCHEDULE.total_steps(1)
    assert int(outcome.state.step) == total
    assert outcome.interrupted is None
    assert outcome.steps_per_second > 0
    assert np.mean([r["loss"] for r in steps[-5:]]) < steps[0]["loss"]


@pytest.mark.parametrize(
    ("accuracies", "best"), [((0.7, 0.6), 1), ((0.6, 0.7), 2), ((0.6, 0.6), 1)]
)
def test_the_best_epoch_is_kept(run, tmp_path, accuracies, best):
    seen = []

    def evaluate(params):
        seen.append(jax.device_get(params))
        return {"accuracy": accuracies[len(seen) - 1], "loss": 0.0}

    outcome = run(evaluate=evaluate)
    assert outcome.best["epoch"] == best
    assert outcome.best["accuracy"] == max(accuracies)
    equal(Checkpoints(tmp_path / "best").restore(params()), seen[best - 1])


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_training_with_a_checkpoint(run, tmp_path, kind, monkeypatch):
    append = Records.append

    def interrupting(self, rows):
        append(self, rows)
        if len(read_metrics(tmp_path)) == 2:
            os.kill(os.getpid(), kind)

    monkeypatch.setattr(Records, "append", interrupting)
    before = signal.getsignal(kind)
    outcome = run()
    assert outcome.interrupted == kind.name
    assert outcome.best is outcome.params is None
    assert int(outcome.state.step) == 2
    assert [row["kind"] for row in read_metrics(tmp_path)] == ["step", "step"]
    assert Checkpoints(tmp_path / "states").step == 2
    assert signal.getsignal(kind) == before


def test_a_second_signal_does_what_it_did_before():
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.received == "SIGINT"
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)

    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt):
        twice()


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_is_ignored_stays_ignored(kind):
    """As of a program that nohup started, or a shell in the background."""
    signal.signal(kind, signal.SIG_IGN)
    with Interrupts() as interrupts:
        os.kill(os.getpid(), kind)
    assert interrupts.received is None
    assert signal.getsignal(kind) == signal.SIG_IGN


def test_a_loss_that_is_not_finite_ends_training(run, tmp_path):
    def bad_loss(params, key, batch):
        loss, measures = noisy_loss(params, key, batch)
        return loss / (jnp.abs(params["bias"]).sum() == 0), measures

    with pytest.raises(FloatingPointError, match="the loss of step 3 is inf"):
        run(loss=bad_loss)
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2]


# --- TensorBoard ------------------------------------------------------------------


def scalars(folder):
    """What event files tell: (name, step, value)."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for file in sorted(folder.iterdir()):
        content, place = file.read_bytes(), 0
        while place < len(content):
            size = int.from_bytes(content[place : place + 8], "little")
            event = Event.FromString(content[place + 12 : place + 12 + size])
            place += size + 16
            found += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
    return found


def test_event_files_say_what_the_lines_say(run, tmp_path, stop_after):
    pytest.importorskip("tensorboardX")
    stop_after(6)
    run("begun")
    old = tmp_path / "begun" / "tensorboard" / "old"
    old.mkdir(parents=True)
    run("begun", options=Options(tensorboard=True))  # of the first life too
    assert not old.exists()
    rows = read_metrics(tmp_path / "begun")
    expected = {
        (f"{row['kind']}/{name}", row["step"], np.float32(value))
        for row in rows
        for name, value in row.items()
        if name not in ("kind", "epoch", "step")
    }
    found = scalars(tmp_path / "begun" / "tensorboard")
    assert len(found) == len(expected)
    assert set(found) == expected


def test_without_the_package_it_is_said_before_anything_is_done(
    run, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ModuleNotFoundError, match=r"tensorboardX.*\.\[tensorboard"):
        run("none", options=Options(tensorboard=True))
    assert not (tmp_path / "none").exists()


# --- resuming ---------------------------------------------------------------------


OFTEN = Options(checkpoint_every=2)


@pytest.fixture
def begun(run, tmp_path, stop_after):
    """An interrupted run, with checkpoints of the steps 4 and 6."""
    stop_after(6)
    assert run("begun", options=OFTEN).interrupted == "SIGTERM"
    folder = tmp_path / "begun"
    assert Checkpoints(folder / "states").steps == [6, 4]
    return folder


@pytest.fixture
def goes_on(run, whole, tmp_path):
    """Runs again and compares with a run that was never interrupted."""

    def goes_on():
        found, (folder, expected) = run("begun"), whole
        key = jax.random.key_data
        equal(
            found.state._replace(key=key(found.state.key)),
            expected.state._replace(key=key(expected.state.key)),
        )
        equal(found.params, expected.params)
        assert found.best == expected.best
        one, other = (f / "metrics.jsonl" for f in (tmp_path / "begun", folder))
        assert one.read_bytes() == other.read_bytes()

    return goes_on


def flipped(folder):
    """One bit in the middle of the largest file, where the numbers are."""
    file = max(folder.rglob("*"), key=lambda f: f.is_file() and f.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def halved(folder):
    """Every file of the arrays as a full disk or a power cut may leave it."""
    for file in (folder / "tree").rglob("*"):
        if file.is_file():
            os.truncate(file, file.stat().st_size // 2)


def emptied(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def without_note(folder):
    next((folder / "note").glob("metadata")).write_text("{")


@pytest.mark.parametrize("damage", [flipped, halved, emptied, without_note])
def test_a_damaged_checkpoint_is_passed_over(begun, goes_on, damage):
    damage(begun / "states" / "6")
    with pytest.warns(UserWarning, match=r"passed over: .*begun.*step 6"):
        goes_on()
    assert (begun / "states" / "damaged-6").is_dir()


def test_a_checkpoint_half_written_by_a_kill_is_no_matter(begun, goes_on):
    states = begun / "states"
    shutil.copytree(states / "6", states / "8.orbax-checkpoint-tmp")
    goes_on()


def test_no_sound_checkpoint_at_all(begun, run):
    for step in (4, 6):
        flipped(begun / "states" / str(step))
    with pytest.raises(ValueError, match="no checkpoint can be read; --no-resume"):
        run("begun")
    assert int(run("begun", options=Options(resume=False)).state.step) > 6
    assert (begun.parent / "begun.previous" / "states" / "6").is_dir()


def test_another_config_is_refused_and_its_fields_are_named(begun, run):
    differs = r"another config: seed \(0 there, 1 now\)\. Choose another --name"
    with pytest.raises(ValueError, match=differs):
        run("begun", Config(seed=1))
    assert json.loads((begun / "config.json").read_text()) == {"seed": 0}
    # Nor is it continued where config.json was edited to agree.
    (begun / "config.json").write_text('{"seed": 1}')
    with pytest.raises(ValueError, match=differs):
        run("begun", Config(seed=1))


def test_a_finished_run_is_kept_beside_the_next_where_that_is_asked_for(run, finished):
    with pytest.raises(ValueError, match="a finished run of another config: seed"):
        run("finished", Config(seed=1))
    with pytest.raises(ValueError, match="the finished run here is kept; --no-resume"):
        run("finished")
    previous = finished.with_name("finished.previous")
    assert not previous.exists()
    run("finished", Config(seed=1), Options(resume=False), epochs=1)
    assert json.loads((finished / "config.json").read_text()) == {"seed": 1}
    assert json.loads((previous / "config.json").read_text()) == {"seed": 0}


def test_the_result_of_a_finished_run_is_kept_and_told(run, begun, tmp_path, capsys):
    def kept(folder, config=Config(), options=None, data=MappingProxyType({})):
        console = Console(width=200)
        return kept_result(folder, config, options or Options(), console, data)

    assert kept(tmp_path / "nothing") is kept(begun) is None
    run("begun")
    assert kept(begun)["steps"] == SCHEDULE.total_steps(2)
    assert "begun: finished before, and kept; --no-resume" in capsys.readouterr().out
    assert kept(begun, options=Options(resume=False)) is None
    assert kept(begun, data={"sha256": "of others"}) is None
    with pytest.raises(ValueError, match="a finished run of another config"):
        kept(begun, Config(seed=1))


def test_a_run_that_ended_before_its_first_step_is_in_nobodys_way(run, tmp_path):
    def fail(params, key, batch):
        raise ValueError("too large")

    with pytest.raises(ValueError, match="too large"):
        run("stillborn", loss=fail)
    run("stillborn", Config(seed=1), epochs=1)
    assert [path.name for path in tmp_path.iterdir()] == ["stillborn"]


@pytest.mark.parametrize("record", ["config", "result"])
@pytest.mark.parametrize("content", [b"", b'{"seed"', b"[]", b"\xff", b"{}"])
def test_broken_records_are_named_and_can_be_replaced(run, finished, record, content):
    (finished / f"{record}.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"finished(/\w+\.json)?: "):
        run("finished")
    run("finished", options=Options(resume=False), epochs=1)
    before = finished.with_name("finished.previous") / f"{record}.json"
    assert before.read_bytes() == content


def test_a_run_whose_config_is_gone_is_set_aside(run, finished):
    (finished / "config.json").unlink()
    run("finished", epochs=1)
    assert (finished.with_name("finished.previous") / "result.json").exists()


def test_two_processes_do_not_train_in_one_folder(tmp_path):
    quiet = Console(quiet=True)
    with open_run(tmp_path / "run", Config(), console=quiet):
        holder = rf"process {os.getpid()} on {socket.gethostname()} is training here"
        with (
            pytest.raises(BlockingIOError, match=holder),
            open_run(tmp_path / "run", Config(), console=quiet),
        ):
            pass
        with open_run(tmp_path / "other", Config(), console=quiet):
            pass
    with open_run(tmp_path / "run", Config(), console=quiet):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other", "run"]


def test_the_lock_of_a_process_that_was_killed_is_no_lock(tmp_path):
    (tmp_path / ".run.lock").write_text("process 1 on elsewhere, and a long name")
    with open_run(tmp_path / "run", Config(), console=Console(quiet=True)):
        said = (tmp_path / ".run.lock").read_text()
    assert said == f"process {os.getpid()} on {socket.gethostname()}"


def test_a_file_system_without_locks_locks_nothing(tmp_path, monkeypatch):
    def unknown(*_):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unknown)
    with open_run(tmp_path / "run", Config(), console=Console(quiet=True)):
        pass


def test_a_full_disk_is_told_and_the_run_goes_on_later(
    run, goes_on, tmp_path, monkeypatch
):
    save = ocp.CheckpointManager.save

    def full(self, step, **arguments):
        if "states" in str(self.directory) and step == 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        return save(self, step, **arguments)

    monkeypatch.setattr(ocp.CheckpointManager, "save", full)
    with pytest.raises(OSError, match=r"No space left.*Step 4 is kept") as caught:
        run("begun", options=OFTEN)
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.setattr(ocp.CheckpointManager, "save", save)
    goes_on()


def test_lines_that_were_lost_are_an_error(begun, run):
    os.truncate(begun / "metrics.jsonl", 10)
    with pytest.raises(ValueError, match="lines were lost"):
        run("begun")


def test_a_best_that_is_yet_to_come_is_taken_back(run, tmp_path, monkeypatch, goes_on):
    """A kill between the two: the best of epoch 1 is kept, and the state is older."""
    save = Run.save

    def killed(self, snapshot):
        if snapshot.progress.best:
            raise KeyboardInterrupt
        save(self, snapshot)

    monkeypatch.setattr(Run, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        run("begun", options=Options(checkpoint_every=4))
    monkeypatch.setattr(Run, "save", save)
    best = Checkpoints(tmp_path / "begun" / "best")
    first = SCHEDULE.total_steps(1)
    assert best.step == first > Checkpoints(tmp_path / "begun" / "states").step

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "append", stopped)
    with pytest.raises(KeyboardInterrupt):
        run("begun")
    assert best.step is None
    monkeypatch.undo()
    goes_on()


def test_an_interval_that_cannot_be(run):
    with pytest.raises(ValueError, match="checkpoint_every must be at least 1; got 0"):
        run(options=Options(checkpoint_every=0))


# --- records and checkpoints ------------------------------------------------------


@contextmanager
def full_disk(size):
    """No file may grow beyond so many bytes: real writes fail, with EFBIG."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_lines_are_added_all_or_none(tmp_path):
    records = Records(tmp_path)
    records.append([{"step": 1}])
    with full_disk(100), pytest.raises(OSError, match=r"could not write .*metrics"):
        records.append([{"step": n} for n in range(2, 100)])
    assert read_metrics(tmp_path) == [{"step": 1}]
    records.append([{"step": 2}])
    assert read_metrics(tmp_path) == [{"step": 1}, {"step": 2}]


def test_a_record_is_replaced_whole_or_not_at_all(tmp_path):
    records = Records(tmp_path)
    records.write("result", {"accuracy": 0.5})
    with full_disk(100), pytest.raises(OSError, match=r"could not write .*result"):
        records.write("result", {"accuracy": [0.5] * 100})
    assert json.loads((tmp_path / "result.json").read_text()) == {"accuracy": 0.5}
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


TREE = {"table": np.arange(6.0, dtype=np.float32).reshape(2, 3), "step": np.int32(4)}


def test_a_checkpoint_comes_back_and_replaces_the_one_before(tmp_path):
    checkpoints = Checkpoints(tmp_path / "best")
    assert checkpoints.step is None
    for step in (3, 7):
        tree = TREE | {"table": TREE["table"] + step}
        checkpoints.save(step, jax.tree.map(jnp.asarray, tree))
        assert checkpoints.step == step
        equal(checkpoints.restore(jax.tree.map(jnp.asarray, TREE)), tree)


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path):
    checkpoints = Checkpoints(tmp_path / "best")
    tree = {"table": jax.random.normal(jax.random.key(0), (300, 100))}
    checkpoints.save(1, tree)
    bigger = {"table": tree["table"] + 1}
    with full_disk(20_000), pytest.raises(OSError, match="Step 1 is kept") as caught:
        checkpoints.save(2, bigger)
    assert caught.value.errno in (errno.EFBIG, errno.EIO)
    assert checkpoints.step == 1
    equal(checkpoints.restore(tree), tree)
    checkpoints.save(2, bigger)
    equal(checkpoints.restore(tree), bigger)


# Orbax leaves a coroutine behind that nobody awaits.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_no_checkpoint_and_one_of_another_tree(tmp_path):
    checkpoints = Checkpoints(tmp_path / "best")
    tree = jax.tree.map(jnp.asarray, TREE)
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        checkpoints.restore(tree)
    checkpoints.save(1, tree)
    for other in (
        tree | {"table": jnp.zeros((2, 4))},
        {"other": tree["table"], "step": tree["step"]},
    ):
        with pytest.raises(ValueError, match="cannot restore step 1"):
            checkpoints.restore(other)
    gc.collect()


@pytest.mark.parametrize(
    "leaf",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.arange(6, dtype=jnp.bfloat16),
        np.arange(5, dtype=np.int8),
        np.float32(3),
        np.asarray([True, False]),
    ],
    ids=lambda leaf: str(leaf.dtype),
)
def test_a_fingerprint_changes_with_every_bit(leaf):
    before = fingerprint({"a": leaf})
    words = np.frombuffer(leaf.tobytes(), np.uint8)
    bits = [0] if leaf.dtype == bool else range(8)
    for place, bit in itertools.product(range(words.size), bits):
        other = words.copy()
        other[place] ^= 1 << bit
        changed = np.frombuffer(other.tobytes(), leaf.dtype).reshape(leaf.shape)
        assert fingerprint({"a": changed}) != before, (place, bit)


def test_numbers_that_changed_on_the_disk_are_not_restored(tmp_path):
    """Small arrays lie where orbax has checksums of its own; large ones do not."""
    checkpoints = Checkpoints(tmp_path / "best")
    tree = {"table": jax.random.normal(jax.random.key(0), (300, 100))}
    checkpoints.save(1, tree)
    equal(checkpoints.restore(tree), tree)
    flipped(tmp_path / "best" / "1")
    with pytest.raises(ValueError, match="not those that were written"):
        checkpoints.restore(tree)


def test_a_step_that_is_not_later_is_refused(tmp_path):
    checkpoints = Checkpoints(tmp_path / "best", keep=2)
    checkpoints.save(2, TREE)
    with pytest.raises(ValueError, match="step 1 is not after 2"):
        checkpoints.save(1, TREE)


def test_a_line_that_is_broken_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n{"st\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2: not JSON"):
        read_metrics(tmp_path)


def test_a_line_cut_off_by_a_kill_is_left_out(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"st')
    assert read_metrics(tmp_path) == [{"step": 1}]


def test_the_environment_is_ready_for_json():
    found = json.loads(json.dumps(environment()))
    assert found["versions"]["jax"] == jax.__version__
    assert found["device"].startswith("cpu")


def test_whoever_reads_may_stop_reading():
    """`| head` ends a command without a word, as it ends those of the system."""
    endless = "from experiments.training import launch; import sys\n" + (
        "sys.exit(launch(lambda console: [print(n) for n in range(10**6)] and None))"
    )
    command = [sys.executable, "-c", endless]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "0\n"
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(60) == 141
