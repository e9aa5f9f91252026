"""Texts to integers: cleaning, a word-level tokenizer, ragged arrays, truncation."""

import functools
import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, SupportsIndex

import numpy as np

from experiments.checks import LARGEST, at_least, within
from experiments.optional import require
from lstm_jax.files import write_whole

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PADDING_ID = 0
UNKNOWN_ID = 1
_SPECIAL_TOKENS = ["[PAD]", "[UNK]"]

_HTML_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
# Clitics are words of their own, as in the Penn Treebank (do|n't, movie|'s), because
# the negation then is one token whatever the verb; a run of one mark (..., !!!) is one.
_WORD = r"n't\b|'(?:s|re|ve|ll|d|m)\b|\w+?(?=n't\b)|\w+|([^\w\s])\1*"
# The archive's texts hold bytes of Windows-1252 that were read as Latin-1.
_CHARACTERS = {
    code: bytes([code]).decode("cp1252", "ignore") or " " for code in range(0x80, 0xA0)
} | str.maketrans("‘’´`“”", "''''\"\"")
_CHARACTERS |= str.maketrans("\x91\x92\x93\x94", "''\"\"")
# Byte order marks, zero-width spaces and marks of direction are no words.
_CHARACTERS |= dict.fromkeys((0xFEFF, 0x200B, 0x200E, 0x200F, 0x2060), "")


def clean(text: str) -> tuple[str, int]:
    """Plain text of a review, and how many HTML breaks became a space.

    Breaks (`<br />`) become spaces, character references (`&#8217;`) and stray
    Windows-1252 codes the characters they stand for, typographic quotes plain ones;
    byte order marks and other characters without width go.
    """
    text, breaks = _HTML_BREAK.subn(" ", text)
    return html.unescape(text).translate(_CHARACTERS).strip(), breaks


class Encoded(NamedTuple):
    """Rows of tokens of any length, end to end.

    Attributes:
        tokens: (total,) int32, the rows one after the other.
        offsets: (N + 1,) int64; row i is `tokens[offsets[i]:offsets[i + 1]]`.
        labels: (N,) int32.
        ratios: (total, F) float32, numbers that go with each token; None for none.
    """

    tokens: np.ndarray
    offsets: np.ndarray
    labels: np.ndarray
    ratios: np.ndarray | None = None

    @property
    def lengths(self) -> np.ndarray:
        """(N,) int32, the number of tokens of each row; 0 for an empty review."""
        return np.diff(self.offsets).astype(np.int32)

    def row(self, index: SupportsIndex) -> np.ndarray:
        """The tokens of one row, (length,) int32."""
        return self.take(np.asarray([index])).tokens

    def take(self, rows: np.ndarray) -> "Encoded":
        """The rows with these numbers, (M,) integers from 0 to N - 1, in this order.

        Raises:
            TypeError: the numbers are no integers.
            IndexError: one is out of range; negative numbers are.
        """
        rows = np.asarray(rows)
        if rows.ndim != 1 or (rows.size and not np.issubdtype(rows.dtype, np.integer)):
            raise TypeError(
                "rows: expected integers of shape (M,), "
                f"got {rows.dtype} of shape {rows.shape}"
            )
        rows = rows.astype(np.int64)
        if rows.size and not 0 <= rows.min() <= rows.max() < len(self.labels):
            raise IndexError(
                f"rows: expected 0 to {len(self.labels) - 1}, "
                f"got {rows.min()} to {rows.max()}"
            )
        lengths = self.lengths[rows]
        return _gather(self, self.offsets[rows], lengths, self.labels[rows])


def truncate(
    encoded: Encoded, max_length: int, *, keep: Literal["last", "first"] = "last"
) -> tuple[Encoded, int]:
    """At most `max_length` tokens a row, and how many rows were cut.

    Args:
        encoded: the rows.
        max_length: tokens kept at most, at least 1.
        keep: which end of a long row is kept. Reviewers put their verdict last, so
            the last words say more about the sentiment than the first.

    Returns:
        The shortened rows, and the number of rows that lost tokens.

    Raises:
        ValueError: `max_length` is not positive, or `keep` is unknown.
    """
    at_least(1, max_length=max_length)
    if keep not in ("last", "first"):
        raise ValueError(f"keep: expected 'last' or 'first', got {keep!r}")
    lengths = np.minimum(encoded.lengths, max_length)
    cut = encoded.lengths - lengths
    starts = encoded.offsets[:-1] + (cut if keep == "last" else 0)
    shortened = _gather(encoded, starts, lengths, encoded.labels)
    return shortened, int(np.count_nonzero(cut))


@dataclass(frozen=True)
class ReviewTokenizer:
    """A word-level tokenizer with its vocabulary; id 0 is padding, 1 an unknown word.

    Attributes:
        definition: the whole tokenizer as the JSON of Hugging Face `tokenizers`, so
            that a saved model scores new text exactly as it was trained.
    """

    definition: str

    @classmethod
    def train(cls, texts: Iterable[str], vocabulary_size: int) -> "ReviewTokenizer":
        """Builds the vocabulary: the most frequent words of `texts`, and nothing else.

        Words are lower-cased, without accents. Equally frequent words are taken in
        alphabetical order, so the same texts give the same vocabulary.

        Args:
            texts: the training texts; validation and test texts do not belong here.
            vocabulary_size: ids at most, padding and unknown included; at least 3.

        Raises:
            ValueError: `vocabulary_size` is out of range, or the texts hold no word.
            ModuleNotFoundError: `tokenizers` is not installed.
        """
        within(3, LARGEST, vocabulary_size=vocabulary_size)
        hf: Any = require("tokenizers", extra="imdb")
        tokenizer = hf.Tokenizer(hf.models.WordLevel(unk_token=_SPECIAL_TOKENS[1]))
        tokenizer.normalizer = hf.normalizers.Sequence(
            [
                hf.normalizers.NFKD(),
                hf.normalizers.StripAccents(),
                hf.normalizers.Lowercase(),
            ]
        )
        tokenizer.pre_tokenizer = hf.pre_tokenizers.Split(
            hf.Regex(_WORD), behavior="removed", invert=True
        )
        trainer = hf.trainers.WordLevelTrainer(
            vocab_size=vocabulary_size,
            special_tokens=_SPECIAL_TOKENS,
            show_progress=False,
        )
        tokenizer.train_from_iterator((clean(text)[0] for text in texts), trainer)
        if tokenizer.get_vocab_size() == len(_SPECIAL_TOKENS):
            raise ValueError("texts: expected at least one word to learn from")
        return cls(tokenizer.to_str())

    @classmethod
    def load(cls, path: str | Path) -> "ReviewTokenizer":
        """Reads a tokenizer written by `save`.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is broken; it is named.
        """
        try:
            tokenizer = cls(Path(path).read_text(encoding="utf-8"))
            tokenizer._tokenizer  # noqa: B018 (an unreadable file fails here)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        return tokenizer

    def save(self, path: str | Path) -> None:
        """Writes the tokenizer as JSON, whole or not at all."""
        write_whole(Path(path), self.definition.encode())

    @property
    def vocabulary_size(self) -> int:
        """The number of ids, padding and unknown included."""
        return self._tokenizer.get_vocab_size()

    def encode(self, text: str) -> np.ndarray:
        """The ids of one text, (length,) int32; an empty text has length 0."""
        return np.asarray(self._tokenizer.encode(clean(text)[0]).ids, np.int32)

    def words(self, ids: Sequence[int] | np.ndarray) -> list[str]:
        """The word behind each id: "[PAD]" for 0, "[UNK]" for 1.

        Raises:
            ValueError: an id is not in the vocabulary.
        """
        words = []
        for number in ids:
            word = self._tokenizer.id_to_token(int(number))
            if word is None:
                raise ValueError(
                    f"ids: expected 0 to {self.vocabulary_size - 1}, got {number}"
                )
            words.append(word)
        return words

    def encode_all(
        self, texts: Sequence[str], labels: np.ndarray
    ) -> tuple[Encoded, dict[str, int]]:
        """The ids of many texts, and counts of what was met on the way.

        Args:
            texts: N texts.
            labels: (N,) int32.

        Returns:
            The rows, and the counts `reviews`, `tokens`, `unknown_tokens`,
            `html_breaks` (replaced by a space) and `empty` (reviews without a single
            word, kept with length 0).

        Raises:
            ValueError: not as many labels as texts.
        """
        if np.shape(labels) != (len(texts),):
            raise ValueError(
                f"labels: expected shape ({len(texts)},), got {np.shape(labels)}"
            )
        cleaned = [clean(text) for text in texts]
        ids = [
            np.asarray(encoding.ids, np.int32)
            for encoding in self._tokenizer.encode_batch_fast([t for t, _ in cleaned])
        ]
        lengths = np.asarray([len(row) for row in ids], np.int64)
        tokens = np.concatenate([np.zeros(0, np.int32), *ids])
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        counts = {
            "reviews": len(texts),
            "tokens": tokens.size,
            "unknown_tokens": int(np.count_nonzero(tokens == UNKNOWN_ID)),
            "html_breaks": sum(breaks for _, breaks in cleaned),
            "empty": int(np.count_nonzero(lengths == 0)),
        }
        return Encoded(tokens, offsets, np.asarray(labels, np.int32)), counts

    @functools.cached_property
    def _tokenizer(self) -> "Tokenizer":
        hf: Any = require("tokenizers", extra="imdb")
        try:
            tokenizer = hf.Tokenizer.from_str(self.definition)
        except Exception as error:  # tokenizers raises bare Exception
            raise ValueError(f"not the JSON of a tokenizer: {error}") from error
        # A review that says "[PAD]" means a bracket and a word. Not part of the JSON.
        tokenizer.encode_special_tokens = True
        return tokenizer


def _gather(
    encoded: Encoded, starts: np.ndarray, lengths: np.ndarray, labels: np.ndarray
) -> Encoded:
    """Rows cut out at `starts`, each `lengths` long, end to end."""
    offsets = np.concatenate(
        [np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)]
    )
    # Position p of row i comes from starts[i] + (p - offsets[i]).
    source = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
    ratios = None if encoded.ratios is None else encoded.ratios[source]
    return Encoded(encoded.tokens[source], offsets, labels, ratios)
