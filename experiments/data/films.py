"""Which reviews are about one film.

IMDB's reviews come in films, up to 30 of each, and reviews of one film share names and
words. The official test split has one film in common with the training split, so a
validation split predicts it only if it shares none either.

The archive says which film a review is about: line n of ``train/urls_pos.txt``,
counted from 0, is the address of the review ``train/pos/n_*.txt``. `imdb_films.npy`,
beside this module, holds that for the 25,000 official training reviews (Maas et al.,
2011) by their words, so that every source of them is divided alike. It is a sorted
(25000,) array of uint64, one a review: the upper 52 bits are the head of the SHA-256
of its words, the lower 12 bits the number of its film, 0 to 3449. `pack_films` makes
such an array from the archive.
"""

import hashlib
import importlib.resources
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np

from experiments.data.encoding import clean

_FILM_BITS = 12


def words_of(text: str) -> str:
    """The words of a review: what is the same in all sources of it."""
    return " ".join(re.findall(r"\w+", clean(text)[0].lower()))


def film_groups(words: Iterable[str]) -> list[str]:
    """What reviews of one film have in common, for each review.

    Args:
        words: the words of each review.

    Returns:
        For each review the number of its film, or its own words where they are not
        those of an official training review.
    """
    films = _films()
    numbers = ((own, films.get(_digest(own))) for own in words)
    return [own if film is None else f"film {film}" for own, film in numbers]


def pack_films(archive: Path) -> np.ndarray:
    """What `imdb_films.npy` holds, made from a folder in the archive's layout.

    Films are numbered as their addresses are sorted.

    Raises:
        FileNotFoundError: a list of addresses is missing.
        ValueError: there are more than 4096 films.
    """
    found = []
    for label in ("pos", "neg"):
        lines = (archive / "train" / f"urls_{label}.txt").read_text("ascii").split()
        for file in (archive / "train" / label).glob("[0-9]*_*.txt"):
            # http://www.imdb.com/title/tt0453418/usercomments
            film = lines[int(file.name.split("_")[0])].split("/")[4]
            found.append((words_of(file.read_text("utf-8")), film))
    numbers = {film: n for n, film in enumerate(sorted({film for _, film in found}))}
    if len(numbers) > 1 << _FILM_BITS:
        raise ValueError(
            f"expected at most {1 << _FILM_BITS} films, got {len(numbers)}"
        )
    return np.sort(
        np.asarray(
            [_digest(words) << _FILM_BITS | numbers[film] for words, film in found],
            np.uint64,
        )
    )


@cache
def _films() -> dict[int, int]:
    file = importlib.resources.files("experiments.data") / "imdb_films.npy"
    with file.open("rb") as stream:
        return _unpack(np.load(stream, allow_pickle=False))


def _unpack(packed: np.ndarray) -> dict[int, int]:
    mask = (1 << _FILM_BITS) - 1
    return {own >> _FILM_BITS: own & mask for own in packed.tolist()}


def _digest(words: str) -> int:
    head = hashlib.sha256(words.encode()).digest()[:8]
    return int.from_bytes(head, "big") >> _FILM_BITS
