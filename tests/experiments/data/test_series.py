"""Digits and vowels come whole, divided as they say, and scaled by training alone."""

import sys

import numpy as np
import pytest

from experiments.data import digit_series, pixel_permutation, read_ts, vowel_series

READINGS = {"rows": (8, 8), "pixels": (64, 1), "permuted": (64, 1)}
HEADER = "# a comment\n@problemName Two\n@data\n"


@pytest.fixture(scope="module")
def vowels():
    return vowel_series()


@pytest.mark.parametrize(("reading", "shape"), READINGS.items())
def test_digits_are_all_there_once(reading, shape):
    splits = digit_series(reading)
    assert {k: v.xs.shape for k, v in splits.items()} == {
        "train": (1197, *shape),
        "validation": (300, *shape),
        "test": (300, *shape),
    }
    for split in splits.values():
        assert split.xs.dtype == np.float32
        assert split.labels.dtype == split.lengths.dtype == np.int32
        assert (split.lengths == shape[0]).all()
    found = np.concatenate([s.xs.reshape(-1, 64) for s in splits.values()])
    if reading == "permuted":
        found = found[:, np.argsort(pixel_permutation())]
    labels = np.concatenate([s.labels for s in splits.values()])
    datasets = pytest.importorskip("sklearn.datasets")  # a second to import
    pixels, expected = datasets.load_digits(return_X_y=True)
    told = {(label, *row) for label, row in zip(labels, found * 16, strict=True)}
    assert told == {(label, *row) for label, row in zip(expected, pixels, strict=True)}
    assert found.min() >= 0
    assert found.max() == 1


def test_readings_divide_alike():
    rows, permuted = digit_series("rows"), digit_series("permuted")
    for name, split in rows.items():
        np.testing.assert_array_equal(split.labels, permuted[name].labels)


def test_the_permutation_is_a_bijection():
    order = pixel_permutation()
    np.testing.assert_array_equal(np.sort(order), np.arange(64))
    np.testing.assert_array_equal(order, pixel_permutation())
    # No neighbourhood is left: few steps lead from a pixel to one beside it.
    assert np.mean(np.abs(np.diff(order)) == 1) < 0.1


def test_an_unknown_reading_is_named():
    with pytest.raises(ValueError, match=r"reading: expected one of rows, .*'columns'"):
        digit_series("columns")


def test_vowels_are_the_official_parts(vowels):
    sizes = {k: (*v.xs.shape, v.labels.dtype) for k, v in vowels.items()}
    assert sizes == {
        "train": (225, 29, 12, np.int32),
        "validation": (45, 29, 12, np.int32),
        "test": (370, 29, 12, np.int32),
    }
    # Kudo et al. (1999), and the README of the data.
    np.testing.assert_array_equal(np.bincount(vowels["train"].labels), [25] * 9)
    np.testing.assert_array_equal(np.bincount(vowels["validation"].labels), [5] * 9)
    np.testing.assert_array_equal(
        np.bincount(vowels["test"].labels), [31, 35, 88, 44, 29, 24, 40, 50, 29]
    )


def test_vowels_have_their_lengths(vowels):
    lengths = np.concatenate([split.lengths for split in vowels.values()])
    assert (lengths.min(), lengths.max()) == (7, 29)
    for split in vowels.values():
        inside = np.arange(29) < split.lengths[:, None]
        assert (split.xs[~inside] == 0).all()
        assert (split.xs[inside] != 0).any(axis=-1).all()


def test_vowels_are_scaled_by_what_is_trained_on(vowels):
    train = vowels["train"]
    steps = train.xs[np.arange(29) < train.lengths[:, None]]
    np.testing.assert_allclose(steps.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(steps.std(axis=0), 1, atol=1e-5)
    test = vowels["test"].xs[np.arange(29) < vowels["test"].lengths[:, None]]
    assert np.abs(test.mean(axis=0)).max() > 0.01


def test_no_utterance_is_in_two_parts(vowels):
    told = [{row.tobytes() for row in split.xs} for split in vowels.values()]
    assert sum(map(len, told)) == len(set().union(*told)) == 640


def test_vowels_are_read_without_importing_sktime(monkeypatch):
    monkeypatch.setitem(sys.modules, "sktime", None)
    monkeypatch.delitem(sys.modules, "sktime")
    vowel_series()
    assert "sktime" not in sys.modules


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"'sktime'.*\.\[experiments\]"):
        vowel_series()


def test_a_file_is_read_as_it_stands(tmp_path):
    file = tmp_path / "two.ts"
    file.write_text(HEADER + "1,2,3:4,5,6:2\n7:8:1\n")
    (first, label), (second, other) = read_ts(file)
    np.testing.assert_array_equal(first, [[1, 4], [2, 5], [3, 6]])
    np.testing.assert_array_equal(second, [[7, 8]])
    assert (label, other) == (2, 1)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1,2:1\n", "expected a line @data"),
        (HEADER + "1,2:1\n1,x:1\n", "series 2"),
        (HEADER + "1,2:3,4,5:1\n", "series 1"),
        (HEADER + "1,2:one\n", "series 1"),
    ],
)
def test_a_broken_file_is_an_error_with_its_place(tmp_path, text, told):
    file = tmp_path / "broken.ts"
    file.write_text(text)
    with pytest.raises(ValueError, match=rf"broken\.ts: {told}"):
        read_ts(file)
