"""Cleaning, words, vocabulary, ragged rows, truncation."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.data import (
    PADDING_ID,
    UNKNOWN_ID,
    Encoded,
    ReviewTokenizer,
    clean,
    truncate,
)


@pytest.mark.parametrize(
    ("text", "cleaned", "breaks"),
    [
        ("Good.<br /><br />Bad.", "Good.  Bad.", 2),
        ("a<br>b<BR/>c<br\t/>d", "a b c d", 3),
        ("a < b, <i>b</i> > c", "a < b, <i>b</i> > c", 0),
        ("it&#8217;s &amp; more", "it's & more", 0),
        ("it\x92s \x93great\x94 \x96 really\x85", 'it\'s "great" – really…', 0),
        ("‘a’ “b” c´d e`f", "'a' \"b\" c'd e'f", 0),
        ("undefined \x81 code", "undefined   code", 0),
        (" \n<br />\t ", "", 1),
        ("", "", 0),
    ],
)
def test_clean(text, cleaned, breaks):
    assert clean(text) == (cleaned, breaks)


@given(st.text())
def test_clean_leaves_no_break_and_no_control_code(text):
    cleaned, _ = clean(text + "<br />" + text)
    assert "<br />" not in cleaned.lower()
    assert not set(cleaned) & {chr(code) for code in range(0x80, 0xA0)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I DON'T like it", "i do n't like it"),
        ("can’t, isn't! won't.", "ca n't , is n't ! wo n't ."),
        (
            "they're he'd we've I'm she'll it's",
            "they 're he 'd we 've i 'm she 'll it 's",
        ),
        ("'quoted' o'clock", "' quoted ' o ' clock"),
        ("a café, naïve", "a cafe , naive"),
        ("10/10... wait!!! what?!", "10 / 10 ... wait !!! what ? !"),
        ("one.<br /><br />two", "one . two"),
        ("half\x96baked", "half – baked"),
        ("ﬁne ①", "fine 1"),
        ("", ""),
        ("<br />", ""),
    ],
)
def test_words(text, words):
    tokenizer = ReviewTokenizer.train([text, "something else"], 100)
    assert tokenizer.words(tokenizer.encode(text)) == words.split()


TEXTS = ["the cat saw the dog", "the dog saw the bird", "a Dog"]


def test_the_vocabulary_holds_the_most_frequent_words():
    tokenizer = ReviewTokenizer.train(TEXTS, 6)
    assert tokenizer.vocabulary_size == 6
    # the: 4, dog: 3, saw: 2, then a, bird and cat with 1, of which one fits.
    assert tokenizer.words(range(6)) == ["[PAD]", "[UNK]", "the", "dog", "saw", "a"]
    assert tokenizer.encode("The bird saw").tolist() == [2, UNKNOWN_ID, 4]


def test_the_vocabulary_may_be_smaller_than_asked():
    assert ReviewTokenizer.train(TEXTS, 1000).vocabulary_size == 8


@given(st.permutations(TEXTS))
def test_the_vocabulary_does_not_depend_on_the_order_of_the_texts(texts):
    assert ReviewTokenizer.train(texts, 6) == ReviewTokenizer.train(TEXTS, 6)


@given(st.lists(st.text(), min_size=1, max_size=5))
def test_no_text_gives_padding(texts):
    tokenizer = ReviewTokenizer.train([*texts, "[PAD] word"], 50)
    encoded, _ = tokenizer.encode_all(
        [*texts, "[PAD] [UNK]"], np.zeros(len(texts) + 1, np.int32)
    )
    assert (encoded.tokens != PADDING_ID).all()
    assert (encoded.tokens < tokenizer.vocabulary_size).all()


def test_encode_all_counts_what_it_met():
    tokenizer = ReviewTokenizer.train(TEXTS, 5)
    labels = np.asarray([1, 0, 1, 0], np.int32)
    texts = ["the cat<br /><br />saw", "", "<br />\n", "zebra!"]
    encoded, counts = tokenizer.encode_all(texts, labels)
    assert counts == {
        "reviews": 4,
        "tokens": 5,
        "unknown_tokens": 3,
        "html_breaks": 3,
        "empty": 2,
    }
    np.testing.assert_array_equal(encoded.lengths, [3, 0, 0, 2])
    np.testing.assert_array_equal(encoded.labels, labels)
    assert (encoded.tokens.dtype, encoded.offsets.dtype, encoded.labels.dtype) == (
        np.int32,
        np.int64,
        np.int32,
    )
    for row, text in enumerate(texts):
        np.testing.assert_array_equal(encoded.row(row), tokenizer.encode(text))


def test_nothing_encoded_is_empty():
    encoded, counts = ReviewTokenizer.train(TEXTS, 5).encode_all(
        [], np.zeros(0, np.int32)
    )
    assert encoded.lengths.shape == (0,)
    assert counts["reviews"] == counts["tokens"] == 0


def test_a_saved_tokenizer_encodes_the_same(tmp_path):
    tokenizer = ReviewTokenizer.train(TEXTS, 6)
    file = tmp_path / "run" / "tokenizer.json"
    tokenizer.save(file)
    loaded = ReviewTokenizer.load(file)
    assert loaded == tokenizer
    assert loaded.encode("A DOG saw").tolist() == tokenizer.encode("A DOG saw").tolist()
    json.loads(file.read_text(encoding="utf-8"))


ROWS = st.lists(st.integers(0, 9), min_size=1, max_size=8)


def ragged(lengths) -> Encoded:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    tokens = np.arange(2, 2 + offsets[-1], dtype=np.int32)
    return Encoded(tokens, offsets, np.arange(len(lengths), dtype=np.int32))


@given(ROWS, st.integers(1, 11), st.sampled_from(["last", "first"]))
def test_truncate_keeps_one_end_and_counts(lengths, max_length, keep):
    encoded = ragged(lengths)
    shortened, count = truncate(encoded, max_length, keep=keep)
    assert count == sum(length > max_length for length in lengths)
    np.testing.assert_array_equal(shortened.labels, encoded.labels)
    part = slice(-max_length, None) if keep == "last" else slice(max_length)
    for row in range(len(lengths)):
        np.testing.assert_array_equal(shortened.row(row), encoded.row(row)[part])


@given(ROWS, st.data())
def test_take_gives_the_rows_asked_for(lengths, data):
    encoded = ragged(lengths)
    rows = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=6))
    taken = encoded.take(np.asarray(rows, np.int64))
    assert len(taken.labels) == len(taken.lengths) == len(rows)
    for number, row in enumerate(rows):
        np.testing.assert_array_equal(taken.row(number), encoded.row(row))
        assert taken.labels[number] == encoded.labels[row]


TOKENIZER = ReviewTokenizer.train(TEXTS, 6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: truncate(ragged([3]), 0), ValueError, "max_length must be at least 1"),
        (lambda: ragged([3]).row(1), IndexError, "rows: expected 0 to 0, got 1"),
        (lambda: ragged([3]).row(-1), IndexError, "rows: expected 0 to 0, got -1"),
        (
            lambda: ragged([3]).take(np.asarray([True])),
            TypeError,
            "rows: expected integers .* got bool",
        ),
        (
            lambda: ragged([3]).take(np.asarray([[0]])),
            TypeError,
            r"rows: .* shape \(1, 1\)",
        ),
        (
            lambda: ReviewTokenizer.train(TEXTS, 2),
            ValueError,
            "vocabulary_size must be at least 3",
        ),
        (
            lambda: ReviewTokenizer.train([], 5),
            ValueError,
            "texts: expected at least one",
        ),
        (
            lambda: ReviewTokenizer.train([" "], 5),
            ValueError,
            "texts: expected at least",
        ),
        (lambda: TOKENIZER.words([6]), ValueError, "ids: expected 0 to 5, got 6"),
        (
            lambda: TOKENIZER.encode_all(["a", "b"], np.zeros(3, np.int32)),
            ValueError,
            r"labels: expected shape \(2,\), got \(3,\)",
        ),
    ],
)
def test_wrong_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_an_unknown_end_is_named():
    with pytest.raises((ValueError, TypeError), match="keep"):
        truncate(ragged([3]), 2, keep="middle")


def test_a_file_that_is_no_tokenizer_is_an_error(tmp_path):
    file = tmp_path / "tokenizer.json"
    file.write_text('{"half": ')
    with pytest.raises(ValueError, match="not the JSON of a tokenizer"):
        ReviewTokenizer.load(file)


@pytest.mark.parametrize("mark", ["\ufeff", "\u200b", "\u2060", "\u200e", "\u200f"])
def test_what_has_no_width_is_no_word(mark):
    assert clean(f"{mark}good{mark} fi{mark}lm") == ("good film", 0)


def test_a_broken_tokenizer_is_named(tmp_path):
    file = tmp_path / "tokenizer.json"
    for content in (b"", b"{", b"\xff"):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"tokenizer\.json: "):
            ReviewTokenizer.load(file)


@pytest.mark.parametrize("size", [2**31, 10**20])
def test_a_vocabulary_too_large_to_count_is_named(size):
    with pytest.raises(ValueError, match="vocabulary_size must be at most 2147483647"):
        ReviewTokenizer.train(["a word"], size)
