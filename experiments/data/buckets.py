"""Batches of similar length: buckets, training schedule, evaluation schedule.

A compiled program has fixed shapes, and reviews have all lengths. Padding all of them
to the longest wastes most of the computation; compiling every length wastes the rest.
So rows are put into a few buckets, each one array padded to its boundary, and a batch
comes from one bucket. A training loop keeps the bucket arrays on the device and
gathers rows by index, many steps inside one compiled scan::

    boundaries = bucket_boundaries(train.lengths, 4, max_length=400)
    buckets = make_buckets(train, boundaries)
    schedule = BatchSchedule(
        sizes=tuple(len(b.labels) for b in buckets),
        batch_size=64, steps_per_segment=10, seed=0)
    for bucket, indices in schedule.epoch(0):     # indices: (10, 64)
        ...scan over indices, gathering rows of buckets[bucket]
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from experiments.checks import at_least
from experiments.data.encoding import PADDING_ID, Encoded


class Bucket(NamedTuple):
    """Rows of similar length, padded to the bucket's boundary L.

    Attributes:
        tokens: (N, L) int32; positions from the row's length on are PADDING_ID.
        lengths: (N,) int32, each between 0 and L.
        labels: (N,) int32.
        rows: (N,) int32, the position of each row in the `Encoded` it came from.
        ratios: (N, L, F) float32, numbers that go with each token, 0 beyond the row's
            length; None for none.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray
    rows: np.ndarray
    ratios: np.ndarray | None = None


class Segment(NamedTuple):
    """Training batches for one compiled scan.

    Attributes:
        bucket: the number of the bucket all its batches come from.
        indices: (steps_per_segment, batch_size) int32, rows of that bucket.
    """

    bucket: int
    indices: np.ndarray


class EvaluationSegment(NamedTuple):
    """All rows of one bucket, once each, in order.

    Attributes:
        bucket: the number of the bucket.
        indices: (steps, batch_size) int32, rows of that bucket.
        weights: (steps, batch_size) float32, 1 for a row, 0 where the last batch is
            filled up with repetitions of row 0; the weights sum to the rows.
    """

    bucket: int
    indices: np.ndarray
    weights: np.ndarray


def bucket_boundaries(
    lengths: np.ndarray, n_buckets: int, *, max_length: int, multiple: int = 8
) -> tuple[int, ...]:
    """The padded lengths of at most `n_buckets` buckets that pad least.

    Minimises sum_i (boundary(length_i) - length_i) exactly, by dynamic programming
    over the sorted candidates 0 < L_1 < ... < L_m = max_length, lengths that occur::

        cost[k, j] = min_{i<j} cost[k-1, i] + L_j * #{lengths in (L_i, L_j]}

    Args:
        lengths: (N,) integers between 0 and `max_length`.
        n_buckets: how many shapes may be compiled, at least 1.
        max_length: the last boundary, whatever the lengths, so that validation and
            test rows truncated to it fit too.
        multiple: boundaries are multiples of this (the last one is `max_length`).

    Returns:
        Increasing boundaries, the last one `max_length`.

    Raises:
        ValueError: a number is not positive, or a length lies outside 0..max_length.
    """
    at_least(1, n_buckets=n_buckets, max_length=max_length, multiple=multiple)
    lengths = _lengths_within(lengths, max_length)
    # Only lengths that occur, rounded up: others pad more, and would be too many where
    # `max_length` is large.
    occurring = np.unique(-(-np.maximum(lengths, 1) // multiple) * multiple)
    candidates = np.append(occurring[occurring < max_length], max_length)
    below = np.searchsorted(np.sort(lengths), candidates, side="right")
    # From boundary i (row) to boundary j (column); row 0 stands for "no boundary yet".
    rows_between = below[None, :] - np.insert(below, 0, 0)[:, None]
    step_cost = np.where(
        np.tri(len(candidates) + 1, len(candidates), -1, dtype=bool),
        np.inf,
        candidates[None, :] * rows_between.astype(float),
    )
    cost = np.full(len(candidates) + 1, np.inf)
    cost[0] = 0.0
    choices = []
    for _ in range(min(n_buckets, len(candidates))):
        total = cost[:, None] + step_cost
        choices.append(total.argmin(axis=0))
        cost = np.insert(total.min(axis=0), 0, 0.0)
    return _follow(choices, candidates)


def make_buckets(encoded: Encoded, boundaries: Sequence[int]) -> tuple[Bucket, ...]:
    """Puts every row into the first bucket it fits in, padded with PADDING_ID.

    Args:
        encoded: the rows.
        boundaries: increasing padded lengths, as from `bucket_boundaries`.

    Returns:
        One bucket a boundary, in their order; a bucket may hold no rows.

    Raises:
        ValueError: boundaries are not increasing and positive, or a row is longer
            than the last of them (nothing is cut here: see `truncate`).
    """
    if not boundaries or boundaries[0] < 1 or np.any(np.diff(boundaries) <= 0):
        raise ValueError(
            f"boundaries: expected increasing positive lengths, got {boundaries}"
        )
    lengths = encoded.lengths
    _lengths_within(lengths, boundaries[-1])
    which = np.searchsorted(np.asarray(boundaries), lengths, side="left")
    return tuple(
        _padded(encoded, np.flatnonzero(which == number), boundary)
        for number, boundary in enumerate(boundaries)
    )


def padding_fraction(buckets: Sequence[Bucket]) -> float:
    """The share of token positions in `buckets` that are padding, between 0 and 1."""
    positions = sum(bucket.tokens.size for bucket in buckets)
    tokens = sum(int(bucket.lengths.sum()) for bucket in buckets)
    return 1.0 - tokens / positions if positions else 0.0


@dataclass(frozen=True)
class BatchSchedule:
    """Which rows form which training batch: a pure function of (seed, epoch).

    Every bucket is an endless stream of its rows, one fresh permutation after the
    other, cut into segments of `steps_per_segment * batch_size` rows. Epoch e takes
    the segments up to the first one that completes the permutation number e, so that

    * no row is dropped and none is repeated within a permutation: what does not fill
      a segment is carried into the next epoch;
    * after E epochs every row has been seen E times, some once more, at least.

    The segments of all buckets are shuffled together, so that short and long rows
    alternate. Nothing depends on earlier calls: a resumed run repeats exactly.

    Attributes:
        sizes: rows of each bucket, 0 allowed.
        batch_size: rows a batch.
        steps_per_segment: batches a compiled scan.
        seed: any non-negative integer.

    Raises:
        ValueError: no rows at all, or a number out of range.
    """

    sizes: tuple[int, ...]
    batch_size: int
    steps_per_segment: int
    seed: int

    def __post_init__(self) -> None:
        """Checks the numbers."""
        at_least(
            1, batch_size=self.batch_size, steps_per_segment=self.steps_per_segment
        )
        at_least(0, seed=self.seed)
        if not self.sizes or min(self.sizes) < 0 or sum(self.sizes) == 0:
            raise ValueError(
                f"sizes: expected row counts with at least one row, got {self.sizes}"
            )

    def epoch(self, epoch: int) -> tuple[Segment, ...]:
        """The segments of epoch `epoch` (0, 1, ...), in the order to train on them."""
        at_least(0, epoch=epoch)
        segments = [
            Segment(bucket, self._segment(bucket, number))
            for bucket in range(len(self.sizes))
            for number in range(
                self._segments_before(bucket, epoch),
                self._segments_before(bucket, epoch + 1),
            )
        ]
        order = np.random.default_rng([self.seed, 1, epoch]).permutation(len(segments))
        return tuple(segments[number] for number in order)

    def total_steps(self, epochs: int) -> int:
        """The number of batches in epochs 0 to `epochs - 1` together."""
        at_least(0, epochs=epochs)
        return self.steps_per_segment * sum(
            self._segments_before(bucket, epochs) for bucket in range(len(self.sizes))
        )

    def _rows_per_segment(self) -> int:
        return self.steps_per_segment * self.batch_size

    def _segments_before(self, bucket: int, epoch: int) -> int:
        return -(-epoch * self.sizes[bucket] // self._rows_per_segment())

    def _segment(self, bucket: int, number: int) -> np.ndarray:
        size, rows = self.sizes[bucket], self._rows_per_segment()
        first, last = number * rows, (number + 1) * rows
        passes = range(first // size, -(-last // size))
        stream = np.concatenate(
            [
                np.random.default_rng([self.seed, 0, bucket, turn]).permutation(size)
                for turn in passes
            ]
        )
        start = first - passes[0] * size
        indices = stream[start : start + rows].astype(np.int32)
        return indices.reshape(self.steps_per_segment, self.batch_size)


def evaluation_segments(
    sizes: Sequence[int], batch_size: int
) -> tuple[EvaluationSegment, ...]:
    """Every row of every bucket exactly once, the last batch filled with weight 0.

    Args:
        sizes: rows of each bucket; an empty bucket gives no segment.
        batch_size: rows a batch.

    Returns:
        One segment a bucket that has rows.

    Raises:
        ValueError: `batch_size` is not positive.
    """
    at_least(1, batch_size=batch_size)
    segments = []
    for bucket, size in enumerate(sizes):
        if size == 0:
            continue
        steps = -(-size // batch_size)
        rows = np.arange(steps * batch_size, dtype=np.int32)
        real = rows < size
        segments.append(
            EvaluationSegment(
                bucket,
                np.where(real, rows, 0).reshape(steps, batch_size),
                real.astype(np.float32).reshape(steps, batch_size),
            )
        )
    return tuple(segments)


def _padded(encoded: Encoded, rows: np.ndarray, boundary: int) -> Bucket:
    lengths = encoded.lengths[rows]
    own, filled = encoded.take(rows), np.arange(boundary) < lengths[:, None]
    tokens = np.full(filled.shape, PADDING_ID, np.int32)
    tokens[filled] = own.tokens
    ratios = None
    if own.ratios is not None:
        ratios = np.zeros((*filled.shape, own.ratios.shape[1]), np.float32)
        ratios[filled] = own.ratios
    return Bucket(tokens, lengths, own.labels, rows.astype(np.int32), ratios)


def _follow(choices: list[np.ndarray], candidates: np.ndarray) -> tuple[int, ...]:
    """The boundaries behind the least cost of reaching the last candidate."""
    boundaries, column = [], len(candidates) - 1
    for choice in reversed(choices):
        boundaries.append(int(candidates[column]))
        column = int(choice[column]) - 1
        if column < 0:
            break
    return tuple(reversed(boundaries))


def _lengths_within(lengths: np.ndarray, longest: int) -> np.ndarray:
    lengths = np.asarray(lengths)
    if lengths.ndim != 1 or not np.issubdtype(lengths.dtype, np.integer):
        raise ValueError(
            "lengths: expected integers of shape (N,), "
            f"got {lengths.dtype} of shape {lengths.shape}"
        )
    if lengths.size and not 0 <= lengths.min() <= lengths.max() <= longest:
        raise ValueError(
            f"lengths: expected 0 to {longest}, "
            f"got {lengths.min()} to {lengths.max()}; truncate() shortens rows"
        )
    return lengths
