"""The text is divided without overlap, and numbers and characters go both ways."""

import hashlib

import numpy as np
import pytest

from experiments.data import characters, reference_manual, streams


@pytest.fixture(scope="module")
def manual():
    return reference_manual()


def test_the_manual_repeats_no_paragraph(manual):
    paragraphs = [" ".join(p.split()) for p in manual.split("\n\n")]
    assert len(paragraphs) > 1000
    assert len(set(paragraphs)) == len(paragraphs)
    assert len(manual) > 300_000


def test_the_parts_are_the_text_and_share_no_paragraph(manual):
    text = characters(manual)
    parts = [text.decode(part) for part in text[:3]]
    assert "".join(parts) == manual + "\n\n"
    apart = [set(part.rstrip("\n").split("\n\n")) for part in parts]
    assert not apart[0] & apart[1]
    assert not (apart[0] | apart[1]) & apart[2]
    for part in parts[1:]:
        assert len(part) == pytest.approx(0.05 * len(manual), rel=0.2)


def test_numbers_and_characters_go_both_ways(manual):
    text = characters(manual)
    assert text.alphabet == "".join(sorted(set(manual)))
    assert all(part.dtype == np.int32 for part in text[:3])
    np.testing.assert_array_equal(text.encode(text.decode(text.test)), text.test)
    assert text.sha256 == hashlib.sha256(manual.encode()).hexdigest()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("aa\nbb\ncc\ndd", ("aa\nbb\n", "cc\n", "dd\n")),  # no paragraphs: lines
        ("aa\r\nbb\rcc\r\ndd", ("aa\nbb\n", "cc\n", "dd\n")),
        ("aaaabbcc", ("aaaa", "bb", "cc")),  # one line: letters
        ("one\n\n" + 8 * "two\n", ("one\n\n" + 3 * "two\n", 2 * "two\n", "")),
    ],
)
def test_a_text_of_any_form_is_divided(text, parts):
    found = characters(text, held_out=0.25)
    *said, last = (found.decode(part) for part in found[:3])
    assert tuple(said) == parts[:2]
    assert last.startswith(parts[2])


def test_parts_by_hand():
    text = characters("aa\n\nbb\n\ncc\n\ndd", held_out=0.25)
    assert [text.decode(part) for part in text[:3]] == [
        "aa\n\nbb\n\n",
        "cc\n\n",
        "dd\n\n",
    ]
    assert text.alphabet == "\nabcd"


@pytest.mark.parametrize(
    ("text", "held_out", "told"),
    [
        ("a\n\nb\n\nc", 0.0, "held_out: expected between 0 and 0.5"),
        ("a\n\nb\n\nc", 0.5, "held_out: expected between 0 and 0.5"),
        ("", 0.2, "expected enough of it for three parts"),
        ("a\nb", 0.2, "expected enough of it for three parts"),
    ],
)
def test_a_text_that_cannot_be_divided_is_an_error(text, held_out, told):
    with pytest.raises(ValueError, match=told):
        characters(text, held_out=held_out)


def test_a_character_that_is_not_known_is_named():
    with pytest.raises(ValueError, match="'z'"):
        characters("a\n\nb\n\nc", held_out=0.3).encode("az")


def test_streams_go_on_in_the_next_row():
    numbers = np.arange(11, dtype=np.int32)
    rows = streams(numbers, 3)
    np.testing.assert_array_equal(rows, [[0, 1, 2], [3, 4, 5], [6, 7, 8]])
    np.testing.assert_array_equal(streams(numbers, 1), numbers[None])
    for count in (0, 12):
        with pytest.raises(ValueError, match="count"):
            streams(numbers, count)
