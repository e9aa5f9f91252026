"""Labelled reviews, and their division into training and validation."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np

from experiments.data.films import film_groups, words_of

Division = Literal["films", "reviews"]
"""What is kept on one side of the division: reviews of one film, or copies alone."""

NEGATIVE, POSITIVE = 0, 1
SENTIMENTS = ("negative", "positive")
"""The classes of IMDB's reviews."""


class Reviews(NamedTuple):
    """Texts as their source has them, with labels.

    Attributes:
        texts: N texts.
        labels: (N,) int32, the numbers of their classes; for sentiment 0 negative and
            1 positive.
    """

    texts: tuple[str, ...]
    labels: np.ndarray


class Labelled(NamedTuple):
    """What a source holds.

    Attributes:
        splits: "train", and "test" if the source has one.
        classes: the name of each label.
    """

    splits: dict[str, Reviews]
    classes: tuple[str, ...]


class ReviewSplits(NamedTuple):
    """Named splits and what was met on the way.

    Attributes:
        splits: "train" and "validation", and "test" where the source has one.
        counts: `duplicates`, training reviews whose words repeat an earlier one's
            (kept, all on the same side of the division); `groups` and
            `validation_groups`, what was divided, in all and for validation; and where
            there is a test split `test_duplicates`, test reviews whose words also
            stand in the training or validation split (kept: the official split is left
            as it is).
        groups: (N,) int32, for each training review the number of what was divided: a
            film, or a review and its copies.
        classes: the name of each label.
    """

    splits: dict[str, Reviews]
    counts: dict[str, int]
    groups: np.ndarray
    classes: tuple[str, ...] = SENTIMENTS


def divide(
    official: dict[str, Reviews],
    *,
    validation_fraction: float,
    seed: int,
    division: Division = "films",
) -> ReviewSplits:
    """Carves a validation split from the official training reviews.

    Reviews of one film are a group, and so are reviews with the same words: the archive
    repeats about a hundred, some but for a comma. Were one of a group in training and
    another in validation, memory would pass for understanding. Groups are ordered by
    the SHA-256 of (seed, group), and the first of them, as many as have
    `validation_fraction` of the reviews of each label, are the validation split. Rows
    are ordered by the SHA-256 of (seed, words), which is as good as random. All of it
    depends on nothing but the seed and the words: every source of the same reviews
    gives the same splits, in the same order, on every machine.

    Args:
        official: "train", and "test" if there is one; the latter is left as it is.
        validation_fraction: between 0 and 1, both excluded.
        seed: any integer.
        division: "films"; or "reviews", which groups copies alone, so that validation
            reviews share films with training reviews and score higher than the
            official test split does. A review whose film is not known (`film_groups`)
            is grouped with its copies alone.

    Raises:
        ValueError: the fraction is out of range, or leaves one of the splits without
            reviews; or an unknown division.
    """
    if not 0.0 < validation_fraction < 1.0:
        raise ValueError(
            "validation_fraction: expected a number between 0 and 1, "
            f"got {validation_fraction}"
        )
    if division not in get_args(Division):
        raise ValueError(f"division: expected 'films' or 'reviews', got {division!r}")
    rows = official["train"]
    words = [words_of(text) for text in rows.texts]
    groups = film_groups(words) if division == "films" else words
    chosen = _validation_groups(groups, rows.labels, validation_fraction, seed)
    order = sorted(
        range(len(words)), key=lambda i: (_digest(seed, words[i]), rows.texts[i])
    )
    training = [i for i in order if groups[i] not in chosen]
    splits = {
        "train": _select(rows, training),
        "validation": _select(rows, [i for i in order if groups[i] in chosen]),
    }
    for name, split in splits.items():
        if not split.texts:
            raise ValueError(
                f"validation_fraction: {validation_fraction} of {len(words)} training "
                f"reviews leaves the {name} split empty; copies of one are not divided"
            )
    counts = {
        "duplicates": len(words) - len(set(words)),
        "groups": len(set(groups)),
        "validation_groups": len(chosen),
    }
    if "test" in official:
        splits["test"] = official["test"]
        known = set(words)
        counts["test_duplicates"] = sum(
            words_of(text) in known for text in official["test"].texts
        )
    numbers = np.unique([groups[i] for i in training], return_inverse=True)[1]
    return ReviewSplits(splits, counts, numbers.astype(np.int32))


def _validation_groups(
    groups: Sequence[str], labels: np.ndarray, fraction: float, seed: int
) -> set[str]:
    """The first groups, in a random order, that don't exceed any label's share."""
    members: dict[str, Counter[int]] = defaultdict(Counter)
    for group, label in zip(groups, labels.tolist(), strict=True):
        members[group][label] += 1
    left = {
        label: round(fraction * count)
        for label, count in Counter(labels.tolist()).items()
    }
    chosen = set()
    for group in sorted(members, key=lambda group: _digest(seed, group)):
        if all(left[label] >= count for label, count in members[group].items()):
            chosen.add(group)
            for label, count in members[group].items():
                left[label] -= count
    return chosen


def _select(reviews: Reviews, rows: Sequence[int]) -> Reviews:
    return Reviews(
        tuple(reviews.texts[i] for i in rows), reviews.labels[np.asarray(rows, int)]
    )


def _digest(seed: int, text: str) -> bytes:
    return hashlib.sha256(f"{seed}:{text}".encode()).digest()
