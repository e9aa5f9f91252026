"""Labelled texts of one's own: folders of classes, CSV, TSV, JSON lines.

A text and its label are a row, and every format has a reader that gives rows, each with
the place it stands at. What is done with them does not depend on the format.
"""

import codecs
import csv
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from importlib.resources.abc import Traversable
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from experiments.data.reviews import SENTIMENTS, Labelled, Reviews

FEWEST = 10
"""Training texts of a class: a tenth of them is held out for validation."""

SPLITS = ("train", "test")


class Columns(NamedTuple):
    """What the columns of a table, or the fields of JSON objects, are called."""

    text: str = "text"
    label: str = "label"


COLUMNS = Columns()


class Row(NamedTuple):
    """A text, its label, and the file and line that an error names."""

    where: str
    text: str
    label: str


def read_labelled(path: Path, columns: Columns) -> Labelled:
    """Reads texts and labels from a file or a folder.

    A file is a table with a line of names, comma-separated (.csv) or tab-separated
    (.tsv), or holds a JSON object a line (.jsonl, .ndjson). A folder holds `train`, and
    perhaps `test`, each such a file (train.csv) or a folder with a folder for each
    class, in which every ``*.txt`` is a text; or the classes' folders themselves.
    `unsup`, the texts without labels of the official IMDB archive, is left out, and so
    is whatever begins with a dot.

    Labels are in order: as numbers if all of them are integers, as strings otherwise.
    Blanks around them don't count.

    Raises:
        FileNotFoundError: there is no such thing, or a folder without texts.
        ValueError: a file is empty, not UTF-8 or not of its form, a column is missing
            or twice there, a label is empty, there are fewer than two classes, a class
            has fewer than `FEWEST` training texts, or the test texts have other
            classes. File and line are named.
    """
    rows = {split: _rows(place, columns) for split, place in _parts(path).items()}
    names = _class_names(path, rows["train"])
    for row in rows.get("test", []):
        if row.label not in names:
            raise ValueError(
                f"{row.where}: no training text has the label {row.label!r}"
            )
    number = {name: label for label, name in enumerate(names)}
    splits = {
        split: Reviews(
            tuple(row.text for row in own),
            np.asarray([number[row.label] for row in own], np.int32),
        )
        for split, own in rows.items()
    }
    for split, own in splits.items():
        if missing := set(number.values()) - set(own.labels.tolist()):
            name = names[min(missing)]
            raise ValueError(f"{path}: no {split} text has the label {name!r}")
    return Labelled(splits, SENTIMENTS if names == ("neg", "pos") else names)


def fingerprint(path: Path, columns: Columns) -> str:
    """A hash of the files that `read_labelled` reads, and of how.

    Raises:
        FileNotFoundError, ValueError: the files are not there.
    """
    total = hashlib.sha256()
    for place in _parts(path).values():
        for file in _text_files(place) if place.is_dir() else [place]:
            content = hashlib.sha256(file.read_bytes()).digest()
            relative = file.relative_to(path).as_posix()
            total.update(relative.encode() + b"\0" + content)
        if place.is_file():
            total.update(json.dumps(columns).encode())
    return total.hexdigest()


def read_text(file: Traversable) -> str:
    """The text of a file in UTF-8, without a byte order mark.

    Raises:
        ValueError: it is empty or not UTF-8; file and line are named.
    """
    return decode_text(file.read_bytes(), file)


def decode_text(content: bytes, file: object) -> str:
    """The text of what a file holds; raises as `read_text` does."""
    if not content:
        raise ValueError(f"{file}: the file is empty")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        told = "UTF-16, expected UTF-8" if wide else f"not UTF-8 text: {error}"
        raise ValueError(f"{file}, line {line}: {told}") from error
    if (place := text.find("\0")) >= 0:
        line = text.count("\n", 0, place) + 1
        raise ValueError(f"{file}, line {line}: not UTF-8 text: there is a NUL in it")
    return text


def read_table(
    file: Traversable, names: Sequence[str] | None, delimiter: str = ","
) -> Iterator[tuple[int, list[str]]]:
    """The rows of a table with a line of names: line, and the fields of these columns.

    Args:
        file: the table.
        names: of the columns; None for all of them, and the names are the first row.
        delimiter: what stands between fields.

    Raises:
        ValueError: as `read_text`; a column is missing or twice there, or a row is
            broken or of another width.
    """
    text = io.StringIO(read_text(file), newline="")
    rows, line = csv.reader(text, delimiter=delimiter, strict=True), 1
    try:
        header = [name.strip() for name in next(rows, [])]
        if names is None:
            yield 1, header
        places = [_place(name, header) for name in names or header]
        line = rows.line_num + 1
        for row in rows:
            if row and len(row) != len(header):
                raise ValueError(f"expected {len(header)} fields, got {len(row)}")
            if row:
                yield line, [row[place] for place in places]
            line = rows.line_num + 1
    except (csv.Error, ValueError) as error:
        raise ValueError(f"{file}, line {line}: {error}") from error


# --- what is where ----------------------------------------------------------------


def _parts(path: Path) -> dict[str, Path]:
    """The file or folder behind each split; "train" is the whole where it has none."""
    if path.is_file():
        _reader(path)
        return {"train": path}
    parts = {}
    for split in SPLITS:
        files = [path / f"{split}{suffix}" for suffix in _READERS]
        found = [file for file in files if file.is_file()]
        found += [folder for folder in [path / split] if folder.is_dir()]
        if len(found) > 1:
            both = " and ".join(part.name for part in found)
            raise ValueError(f"{path}: expected one of {both}, found both")
        if found:
            parts[split] = found[0]
    return parts if "train" in parts else {"train": path, **parts}


def _reader(file: Path) -> Callable[[Path, Columns], Iterator[Row]]:
    """The reader of a file's format.

    Raises:
        ValueError: there is none.
    """
    if file.suffix.lower() not in _READERS:
        expected = ", ".join(_READERS)
        raise ValueError(f"{file}: expected a file that ends in one of {expected}")
    return _READERS[file.suffix.lower()]


def _rows(place: Path, columns: Columns) -> list[Row]:
    read = _read_folder if place.is_dir() else _reader(place)
    return list(read(place, columns))


def _text_files(folder: Path) -> list[Path]:
    """The texts of all classes, sorted by class and name.

    Raises:
        FileNotFoundError: there is no folder of a class.
        ValueError: a folder holds no text.
    """
    folders = [f for f in folder.iterdir() if f.is_dir() and f.name[0] != "."]
    names = {f.name for f in folders} - set(SPLITS)
    names -= {"unsup"} if names & {"neg", "pos"} else set()
    if not names:
        raise FileNotFoundError(
            f"{folder}: there are no texts with labels: expected a folder for each "
            f"class with *.txt in it, or train with {', '.join(_READERS)}; a file of "
            "another name is given itself"
        )
    files = []
    for name in sorted(names):
        # macOS leaves ._0_9.txt beside 0_9.txt.
        own = [f for f in (folder / name).glob("*.txt") if f.name[0] != "."]
        if not own:
            raise ValueError(f"{folder / name}: expected texts (*.txt), found none")
        files += sorted(own)
    return files


# --- a reader for each format -----------------------------------------------------


def _read_folder(folder: Path, columns: Columns) -> Iterator[Row]:
    del columns
    for file in _text_files(folder):
        yield Row(str(file), read_text(file), file.parent.name)


def _read_rows(file: Path, columns: Columns, delimiter: str) -> Iterator[Row]:
    for line, (text, label) in read_table(file, columns, delimiter):
        yield _row(f"{file}, line {line}", columns, text, label)


def _read_json_lines(file: Path, columns: Columns) -> Iterator[Row]:
    for number, line in enumerate(read_text(file).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where}: not a JSON object: {error}") from error
        if not isinstance(fields, dict):
            raise ValueError(f"{where}: not a JSON object: {line:.60}")
        if missing := [name for name in columns if name not in fields]:
            raise ValueError(f"{where}: {_no_column(missing[0], fields)}")
        text, label = (fields[name] for name in columns)
        if not isinstance(text, str):
            raise ValueError(f"{where}: {columns.text!r} is no string: {text!r:.60}")
        if not isinstance(label, str | int):
            told = "is neither a string nor an integer"
            raise ValueError(f"{where}: {columns.label!r} {told}: {label!r:.60}")
        # true and 1 have the names that JSON gives them
        name = label if isinstance(label, str) else json.dumps(label)
        yield _row(where, columns, text, name)


def _row(where: str, columns: Columns, text: str, label: str) -> Row:
    """A row of a file with columns, checked."""
    if not label.strip():
        raise ValueError(f"{where}: the label in {columns.label!r} is empty")
    try:
        (text + label).encode()  # JSON can escape half of a pair of surrogates
    except UnicodeEncodeError as error:
        raise ValueError(f"{where}: not Unicode text: {error}") from error
    return Row(where, text, label.strip())


def _place(name: str, header: Sequence[str]) -> int:
    """Where in a table's first line a name stands."""
    if header.count(name) > 1:
        raise ValueError(f"there are {header.count(name)} columns {name!r}")
    if name not in header:
        raise ValueError(_no_column(name, header))
    return header.index(name)


def _no_column(name: str, names: Iterable[str]) -> str:
    there = ", ".join(repr(one) for one in names) or "none"
    return (
        f"there is no column {name!r}, only {there:.200}; "
        "--text-column and --label-column name others"
    )


_READERS: MappingProxyType[str, Callable[[Path, Columns], Iterator[Row]]] = (
    MappingProxyType(
        {
            ".csv": partial(_read_rows, delimiter=","),
            ".tsv": partial(_read_rows, delimiter="\t"),
            ".jsonl": _read_json_lines,
            ".ndjson": _read_json_lines,
        }
    )
)
"""By the end of a file's name, what reads it."""


# --- classes ----------------------------------------------------------------------


def _class_names(path: Path, rows: Sequence[Row]) -> tuple[str, ...]:
    """The labels of the training texts, in order."""
    counts = Counter(row.label for row in rows)
    if len(counts) < 2:
        told = "".join(f", all with the label {label!r}" for label in counts)
        raise ValueError(
            f"{path}: expected texts of at least two classes, found {len(rows)}{told}"
        )
    for row in rows:
        if (count := counts[row.label]) < FEWEST:
            raise ValueError(
                f"{row.where}: expected at least {FEWEST} training texts with each "
                f"label, found {count} with {row.label!r}; a tenth is held out"
            )
    return in_order(counts)


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Names of classes, as numbers if all of them are integers."""
    names = list(names)
    integers = all(re.fullmatch(r"[+-]?\d{1,18}", name) for name in names)
    return tuple(sorted(names, key=int if integers else str))
