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
        return numbers_of(text, self.alphabet)

    def decode(self, numbers: np.ndarray) -> str:
        """The text of these numbers."""
        return "".join(self.alphabet[n] for n in numbers)


def numbers_of(text: str, alphabet: str) -> np.ndarray:
    """The numbers of a text's characters in an alphabet, (n,) int32.

    Raises:
        ValueError: a character is not in it.
    """
    if unknown := sorted(set(text) - set(alphabet)):
        raise ValueError(f"these letters are not in the alphabet: {unknown}")
    return np.array([alphabet.index(c) for c in text], np.int32)


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

    Paragraphs are apart by empty lines. A text with too few of them is divided at
    lines, and one with too few lines between letters. CRLF and CR end lines as LF does.

    Args:
        text: what is divided.
        held_out: the share of characters for validation, and that for testing.

    Raises:
        ValueError: the share is out of range, or the text is too short for three parts
            of two letters.
    """
    if not 0 < held_out < 0.5:
        raise ValueError(f"held_out: expected between 0 and 0.5, got {held_out}")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    for apart in ("\n\n", "\n", ""):
        pieces = [piece + apart for piece in (text.split(apart) if apart else text)]
        parts = _three_parts(pieces, held_out)
        if all(len(part) > 1 for part in parts):
            break
    else:
        raise ValueError("text: expected enough of it for three parts")
    alphabet = "".join(sorted(set().union(*parts)))
    place = {character: number for number, character in enumerate(alphabet)}
    numbers = [np.array([place[c] for c in part], np.int32) for part in parts]
    return Characters(*numbers, alphabet, hashlib.sha256(text.encode()).hexdigest())


def _three_parts(pieces: list[str], held_out: float) -> list[str]:
    """Pieces joined to three parts, the last two with this share of the letters."""
    ends = np.cumsum([0, *(len(piece) for piece in pieces)])[1:]
    targets = (ends[-1:] if len(ends) else np.zeros(1)) * np.array(
        [1 - 2 * held_out, 1 - held_out]
    )
    first, second = np.searchsorted(ends, targets, side="right")
    spans = (0, first), (first, second), (second, None)
    return ["".join(pieces[start:end]) for start, end in spans]


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
