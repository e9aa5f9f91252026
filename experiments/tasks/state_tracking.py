"""What are gates for? Cells that track a state, trained short and tested longer.

Every cell learns each task of `experiments.data.state_tracking` from sequences of some
length, new ones in every step, and is then measured on longer ones. Nothing but the
cell differs: of a few learning rates each task and cell gets the one with which a short
training of another seed came to the lowest loss. All tasks have one shape, so a cell is
compiled once. A training step's processor time stands beside the accuracies.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from rich.console import Console

from experiments import plots
from experiments.cell_source import cell_source
from experiments.checks import at_least
from experiments.confidence import half_width
from experiments.data import (
    ANSWERS,
    NOTHING,
    STATE_TASKS,
    SYMBOLS,
    VALUES,
    Examples,
    encoded,
)
from experiments.tables import markdown
from experiments.tasks.cells import find_cells, in_order
from experiments.tasks.networks import (
    Network,
    answer,
    gradient_of,
    init_network,
    read,
)
from experiments.timing import processor_seconds
from experiments.training import (
    Interrupts,
    Options,
    Records,
    Run,
    kept_result,
    open_run,
    progress_bar,
    read_metrics,
)
from lstm_jax.cell import Cell
from lstm_jax.engine.checks import check_choice
from lstm_jax.files import write_whole

CELLS = (
    *("rnn_tanh", "rnn_relu", "indrnn"),
    *("min_gru", "signed_min_gru", "min_lstm", "rg_lru"),
    *("gru", "lstm", "slstm", "mlstm"),
)
"""A cell of each kind."""


@dataclass(frozen=True)
class Config:
    """What a comparison follows from.

    Attributes:
        cells: names, and your own as ``module:NAME`` or ``file.py:NAME``. Several runs
            with one --name, each with some of the cells, make one comparison.
        tasks: names of `experiments.data.STATE_TASKS`.
        seeds: train with the seeds 0, 1, ..., so many.
        steps: updates of the parameters, a multiple of 100.
        learning_rates: those that are tried, each at its highest in a training.
        search_steps: updates in each of these trials, a multiple of 100.
        batch_size: sequences a step.
        hidden_size: H.
        length: the steps of a sequence in training, a multiple of 4.
        longest: the steps of a sequence in testing, a multiple of half of `length`.
        held_out: sequences that are tested.
    """

    cells: tuple[str, ...] = CELLS
    tasks: tuple[str, ...] = tuple(STATE_TASKS)
    seeds: int = 5
    steps: int = 3000
    learning_rates: tuple[float, ...] = (3e-3, 1e-2, 3e-2)
    search_steps: int = 600
    batch_size: int = 32
    hidden_size: int = 32
    length: int = 32
    longest: int = 256
    held_out: int = 256


PRESETS = MappingProxyType(
    {
        "default": Config(),
        "quick": Config(seeds=2, steps=300, search_steps=100, tasks=("parity", "s3")),
    }
)

CHUNK = 100
"""Updates in one call of a compiled program."""

WARMUP = 0.1
"""The share of a training in which the learning rate rises; then it falls to 0."""

OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())

MANY = 1024
"""Sequences from which it is learned what can be answered without memory."""

HELD_OUT_KEY, TRIAL_KEY = 2**31, 2**30
"""No seed's: tests and trials are of other sequences."""


def check(config: Config) -> None:
    """Raises ValueError or TypeError where a config cannot be run."""
    for name in config.tasks:
        check_choice("task", name, tuple(STATE_TASKS))
    counts = ("seeds", "batch_size", "hidden_size", "held_out", "length", "longest")
    at_least(1, **{name: getattr(config, name) for name in counts})
    window = config.length // 2
    multiples = {
        "steps": CHUNK,
        "search_steps": CHUNK,
        "length": 4,
        "longest": window,
    }
    for name, divisor in multiples.items():
        if getattr(config, name) % divisor or not getattr(config, name):
            raise ValueError(
                f"{name} must be a multiple of {divisor}; got {getattr(config, name)}"
            )
    if not config.learning_rates or not min(config.learning_rates) > 0:
        raise ValueError(
            f"learning_rates must be above 0, one at least; got {config.learning_rates}"
        )


# --- the programs: one of each for a cell --------------------------------------------


def loss(network: Network, cell: Cell, examples: Examples) -> Array:
    """The mean cross-entropy of all that is asked."""
    outputs, _ = read(cell, network, encoded(examples))
    scores, asked = answer(network, outputs), examples.answers != NOTHING
    losses = optax.softmax_cross_entropy_with_integer_labels(
        scores, jnp.where(asked, examples.answers, 0)
    )
    return jnp.sum(losses, where=asked) / jnp.sum(asked)


@partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
def train(
    cell: Cell, network: Network, opt_state: Any, batches: Examples, rates: Array
) -> tuple[Network, Any, Array]:
    """An update for each of the batches, with its learning rate; and the mean loss."""

    def update(
        carry: tuple[Network, Any], given: tuple[Examples, Array]
    ) -> tuple[tuple[Network, Any], Array]:
        (network, opt_state), (batch, rate) = carry, given
        value, gradients = jax.value_and_grad(loss)(network, cell, batch)
        steps, opt_state = OPTIMIZER.update(gradients, opt_state)
        network = jax.tree.map(lambda p, s: p - rate * s, network, steps)
        return (network, opt_state), value

    carry, losses = lax.scan(update, (network, opt_state), (batches, rates))
    return *carry, losses.mean()


@partial(jax.jit, static_argnums=0)
def answered(cell: Cell, network: Network, examples: Examples) -> Array:
    """What a network answers after every step, (T, B)."""
    outputs, _ = read(cell, network, encoded(examples))
    return answer(network, outputs).argmax(axis=-1)


@partial(jax.jit, static_argnums=(0, 1))
def start(cell: Cell, hidden_size: int, key: Array) -> tuple[Network, Any]:
    """A network, and the optimizer's state before the first step."""
    network = init_network(cell, SYMBOLS + VALUES, hidden_size, ANSWERS, key)
    return network, OPTIMIZER.init(network)


@partial(jax.jit, static_argnums=(0, 3, 4))
def drawn(
    task: str, key: Array, first: Array, length: int, batch_size: int
) -> Examples:
    """The batches of the steps from `first` on, a chunk of them."""
    keys = jax.vmap(partial(jax.random.fold_in, key))(first + jnp.arange(CHUNK))
    return jax.vmap(lambda key: STATE_TASKS[task](key, length, batch_size))(keys)


def schedule(rate: float, steps: int) -> np.ndarray:
    """The learning rate of every step: a rise, and a cosine that ends at 0."""
    shape = optax.warmup_cosine_decay_schedule(0.0, rate, int(WARMUP * steps), steps)
    return np.asarray(shape(jnp.arange(steps)), np.float32)


# --- one network ---------------------------------------------------------------------


class Learned(NamedTuple):
    """A network that was trained.

    Attributes:
        network: its parameters.
        losses: the mean loss of every `CHUNK` steps, each of sequences that it had not
            seen before.
        seconds: a training step's processor time, the median over chunks.
    """

    network: Network
    losses: list[float]
    seconds: float


def learn(
    cell: Cell,
    config: Config,
    task: str,
    rate: float,
    steps: int,
    key: Array,
    show: Callable[[int], None],
) -> Learned:
    """Trains a network on a task; `show` is told of every step done."""
    key_init, key_data = jax.random.split(key)
    network, opt_state = start(cell, config.hidden_size, key_init)
    rates, losses, seconds = schedule(rate, steps), [], []
    for first in range(0, steps, CHUNK):
        batches = drawn(task, key_data, first, config.length, config.batch_size)
        jax.block_until_ready(batches)
        before = processor_seconds()
        network, opt_state, value = train(
            cell, network, opt_state, batches, rates[first : first + CHUNK]
        )
        losses.append(float(value))
        seconds.append((processor_seconds() - before) / CHUNK)
        show(CHUNK)
    return Learned(network, losses, median(seconds))


class HeldOut(NamedTuple):
    """Sequences to test with.

    Attributes:
        examples: (T, B).
        point: which point of the curve an answer counts for, (T, B); -1 for none.
    """

    examples: Examples
    point: np.ndarray


@cache
def held_out(task: str, length: int, longest: int, count: int) -> HeldOut:
    """About `count` sequences, whose answers are counted by how much came before them.

    Point n of a curve is of the answers after n * length / 2 steps, up to and with
    (n + 1) * length / 2. Recall has pairs of keys and values in place of steps, and all
    answers of a sequence count for its length; there are at most as many keys as
    symbols, so that its curve ends sooner.
    """
    draw, key = STATE_TASKS[task], jax.random.key(HELD_OUT_KEY)
    now = jax.jit(draw, static_argnums=(1, 2))
    window = length // 2
    if task != "recall":
        examples = now(key, longest, count)
        points = np.arange(longest)[:, None] // window
        return HeldOut(examples, np.where(examples.answers == NOTHING, -1, points))
    lengths = range(window, min(longest, 2 * SYMBOLS) + 1, window)
    each = max(1, count // len(lengths))
    parts = [
        jax.tree.map(partial(_lengthened, longest), now(key, own, each))
        for own in lengths
    ]
    examples = jax.tree.map(lambda *a: np.concatenate(a, axis=1), *parts)
    points = np.repeat(np.arange(len(parts)), each)
    return HeldOut(examples, np.where(examples.answers == NOTHING, -1, points))


def _lengthened(length: int, part: Array) -> np.ndarray:
    after = length - len(part)
    return np.pad(np.asarray(part), ((0, after), (0, 0)), constant_values=NOTHING)


def curve(right: np.ndarray, point: np.ndarray) -> list[float]:
    """The share of right answers at every point of a curve."""
    counted = point >= 0
    asked = np.bincount(point[counted])
    return (np.bincount(point[counted], weights=right[counted]) / asked).tolist()


def without_memory(held: HeldOut) -> list[float]:
    """The curve of the best answer to what is read at the same step, and that alone.

    Which one is best is learned from every other sequence, and measured on the rest.
    """
    symbols, values, answers = map(np.asarray, held.examples)
    asked, seen = held.point >= 0, np.arange(held.point.shape[1]) % 2 == 0
    read_now = SYMBOLS * (1 + values) + symbols
    counts = np.zeros((SYMBOLS * (1 + VALUES), ANSWERS))
    np.add.at(counts, (read_now[asked & seen], answers[asked & seen]), 1)
    right = counts.argmax(axis=1)[read_now] == answers
    return curve(right[:, ~seen], held.point[:, ~seen])


# --- a run: a cell on all tasks ------------------------------------------------------


def compare(
    config: Config, folder: Path, options: Options, console: Console
) -> str | None:
    """Trains every cell on every task, and reports on all cells that the folder holds.

    A network that was trained is a line of metrics.jsonl, and is not trained again
    where the cell's run was interrupted; the one that was under way is.

    Returns:
        The signal that ended it early, or None.

    Raises:
        ValueError: the config cannot be run, or a run of another config is there.
        OSError: a record could not be written, or another process trains here.
    """
    check(config)
    cells, interrupted = find_cells(config.cells), None
    for name, cell in zip(config.cells, cells, strict=True):
        own, source = dataclasses.replace(config, cells=(name,)), cell_source(name)
        given = folder / cell.name, own, options, console, source
        if kept_result(*given):
            continue
        with open_run(*given) as opened:
            interrupted = run_cell(cell, own, opened, console, source)
        if interrupted:
            break
    report(folder)
    return interrupted


def run_cell(
    cell: Cell, config: Config, run: Run, console: Console, source: dict[str, str]
) -> str | None:
    """Trains a cell on every task; returns the signal that ended it early, or None."""
    done = _done(run)
    trials = len(config.learning_rates) * config.search_steps
    total = len(config.tasks) * (trials + config.seeds * config.steps)
    label, came = f"state_tracking, {cell.name}", 0
    with Interrupts() as interrupts, progress_bar(console, label, total) as bar:

        def show(steps: int) -> None:
            nonlocal came
            bar(came := came + steps)

        for wanted in networks(config, done):
            if wanted in done:
                show(wanted.steps)
                continue
            done[wanted] = row = trained(cell, config, wanted, show)
            run.append([row])
            if interrupts.received:
                break
        interrupted = interrupts.received
    if not interrupted:
        run.finish(result_of(cell, config, done) | source)
    return interrupted


class Wanted(NamedTuple):
    """A network to train: a trial of a learning rate, or one of a seed.

    Attributes:
        task: its name.
        trial: whether it is one.
        rate: the learning rate at its highest.
        seed: which network of this kind.
        steps: updates.
    """

    task: str
    trial: bool
    rate: float
    seed: int
    steps: int


Done = dict[Wanted, dict[str, Any]]
"""By network, its line of metrics.jsonl."""


def networks(config: Config, done: Done) -> Iterator[Wanted]:
    """All networks of a run, in order; a task's trials, then those of its seeds.

    Whoever goes through them adds to `done` before going on.
    """
    for task in config.tasks:
        trials = [
            Wanted(task, True, rate, 0, config.search_steps)
            for rate in config.learning_rates
        ]
        yield from trials
        rate = min(trials, key=lambda trial: _last_loss(done[trial])).rate
        for seed in range(config.seeds):
            yield Wanted(task, False, rate, seed, config.steps)


def trained(
    cell: Cell, config: Config, wanted: Wanted, show: Callable[[int], None]
) -> dict[str, Any]:
    """Trains a network and tests it; its line of metrics.jsonl."""
    key = jax.random.key(TRIAL_KEY if wanted.trial else wanted.seed)
    given = wanted.task, wanted.rate, wanted.steps, key, show
    network, losses, seconds = learn(cell, config, *given)
    row = {
        "kind": "network",
        **wanted._asdict(),
        "losses": [value if math.isfinite(value) else None for value in losses],
        "seconds": seconds,
    }
    if not wanted.trial:
        held = held_out(wanted.task, config.length, config.longest, config.held_out)
        answers = np.asarray(answered(cell, network, held.examples))
        row["curve"] = curve(answers == np.asarray(held.examples.answers), held.point)
    return row


def _last_loss(row: dict[str, Any]) -> float:
    last = row["losses"][-1]
    return math.inf if last is None else last


def _done(run: Run) -> Done:
    """The networks that a run has trained already; a line that was cut off goes."""
    file = run.folder / "metrics.jsonl"
    if not file.is_file():
        return {}
    run.records.cut(file.read_bytes().rfind(b"\n") + 1)
    rows = read_metrics(run.folder)
    return {Wanted(*(row[name] for name in Wanted._fields)): row for row in rows}


def result_of(cell: Cell, config: Config, done: Done) -> dict[str, Any]:
    """What result.json says of a cell."""
    network, _ = start(cell, config.hidden_size, jax.random.key(0))
    state = jax.eval_shape(lambda: cell.initial_state(network.cell, ()))
    tasks = {}
    for task in config.tasks:
        rows = [done[w] for w in networks(config, done) if w.task == task]
        rows = [row for row in rows if not row["trial"]]
        tasks[task] = {
            "learning_rate": rows[0]["rate"],
            "losses_of_seeds": [row["losses"] for row in rows],
            "curve_of_seeds": [row["curve"] for row in rows],
        }
    return {
        "experiment": "state_tracking",
        "cell": cell.name,
        "gradient": gradient_of(cell),
        "parameters": sum(p.size for p in jax.tree.leaves(network)),
        "state": sum(math.prod(s.shape) for s in jax.tree.leaves(state)),
        "seeds": config.seeds,
        "steps": config.steps,
        "seconds_per_step": median(row["seconds"] for row in done.values()),
        "length": config.length,
        "without_memory": {
            task: without_memory(held_out(task, config.length, config.longest, MANY))
            for task in config.tasks
        },
        "tasks": tasks,
        "interrupted": None,
    }


# --- what a folder holds -------------------------------------------------------------


def results(folder: Path) -> dict[str, dict[str, Any]]:
    """What result.json says of each cell whose run in a folder came to its end.

    Raises:
        ValueError: a record is broken; it is named.
    """
    found = {
        own.name: result
        for own in folder.glob("*/")
        if not own.name.endswith(".previous") and (result := Records(own).read_result())
    }
    return {name: found[name] for name in in_order(found)}


def report(folder: Path) -> None:
    """Writes results.md from the cells' records.

    Raises:
        ValueError: as `results`.
    """
    if found := results(folder):
        write_whole(folder / "results.md", table(found).encode())


def draw(config: Config, folder: Path) -> None:
    """Draws curves.png and training.png from the cells' records."""
    del config
    if not (found := results(folder)):
        return
    tasks = _tasks(found)
    first = next(iter(found.values()))
    plots.length_curves(
        folder / "curves.png",
        {task: _of_seeds(found, task, "curve_of_seeds") for task in tasks},
        {task: _reference(found, task) for task in tasks},
        length=first["length"],
        window=first["length"] // 2,
        costs={name: 1e3 * own["seconds_per_step"] for name, own in found.items()},
    )
    plots.loss_curves(
        folder / "training.png",
        {task: _of_seeds(found, task, "losses_of_seeds") for task in tasks},
        steps=CHUNK,
    )


def table(found: dict[str, dict[str, Any]]) -> str:
    """Two tables in Markdown: accuracies at lengths as in training, and at longer ones.

    Behind a mean over seeds stands half of its 95% interval.
    """
    tasks = _tasks(found)
    length = next(iter(found.values()))["length"]
    names = [task.replace("_", " ") for task in tasks]
    told = {
        f"Accuracy up to {length} steps, as in training": slice(0, 2),
        f"Accuracy beyond {length} steps": slice(2, None),
    }
    parts = []
    for title, points in told.items():
        rows = [
            (name, *(_shown(own["tasks"].get(task), points) for task in tasks))
            for name, own in found.items()
        ]
        guesses = [f"{np.mean(_reference(found, task)[points]):.3f}" for task in tasks]
        rows.append(("present step alone", *guesses))
        parts.append(f"{title}:\n\n{markdown(('cell', *names), rows)}")
    costs = [
        (
            name,
            f"{own['parameters']:,}",
            f"{own['state']:,}",
            f"{1e3 * own['seconds_per_step']:.2f}",
        )
        for name, own in found.items()
    ]
    head = "cell", "parameters", "numbers of state", "ms a training step"
    return "\n".join([*parts, f"What it costs:\n\n{markdown(head, costs)}"])


def _tasks(found: dict[str, dict[str, Any]]) -> list[str]:
    """The tasks that any of the cells was trained on, in their order."""
    return [
        task
        for task in STATE_TASKS
        if any(task in own["tasks"] for own in found.values())
    ]


def _reference(found: dict[str, dict[str, Any]], task: str) -> list[float]:
    return next(
        own["without_memory"][task] for own in found.values() if task in own["tasks"]
    )


def _of_seeds(
    found: dict[str, dict[str, Any]], task: str, what: str
) -> dict[str, np.ndarray]:
    """By cell, curves (seeds, points)."""
    return {
        name: np.asarray(own["tasks"][task][what], float)
        for name, own in found.items()
        if task in own["tasks"]
    }


def _shown(own: dict[str, Any] | None, points: slice) -> str:
    if own is None:
        return ""
    of_seeds = np.asarray(own["curve_of_seeds"])[:, points].mean(axis=1)
    mean, count = of_seeds.mean(), len(of_seeds)
    if count == 1:
        return f"{mean:.3f}"
    return f"{mean:.3f} ± {half_width(of_seeds.std(ddof=1), count):.3f}"
