"""What the classifier says of a review after every word of it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments import plots
from experiments.data import Bucket
from experiments.sentiment.config import Config
from experiments.sentiment.model import SequenceClassifier
from experiments.sentiment.objective import predict_logits
from experiments.sentiment.reviews import Data
from experiments.training import Records


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
