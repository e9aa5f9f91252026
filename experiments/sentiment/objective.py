"""The classifier that a config describes: its loss, its predictions, its measures."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from experiments.data import Bucket
from experiments.sentiment.config import Config
from experiments.sentiment.model import SequenceClassifier
from lstm_jax.cells import CELLS, find_cell


def make_model(config: Config, vocabulary_size: int) -> SequenceClassifier:
    """The classifier that a config describes."""
    shared = SequenceClassifier.__annotations__
    chosen = {k: v for k, v in dataclasses.asdict(config).items() if k in shared}
    chosen |= {"vocabulary_size": vocabulary_size, "dtype": jnp.dtype(config.dtype)}
    chosen["cell"] = find_cell(config.cell, CELLS)
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
