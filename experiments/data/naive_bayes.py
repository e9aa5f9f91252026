"""What naive Bayes says of each n-gram of a text: its log-count ratio.

Wang & Manning (2012), Baselines and Bigrams, section 2.1. Let p count the training
texts of a class that hold an n-gram, and q those of the other classes, each plus 1::

    r = log(p / |p|) - log(q / |q|)        |p|, |q|: the sums over all n-grams

is above 0 where the n-gram speaks for the class. Here a network reads it beside the
word that the n-gram ends with.

A training text is part of the counts, so its own n-grams know its label: a name that
stands in two texts, both positive, seems to be praise. So training texts are given the
ratios of other texts alone (cross-fitting): groups of texts are dealt into folds, and a
fold reads what was counted in the other folds. With films as groups, the names of a
film tell as little in training as those of an unseen film do later.
"""

import io
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.checks import within
from experiments.data.encoding import Encoded
from lstm_jax.files import write_whole

LONGEST_NGRAM = 3
"""An n-gram's words are packed into 64 bits, 21 bits a word."""

_BITS = 64 // LONGEST_NGRAM
_FOLDS = 10
_RARE = 1
"""N-grams in no more texts than this say nothing: they would be three in four."""


class LogCountRatios(NamedTuple):
    """The ratios of the n-grams of training texts.

    Attributes:
        longest: n-grams have 1 to so many words.
        ngrams: (K,) uint64, increasing: the words' ids, 21 bits each, the last lowest.
        ratios: (K, F) float32, for each class; for two classes only the second's,
            since the first's is its negative.
    """

    longest: int
    ngrams: np.ndarray
    ratios: np.ndarray

    def attach(self, encoded: Encoded) -> Encoded:
        """The texts, with the ratios of the n-grams that end at each word."""
        found = [self._places(keys) for keys in _ngrams(encoded, self.longest)]
        return encoded._replace(ratios=_look_up(self.ratios, np.stack(found)))

    def save(self, path: Path) -> None:
        """Writes the ratios as .npz, whole or not at all."""
        buffer = io.BytesIO()
        np.savez(buffer, **self._asdict())
        write_whole(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> "LogCountRatios":
        """Reads what `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is broken; it is named.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                found = dict(arrays)
            return cls(int(found["longest"]), found["ngrams"], found["ratios"])
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path}: not the ratios of n-grams: {error}") from error

    def _places(self, keys: np.ndarray) -> np.ndarray:
        """For each n-gram its row in `ratios`, or -1."""
        if not len(self.ngrams):
            return np.full(len(keys), -1)
        places = np.searchsorted(self.ngrams, keys).clip(max=len(self.ngrams) - 1)
        return np.where(self.ngrams[places] == keys, places, -1)


def ratios_per_word(longest: int, classes: int) -> int:
    """F of all n-grams that a word ends: how many numbers go with each word."""
    return longest * (classes if classes > 2 else 1)


def count_ratios(
    encoded: Encoded, groups: np.ndarray, longest: int, classes: int
) -> tuple[np.ndarray, LogCountRatios]:
    """Counts the n-grams of training texts.

    Args:
        encoded: N training texts.
        groups: (N,) integers; texts of one group are in one fold.
        longest: the words of the longest n-grams, 1 to `LONGEST_NGRAM`.
        classes: how many there are.

    Returns:
        For each word of the training texts the ratios of the n-grams that it ends,
        cross-fitted, (total, F) float32; and the ratios of all training texts, for
        texts that are none of them.

    Raises:
        ValueError: `longest` is out of range, or there are more than 2^21 words.
    """
    within(1, LONGEST_NGRAM, ngrams=longest)
    within(0, 2**_BITS - 1, largest_id=int(encoded.tokens.max(initial=0)))
    keys, places, counted = _frequent(encoded, longest)
    rows = _rows(encoded)
    # One number for an n-gram and a class. Of a text that repeats an n-gram, the first
    # counts, as in the paper's binarized features.
    cells = places * classes + encoded.labels[rows]

    def count(chosen: np.ndarray) -> np.ndarray:
        held = cells[chosen & counted]
        found = np.bincount(held, minlength=len(keys) * classes)
        return found.reshape(len(keys), classes)

    everything = count(np.ones_like(rows, bool))
    ratios = _ratios(everything)
    fold_of_row = np.unique(groups, return_inverse=True)[1] % _FOLDS
    own = np.zeros((len(rows), ratios_per_word(longest, classes)), np.float32)
    for fold in range(_FOLDS):
        mine = fold_of_row[rows] == fold
        others = _ratios(everything - count(mine))
        own[mine] = _look_up(others, places[:, mine])
    return own, LogCountRatios(longest, keys, ratios)


def _ratios(counts: np.ndarray) -> np.ndarray:
    """The ratios (K, F) of counts (K, C) of texts."""
    kinds = slice(1, 2) if counts.shape[1] == 2 else slice(None)
    p = 1.0 + counts[:, kinds]
    q = 1.0 + counts.sum(axis=1, keepdims=True) - counts[:, kinds]
    r = np.log(p / p.sum(axis=0)) - np.log(q / q.sum(axis=0))
    return r.astype(np.float32)


def _look_up(ratios: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The ratios (total, longest F) at places (longest, total), 0 at -1."""
    silent = np.zeros((1, ratios.shape[1]), np.float32)  # what -1 finds
    found = np.concatenate([ratios, silent])[places].transpose(1, 0, 2)
    return found.reshape(len(found), len(places) * ratios.shape[1])


def _frequent(
    encoded: Encoded, longest: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The n-grams that are in more texts than `_RARE`.

    Returns:
        Them, (K,) increasing; for each word (longest, total) the places among them of
        the n-grams that it ends, or -1; and whether it is the first such in its text.
    """
    rows = _rows(encoded)
    kept, places, counted, base = [], [], [], 0
    # Longer n-grams have higher keys, so what is found for each length is in order.
    for keys in _ngrams(encoded, longest):
        order = np.argsort(keys, kind="stable")
        sorted_keys, sorted_rows = keys[order], rows[order]
        new_key = np.diff(sorted_keys, prepend=np.uint64(0)) != 0
        first = new_key | (np.diff(sorted_rows, prepend=-1) != 0)
        numbers = np.cumsum(new_key)  # 0 for what is no n-gram
        frequent = np.bincount(numbers[first], minlength=1) > _RARE
        frequent[0] = False
        own = np.where(frequent, base - 1 + np.cumsum(frequent), -1)
        kept.append(sorted_keys[new_key][frequent[1:]])
        base += len(kept[-1])
        place, is_first = np.empty(len(keys), np.int64), np.empty(len(keys), bool)
        place[order], is_first[order] = own[numbers], first
        places.append(place)
        counted.append(is_first & (place >= 0))
    return np.concatenate(kept), np.stack(places), np.stack(counted)


def _ngrams(encoded: Encoded, longest: int) -> list[np.ndarray]:
    """For n = 1, 2, ... the n-gram that each word ends, (total,) uint64; 0 for none."""
    words = encoded.tokens.astype(np.uint64)
    within_row = np.arange(len(words)) - encoded.offsets[:-1][_rows(encoded)]
    found = [words]
    for n in range(2, longest + 1):
        keys = np.zeros_like(words)
        keys[1:] = found[-1][:-1] << np.uint64(_BITS)
        found.append(np.where(within_row < n - 1, np.uint64(0), keys | words))
    return found


def _rows(encoded: Encoded) -> np.ndarray:
    """The row of each word, (total,)."""
    return np.repeat(np.arange(len(encoded.labels)), encoded.lengths)
