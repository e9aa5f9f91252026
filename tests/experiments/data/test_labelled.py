"""Texts of one's own: every format gives the same rows, and what is wrong is named."""

import codecs
import csv
import io
import json
import re

import numpy as np
import pytest

from experiments.data import Columns, encoded_imdb, load_imdb
from experiments.data.labelled import FEWEST, fingerprint, read_labelled

CLASSES = ("politics", "science", "sport")
MOODS = ('He said: "no",\nthen', "two\ttabs <br />", "plain")
ROWS = [(f"{MOODS[n % 3]} {n} {name}", name) for n in range(FEWEST) for name in CLASSES]


def table(delimiter, rows=ROWS, names=("text", "label"), end="\n"):
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator=end)
    writer.writerow(names)
    writer.writerows(rows)
    return buffer.getvalue().encode()


def json_lines(rows=ROWS, names=("text", "label")):
    lines = (json.dumps(dict(zip(names, row, strict=True))) for row in rows)
    return "\n".join(lines).encode()


def write_classes(folder, rows):
    for number, (text, name) in enumerate(rows):
        file = folder / name / f"{number:03}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8", newline="")


def pairs(found, split="train"):
    texts, labels = found.splits[split]
    assert labels.dtype == np.int32
    return [(t, found.classes[n]) for t, n in zip(texts, labels, strict=True)]


FILES = {
    "t.csv": table(","),
    "t.tsv": table("\t"),
    "crlf.CSV": table(",", end="\r\n"),
    "mark.csv": codecs.BOM_UTF8 + table(","),
    "other.csv": table(",", [(1, *row) for row in ROWS], (" id", "text ", "label")),
    "blank.csv": table(",").replace(b"science\n", b"science\n\n") + b"\n",
    "blanks.csv": table(",", [(text, f" {label} ") for text, label in ROWS]),
    "t.jsonl": json_lines(),
    "t.ndjson": codecs.BOM_UTF8 + json_lines().replace(b"\n", b"\r\n\r\n") + b"\n",
}


@pytest.mark.parametrize("name", FILES)
def test_every_file_gives_its_rows(name, tmp_path):
    (tmp_path / name).write_bytes(FILES[name])
    found = read_labelled(tmp_path / name, Columns())
    assert found.classes == CLASSES
    assert pairs(found) == ROWS
    assert list(found.splits) == ["train"]


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl"])
def test_columns_are_named(name, tmp_path):
    names = ("body", "topic")
    files = {"t.csv": table(",", names=names), "t.tsv": table("\t", names=names)}
    files["t.jsonl"] = json_lines(names=names)
    (tmp_path / name).write_bytes(files[name])
    assert pairs(read_labelled(tmp_path / name, Columns(*names))) == ROWS


@pytest.mark.parametrize("parts", [("",), ("", "test"), ("train",), ("train", "test")])
def test_a_folder_has_any_classes_and_perhaps_a_test_part(parts, tmp_path):
    for part in parts:
        write_classes(tmp_path / part, ROWS)
    (tmp_path / ".git").mkdir()
    found = read_labelled(tmp_path, Columns())
    assert found.classes == CLASSES
    assert list(found.splits) == ["train", "test"][: len(parts)]
    for split in found.splits:
        assert sorted(pairs(found, split)) == sorted(ROWS)


def test_a_folder_may_hold_files_for_its_parts(tmp_path):
    (tmp_path / "train.tsv").write_bytes(FILES["t.tsv"])
    (tmp_path / "test.jsonl").write_bytes(json_lines(ROWS[:3]))
    found = read_labelled(tmp_path, Columns())
    assert pairs(found) == ROWS
    assert pairs(found, "test") == ROWS[:3]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ((3, 1, 2), ("1", "2", "3")),
        (("10", "9", "-1"), ("-1", "9", "10")),
        (("b", "10", "9"), ("10", "9", "b")),
        ((True, False), ("false", "true")),
        (("pos", "neg"), ("negative", "positive")),
    ],
)
def test_classes_are_in_order(labels, classes, tmp_path):
    rows = [(f"text {n}", label) for n in range(FEWEST) for label in labels]
    (tmp_path / "t.jsonl").write_bytes(json_lines(rows))
    assert read_labelled(tmp_path / "t.jsonl", Columns()).classes == classes


FEW = table(",", ROWS[:-1])
BROKEN = {
    "t.csv": [
        (b"", "the file is empty"),
        (b"\n", "line 1: there is no column 'text', only none"),
        (b"text;label\na;b\n", "line 1: there is no column 'text', only 'text;label'"),
        (b"text,body\na,b\n", "line 1: there is no column 'label', only 'text', 'bo"),
        (b"text,label,text\na,b,c\n", "line 1: there are 2 columns 'text'"),
        (b"text,label\na,b\nc\n", "line 3: expected 2 fields, got 1"),
        (b"text,label\na,b\nc,d,e\n", "line 3: expected 2 fields, got 3"),
        (b'text,label\n"a\nb",c\n"d,e\n', "line 4: unexpected end of data"),
        (b'text,label\n"a\nb",c\nd, \n', "line 4: the label in 'label' is empty"),
        (b"text,label\na,b\n\xe9,b\n", "line 3: not UTF-8 text: .* byte 0xe9"),
        ("text,label\na,b\n".encode("utf-16"), "line 1: UTF-16, expected UTF-8"),
        ("text,label\na,b\n".encode("utf-16-le"), "line 1: .* there is a NUL in it"),
        (b"text,label\n", "expected texts of at least two classes, found 0$"),
        (table(",", [("a", "b")] * 20), "two classes, found 20, all with .* 'b'"),
        (FEW, "line 6: expected at least 10 .* found 9 with 'sport'"),
    ],
    "t.jsonl": [
        (b'{"text": "a", "label": "b"}\n{"text": "a"', "line 2: not a JSON object: Ex"),
        (b'["a", "b"]\n', r"line 1: not a JSON object: \["),
        (b"[" * 100_000, "line 1: not a JSON object"),
        (b'{"text": "a"}\n', "line 1: there is no column 'label', only 'text'"),
        (b'{"text": null, "label": "b"}\n', "line 1: 'text' is no string: None"),
        (b'{"text": "a", "label": 0.5}\n', "line 1: 'label' is neither .*: 0.5"),
        (b'{"text": "a", "label": ""}\n', "line 1: the label in 'label' is empty"),
        (b'\n{"text": "\\ud800", "label": "b"}\n', "line 2: not Unicode text"),
    ],
    "t.txt": [(b"a", "expected a file that ends in one of .csv, .tsv")],
}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [(name, *case) for name, cases in BROKEN.items() for case in cases],
    ids=lambda value: str(value)[:30],
)
def test_what_is_wrong_with_a_file_is_named(name, content, told, tmp_path):
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(str(file)) + ".*" + told):
        read_labelled(file, Columns())


@pytest.mark.parametrize(
    ("test", "told"),
    [
        (table(",", [("a", "arts")]), r"test\.csv, line 2: no training text .* 'arts'"),
        (table(",", ROWS[:2]), "no test text has the label 'sport'"),
    ],
)
def test_the_test_part_has_the_same_classes(test, told, tmp_path):
    (tmp_path / "train.csv").write_bytes(FILES["t.csv"])
    (tmp_path / "test.csv").write_bytes(test)
    with pytest.raises(ValueError, match=told):
        read_labelled(tmp_path, Columns())


def test_two_files_for_one_part_are_refused(tmp_path):
    for name in ("train.csv", "train.tsv"):
        (tmp_path / name).write_bytes(b"a")
    with pytest.raises(ValueError, match=r"one of train\.csv and train\.tsv, found"):
        fingerprint(tmp_path, Columns())


def test_one_column_cannot_be_both(tmp_path):
    (tmp_path / "t.csv").write_bytes(FILES["t.csv"])
    with pytest.raises(ValueError, match="both in the column 'text'"):
        load_imdb(tmp_path / "t.csv", columns=Columns("text", "text"))


def test_the_hash_is_that_of_content_and_columns(tmp_path):
    file = tmp_path / "t.csv"
    file.write_bytes(FILES["t.csv"])
    first = fingerprint(file, Columns())
    assert fingerprint(file, Columns()) == first
    assert fingerprint(file, Columns("label", "text")) != first
    file.write_bytes(FILES["t.csv"].replace(b"plain", b"Plain"))
    assert fingerprint(file, Columns()) != first


def test_classes_come_through_the_cache(tmp_path):
    (tmp_path / "t.csv").write_bytes(FILES["t.csv"])
    for _ in range(2):
        found = encoded_imdb(tmp_path / "t.csv", cache_dir=tmp_path / "cache")
        assert found.classes == CLASSES
        np.testing.assert_array_equal(
            np.bincount(found.splits["validation"].labels), [1, 1, 1]
        )


def test_copies_leave_a_class_without_validation(tmp_path):
    rows = [("the same", "a")] * 10 + [(f"text {n}", "b") for n in range(10)]
    (tmp_path / "t.csv").write_bytes(table(",", rows))
    with pytest.raises(ValueError, match="validation split has no text of 'a'"):
        load_imdb(tmp_path / "t.csv")
