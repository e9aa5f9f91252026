"""The reviews of a run, cut and in length buckets."""

from typing import Any, NamedTuple

from experiments.checks import at_least
from experiments.data import (
    Bucket,
    Columns,
    Encoded,
    EncodedReviews,
    LogCountRatios,
    bucket_boundaries,
    encoded_imdb,
    first_reviews,
    make_buckets,
    padding_fraction,
    truncate,
    with_ratios,
)
from experiments.sentiment.config import Config


class Data(NamedTuple):
    """The reviews of a run, cut and padded.

    Attributes:
        train: buckets.
        evaluated: for "validation", and "test" if asked for, rows and buckets.
        encoded: as they were loaded.
        counts: of what was met on the way.
        ngrams: what goes with each word beside its vector, if anything does.
    """

    train: tuple[Bucket, ...]
    evaluated: dict[str, tuple[Encoded, tuple[Bucket, ...]]]
    encoded: EncodedReviews
    counts: dict[str, Any]
    ngrams: LogCountRatios | None


def load(config: Config) -> Data:
    """Loads the reviews, cuts the long ones and puts them into length buckets.

    Raises:
        ValueError: `test` without a test split, or `reviews` below 1.
    """
    encoded = encoded_imdb(
        config.data,
        vocabulary_size=config.vocabulary_size,
        division=config.division,
        columns=Columns(config.text_column, config.label_column),
    )
    if config.test and "test" not in encoded.splits:
        raise ValueError(f"test: the data {config.data!r} have no official test split")
    if config.reviews is not None:
        at_least(1, reviews=config.reviews)
    encoded = first_reviews(encoded, config.reviews)
    splits = ("validation", "test") if config.test else ("validation",)
    ngrams = None
    if config.ngrams:
        encoded, ngrams = with_ratios(encoded, config.ngrams, splits)
    train = encoded.splits["train"]
    rows = {split: encoded.splits[split] for split in ("train", *splits)}
    # What is longer than the longest review is padding only.
    longest = max(int(own.lengths.max(initial=1)) for own in rows.values())
    max_length = min(config.max_length, longest)
    train, cut = truncate(train, max_length)
    boundaries = bucket_boundaries(
        train.lengths, config.length_buckets, max_length=max_length, multiple=25
    )
    buckets = make_buckets(train, boundaries)
    evaluated = {}
    for split in splits:
        own, _ = truncate(rows[split], max_length)
        evaluated[split] = (own, make_buckets(own, boundaries))
    counts = {
        **encoded.counts,
        "train_reviews": len(train.labels),
        "train_reviews_cut": cut,
        "length_buckets": boundaries,
        "padding": padding_fraction(buckets),
    }
    return Data(buckets, evaluated, encoded, counts, ngrams)
