"""Mistakes in one line, and what they spoil."""

import ast

import numpy as np
import pytest
from random_reading import random_trace

from experiments.explain_page.case import manual_gradients
from experiments.explain_page.lines import Line, lines_of, reverse_of, text_of
from experiments.explain_page.mistakes import mistakes_of
from lstm_jax.cells import CELLS


def texts(line, gates=()):
    value = ast.parse(line, mode="eval").body
    return {
        mistake.text: mistake.kind
        for mistake in mistakes_of([Line("dq", 1, 1, value)], list(gates))
    }


def test_what_can_be_wrong_with_a_line():
    assert texts("dc * g", ["i", "g"]) == {
        "-(dc * g)": "sign flipped",
        "dc": "factor forgotten",
        "g": "factor forgotten",
        "dc * i": "wrong gate",
    }
    assert texts("di * i * (1 - i)") == {
        "-(di * i * (1 - i))": "sign flipped",
        "di * i": "factor forgotten",
        "di * (1 - i)": "factor forgotten",
        "i * (1 - i)": "factor forgotten",
    }
    assert texts("dc_next + da * (1 - a**2)") == {
        "-(dc_next + da * (1 - a**2))": "sign flipped",
        "dc_next": "term forgotten",
        "da * (1 - a**2)": "term forgotten",
        "dc_next + da": "factor forgotten",
        "dc_next + (1 - a**2)": "factor forgotten",
        "dc_next + da * (1 - a)": "square forgotten",
    }


@pytest.mark.parametrize("name", ["lstm", "gru", "rnn_tanh", "slstm"])
def test_no_mistake_says_what_the_line_says(name):
    lines = lines_of(reverse_of(CELLS[name]))
    found = mistakes_of(lines, ["i", "f"])
    assert {mistake.line.quantity for mistake in found} == {
        line.quantity for line in lines
    }
    for mistake in found:
        assert mistake.text != text_of(mistake.line.value)


def spoiled(found, mistake):
    """Per step the gradients that are off, from the last step to the first."""
    right, wrong = manual_gradients(found.back), manual_gradients(found.wrong(mistake))
    steps = len(found.back.dx)
    return [
        {q for q in right if not np.allclose(right[q][t], wrong[q][t], rtol=1e-9)}
        for t in reversed(range(steps))
    ]


def test_a_mistake_spoils_what_comes_after_it_on_the_way_back():
    found = random_trace("lstm")
    [forgotten] = [
        mistake
        for mistake in mistakes_of(lines_of(reverse_of(CELLS["lstm"])), [])
        if (mistake.line.quantity, mistake.text) == ("df", "dc")
    ]
    last, before, *_ = spoiled(found, forgotten)
    assert last == {"f", "z_f", "x", "h_prev"}
    assert {"h", "o", "a", "c", "i", "g", "z_i", "c_prev"} <= before
    wrong = found.wrong(forgotten)
    for k in range(2):
        for ours, right in zip(wrong.params[k], found.back.params[k], strict=True):
            assert not np.allclose(ours, right)


def test_the_right_line_spoils_nothing():
    found = random_trace("lstm")
    line = next(line for line in lines_of(reverse_of(CELLS["lstm"])))
    [one, *_] = mistakes_of([line], [])
    assert not any(spoiled(found, one._replace(value=line.value)))
