"""Series of one's own: arrays and a table give the same; errors name places."""

import io
import re

import numpy as np
import pytest

from experiments.data import SeriesNames, divide_classes, divide_numbers, read_series
from experiments.data.arrays import SeriesFile

LENGTHS = np.array([3, 1, 2, 3])
XS = np.random.default_rng(0).normal(size=(4, 3, 2)).astype(np.float32)
LABELS = np.array(["b", "a", "b", "a"])


def archive(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def changed(**arrays):
    return archive(**{"xs": XS, "lengths": LENGTHS, "labels": LABELS, **arrays})


def table(delimiter):
    rows = [("series", "x", "labels", "y")]
    for number, (length, label) in enumerate(zip(LENGTHS, LABELS, strict=True)):
        steps = XS[number, :length].tolist()
        rows += [(f"s{number}", repr(x), label, repr(y)) for x, y in steps]
    return "".join(delimiter.join(row) + "\n" for row in rows).encode()


@pytest.mark.parametrize(
    ("name", "content"),
    [("s.npz", changed()), ("s.csv", table(",")), ("s.tsv", table("\t"))],
)
def test_files_give_their_series(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    series, targets = read_series(tmp_path / name, SeriesNames())
    assert targets == LABELS.tolist()
    for one, row, length in zip(series, XS, LENGTHS, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_array_equal(one, row[:length])
    assert read_series(tmp_path / name, SeriesNames(), targets=False).targets is None


def test_names_may_be_others_and_a_step_one_number(tmp_path):
    file = tmp_path / "s.npz"
    file.write_bytes(archive(signal=XS[..., 0].astype(np.float64), y=[1.5, 2, 3, 4]))
    series, targets = read_series(file, SeriesNames("y", "signal"))
    assert [one.shape for one in series] == [(3, 1)] * 4
    assert targets == [1.5, 2, 3, 4]


def test_what_lies_beyond_a_length_does_not_matter(tmp_path):
    padded = np.where(np.arange(3)[:, None] < LENGTHS[:, None, None], XS, np.nan)
    (tmp_path / "s.npz").write_bytes(changed(xs=padded))
    series, _ = read_series(tmp_path / "s.npz", SeriesNames())
    np.testing.assert_array_equal(series[1], XS[1, :1])


NAN = XS.copy()
NAN[2, 1, 0] = np.nan
HUGE = np.full_like(XS, 1e300, np.float64)
HEAD = b"series,x,labels\n"
BROKEN = {
    "s.npz": [
        (b"", "not an .npz file of numbers"),
        (b"no zip", "not an .npz file of numbers"),
        (changed()[:-60], "not an .npz file of numbers"),
        (changed(xs=np.array([[1], [1, 2]], object)), "array 'xs': not an .npz file"),
        (archive(labels=LABELS), "there is no array 'xs', only 'labels'"),
        (archive(xs=XS), "there is no array 'labels', only 'xs'"),
        (changed(xs=XS[0, 0]), r"'xs': .* \(N, T\), got float32 of shape \(2,\)"),
        (changed(xs=XS[:, :0]), r"'xs': .* got float32 of shape \(4, 0, 2\)"),
        (changed(xs=LABELS[:, None]), "'xs': expected numbers .* got <U1"),
        (changed(xs=NAN), "'xs', series 2, step 1, channel 0: .* got nan"),
        (changed(xs=HUGE), "'xs', series 0, step 0, channel 0: .* got inf"),
        (changed(labels=LABELS[:3]), r"'labels': expected the shape \(4,\), .* \(3,\)"),
        (changed(lengths=LENGTHS[:3]), r"'lengths': expected integers of shape \(4,\)"),
        (changed(lengths=LENGTHS * 1.0), "'lengths': expected integers .* got float64"),
        (changed(lengths=LENGTHS - 1), "'lengths', series 1: expected 1 to 3, got 0"),
        (changed(lengths=LENGTHS + 1), "'lengths', series 0: expected 1 to 3, got 4"),
    ],
    "s.csv": [
        (b"", "the file is empty"),
        (b"id,x,labels\n", "line 1: expected one column 'series' among 'id', 'x'"),
        (b"series,x,y\n", "line 1: expected one column 'labels' among"),
        (b"series,x,x,labels\n", "line 1: there are 2 columns 'x'"),
        (b"series,labels\n", "line 1: expected a column of numbers beside these"),
        (HEAD, "expected a line for every step, found none"),
        (HEAD + b"a,1,b\na,one,b\n", "line 3, column 'x': expected a .* got 'one'"),
        (HEAD + b"a,1,b\na,,b\n", "line 3, column 'x': expected a finite .* got ''"),
        (HEAD + b"a,1e39,b\n", "line 2, column 'x': expected a finite .* got '1e39'"),
        (
            HEAD + b"a,1,b\na,1,c\n",
            "line 3, column 'labels': .* had 'b' before, got 'c'",
        ),
    ],
    "s.mat": [(b"a", "expected a file that ends in .npz, .csv or .tsv")],
}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [(name, *case) for name, cases in BROKEN.items() for case in cases],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_with_a_file_is_named(name, content, told, tmp_path):
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(str(file)) + ".*" + told):
        read_series(file, SeriesNames())


def many(targets):
    rng = np.random.default_rng(1)
    series = [rng.normal(3, 2, (1 + n % 4, 2)) for n in range(len(targets))]
    return SeriesFile([one.astype(np.float32) for one in series], list(targets))


@pytest.mark.parametrize(
    ("targets", "classes"),
    [
        ([10, 9, 2] * 7, ["2", "9", "10"]),
        ([1.0, 2.0] * 7, ["1", "2"]),
        (["b", " a"] * 7, ["a", "b"]),
        ([True, False] * 7, ["False", "True"]),
    ],
)
def test_classes_are_held_out_in_their_shares(targets, classes):
    splits, about = divide_classes(many(targets))
    assert about["classes"] == classes
    count = len(classes)
    for name, each in {"train": 5, "validation": 1, "test": 1}.items():
        np.testing.assert_array_equal(np.bincount(splits[name].labels), [each] * count)
    train = splits["train"]
    inside = np.arange(train.xs.shape[1]) < train.lengths[:, None]
    np.testing.assert_allclose(train.xs[inside].mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(train.xs[inside].std(axis=0), 1, atol=1e-6)
    assert not train.xs[~inside].any()


def test_numbers_are_scaled():
    targets = np.random.default_rng(2).normal(100, 20, 20)
    splits, about = divide_numbers(many(targets.tolist()))
    assert [len(own.labels) for own in splits.values()] == [14, 3, 3]
    assert abs(splits["train"].labels.mean()) < 1e-6
    there = np.concatenate([own.labels for own in splits.values()])
    back = np.sort(there * about["target_scale"] + about["target_mean"])
    np.testing.assert_allclose(back, np.sort(targets), rtol=1e-5)


def test_a_channel_that_does_not_change_is_no_division_by_zero():
    series, targets = many([0, 1] * 7)
    flat = SeriesFile([np.ones_like(one) for one in series], targets)
    assert not divide_classes(flat).splits["train"].xs.any()


@pytest.mark.parametrize(
    ("divide", "targets", "told"),
    [
        (divide_classes, [1] * 9, r"at least two classes, found \('1',\)"),
        (divide_classes, [1, 2] * 4, "series 0: expected at least 5 .* found 4 of '1'"),
        (divide_classes, [1, 0.5] * 9, "series 1: 0.5 is no class; .*regression"),
        (divide_classes, ["a", " "] * 9, "series 1: the class is empty"),
        (divide_numbers, ["1", "a"] * 9, "series 1: expected a finite .* got 'a'"),
        (divide_numbers, [1.0, np.nan] * 9, "series 1: expected a finite .* 'nan'"),
        (divide_numbers, [1.0] * 9, "expected at least 10 series, found 9"),
    ],
)
def test_targets_that_cannot_be_are_named(divide, targets, told):
    with pytest.raises(ValueError, match=told):
        divide(many(targets))
