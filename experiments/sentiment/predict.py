"""Scoring text with a trained classifier: in a line of output, and as a picture."""

import io
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments import plots, training
from experiments.data import (
    SENTIMENTS,
    UNKNOWN_ID,
    Encoded,
    LogCountRatios,
    ReviewTokenizer,
    make_buckets,
    truncate,
)
from experiments.legible import one_line, without_surrogates
from experiments.sentiment.config import ADDED, Config
from experiments.sentiment.model import Model
from experiments.sentiment.objective import (
    init_params,
    make_model,
    predict_logits,
    probabilities,
)
from experiments.sentiment.trace import running_scores, scored_text
from experiments.sentiment.training import precision
from experiments.training import Checkpoints, Records

MOST_DRAWN = 500
"""Words of a text whose running score is drawn: each is read as often as there are."""

SHOWN_LETTERS = 100
"""Of longer texts the beginning is shown beside the score."""


class Score(NamedTuple):
    """What a classifier says of a text.

    Attributes:
        probabilities: of each class, by its name.
        words: those that were read, the last `max_length`.
        known: how many of them it knows. Where it knows none, the probability is that
            of any text, and says nothing of this one.
    """

    probabilities: dict[str, float]
    words: int
    known: int

    @property
    def likeliest(self) -> str:
        """The class with the highest probability."""
        return max(self.probabilities, key=lambda name: self.probabilities[name])

    @property
    def verdict(self) -> str:
        """The likeliest class; "unknown" where no word is known."""
        return self.likeliest if self.known else "unknown"


class Trained(NamedTuple):
    """A trained classifier.

    Attributes:
        config: what its run followed from.
        tokenizer: of its run.
        model: the classifier.
        params: those that did best.
        classes: their names.
        ngrams: what goes with each word beside its vector, if anything does.
    """

    config: Config
    tokenizer: ReviewTokenizer
    model: Model
    params: Any
    classes: tuple[str, ...]
    ngrams: LogCountRatios | None

    def read(self, text: str) -> Encoded:
        """A text as the classifier reads it: one row, its last `max_length` words."""
        whole, _ = self.tokenizer.encode_all([text], np.zeros(1, np.int32))
        if self.ngrams is not None:
            whole = self.ngrams.attach(whole)
        return truncate(whole, self.config.max_length)[0]


def load_trained(folder: Path) -> Trained:
    """The classifier of a run's folder.

    Raises:
        FileNotFoundError: the folder holds no run, or one without an evaluation yet.
        ValueError: one of its files is broken; it is named.
    """
    config = read_config(folder)
    tokenizer = ReviewTokenizer.load(folder / "tokenizer.json")
    classes = read_classes(folder)
    model = make_model(config, tokenizer.vocabulary_size, len(classes))
    best = Checkpoints(folder / "best")
    if best.step is None:
        raise FileNotFoundError(
            f"{folder}: the run has come to no evaluation yet; train on, or choose "
            "another with --name"
        )
    ngrams = LogCountRatios.load(folder / "ngrams.npz") if config.ngrams else None
    with precision(config.dtype):
        like = jax.eval_shape(partial(init_params, model), jax.random.key(0))
        params = best.restore(like)
    return Trained(config, tokenizer, model, params, classes, ngrams)


def read_classes(folder: Path) -> tuple[str, ...]:
    """The names of a run's classes; older runs have no record, and those of IMDB.

    Raises:
        ValueError: classes.json is broken.
    """
    record = Records(folder).read("classes")
    if record is None:
        return SENTIMENTS
    names = record.get("classes")
    if (
        not isinstance(names, list)
        or len(names) < 2
        or not all(isinstance(name, str) for name in names)
        or len(set(names)) < len(names)
    ):
        raise ValueError(f"{folder / 'classes.json'}: expected names of classes")
    return tuple(names)


def load_scorer(folder: Path) -> Callable[[str], Score]:
    """The function from a text to its score, from a run's folder.

    Raises:
        FileNotFoundError, ValueError: as `load_trained`.
    """
    return scorer(load_trained(folder))


def scorer(trained: Trained) -> Callable[[str], Score]:
    """The function from a text to its score."""

    def score(text: str) -> Score:
        read = trained.read(text)
        words = len(read.tokens)
        # Few shapes, few compilations: pad to a multiple of 100.
        (batch,) = make_buckets(read, [-(-max(words, 1) // 100) * 100])
        with precision(trained.config.dtype):
            logits = predict_logits(trained.model, trained.params, batch)
        found = probabilities(np.asarray(logits))[0].tolist()
        known = int(np.count_nonzero(read.tokens != UNKNOWN_ID))
        return Score(dict(zip(trained.classes, found, strict=True)), words, known)

    return score


def print_scores(folder: Path, text: str) -> None:
    """Prints the verdict, its probability and the beginning of a text.

    "-" stands for standard input: each of its lines is a text and gets a line, blank
    ones too. What is wrong with a text is told on standard error, and where the picture
    is of its score after every word; there is none of texts from standard input.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # letters that a terminal lacks
    with precision(read_config(folder).dtype):
        trained = load_trained(folder)
        score = scorer(trained)
        for where, given in _lines() if text == "-" else [("", text)]:
            legible = without_surrogates(given)
            found = score(legible)
            probability = found.probabilities[found.likeliest]
            shown = f"{probability:.3f}  {one_line(legible, SHOWN_LETTERS)}"
            verdict = one_line(found.verdict, SHOWN_LETTERS)
            print(f"{verdict}  {shown}".rstrip(), flush=True)
            for problem in _problems(found, legible != given):
                print(f"{where}{problem}", file=sys.stderr)
        if text != "-":
            print(draw_text(folder, trained, text), file=sys.stderr)


def draw_text(folder: Path, trained: Trained, text: str) -> str:
    """Draws the score after every word of a text; says where, or why it did not."""
    read = trained.read(without_surrogates(text))
    length = len(read.tokens)
    if not 0 < length <= MOST_DRAWN:
        return f"no picture: expected 1 to {MOST_DRAWN} words, got {length}"
    predict = partial(predict_logits, trained.model)
    scores = running_scores(predict, trained.params, read, length)
    words, label = trained.tokenizer.words(read.tokens), int(scores[-1].argmax())
    drawn = scored_text(words, scores, trained.classes, label)
    title = f"judged: {trained.classes[label]}"
    picture = folder / "predicted.png"
    try:
        plots.running_scores(picture, [drawn._replace(title=title)])
    except OSError as error:
        return f"no picture: {error}"
    return f"see {picture}"


def _lines() -> Iterator[tuple[str, str]]:
    """The lines of standard input, each with what to call it."""
    for number, line in enumerate(sys.stdin.buffer, 1):
        text = line.decode("utf-8", "surrogateescape").rstrip("\r\n")
        yield f"line {number}: ", text.lstrip("\ufeff")


def _problems(found: Score, replaced: bool) -> Iterator[str]:
    if replaced:
        yield "not all of it is UTF-8: what is not, was read as unknown letters"
    if not found.words:
        yield "it has no words: the score is that of an empty text"
    elif not found.known:
        yield "it has no word that the classifier knows: the score says nothing of it"


def read_config(folder: Path) -> Config:
    """The config of a run; raises as `experiments.training.read_config` does."""
    return training.read_config(folder, Config, ADDED)
