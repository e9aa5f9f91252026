"""The classifier that a config describes: its loss, its predictions, its measures."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from experiments.data import Bucket, ratios_per_word
from experiments.sentiment.config import Config
from experiments.sentiment.model import Committee, Model, SequenceClassifier
from lstm_jax.cells import CELLS, find_cell


def make_model(config: Config, vocabulary_size: int, classes: int = 2) -> Model:
    """The classifier that a config describes, for so many words and classes."""
    shared = SequenceClassifier.__annotations__
    chosen = {k: v for k, v in dataclasses.asdict(config).items() if k in shared}
    chosen |= {"vocabulary_size": vocabulary_size, "classes": classes}
    chosen |= {"dtype": jnp.dtype(config.dtype)}
    chosen["ratios"] = ratios_per_word(config.ngrams, classes)
    chosen["cell"] = find_cell(config.cell, CELLS)
    member = SequenceClassifier(**chosen)
    return member if config.networks == 1 else Committee(member, config.networks)


def init_params(model: Model, key: Array) -> Any:
    """Draws the parameters."""
    tokens = jnp.zeros((1, 1), jnp.int32)
    lengths = jnp.ones(1, jnp.int32)
    one = model.member if isinstance(model, Committee) else model
    ratios = jnp.zeros((1, 1, one.ratios), one.dtype)
    return model.init(key, tokens, lengths, ratios, train=False)


def loss(
    model: Model, smoothing: float, params: Any, key: Array, batch: Bucket
) -> tuple[Array, dict[str, Array]]:
    """The mean cross-entropy of a batch, and the share it gets right.

    Both are means over the members of a committee, each of which learns for itself.
    """
    logits: Any = model.apply(
        params,
        batch.tokens,
        batch.lengths,
        batch.ratios,
        train=True,
        rngs={"dropout": key},
    )
    judge = partial(_cross_entropy, jnp.asarray(batch.labels), smoothing)
    losses, right = (jax.vmap(judge) if isinstance(model, Committee) else judge)(logits)
    return losses.mean(), {"accuracy": right.mean(dtype=logits.dtype)}


def _cross_entropy(
    labels: Array, smoothing: float, logits: Array
) -> tuple[Array, Array]:
    """Of logits (B,) or (B, C) the losses, (B,), and which are right."""
    if logits.ndim == 1:
        targets = labels.astype(logits.dtype) * (1 - smoothing) + smoothing / 2
        losses = optax.sigmoid_binary_cross_entropy(logits, targets)
        return losses, (logits > 0) == (labels > 0)
    one_hot = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    targets = optax.smooth_labels(one_hot, smoothing)
    losses = optax.softmax_cross_entropy(logits, targets)
    return losses, logits.argmax(axis=-1) == labels


@partial(jax.jit, static_argnums=0)
def predict_logits(model: Model, params: Any, batch: Bucket) -> Array:
    """The logits of a batch, (B,) for two classes or (B, C); a committee's mean."""
    logits: Any = model.apply(
        params, batch.tokens, batch.lengths, batch.ratios, train=False
    )
    return logits.mean(axis=0) if isinstance(model, Committee) else logits


def measure(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracy and mean cross-entropy (nats) of logits (N,) or (N, C)."""
    if logits.ndim == 1:
        losses = np.logaddexp(0.0, np.where(labels > 0, -logits, logits))
    else:
        own = np.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
        losses = np.logaddexp.reduce(logits, axis=1) - own
    return {
        "accuracy": float(np.mean(is_right(logits, labels))),
        "loss": float(np.mean(losses)),
    }


def measure_classes(
    logits: np.ndarray, labels: np.ndarray, classes: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """By class, how many texts it has and the share that is right."""
    right = is_right(logits, labels)
    return {
        name: {"texts": int(own.sum()), "right": float(right[own].mean())}
        for own, name in ((labels == n, name) for n, name in enumerate(classes))
        if own.any()
    }


def is_right(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which of the logits (N,) or (N, C) name the label; a 0 names neither of two."""
    if logits.ndim == 1:
        return np.where(labels > 0, logits, -logits) > 0
    return logits.argmax(axis=1) == labels


def probabilities(logits: np.ndarray) -> np.ndarray:
    """The probability of each class, (..., C), from logits (N,) or (N, C)."""
    if logits.ndim == 1:
        # 0 and a logit: the sigmoid of it, and one minus that
        logits = np.stack([np.zeros_like(logits), logits], axis=-1)
    return np.exp(logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True))
