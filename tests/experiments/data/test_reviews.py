"""The division into training and validation: repeatable, balanced, without leaks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.data import Reviews
from experiments.data.reviews import divide


def made(texts, labels) -> Reviews:
    return Reviews(tuple(texts), np.asarray(labels, np.int32))


def numbered(count: int) -> Reviews:
    return made([f"review {i}" for i in range(count)], np.arange(count) % 2)


def train_only(reviews: Reviews, fraction: float = 0.25, seed: int = 0):
    return divide({"train": reviews}, validation_fraction=fraction, seed=seed)


def pairs(reviews: Reviews):
    return list(zip(reviews.texts, reviews.labels.tolist(), strict=True))


def test_every_review_is_on_one_side():
    reviews = numbered(80)
    splits, counts = train_only(reviews)
    assert sorted(pairs(splits["train"]) + pairs(splits["validation"])) == sorted(
        pairs(reviews)
    )
    assert counts == {"duplicates": 0}


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5])
def test_the_validation_split_has_its_share_of_each_label(fraction):
    splits, _ = train_only(numbered(80), fraction)
    labels = splits["validation"].labels
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(np.bincount(labels), [40 * fraction] * 2)


@given(st.permutations(range(24)))
def test_the_order_of_the_source_changes_nothing(order):
    copies = [form.format(i) for i in range(4) for form in ("Review {}.", "review {}")]
    reviews = made(
        copies + [f"review {i}" for i in range(8, 24)],
        [i // 2 % 2 for i in range(24)],
    )
    shuffled = made([reviews.texts[i] for i in order], reviews.labels[list(order)])
    for name, split in train_only(reviews).splits.items():
        assert pairs(split) == pairs(train_only(shuffled).splits[name])


def test_marks_and_case_change_nothing():
    """Sources differ in such things, and shall hold out the same reviews."""
    plain = numbered(80)
    marked = made([text.title() + " <br />!" for text in plain.texts], plain.labels)
    for name, split in train_only(plain).splits.items():
        other = train_only(marked).splits[name]
        assert [text[:-8].lower() for text in other.texts] == list(split.texts)


def test_seeds_hold_out_different_reviews():
    first, second = (
        set(train_only(numbered(80), seed=seed).splits["validation"].texts)
        for seed in (0, 1)
    )
    assert len(first - second) > 5


@pytest.mark.parametrize("seed", range(5))
def test_copies_stay_together(seed):
    """Reviews that differ in case, marks and breaks alone are copies."""
    same = [
        "The {}th film!",
        "the {}TH film",
        "The<br />{}th film...",
        "The {}th film!",
    ]
    texts = [form.format(number) for number in range(20) for form in same]
    labels = np.repeat(np.arange(20) % 2, 4)
    splits, counts = train_only(made(texts, labels), seed=seed)
    numbers = {
        name: {"".join(filter(str.isdigit, text)) for text in split.texts}
        for name, split in splits.items()
    }
    assert not numbers["train"] & numbers["validation"]
    assert len(splits["validation"].texts) == 16  # whole groups within 10 a label
    assert counts == {"duplicates": 60}


def test_the_share_is_never_exceeded_by_a_large_group():
    reviews = made(["same"] * 7 + [f"other {i}" for i in range(9)], [0] * 16)
    for seed in range(10):
        validation = train_only(reviews, 0.25, seed).splits["validation"]
        assert len(validation.texts) == 4
        assert "same" not in validation.texts


def test_the_official_test_split_is_left_as_it_is():
    test = made(["review 3!", "Unheard of", "REVIEW 70"], [1, 0, 1])
    splits, counts = divide(
        {"train": numbered(80), "test": test}, validation_fraction=0.1, seed=0
    )
    assert splits["test"] is test
    assert counts == {"duplicates": 0, "test_duplicates": 2}


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_fraction_out_of_range_is_named(fraction):
    with pytest.raises(ValueError, match="validation_fraction: expected a number"):
        train_only(numbered(8), fraction)


@pytest.mark.parametrize(("fraction", "empty"), [(0.01, "validation"), (0.99, "train")])
def test_an_empty_side_is_an_error(fraction, empty):
    with pytest.raises(ValueError, match=f"leaves the {empty} split empty"):
        train_only(numbered(8), fraction)
