"""What the classifier says of a review after every word of it."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jax import Array

from experiments import plots
from experiments.data import PADDING_ID, SENTIMENTS, Bucket, Encoded
from experiments.sentiment.config import Config
from experiments.sentiment.model import Model
from experiments.sentiment.objective import predict_logits, probabilities
from experiments.sentiment.reviews import Data
from experiments.training import Records


def running_scores(
    predict: Callable[[Any, Bucket], Array], params: Any, text: Encoded, size: int
) -> np.ndarray:
    """The probability of each class after every word of a review, (length, C).

    Row n is what the model says of the review's first n + 1 words, as if it ended
    there; so it means the same for any pooling, and for both directions.

    Args:
        predict: ``(params, batch) -> logits``.
        params: the model's parameters.
        text: one row, as the classifier reads it.
        size: at least `length`; one compiled shape serves all reviews up to it.
    """
    length = len(text.tokens)
    # Row n of the batch is the text's first n + 1 words.
    lengths = np.minimum(np.arange(1, size + 1, dtype=np.int32), length)
    begun = np.arange(length) < lengths[:, None]
    padding = ((0, 0), (0, size - length))
    tokens = np.pad(np.where(begun, text.tokens, PADDING_ID), padding)
    ratios = text.ratios
    if ratios is not None:
        ratios = np.pad(np.where(begun[..., None], ratios, 0), (*padding, (0, 0)))
    batch = Bucket(tokens, lengths, np.zeros(size, np.int32), lengths, ratios)
    logits = np.asarray(predict(params, batch))
    return probabilities(logits[:length])


def scored_text(
    words: Sequence[str], found: np.ndarray, classes: Sequence[str], label: int
) -> plots.ScoredText:
    """What a picture shows of a text: of two classes always the second one's score.

    Args:
        words: n words.
        found: the probability of each class after each of them, (n, C).
        classes: their names.
        label: the text's.
    """
    shown = 1 if len(classes) == 2 else label
    name = classes[label]
    title = f"a {name} review" if name in SENTIMENTS else f"class: {name}"
    return plots.ScoredText(tuple(words), found[:, shown], title, classes[shown])


class Changed(NamedTuple):
    """A text that a classifier judges rightly in the end.

    Attributes:
        text: with its running score.
        label: the name of its class.
        change: how far the probability of that class rose in the text.
    """

    text: plots.ScoredText
    label: str
    change: float


def most_changed(
    config: Config, model: Model, params: Any, data: Data, count: int = 4
) -> list[Changed]:
    """Short validation reviews judged rightly after the widest change of mind.

    Of the first 64 reviews of 25 to 100 words (or fewer, where most have fewer), as
    many of each class as are `count` in all.
    """
    rows, classes = data.encoded.splits["validation"], data.encoded.classes
    size = min(100, config.max_length)
    least = max(1, min(25, size, int(np.median(rows.lengths))))
    fitting = np.flatnonzero((rows.lengths >= least) & (rows.lengths <= size))
    predict = partial(predict_logits, model)
    found: dict[int, list[Changed]] = {label: [] for label in range(len(classes))}
    for row in fitting[:64]:
        own, label = rows.take(np.asarray([row])), int(rows.labels[row])
        scores = running_scores(predict, params, own, size)
        toward = scores[:, label]
        if scores[-1].argmax() == label:
            words = data.encoded.tokenizer.words(own.tokens)
            text = scored_text(words, scores, classes, label)
            change = float(toward[-1] - toward[min(5, len(words) - 1) :].min())
            found[label].append(Changed(text, classes[label], change))
    of_each = max(1, count // len(classes))
    best = [
        sorted(own, key=lambda text: -text.change)[:of_each] for own in found.values()
    ]
    return [text for own in best for text in own][:count]


def draw_trace(
    config: Config, folder: Path, model: Model, params: Any, data: Data
) -> None:
    """Draws the running score of a few reviews, and writes the numbers beside it."""
    found = most_changed(config, model, params, data)
    rows = [
        {"words": text.words, "scores": text.scores.tolist(), "label": label}
        for text, label, _ in found
    ]
    Records(folder).write("trace", {"reviews": rows})
    if found:
        plots.running_scores(folder / "trace.png", [text for text, *_ in found])
