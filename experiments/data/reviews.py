"""Labelled reviews, and their division into training and validation."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.data.encoding import clean

NEGATIVE, POSITIVE = 0, 1


class Reviews(NamedTuple):
    """Texts as their source has them, with labels.

    Attributes:
        texts: N texts.
        labels: (N,) int32, 0 negative and 1 positive.
    """

    texts: tuple[str, ...]
    labels: np.ndarray


class ReviewSplits(NamedTuple):
    """Named splits and what was met on the way.

    Attributes:
        splits: "train" and "validation", and "test" where the source has one.
        counts: `duplicates`, training reviews whose words repeat an earlier one's
            (kept, all on the same side of the division), and where there is a test
            split `test_duplicates`, test reviews whose words also stand in the
            training or validation split (kept: the official split is left as it is).
    """

    splits: dict[str, Reviews]
    counts: dict[str, int]


def divide(
    official: dict[str, Reviews], *, validation_fraction: float, seed: int
) -> ReviewSplits:
    """Carves a validation split from the official training reviews.

    The official archive repeats about a hundred reviews, some but for a comma; were a
    copy in training and another in validation, memory would pass for understanding.
    So reviews with the same words are one group, groups are ordered by the SHA-256 of
    (seed, words), and within each label the first `validation_fraction` of the
    reviews, in whole groups, are the validation split. Rows keep that order, which is
    as good as random. It depends on nothing but the seed and the words: every source
    of the same reviews gives the same splits, in the same order, on every machine.

    Args:
        official: "train", and "test" if there is one; the latter is left as it is.
        validation_fraction: between 0 and 1, both excluded.
        seed: any integer.

    Raises:
        ValueError: the fraction is out of range, or leaves one of the splits without
            reviews.
    """
    if not 0.0 < validation_fraction < 1.0:
        raise ValueError(
            "validation_fraction: expected a number between 0 and 1, "
            f"got {validation_fraction}"
        )
    rows = official["train"]
    keys = [_words(text) for text in rows.texts]
    order = sorted(
        range(len(keys)), key=lambda i: (_digest(seed, keys[i]), rows.texts[i])
    )
    chosen = _validation_keys(keys, rows.labels, order, validation_fraction)
    splits = {
        "train": _select(rows, [i for i in order if keys[i] not in chosen]),
        "validation": _select(rows, [i for i in order if keys[i] in chosen]),
    }
    for name, split in splits.items():
        if not split.texts:
            raise ValueError(
                f"validation_fraction: {validation_fraction} of {len(keys)} training "
                f"reviews leaves the {name} split empty"
            )
    counts = {"duplicates": len(keys) - len(set(keys))}
    if "test" in official:
        splits["test"] = official["test"]
        known = set(keys)
        counts["test_duplicates"] = sum(
            _words(text) in known for text in official["test"].texts
        )
    return ReviewSplits(splits, counts)


def _validation_keys(
    keys: Sequence[str], labels: np.ndarray, order: Sequence[int], fraction: float
) -> set[str]:
    group_size = Counter(keys)
    wanted = {
        label: round(fraction * count)
        for label, count in Counter(labels.tolist()).items()
    }
    chosen: set[str] = set()
    for i in order:
        label = int(labels[i])
        if keys[i] not in chosen and wanted[label] >= group_size[keys[i]]:
            chosen.add(keys[i])
            wanted[label] -= group_size[keys[i]]
    return chosen


def _select(reviews: Reviews, rows: Sequence[int]) -> Reviews:
    return Reviews(
        tuple(reviews.texts[i] for i in rows), reviews.labels[np.asarray(rows, int)]
    )


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", clean(text)[0].lower()))


def _digest(seed: int, words: str) -> bytes:
    return hashlib.sha256(f"{seed}:{words}".encode()).digest()
