"""The division into training and validation: repeatable, balanced, without leaks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.data import Reviews
from experiments.data import films as films_module
from experiments.data.films import film_groups, pack_films
from experiments.data.reviews import divide


def made(texts, labels) -> Reviews:
    return Reviews(tuple(texts), np.asarray(labels, np.int32))


def numbered(count: int) -> Reviews:
    return made([f"review {i}" for i in range(count)], np.arange(count) % 2)


def train_only(reviews: Reviews, fraction: float = 0.25, seed: int = 0, **options):
    return divide(
        {"train": reviews}, validation_fraction=fraction, seed=seed, **options
    )


def pairs(reviews: Reviews):
    return list(zip(reviews.texts, reviews.labels.tolist(), strict=True))


def test_every_review_is_on_one_side():
    reviews = numbered(80)
    splits, counts, *_ = train_only(reviews)
    assert sorted(pairs(splits["train"]) + pairs(splits["validation"])) == sorted(
        pairs(reviews)
    )
    assert counts == {"duplicates": 0, "groups": 80, "validation_groups": 20}


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5])
def test_the_validation_split_has_its_share_of_each_label(fraction):
    splits, *_ = train_only(numbered(80), fraction)
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
    splits, counts, *_ = train_only(made(texts, labels), seed=seed)
    numbers = {
        name: {"".join(filter(str.isdigit, text)) for text in split.texts}
        for name, split in splits.items()
    }
    assert not numbers["train"] & numbers["validation"]
    assert len(splits["validation"].texts) == 16  # whole groups within 10 a label
    assert counts["duplicates"] == 60


def test_the_share_is_never_exceeded_by_a_large_group():
    reviews = made(["same"] * 7 + [f"other {i}" for i in range(9)], [0] * 16)
    for seed in range(10):
        validation = train_only(reviews, 0.25, seed).splits["validation"]
        assert len(validation.texts) == 4
        assert "same" not in validation.texts


def test_the_official_test_split_is_left_as_it_is():
    test = made(["review 3!", "Unheard of", "REVIEW 70"], [1, 0, 1])
    splits, counts, *_ = divide(
        {"train": numbered(80), "test": test}, validation_fraction=0.1, seed=0
    )
    assert splits["test"] is test
    assert counts["test_duplicates"] == 2


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_fraction_out_of_range_is_named(fraction):
    with pytest.raises(ValueError, match="validation_fraction: expected a number"):
        train_only(numbered(8), fraction)


@pytest.mark.parametrize(("fraction", "empty"), [(0.01, "validation"), (0.99, "train")])
def test_an_empty_side_is_an_error(fraction, empty):
    with pytest.raises(ValueError, match=f"leaves the {empty} split empty"):
        train_only(numbered(8), fraction)


def film_of(monkeypatch, films):
    """Makes known which film each text is about."""
    packed = {films_module._digest(words): film for words, film in films.items()}
    monkeypatch.setattr(films_module, "_films", lambda: packed)


def test_no_film_is_on_both_sides(monkeypatch):
    reviews = numbered(80)
    films = {text: n // 5 for n, text in enumerate(reviews.texts)}  # both labels
    film_of(monkeypatch, films)
    for seed in range(5):
        splits, counts, groups, _ = train_only(reviews, seed=seed)
        train, validation = splits.values()
        # Training reviews have one number for each film.
        numbers = set(zip(groups.tolist(), map(films.get, train.texts), strict=True))
        assert len(numbers) == len(set(groups.tolist())) == 12
        held_out = {films[text] for text in validation.texts}
        assert held_out.isdisjoint(films[text] for text in train.texts)
        assert counts["groups"] == 16
        assert counts["validation_groups"] == len(held_out)
        assert np.all(np.bincount(validation.labels) <= 10)
        by_review = train_only(reviews, seed=seed, division="reviews")
        assert len({films[t] for t in by_review.splits["validation"].texts}) > 8


def test_a_review_of_no_known_film_stands_for_itself(monkeypatch):
    film_of(monkeypatch, {"known": 0, "known too": 0})
    groups = film_groups(["known", "unknown", "known too"])
    assert groups == ["film 0", "unknown", "film 0"]
    by_film, by_review = (
        train_only(numbered(8), division=division).splits
        for division in ("films", "reviews")
    )
    for split, other in zip(by_film.values(), by_review.values(), strict=True):
        assert pairs(split) == pairs(other)


def test_films_are_read_from_the_archives_addresses(tmp_path, monkeypatch):
    address = "http://www.imdb.com/title/{}/usercomments\n"
    for label, films in (("pos", "ab"), ("neg", "ca")):
        folder = tmp_path / "train" / label
        folder.mkdir(parents=True)
        lines = "".join(map(address.format, films))
        (tmp_path / "train" / f"urls_{label}.txt").write_text(lines)
        for number in range(2):
            (folder / f"{number}_7.txt").write_text(f"{label.title()}, {number}!")
    packed = pack_films(tmp_path)
    assert packed.dtype == np.uint64
    unpacked = films_module._unpack(packed)
    monkeypatch.setattr(films_module, "_films", lambda: unpacked)
    groups = film_groups(["pos 0", "pos 1", "neg 0", "neg 1"])
    assert groups == ["film 0", "film 1", "film 2", "film 0"]


def test_an_unknown_division_is_named():
    unchecked = divide.__wrapped__  # by beartype, as it is for a user
    with pytest.raises(ValueError, match="division: expected 'films' or 'reviews'"):
        unchecked({"train": numbered(8)}, validation_fraction=0.5, seed=0, division="f")
