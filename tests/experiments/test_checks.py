"""Numbers that the caller can get wrong, and packages that may be missing."""

import json

import numpy as np
import pytest

from experiments.checks import at_least
from experiments.optional import require


@pytest.mark.parametrize("number", [3, 4, np.int32(3), np.int64(10**12)])
def test_at_least_lets_integers_pass(number):
    at_least(3, size=number)


@pytest.mark.parametrize(
    ("number", "error", "message"),
    [
        (2, ValueError, "size must be at least 3; got 2"),
        (np.int32(-1), ValueError, "size must be at least 3; got -1"),
        (4.0, TypeError, "size must be an integer; got 4.0"),
        (True, TypeError, "size must be an integer; got True"),
        ("4", TypeError, "size must be an integer; got '4'"),
        (None, TypeError, "size must be an integer; got None"),
    ],
)
def test_at_least_names_what_it_refuses(number, error, message):
    with pytest.raises(error, match=message):
        at_least(3, other=5, size=number)


def test_require_imports():
    assert require("json", extra="any") is json


def test_require_names_the_extra():
    with pytest.raises(
        ModuleNotFoundError, match=r"'no_such_package'.*pip install 'lstm_jax\[imdb\]'"
    ) as raised:
        require("no_such_package", extra="imdb")
    assert raised.value.name == "no_such_package"
