"""Log-count ratios of n-grams, beside a count with dictionaries."""

import math
from collections import Counter

import numpy as np
import pytest

from experiments.data import (
    Encoded,
    LogCountRatios,
    count_ratios,
    make_buckets,
    ratios_per_word,
    truncate,
)

FOLDS = 10


def drawn(texts=40, words=6, classes=2, seed=0):
    """Short texts of few words, some empty, and the films they are about."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 9, texts)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = rng.integers(1, 1 + words, offsets[-1]).astype(np.int32)
    labels = rng.integers(0, classes, texts).astype(np.int32)
    return Encoded(tokens, offsets, labels), rng.integers(0, 15, texts) * 7


def counted(encoded, *given):
    ratios, found = count_ratios(encoded, *given)
    return encoded._replace(ratios=ratios), found


def texts_of(encoded):
    return [tuple(encoded.row(n).tolist()) for n in range(len(encoded.labels))]


def ngrams(text, longest):
    """The set of a text's n-grams."""
    return {
        text[start : start + n]
        for n in range(1, longest + 1)
        for start in range(len(text) - n + 1)
    }


def by_hand(texts, labels, kept, kind, longest):
    """r of each n-gram in `kept`, by the paper's formula."""
    p, q = Counter(), Counter()
    for text, label in zip(texts, labels, strict=True):
        (p if label == kind else q).update(ngrams(text, longest) & kept)
    p_all, q_all = (sum(1 + side[g] for g in kept) for side in (p, q))
    return {
        g: math.log((1 + p[g]) / p_all) - math.log((1 + q[g]) / q_all) for g in kept
    }


def ends(text, place, n):
    """The n-gram that ends at a place, or None."""
    return text[place + 1 - n : place + 1] if place + 1 >= n else None


def in_several(texts, longest):
    counts = Counter(g for text in texts for g in ngrams(text, longest))
    return {g for g, count in counts.items() if count > 1}


@pytest.mark.parametrize(("longest", "classes"), [(1, 2), (2, 3), (3, 2), (3, 4)])
def test_ratios_are_those_of_the_formula(longest, classes):
    encoded, groups = drawn(classes=classes)
    texts, labels = texts_of(encoded), encoded.labels.tolist()
    kept = in_several(texts, longest)
    kinds = [1] if classes == 2 else range(classes)
    own, found = counted(encoded, groups, longest, classes)
    everywhere = found.attach(encoded)
    assert ratios_per_word(longest, classes) == longest * len(kinds)
    assert everywhere.ratios.shape[1] == own.ratios.shape[1] == longest * len(kinds)
    assert len(found.ngrams) == len(kept)

    numbers = {group: n for n, group in enumerate(sorted(set(groups.tolist())))}
    folds = [numbers[group] % FOLDS for group in groups.tolist()]
    whole = [by_hand(texts, labels, kept, kind, longest) for kind in kinds]
    for row, text in enumerate(texts):
        others = [n for n, fold in enumerate(folds) if fold != folds[row]]
        rest = [texts[n] for n in others], [labels[n] for n in others]
        crossed = [by_hand(*rest, kept, kind, longest) for kind in kinds]
        for attached, expected in ((everywhere, whole), (own, crossed)):
            of_words = attached.take(np.asarray([row])).ratios
            for place in range(len(text)):
                right = [
                    of_kind.get(ends(text, place, n), 0.0)
                    for n in range(1, longest + 1)
                    for of_kind in expected
                ]
                np.testing.assert_allclose(of_words[place], right, rtol=1e-5, atol=1e-6)


def test_a_label_cannot_be_read_from_the_text_s_own_count():
    """Labels are tossed: cross-fitted ratios tell nothing, those of all texts do."""
    rng = np.random.default_rng(0)
    texts = [np.repeat(rng.integers(1, 900, 20), 1) for _ in range(300)]
    encoded = Encoded(
        np.concatenate(texts).astype(np.int32),
        np.arange(0, 6001, 20),
        rng.integers(0, 2, 300).astype(np.int32),
    )
    own, found = counted(encoded, np.arange(300), 1, 2)

    def right(attached):
        sums = attached.ratios.reshape(300, 20).sum(axis=1)
        return np.mean((sums > 0) == (encoded.labels > 0))

    assert right(found.attach(encoded)) > 0.9
    assert right(own) < 0.6


def test_ratios_stay_with_their_words():
    encoded, groups = drawn()
    own, _ = counted(encoded, groups, 3, 2)
    short, _ = truncate(own, 3)
    (bucket,) = make_buckets(short, [5])
    for row in range(len(own.labels)):
        length = min(3, int(own.lengths[row]))
        expected = np.zeros((5, 3), np.float32)
        if length:
            expected[:length] = own.take(np.asarray([row])).ratios[-length:]
        np.testing.assert_array_equal(bucket.ratios[row], expected)


def test_texts_of_unknown_words_say_nothing():
    encoded, groups = drawn()
    _, found = count_ratios(encoded, groups, 2, 2)
    other = encoded._replace(tokens=encoded.tokens + 100)
    assert not found.attach(other).ratios.any()
    nothing = count_ratios(other.take(np.zeros(0, int)), np.zeros(0, int), 2, 2)[1]
    assert not nothing.attach(encoded).ratios.any()


def test_what_is_saved_is_loaded(tmp_path):
    encoded, groups = drawn(classes=3)
    _, found = count_ratios(encoded, groups, 2, 3)
    found.save(tmp_path / "ngrams.npz")
    again = LogCountRatios.load(tmp_path / "ngrams.npz")
    np.testing.assert_array_equal(
        again.attach(encoded).ratios, found.attach(encoded).ratios
    )


@pytest.mark.parametrize("content", [b"", b"PK", b"\x93NUMPY"])
def test_a_broken_file_is_named(tmp_path, content):
    path = tmp_path / "ngrams.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"ngrams\.npz: not the ratios of n-grams"):
        LogCountRatios.load(path)


@pytest.mark.parametrize(
    ("longest", "tokens", "message"),
    [
        (0, 5, "ngrams must be .* 0"),
        (4, 5, "ngrams must be .* 4"),
        (2, 2**21, "largest_id"),
    ],
)
def test_what_cannot_be_packed_is_refused(longest, tokens, message):
    encoded = Encoded(
        np.asarray([tokens], np.int32), np.asarray([0, 1]), np.zeros(1, np.int32)
    )
    with pytest.raises(ValueError, match=message):
        count_ratios(encoded, np.zeros(1, int), longest, 2)
