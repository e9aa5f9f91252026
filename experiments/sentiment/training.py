"""The training of the classifier: what a config says of it, and a run."""

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import optax
from jax import Array
from rich.console import Console

from experiments import plots
from experiments.cell_source import cell_source
from experiments.checks import LARGEST, at_least, check_seed, within
from experiments.data import LONGEST_NGRAM, BatchSchedule
from experiments.legible import one_line
from experiments.sentiment.config import Config
from experiments.sentiment.model import Model
from experiments.sentiment.objective import (
    init_params,
    loss,
    make_model,
    measure,
    measure_classes,
    predict_logits,
)
from experiments.sentiment.reviews import Data, load
from experiments.sentiment.trace import draw_trace
from experiments.training import (
    Given,
    Options,
    Outcome,
    Records,
    Run,
    fit,
    init_state,
    kept_result,
    make_optimizer,
    open_run,
    predict_rows,
    read_metrics,
    replicate,
)

STEPS_PER_SEGMENT = 10
"""Training steps in one compiled scan: a second or two, so that signals are heard."""

MOST = {
    "embedding_size": 2**16,
    "hidden_size": 2**16,
    "layers": 100,
    "networks": 100,
}
"""Sizes beyond these are taken for slips of the pen."""


def train(
    config: Config, folder: Path, options: Options, console: Console
) -> dict[str, Any]:
    """Trains, and writes the run's folder; returns what stands in result.json.

    A run of this config that is finished already is kept, and its result returned.

    Raises:
        ValueError: the config cannot be run, or a run of another config is there.
        OSError: a record could not be written, or another process trains here.
    """
    source = cell_source(config.cell)
    if result := kept_result(folder, config, options, console, source):
        console.print(told(result, folder), highlight=False)
        return result
    check(config)
    console.print("reading the reviews ...", highlight=False)
    data = load(config)
    plan = make_plan(config, data)
    with open_run(folder, config, options, console, source) as run:
        data.encoded.tokenizer.save(folder / "tokenizer.json")
        if data.ngrams is not None:
            data.ngrams.save(folder / "ngrams.npz")
        Records(folder).write("classes", {"classes": data.encoded.classes})
        outcome, result = _fit(config, run, plan, data, console, source)
        # The result is written and told: what goes wrong from here on costs pictures.
        console.print(told(result, folder), highlight=False)
        plots.training_curves(folder / "curves.png", read_metrics(folder))
        if not outcome.interrupted:
            draw_trace(config, folder, plan.model, outcome.params, data)
    return result


def told(result: dict[str, Any], folder: Path) -> str:
    """A line on what came of a run."""
    accuracy, seconds = result.get("accuracy"), result.get("seconds")
    found = "not yet known" if accuracy is None else f"{accuracy:.4f}"
    if shares := result.get("of_classes"):
        each = (f"{one_line(k, 20)} {v['right']:.2f}" for k, v in shares.items())
        found += f" ({', '.join(each)})"
    after = "" if seconds is None else f" after {seconds:.0f} s"
    return f"validation accuracy {found}{after}; see {folder}"


def _fit(
    config: Config,
    run: Run,
    plan: "Plan",
    data: Data,
    console: Console,
    source: dict[str, str],
) -> tuple[Outcome, dict[str, Any]]:
    """Trains and measures; how it ended, and what stands in result.json."""
    predict = Given(predict_logits, (plan.model,))
    buckets = {k: replicate(b) for k, (_, b) in data.evaluated.items()}

    def evaluate(split: str, params: Any, measure: Any = measure) -> dict[str, Any]:
        logits = predict_rows(predict, params, buckets[split], 4 * config.batch_size)
        return measure(logits, data.evaluated[split][0].labels)

    outcome = fit(
        run,
        init_state(init_params(plan.model, plan.key_params), plan.optimizer, plan.key),
        loss=Given(loss, (plan.model, config.label_smoothing)),
        optimizer=plan.optimizer,
        data=data.train,
        schedule=plan.schedule,
        epochs=config.epochs,
        evaluate=partial(evaluate, "validation"),
        average_decay=config.average_decay,
        console=console,
    )
    result = {**outcome.result(), "split": "validation", "counts": data.counts}
    if outcome.params is not None:
        by_class = partial(measure_classes, classes=data.encoded.classes)
        result["of_classes"] = evaluate("validation", outcome.params, by_class)
    result |= source
    result |= {name: getattr(config, name) for name in ("gradient", "dtype", "seed")}
    if config.test and not outcome.interrupted:
        result["test"] = evaluate("test", outcome.params)
    return outcome, run.finish(result)


def check(config: Config) -> None:
    """Checks the numbers that need no data.

    Raises:
        ValueError: one is out of range.
    """
    check_seed(config.seed)
    at_least(1, batch_size=config.batch_size)
    within(0, LONGEST_NGRAM, ngrams=config.ngrams)
    within(1, LARGEST, epochs=config.epochs)
    for name, most in MOST.items():
        within(1, most, **{name: getattr(config, name)})
    for name in ("average_decay", "label_smoothing", "warmup"):
        if not 0 <= (number := getattr(config, name)) < 1:
            raise ValueError(f"{name} must be from 0 to 1, 1 excluded; got {number}")


class Plan(NamedTuple):
    """What a config says of the training to come."""

    model: Model
    schedule: BatchSchedule
    optimizer: optax.GradientTransformation
    key_params: Array
    key: Array


def make_plan(config: Config, data: Data) -> Plan:
    """The plan, checked: what else is wrong with a config is found here.

    Raises:
        ValueError: an unknown name, or a number out of range for these data.
    """
    reviews = sum(len(bucket.labels) for bucket in data.train)
    if config.batch_size > reviews:
        raise ValueError(
            f"batch_size must be at most {reviews}, the number of training reviews; "
            f"got {config.batch_size}"
        )
    encoded = data.encoded
    size, classes = encoded.tokenizer.vocabulary_size, len(encoded.classes)
    model = make_model(config, size, classes)
    schedule = BatchSchedule(
        sizes=tuple(len(bucket.labels) for bucket in data.train),
        batch_size=config.batch_size,
        steps_per_segment=STEPS_PER_SEGMENT,
        seed=config.seed,
    )
    total = schedule.total_steps(config.epochs)
    optimizer = make_optimizer(
        config.learning_rate,
        total,
        warmup_steps=int(config.warmup * total),
        weight_decay=config.weight_decay,
        clip_norm=config.clip_norm,
    )
    key_params, key = jax.random.split(jax.random.key(config.seed))
    jax.eval_shape(partial(init_params, model), key_params)
    return Plan(model, schedule, optimizer, key_params, key)


@contextmanager
def precision(dtype: str) -> Generator[None]:
    """64-bit types where they are asked for."""
    with jax.enable_x64(dtype == "float64"):
        yield
