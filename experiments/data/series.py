"""Series of numbers with a label each: digits read as sequences, spoken vowels.

Both come in packages of the extra `experiments`, and nothing is downloaded.
"""

from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from experiments.optional import package_folder

Reading = Literal["rows", "pixels", "permuted"]


class Series(NamedTuple):
    """Labelled series, one a row, padded by 0 to a common length.

    Attributes:
        xs: (N, T, D) float32.
        lengths: (N,) int32, how many of the T steps are the series' own.
        labels: (N,) int32, from 0.
    """

    xs: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray

    def take(self, rows: np.ndarray) -> "Series":
        """The series of these rows."""
        return Series(self.xs[rows], self.lengths[rows], self.labels[rows])


def pad_series(series: Any, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Series of any lengths, padded by 0 to the longest: (N, T, D), and lengths (N,).

    Args:
        series: numbers (N, T, D), or N arrays (T, D), each with a T of its own.
        size: D.

    Raises:
        ValueError: there is none, or one has no step or another shape; it is named.
    """
    each = [np.asarray(one, np.float32) for one in series]
    if not each:
        raise ValueError("series: expected at least one")
    for number, one in enumerate(each):
        if one.ndim != 2 or one.shape[1] != size or not len(one):
            raise ValueError(
                f"series {number}: expected the shape (steps, {size}), got {one.shape}"
            )
    lengths = np.array([len(one) for one in each], np.int32)
    xs = np.zeros((len(each), lengths.max(), size), np.float32)
    for row, one in zip(xs, each, strict=True):
        row[: len(one)] = one
    return xs, lengths


# --- digits -----------------------------------------------------------------------


def digit_series(reading: str) -> dict[str, Series]:
    """The 1797 handwritten digits of scikit-learn, 8 by 8 pixels, read in some order.

    They are the test part of Alpaydin & Kaynak's "Optical Recognition of Handwritten
    Digits" (UCI, 1998), read without importing the package, which takes a second. A
    fixed random 1197 are for training, 300 for validation, 300 for testing. Reading
    pixel by pixel, plain and in one fixed random order, follows Le, Jaitly & Hinton
    (2015), section 4.2, who did so with images of 28 by 28.

    Args:
        reading: "rows", 8 steps of a row of 8 pixels; "pixels", 64 steps of one;
            "permuted", the same 64 in the order of `pixel_permutation`.

    Returns:
        "train", "validation" and "test", pixels from 0 to 1.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
        ValueError: an unknown reading.
    """
    if reading not in get_args(Reading):
        raise ValueError(
            f"reading: expected one of {', '.join(get_args(Reading))}, got {reading!r}"
        )
    data = package_folder("sklearn", extra="experiments") / "datasets/data"
    table = np.loadtxt(data / "digits.csv.gz", delimiter=",")
    pixels, labels = (table[:, :-1] / 16).astype(np.float32), table[:, -1]
    if reading == "permuted":
        pixels = pixels[:, pixel_permutation()]
    count, steps = len(labels), 8 if reading == "rows" else 64
    every = Series(
        pixels.reshape(count, steps, -1),
        np.full(count, steps, np.int32),
        labels.astype(np.int32),
    )
    order = np.random.default_rng(0).permutation(count)
    rows = np.split(order, [count - 600, count - 300])
    names = ("train", "validation", "test")
    return {name: every.take(own) for name, own in zip(names, rows, strict=True)}


def pixel_permutation() -> np.ndarray:
    """The order in which permuted digits are read: each of 0 to 63 once."""
    return np.random.default_rng(1).permutation(64)


# --- vowels -----------------------------------------------------------------------


def vowel_series() -> dict[str, Series]:
    """Japanese vowels: which of nine men is speaking?

    Series of 7 to 29 steps of 12 linear-prediction coefficients, from Kudo, Toyama &
    Shimbo (1999), "Multidimensional curve classification using passing-through
    regions"; the official 270 training and 370 test utterances. The file is read from
    the package sktime without importing it. Of each speaker's 30 training utterances
    every sixth is for validation. Each coefficient is scaled to mean 0 and standard
    deviation 1 over the steps that are trained on.

    Returns:
        "train" (225), "validation" (45) and "test" (370).

    Raises:
        ModuleNotFoundError: sktime is not installed.
        FileNotFoundError, ValueError: as `read_ts`.
    """
    data = package_folder("sktime", extra="experiments") / "datasets/data"
    read = [
        read_ts(data / f"JapaneseVowels/JapaneseVowels_{part}.ts")
        for part in ("TRAIN", "TEST")
    ]
    steps = max(len(values) for part in read for values, _ in part)
    official, test = (_padded(part, steps) for part in read)
    held_out = np.arange(len(official.labels)) % 6 == 5
    train = official.take(np.flatnonzero(~held_out))
    known = train.xs[_valid(train)]
    mean, scale = known.mean(axis=0), known.std(axis=0)

    def scaled(split: Series) -> Series:
        inside = _valid(split)[..., None]
        return split._replace(xs=np.where(inside, (split.xs - mean) / scale, 0))

    return {
        "train": scaled(train),
        "validation": scaled(official.take(np.flatnonzero(held_out))),
        "test": scaled(test),
    }


def read_ts(file: Path) -> list[tuple[np.ndarray, int]]:
    """Reads a file in sktime's format ts: every series, (length, D), and its label.

    After a line ``@data``, each line is a series: its channels, apart by ":", each
    with its values apart by ",", and at the end the label, an integer from 1.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not of that form; the series is named.
    """
    lines = file.read_text("utf-8").splitlines()
    starts = [n for n, line in enumerate(lines) if line.strip().lower() == "@data"]
    if not starts:
        raise ValueError(f"{file}: expected a line @data, found none")
    series = []
    for number, line in enumerate(lines[starts[0] + 1 :], 1):
        *channels, label = line.split(":")
        try:
            values = np.array([c.split(",") for c in channels], np.float32).T
            series.append((values, int(label)))
        except ValueError as error:
            raise ValueError(f"{file}: series {number}: {error}") from error
    return series


def _padded(series: list[tuple[np.ndarray, int]], steps: int) -> Series:
    xs, lengths = pad_series([v for v, _ in series], series[0][0].shape[1])
    xs = np.pad(xs, ((0, 0), (0, steps - xs.shape[1]), (0, 0)))
    labels = np.array([label - 1 for _, label in series], np.int32)
    return Series(xs, lengths, labels)


def _valid(series: Series) -> np.ndarray:
    return np.arange(series.xs.shape[1]) < series.lengths[:, None]
