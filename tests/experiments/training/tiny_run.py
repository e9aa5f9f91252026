"""A tiny training run, for tests that start it, kill it and start it again.

Programs here are forked from one that has imported everything, so that one more costs
a fraction of a second.
"""

import multiprocessing
import os
import signal
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

import lstm_jax as lj
from experiments.data import BatchSchedule, Bucket
from experiments.training import (
    Options,
    Records,
    devices,
    fit,
    init_state,
    launch,
    make_optimizer,
    open_run,
    predict_rows,
    replicate,
)

VOCABULARY, SIZE, STEPS = 20, 4, 3


@dataclass(frozen=True)
class Config:
    """What the run follows from."""

    seed: int = 0
    epochs: int = 5
    batch_size: int = 4
    hidden_size: int = 4
    learning_rate: float = 0.05


def rows(count, seed):
    """Sequences whose label is whether their first token is odd."""
    tokens = np.random.default_rng(seed).integers(1, VOCABULARY, (count, STEPS))
    lengths = np.full(count, STEPS, np.int32)
    places = np.arange(count, dtype=np.int32)
    return Bucket(tokens.astype(np.int32), lengths, tokens[:, 0] % 2, places)


def init(hidden_size, key):
    """Draws parameters; the cell's own way takes longer to compile."""
    like = jax.eval_shape(partial(lj.LSTM.init, key, SIZE, hidden_size))
    shapes = {
        "embedding": (VOCABULARY, SIZE),
        "lstm": jax.tree.map(lambda p: p.shape, like),
        "head": (hidden_size,),
    }
    leaves, tree = jax.tree.flatten(shapes, is_leaf=lambda s: type(s) is tuple)
    keys = jax.random.split(key, len(leaves))
    return tree.unflatten(map(jax.random.normal, keys, leaves))


def logits(params, batch, keep=1.0):
    xs = params["embedding"][batch.tokens.T] * keep
    _, final = lj.unroll(lj.LSTM, params["lstm"], xs, lengths=batch.lengths)
    return final.h @ params["head"]


def loss(params, key, batch):
    shape = (*batch.tokens.T.shape, SIZE)
    found = logits(params, batch, jax.random.bernoulli(key, 0.9, shape))
    labels = batch.labels.astype(found.dtype)
    value = optax.sigmoid_binary_cross_entropy(found, labels).mean()
    return value, {"accuracy": ((found > 0) == (labels > 0)).mean()}


def first_word(params, batch):
    """A measure that compiles faster than the model."""
    return params["embedding"][batch.tokens[:, 0], 0]


def train(config, folder, options, console):
    """Trains; the folder then also holds final.npz, the leaves of the last state."""
    with open_run(folder, config, options, console) as run:
        return fit_in(run, config, folder, console)


def fit_in(run, config, folder, console):
    data, held_out = rows(80, 0), replicate(rows(20, 1))
    schedule = BatchSchedule((80,), config.batch_size, 2, config.seed)
    optimizer = make_optimizer(
        config.learning_rate, schedule.total_steps(config.epochs), weight_decay=0.01
    )

    def evaluate(params):
        found = predict_rows(first_word, params, [held_out], 20)
        right = (found > 0) == (np.asarray(held_out.labels) > 0)
        return {"accuracy": float(right.mean()), "score": float(found.mean())}

    @jax.jit
    def start(seed):
        key_params, key = jax.random.split(jax.random.key(seed))
        return init_state(init(config.hidden_size, key_params), optimizer, key)

    outcome = fit(
        run,
        start(config.seed),
        loss=loss,
        optimizer=optimizer,
        data=(data,),
        schedule=schedule,
        epochs=config.epochs,
        evaluate=evaluate,
        average_decay=0.9,
        console=console,
    )
    state = outcome.state._replace(key=jax.random.key_data(outcome.state.key))
    np.savez(folder / "final.npz", *map(np.asarray, jax.tree.leaves(state)))
    return run.finish(outcome.result())["interrupted"]


def live(folder, options, config, device_count, killed, cache):
    """The life of a program: trains as `python -m experiments.NAME` does, and exits."""
    said = os.open(f"{folder}.said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(said, 1), os.dup2(said, 2)
    # As in a terminal: the server that forks may have been started where it is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_num_cpu_devices", device_count)
    devices.HEARTBEAT_SECONDS = 3
    if killed is not None:
        kill_after(*killed)
    os._exit(launch(partial(train, config, folder, options), options))


def kill_after(count, seconds):
    """Kills this program so many seconds after it has added so many records.

    Whoever watched it from outside would come too late on a busy machine.
    """
    append, added = Records.append, []
    kill = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL))

    def counted(*arguments, **options):
        append(*arguments, **options)
        added.append(None)
        if len(added) == count:
            kill.start()

    Records.append = counted


class Programs:
    """Starts programs that train in folders, and ends those that are left.

    Attributes:
        home: where the folders are.
    """

    def __init__(self, home, cache):
        self.home = home
        self._cache = cache
        self._started = []
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__, "pytest"])

    def start(self, name, options=None, config=None, devices=1, killed=None):
        given = (self.home / name, options or Options(), config or Config(), devices)
        program = self._context.Process(target=live, args=(*given, killed, self._cache))
        program.start()
        self._started.append(program)
        return program

    def run(self, name, *given, **more):
        """Starts one, waits for its end, and returns its folder."""
        assert self.end(self.start(name, *given, **more)) == 0, self.said(name)
        return self.home / name

    def end(self, program, seconds=120):
        """Waits for the end of a program: its exit status, or -N for signal N."""
        program.join(seconds)
        assert program.exitcode is not None, "it did not end"
        return program.exitcode

    def said(self, name):
        """What the programs of this folder wrote to the terminal, all of them."""
        return (self.home / f"{name}.said").read_text("utf-8")

    def end_all(self):
        for program in self._started:
            program.kill()
            program.join()


@pytest.fixture(scope="session")
def compilation_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("compilation_cache")


@contextmanager
def programs_in(home, cache):
    """Programs, all of them ended after the test."""
    tests = Path(__file__).parents[2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            "PYTHONPATH",
            os.pathsep.join(map(str, (Path(__file__).parent, tests, tests.parent))),
        )
        found = Programs(home, cache)
        try:
            yield found
        finally:
            found.end_all()


@pytest.fixture
def programs(tmp_path, compilation_cache):
    with programs_in(tmp_path, compilation_cache) as found:
        yield found


def final(folder):
    """The leaves of a run's last state."""
    with np.load(folder / "final.npz") as arrays:
        return [arrays[name] for name in arrays]


def assert_same_run(one, other):
    """Bit for bit the same state and the same metrics."""
    for mine, theirs in zip(final(one), final(other), strict=True):
        assert mine.dtype == theirs.dtype
        assert mine.tobytes() == theirs.tobytes()
    assert (one / "metrics.jsonl").read_bytes() == (
        other / "metrics.jsonl"
    ).read_bytes()
