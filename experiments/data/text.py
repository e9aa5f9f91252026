"""Text as a sequence of characters: the reference manual that comes with Python."""

import hashlib
import importlib
from typing import NamedTuple

import numpy as np

from experiments.checks import at_least


class Characters(NamedTuple):
    """A text in three parts, none of whose paragraphs is in another.

    Attributes:
        train: (n,) int32, numbers of characters in `alphabet`.
        validation: the text after it.
        test: the text after that.
        alphabet: the characters of the whole text, in order.
        sha256: of the whole text, which differs from one Python to another.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    alphabet: str
    sha256: str

    def encode(self, text: str) -> np.ndarray:
        """The numbers of a text's characters, (n,) int32.

        Raises:
            ValueError: a character is not in the alphabet.
        """
        unknown = sorted(set(text) - set(self.alphabet))
        if unknown:
            raise ValueError(f"text: these letters are not in the alphabet: {unknown}")
        return np.array([self.alphabet.index(c) for c in text], np.int32)

    def decode(self, numbers: np.ndarray) -> str:
        """The text of these numbers."""
        return "".join(self.alphabet[n] for n in numbers)


def reference_manual() -> str:
    """What Python's own `help("topics")` shows: its reference manual, 370,000 letters.

    English prose about a language, with grammar and examples; under the licence of
    the Python Software Foundation. It is part of every Python, each version has its
    own, and it quotes itself: of equal paragraphs only the first is kept.

    Raises:
        ModuleNotFoundError: this Python was installed without it.
    """
    topics = importlib.import_module("pydoc_data.topics").topics
    kept: dict[str, str] = {}
    for topic in topics.values():
        for paragraph in topic.split("\n\n"):
            kept.setdefault(" ".join(paragraph.split()), paragraph.strip("\n"))
    kept.pop("", None)
    return "\n\n".join(kept.values())


def characters(text: str, *, held_out: float = 0.05) -> Characters:
    """Divides a text at paragraphs, in its order: training, validation, testing.

    Args:
        text: paragraphs, apart by empty lines.
        held_out: the share of characters for validation, and that for testing.

    Raises:
        ValueError: the share is out of range, or the text has too few paragraphs.
    """
    if not 0 < held_out < 0.5:
        raise ValueError(f"held_out: expected between 0 and 0.5, got {held_out}")
    paragraphs = [paragraph + "\n\n" for paragraph in text.split("\n\n")]
    at_least(3, paragraphs=len(paragraphs))
    ends = np.cumsum([len(paragraph) for paragraph in paragraphs])
    targets = ends[-1] * np.array([1 - 2 * held_out, 1 - held_out])
    cuts = np.searchsorted(ends, targets, side="right")
    alphabet = "".join(sorted(set(text) | {"\n"}))
    place = {character: number for number, character in enumerate(alphabet)}
    parts = [
        np.array([place[c] for c in "".join(paragraphs[start:end])], np.int32)
        for start, end in ((0, cuts[0]), (cuts[0], cuts[1]), (cuts[1], None))
    ]
    if not all(len(part) for part in parts):
        raise ValueError("text: expected enough paragraphs for three parts")
    return Characters(*parts, alphabet, hashlib.sha256(text.encode()).hexdigest())


def streams(numbers: np.ndarray, count: int) -> np.ndarray:
    """A text cut into `count` parts of equal length, side by side: (count, L).

    Row n + 1 goes on where row n ends; what is left at the end, fewer than `count`
    characters, is dropped.

    Raises:
        TypeError, ValueError: `count` is no integer, below 1, or above the length.
    """
    at_least(1, count=count)
    if count > len(numbers):
        raise ValueError(f"count: expected at most {len(numbers)}, got {count}")
    length = len(numbers) // count
    return numbers[: count * length].reshape(count, length)
