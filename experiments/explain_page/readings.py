"""What is read, and by whom: trained classifiers, or new ones with random numbers."""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.data import SENTIMENTS, UNKNOWN_ID, Encoded, truncate
from experiments.explain_page.case import Reading
from experiments.legible import one_line, without_surrogates
from experiments.sentiment import (
    Config,
    SequenceClassifier,
    Trained,
    first_member,
    init_params,
    load_trained,
    look_inside,
    make_model,
    predict_logits,
    read_classes,
    read_config,
    running_scores,
)
from experiments.training import Records
from lstm_jax.cells import CELLS, find_cell
from lstm_jax.engine import checks

WHOLE, LAST = "the whole score", "the last output alone"
"""What is differentiated: the logit; the part of it that goes through the last step."""

REVIEW = (
    "I did not expect much. The first half is slow, the jokes fall flat, and I nearly "
    "left. But then the story turns, the two leads come alive, and the ending is "
    "wonderful. A great film."
)
"""What is read where nothing else is told, and no run has a review that is short."""

LONGEST_WORD = 24

UNTRAINED = Config(embedding_size=32, hidden_size=32, vocabulary_size=1000)
"""Of the classifier that there is where there is no run."""


def readings(
    folders: Sequence[Path], cells: Sequence[str], text: str | None, steps: int
) -> list[Reading]:
    """A reading for every run, and for every other cell one with random parameters.

    Args:
        folders: of trained runs.
        cells: names as `lstm_jax.cells.find_cell` takes them. They read the first
            run's word vectors.
        text: what is read; None for a review of the first run's.
        steps: at most so many words, the last ones.

    Raises:
        FileNotFoundError, ValueError: as `load_trained`; or the text has no words.
    """
    text = without_surrogates(text or _review(folders, steps))
    found = [_trained(folder, text, steps) for folder in folders]
    trained = {reading.cell.name for reading in found}
    first = load_trained(folders[0]) if folders else None
    rest = [name for name in cells if find_cell(name, CELLS).name not in trained]
    return found + [_untrained(name, first, text, steps) for name in rest]


def runs_under(folder: Path) -> list[Path]:
    """The trained runs in a folder, one for each cell, the best by validation.

    Runs of more than two classes have no single score to explain, and are passed over.
    """
    best: dict[str, tuple[float, Path]] = {}
    for run in sorted(folder.glob("*/best")):
        if len(read_classes(run.parent)) > 2:
            continue
        result = Records(run.parent).read("result") or {}
        accuracy = float(result.get("accuracy") or 0.0)
        cell = read_config(run.parent).cell
        if accuracy > best.get(cell, (-1.0, run))[0]:
            best[cell] = accuracy, run.parent
    first = sorted(best, key=lambda cell: (cell != "lstm", cell))
    return [best[cell][1] for cell in first]


def _review(folders: Sequence[Path], steps: int) -> str:
    """The shortest review whose running score the first run has drawn, or `REVIEW`."""
    drawn = Records(folders[0]).read("trace") if folders else None
    texts = [review["words"] for review in (drawn or {}).get("reviews", [])]
    fitting = sorted((t for t in texts if len(t) <= steps), key=len)
    return " ".join(fitting[0]) if fitting else REVIEW


def _trained(folder: Path, text: str, steps: int) -> Reading:
    found = load_trained(folder)
    if len(found.classes) > 2:
        told = f"found {len(found.classes)} classes"
        raise ValueError(f"{folder}: expected two, which one score tells apart; {told}")
    result = Records(folder).read("result") or {}
    accuracy = result.get("accuracy")
    right = f", right on {accuracy:.0%} of validation reviews" if accuracy else ""
    read = _read(found, text, steps)
    texts = "film reviews" if found.classes == SENTIMENTS else "texts of your own"
    about = f"trained on {texts}{right}"
    words = found.tokenizer.words(read.tokens)
    model, params = first_member(found.model, found.params)
    if found.config.networks > 1:
        about += f" together with {found.config.networks - 1} others"
    return _reading(model, params, read, words, about)


def _untrained(name: str, trained: Trained | None, text: str, steps: int) -> Reading:
    """A classifier of this cell with random parameters, but a trained one's words."""
    config = replace(
        trained.config if trained else UNTRAINED,
        cell=name,
        bidirectional=False,
        networks=1,
    )
    if trained is None:
        words = re.findall(r"\w+|[^\w\s]", text.lower())[-steps:]
        known = {word: 2 + k for k, word in enumerate(dict.fromkeys(words))}
        ids, size = np.array([known[w] for w in words], np.int32), len(known) + 2
        read = Encoded(ids, np.array([0, len(ids)]), np.zeros(1, np.int32))
    else:
        read, size = _read(trained, text, steps), trained.tokenizer.vocabulary_size
        words = trained.tokenizer.words(read.tokens)
    model = make_model(config, size)
    drawn = init_params(model, jax.random.key(config.seed))
    model, params = first_member(model, drawn)
    about = "untrained: random parameters"
    if trained is not None:
        _, learned = first_member(trained.model, trained.params)
        own = {"embedding": learned["params"]["embedding"]}
        params = {"params": params["params"] | own}
        about += ", a trained run's word vectors"
    return _reading(model, params, read, words, about)


def _read(trained: Trained, text: str, steps: int) -> Encoded:
    """A text as the classifier reads it, and no more of it than so many words."""
    return truncate(trained.read(text), steps)[0]


def _reading(
    model: SequenceClassifier,
    params: Any,
    read: Encoded,
    words: Sequence[str],
    about: str,
) -> Reading:
    """A text in the last layer of a classifier, in float64."""
    ids = read.tokens
    if not len(ids):
        raise ValueError("the text has no words to step through")
    model = model.clone(dtype=jnp.float64)
    params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), params)
    inside = look_inside(
        model,
        params,
        jnp.asarray(ids),
        None if read.ratios is None else jnp.asarray(read.ratios),
    )
    predict = partial(predict_logits, model)
    return Reading(
        checks.as_cell(model.cell),
        inside.params,
        inside.xs,
        {WHOLE: inside.dys, LAST: _last(inside.dys)},
        [
            "?" if number == UNKNOWN_ID else one_line(word, LONGEST_WORD)
            for number, word in zip(ids, words, strict=True)
        ],
        about,
        running_scores(predict, params, read, len(ids))[:, 1],
    )


def _last(dys: Array) -> Array:
    return jnp.zeros_like(dys).at[-1].set(dys[-1])
