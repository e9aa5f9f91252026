"""Series of one's own, each with a class or a number: an .npz file, or a table.

An .npz file holds an array of series, (N, T, D), or (N, T) where a step is one number;
the targets, (N,); and where series have lengths of their own, these, (N,), from 1 to T.
A table (.csv, .tsv) has a line for every step, with a column that says which series it
belongs to, one with the series' target, and the others for the D numbers of the step.
"""

import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.data.labelled import in_order, read_table
from experiments.data.series import Series, pad_series

FEWEST_OF_CLASS, FEWEST = 5, 10
"""Series of a class, and of numbers in all: some are held out twice."""

_LARGEST = float(np.finfo(np.float32).max)

HELD_OUT = 0.15
"""The share of series for validation, and that for testing."""


class SeriesNames(NamedTuple):
    """What is what in a file.

    Attributes:
        target: the array or column of targets.
        inputs: the array of series.
        lengths: the array of lengths, where there is one.
        series: the column that says which series a step belongs to.
    """

    target: str = "labels"
    inputs: str = "xs"
    lengths: str = "lengths"
    series: str = "series"


class SeriesFile(NamedTuple):
    """What a file holds.

    Attributes:
        series: N of (T, D) float32.
        targets: N, as they stand in the file; None where they were not asked for.
    """

    series: list[np.ndarray]
    targets: list[object] | None


class DividedSeries(NamedTuple):
    """Series to train on, to validate and to test, inputs scaled.

    Attributes:
        splits: "train", "validation" and "test".
        about: what new series and what is said of them need: `mean` and `scale` of the
            D inputs, and `classes`, or `target_mean` and `target_scale`.
    """

    splits: dict[str, Series]
    about: dict[str, Any]


def read_series(path: Path, names: SeriesNames, *, targets: bool = True) -> SeriesFile:
    """Reads series and their targets.

    Args:
        path: an .npz file, or a table, .csv or .tsv.
        names: what is what in it.
        targets: whether they are asked for. If not, what is named so is passed over.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not of this form, or a number is missing or not finite; the
            array, series and step, or the line and column, are named.
    """
    match path.suffix.lower():
        case ".npz":
            return _read_arrays(path, names, targets)
        case ".csv" | ".tsv":
            return _read_steps(path, names, targets)
    raise ValueError(f"{path}: expected a file that ends in .npz, .csv or .tsv")


def divide_classes(read: SeriesFile) -> DividedSeries:
    """Series with classes: of each class some are held out, always the same ones.

    Raises:
        ValueError: a target is no class, there are fewer than two, or one has fewer
            than `FEWEST_OF_CLASS` series.
    """
    names = [_class(number, target) for number, target in enumerate(read.targets or [])]
    classes = in_order(set(names))
    if len(classes) < 2:
        raise ValueError(f"targets: expected at least two classes, found {classes}")
    labels = np.array([classes.index(name) for name in names], np.int32)
    groups = [np.flatnonzero(labels == label) for label in range(len(classes))]
    for name, group in zip(classes, groups, strict=True):
        if len(group) < FEWEST_OF_CLASS:
            raise ValueError(
                f"targets, series {group[0]}: expected at least {FEWEST_OF_CLASS} "
                f"series of each class, found {len(group)} of {name!r}"
            )
    splits, about = _divide(read.series, labels, groups)
    return DividedSeries(splits, {**about, "classes": list(classes)})


def divide_numbers(read: SeriesFile) -> DividedSeries:
    """Series with a number each, scaled as the inputs are.

    Raises:
        ValueError: a target is no finite number, or there are fewer than `FEWEST`.
    """
    numbers = [_number(n, target) for n, target in enumerate(read.targets or [])]
    if len(numbers) < FEWEST:
        raise ValueError(f"expected at least {FEWEST} series, found {len(numbers)}")
    targets = np.array(numbers)
    splits, about = _divide(read.series, targets, [np.arange(len(targets))])
    mean, scale = _mean_and_scale(splits["train"].labels[:, None])
    splits = {
        name: own._replace(labels=((own.labels - mean) / scale).astype(np.float32))
        for name, own in splits.items()
    }
    scaled = {"target_mean": mean.item(), "target_scale": scale.item()}
    return DividedSeries(splits, {**about, **scaled})


# --- .npz -------------------------------------------------------------------------


def _read_arrays(path: Path, names: SeriesNames, targets: bool) -> SeriesFile:
    found = _arrays(path, names)
    for name in (names.inputs, *([names.target] if targets else [])):
        if name not in found:
            there = ", ".join(map(repr, found)) or "none"
            raise ValueError(f"{path}: there is no array {name!r}, only {there}")
    xs, where = found[names.inputs], f"{path}, array {names.inputs!r}"
    if xs.dtype.kind not in "biuf" or xs.ndim not in (2, 3) or not xs.size:
        raise ValueError(
            f"{where}: expected numbers of shape (N, T, D) or (N, T), got "
            f"{xs.dtype} of shape {xs.shape}"
        )
    with np.errstate(over="ignore"):
        xs = xs.reshape(*xs.shape[:2], -1).astype(np.float32)
    lengths = _lengths(path, names, found.get(names.lengths), xs)
    series = [row[:length] for row, length in zip(xs, lengths, strict=True)]
    for number, one in enumerate(series):
        if not np.isfinite(one).all():
            step, channel = np.argwhere(~np.isfinite(one))[0]
            raise ValueError(
                f"{where}, series {number}, step {step}, channel {channel}: expected "
                f"a finite number, got {one[step, channel]}; an array "
                f"{names.lengths!r} says where series end"
            )
    if not targets:
        return SeriesFile(series, None)
    target = found[names.target]
    if target.shape != (len(xs),):
        raise ValueError(
            f"{path}, array {names.target!r}: expected the shape ({len(xs)},), as "
            f"there are series, got {target.shape}"
        )
    return SeriesFile(series, target.tolist())


def _arrays(path: Path, names: SeriesNames) -> dict[str, np.ndarray]:
    """The arrays with these names; of others the names alone, for an error to tell."""
    wanted, where = {names.inputs, names.lengths, names.target}, None
    try:
        with open(path, "rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it holds no named arrays")
            found = {}
            for where in archive.files:
                found[where] = archive[where] if where in wanted else np.zeros(0)
            return found
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        told = f"{path}, array {where!r}" if where else f"{path}"
        raise ValueError(f"{told}: not an .npz file of numbers: {error}") from error


def _lengths(
    path: Path, names: SeriesNames, found: np.ndarray | None, xs: np.ndarray
) -> np.ndarray:
    """The series' own lengths, (N,); all of them whole where there are none."""
    count, longest, _ = xs.shape
    if found is None:
        return np.full(count, longest)
    where = f"{path}, array {names.lengths!r}"
    if found.dtype.kind not in "iu" or found.shape != (count,):
        raise ValueError(
            f"{where}: expected integers of shape ({count},), as there are series, got "
            f"{found.dtype} of shape {found.shape}"
        )
    wrong = np.flatnonzero((found < 1) | (found > longest))
    if wrong.size:
        number = wrong[0]
        raise ValueError(
            f"{where}, series {number}: expected 1 to {longest}, got {found[number]}"
        )
    return found


# --- tables -----------------------------------------------------------------------


def _read_steps(path: Path, names: SeriesNames, targets: bool) -> SeriesFile:
    rows = read_table(path, None, "\t" if path.suffix.lower() == ".tsv" else ",")
    _, header = next(rows)
    needed = [names.series, *([names.target] if targets else [])]
    for name in needed:
        if header.count(name) != 1:
            there = ", ".join(map(repr, header))
            raise ValueError(
                f"{path}, line 1: expected one column {name!r} among {there}"
            )
    columns = [n for n in header if n not in (names.series, names.target)]
    if not columns:
        raise ValueError(f"{path}, line 1: expected a column of numbers beside these")
    steps: dict[str, list[list[float]]] = {}
    told: dict[str, str] = {}
    for line, fields in rows:
        own = dict(zip(header, fields, strict=True))
        name = own[names.series]
        where = f"{path}, line {line}"
        numbers = [_finite(own[c], f"{where}, column {c!r}") for c in columns]
        steps.setdefault(name, []).append(numbers)
        if targets:
            target = own[names.target].strip()
            if told.setdefault(name, target) != target:
                raise ValueError(
                    f"{where}, column {names.target!r}: the series {name!r} had "
                    f"{told[name]!r} before, got {target!r}"
                )
    if not steps:
        raise ValueError(f"{path}: expected a line for every step, found none")
    series = [np.array(own, np.float32) for own in steps.values()]
    return SeriesFile(series, list(told.values()) if targets else None)


def _finite(field: str, where: str) -> float:
    try:
        number = float(field)
    except ValueError:
        number = np.nan
    if not abs(number) <= _LARGEST:
        raise ValueError(f"{where}: expected a finite number, got {field!r}")
    return number


# --- targets and parts ------------------------------------------------------------


def _class(number: int, target: object) -> str:
    """The name of a class; a number is one if it has no decimals."""
    name = str(target).strip()
    if not name:
        raise ValueError(f"targets, series {number}: the class is empty")
    try:
        value = float(name)
    except ValueError:
        return name
    if not value.is_integer():
        raise ValueError(
            f"targets, series {number}: {name} is no class; for numbers there is "
            "experiments.regression"
        )
    return name if not isinstance(target, float) else str(int(value))


def _number(number: int, target: object) -> float:
    return _finite(str(target), f"targets, series {number}")


def _divide(
    series: Sequence[np.ndarray], targets: np.ndarray, groups: Sequence[np.ndarray]
) -> tuple[dict[str, Series], dict[str, list[float]]]:
    """Three parts, each with its share of every group; inputs scaled as in training."""
    rng, parts = np.random.default_rng(0), [[], [], []]
    for group in groups:
        held_out = max(1, round(HELD_OUT * len(group)))
        cuts = [len(group) - 2 * held_out, len(group) - held_out]
        for part, own in zip(
            parts, np.split(rng.permutation(group), cuts), strict=True
        ):
            part.extend(own.tolist())
    mean, scale = _mean_and_scale(np.concatenate([series[n] for n in parts[0]]))
    xs, lengths = pad_series(scale_series(series, mean, scale), len(mean))
    every = Series(xs, lengths, targets)
    names = ("train", "validation", "test")
    splits = {
        name: every.take(np.array(rows, int))
        for name, rows in zip(names, parts, strict=True)
    }
    return splits, {"mean": mean.tolist(), "scale": scale.tolist()}


def scale_series(
    series: Iterable[np.ndarray], mean: np.ndarray, scale: np.ndarray
) -> list[np.ndarray]:
    """Series (T, D) less the means (D,), over the scales (D,)."""
    return [((np.asarray(one) - mean) / scale).astype(np.float32) for one in series]


def _mean_and_scale(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column; 1 for one that does not change."""
    mean, scale = (
        rows.mean(axis=0, dtype=np.float64),
        rows.std(axis=0, dtype=np.float64),
    )
    return mean, np.where(scale > 0, scale, 1.0)
