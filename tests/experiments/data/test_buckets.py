"""Buckets pad least, and schedules lose and repeat no row."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.data import (
    PADDING_ID,
    BatchSchedule,
    Encoded,
    bucket_boundaries,
    evaluation_segments,
    make_buckets,
    padding_fraction,
)

LENGTHS = st.lists(st.integers(0, 23), max_size=30)


def encoded_of(lengths) -> Encoded:
    """Rows of these lengths whose tokens name row and position; none is padding."""
    rows = [100 * (row + 1) + np.arange(length) for row, length in enumerate(lengths)]
    tokens = np.concatenate([np.zeros(0), *rows]).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Encoded(tokens, offsets, (np.arange(len(lengths)) % 2).astype(np.int32))


def padded_size(lengths, boundaries) -> int:
    return sum(min(b for b in boundaries if b >= length) for length in lengths)


@given(LENGTHS, st.integers(1, 5), st.sampled_from([1, 4, 5]))
def test_boundaries_pad_as_little_as_the_best_of_all_choices(lengths, n, multiple):
    found = bucket_boundaries(
        np.asarray(lengths, np.int32), n, max_length=23, multiple=multiple
    )
    assert list(found) == sorted(set(found))
    assert found[-1] == 23
    assert len(found) <= n
    assert all(boundary % multiple == 0 for boundary in found[:-1])
    least = min(
        padded_size(lengths, (*choice, 23))
        for size in range(n)
        for choice in itertools.combinations(range(multiple, 23, multiple), size)
    )
    assert padded_size(lengths, found) == least


@given(LENGTHS, st.sampled_from([(23,), (1, 23), (8, 16, 30), (4, 5, 6, 23)]))
def test_buckets_hold_every_row_once_padded_at_the_end(lengths, boundaries):
    encoded = encoded_of(lengths)
    buckets = make_buckets(encoded, boundaries)
    assert len(buckets) == len(boundaries)
    seen = np.concatenate([bucket.rows for bucket in buckets])
    assert sorted(seen) == list(range(len(lengths)))
    for bucket, boundary in zip(buckets, boundaries, strict=True):
        assert bucket.tokens.shape == (len(bucket.rows), boundary)
        assert {array.dtype for array in bucket[:4]} == {np.dtype(np.int32)}
        for tokens, length, label, row in zip(*bucket[:4], strict=True):
            assert length == lengths[row]
            assert boundary == min(b for b in boundaries if b >= length)
            assert label == encoded.labels[row]
            np.testing.assert_array_equal(tokens[:length], encoded.row(row))
            assert (tokens[length:] == PADDING_ID).all()


def test_padding_fraction():
    buckets = make_buckets(encoded_of([1, 2, 4, 8, 0]), (4, 8))
    assert padding_fraction(buckets) == 1 - 15 / 24
    assert padding_fraction(make_buckets(encoded_of([]), (4,))) == 0.0


# Arguments of a BatchSchedule: sizes, batch_size, steps_per_segment, seed.
SCHEDULES = st.tuples(
    st.lists(st.integers(0, 40), min_size=1, max_size=3).filter(any).map(tuple),
    st.integers(1, 7),
    st.integers(1, 4),
    st.integers(0, 2**40),
)


@given(SCHEDULES, st.integers(1, 4))
def test_training_sees_every_row_as_often_as_there_were_epochs(arguments, epochs):
    schedule = BatchSchedule(*arguments)
    seen = [Counter() for _ in schedule.sizes]
    steps = 0
    for epoch in range(epochs):
        for bucket, indices in schedule.epoch(epoch):
            assert indices.shape == (schedule.steps_per_segment, schedule.batch_size)
            assert indices.dtype == np.int32
            seen[bucket].update(indices.ravel().tolist())
            steps += len(indices)
    assert steps == schedule.total_steps(epochs)
    segment = schedule.steps_per_segment * schedule.batch_size
    for counts, size in zip(seen, schedule.sizes, strict=True):
        assert set(counts) == set(range(size))
        if size:
            assert min(counts.values()) >= epochs
            # What is seen beyond that is less than one segment: no row is favoured.
            assert counts.total() - epochs * size < segment
            assert max(counts.values()) - min(counts.values()) <= 1


@given(SCHEDULES, st.integers(0, 5))
def test_an_epoch_depends_on_seed_and_epoch_alone(arguments, epoch):
    later, fresh = BatchSchedule(*arguments), BatchSchedule(*arguments)
    for earlier in range(epoch):
        later.epoch(earlier)
    for one, other in zip(later.epoch(epoch), fresh.epoch(epoch), strict=True):
        assert one.bucket == other.bucket
        np.testing.assert_array_equal(one.indices, other.indices)


def test_seeds_epochs_and_buckets_have_orders_of_their_own():
    def order(seed, epoch, bucket=0):
        segments = BatchSchedule((64, 64), 8, 8, seed).epoch(epoch)
        (indices,) = (s.indices for s in segments if s.bucket == bucket)
        return indices.ravel()

    different = [order(0, 0), order(1, 0), order(0, 1), order(0, 0, bucket=1)]
    for one, other in itertools.combinations(different, 2):
        assert sorted(one) == sorted(other)
        assert not np.array_equal(one, other)


def test_buckets_alternate_in_another_order_every_epoch():
    schedule = BatchSchedule((400, 400), 4, 5, 0)
    first, second = (
        [segment.bucket for segment in schedule.epoch(epoch)] for epoch in (0, 1)
    )
    # 20 of 39 expected; 1 if one bucket came after the other.
    assert np.count_nonzero(np.diff(first)) > 10
    assert first != second


@given(st.lists(st.integers(0, 20), max_size=4), st.integers(1, 7))
def test_evaluation_counts_every_row_once(sizes, batch_size):
    seen = {bucket: Counter() for bucket in range(len(sizes))}
    for bucket, indices, weights in evaluation_segments(sizes, batch_size):
        assert indices.shape == weights.shape
        assert indices.shape[1] == batch_size
        assert indices.dtype == np.int32
        assert weights.dtype == np.float32
        assert indices.max() < sizes[bucket]
        assert not (weights == 0).all(axis=1).any()
        for index, weight in zip(indices.ravel(), weights.ravel(), strict=True):
            seen[bucket][int(index)] += float(weight)
    for bucket, size in enumerate(sizes):
        assert seen[bucket] == dict.fromkeys(range(size), 1.0)


def int32(*numbers):
    return np.asarray(numbers, np.int32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: bucket_boundaries(int32(3), 0, max_length=8),
            "n_buckets must be at least 1",
        ),
        (
            lambda: bucket_boundaries(int32(3), 2, max_length=0),
            "max_length must be at least 1",
        ),
        (
            lambda: bucket_boundaries(int32(3), 2, max_length=8, multiple=0),
            "multiple must be at least 1",
        ),
        (
            lambda: bucket_boundaries(int32(9, 3), 2, max_length=8),
            "lengths: expected 0 to 8, got 3 to 9",
        ),
        (
            lambda: bucket_boundaries(int32(-1), 2, max_length=8),
            "lengths: expected 0 to 8, got -1",
        ),
        (
            lambda: bucket_boundaries(np.ones(2), 2, max_length=8),
            "lengths: expected integers .* got float64",
        ),
        (
            lambda: bucket_boundaries(np.ones((2, 2), int), 2, max_length=8),
            r"lengths: expected .* shape \(2, 2\)",
        ),
        (lambda: make_buckets(encoded_of([3]), ()), "boundaries: expected increasing"),
        (lambda: make_buckets(encoded_of([3]), (8, 8)), "boundaries: .*got"),
        (lambda: make_buckets(encoded_of([3]), (0, 8)), "boundaries: .*got"),
        (
            lambda: make_buckets(encoded_of([9]), (4, 8)),
            r"expected 0 to 8.*truncate\(\)",
        ),
        (lambda: BatchSchedule((5,), 0, 1, 0), "batch_size must be at least 1"),
        (lambda: BatchSchedule((5,), 1, 0, 0), "steps_per_segment must be at least 1"),
        (lambda: BatchSchedule((5,), 1, 1, -1), "seed must be at least 0"),
        (lambda: BatchSchedule((), 1, 1, 0), "sizes: expected row counts"),
        (lambda: BatchSchedule((0, 0), 1, 1, 0), "sizes: expected row counts"),
        (lambda: BatchSchedule((4, -1), 1, 1, 0), "sizes: expected row counts"),
        (lambda: BatchSchedule((5,), 1, 1, 0).epoch(-1), "epoch must be at least 0"),
        (
            lambda: BatchSchedule((5,), 1, 1, 0).total_steps(-1),
            "epochs must be at least 0",
        ),
        (lambda: evaluation_segments((5,), 0), "batch_size must be at least 1"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_longest_length_may_be_very_long():
    """A table of all lengths squared would take 12 GB."""
    lengths = np.asarray([5, 90, 100, 1_000_000])
    assert bucket_boundaries(lengths, 2, max_length=1_000_000, multiple=25) == (
        *(100, 1_000_000),
    )
    assert bucket_boundaries(lengths[:3], 9, max_length=10**9) == (8, 96, 104, 10**9)
