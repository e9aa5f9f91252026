"""What the trainers on JAX share: all but the recurrent layer."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from benchmarks.epoch import CONFIG, Epoch, Trainer
from experiments.data import Bucket, Segment
from experiments.training import init_state, make_optimizer, train_segment

Layer = Callable[[Any, Array, Array], Array]
"""``(params, xs (T, B, D), lengths (B,)) -> ys (T, B, H)``; any beyond the lengths."""


def trainer(epoch: Epoch, layer: Layer, params: Any) -> Trainer:
    """The model around a recurrent layer, trained by `experiments.training`.

    Args:
        epoch: what to train on.
        layer: the layer, a module-level function or a partial of one.
        params: its parameters, with the weights of `epoch`.
    """
    optimizer = make_optimizer(
        CONFIG.learning_rate,
        epoch.total_steps,
        warmup_steps=epoch.warmup_steps,
        weight_decay=CONFIG.weight_decay,
        clip_norm=CONFIG.clip_norm,
    )
    weights = {
        "embedding": epoch.weights.embedding,
        "layer": params,
        "head": epoch.weights.head[:, None],  # two axes: it decays, as in torch
        "bias": np.zeros((), np.float32),
    }
    state = init_state(jax.tree.map(jnp.asarray, weights), optimizer, jax.random.key(0))
    data = jax.device_put(epoch.train)
    objective = partial(loss, layer)

    def train(segment: Segment) -> np.ndarray:
        nonlocal state
        state, found = train_segment(
            objective,
            optimizer,
            CONFIG.average_decay,
            state,
            data[segment.bucket],
            segment.indices,
        )
        return np.asarray(found["loss"])

    run = jax.jit(partial(logits, layer))

    def predict(bucket: Bucket) -> np.ndarray:
        parts = (
            bucket._replace(tokens=tokens, lengths=lengths)
            for tokens, lengths in zip(
                *(np.split(a, range(256, len(a), 256)) for a in bucket[:2]), strict=True
            )
        )
        return np.concatenate([run(state.average, part) for part in parts])

    return Trainer(train, predict)


def loss(
    layer: Layer, params: Any, key: Array, batch: Bucket
) -> tuple[Array, dict[str, Array]]:
    """The mean cross-entropy of a batch."""
    del key
    found = logits(layer, params, batch)
    labels = jnp.asarray(batch.labels, found.dtype)
    return optax.sigmoid_binary_cross_entropy(found, labels).mean(), {}


def logits(layer: Layer, params: Any, batch: Bucket) -> Array:
    """The logits of a batch, (B,)."""
    xs = params["embedding"][jnp.asarray(batch.tokens).T]
    lengths = jnp.asarray(batch.lengths)
    ys = layer(params["layer"], xs, lengths)
    valid = (jnp.arange(ys.shape[0])[:, None] < lengths)[..., None]
    mean = jnp.where(valid, ys, 0).sum(axis=0) / jnp.maximum(lengths, 1)[:, None]
    largest = jnp.where(valid, ys, -jnp.inf).max(axis=0)
    features = jnp.concatenate([mean, largest], axis=-1)
    return features @ params["head"][:, 0] + params["bias"]
