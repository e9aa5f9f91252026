"""Numbers that the caller can get wrong, and packages that may be missing."""

import json

import jax
import numpy as np
import pytest

from experiments.checks import at_least, check_seed, within
from experiments.legible import one_line
from experiments.optional import require
from experiments.tables import markdown


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
        ModuleNotFoundError, match=r"'no_such_package'.*pip install -e '.\[imdb\]'"
    ) as raised:
        require("no_such_package", extra="imdb")
    assert raised.value.name == "no_such_package"


def test_numbers_out_of_range_are_named():
    within(1, 4, size=4)
    with pytest.raises(ValueError, match="size must be at most 4; got 5"):
        within(1, 4, size=5)
    with pytest.raises(ValueError, match="size must be at least 1; got 0"):
        within(1, 4, size=0)


def test_seeds_are_those_that_have_keys_of_their_own():
    """JAX takes others as well, and gives them the keys of these."""
    with jax.enable_x64(False):
        assert jax.random.key(2**32) == jax.random.key(0)
        assert jax.random.key(2**32 - 1) != jax.random.key(2**31 - 1)
    for seed in (0, 2**32 - 1):
        check_seed(seed)
    for seed in (-1, 2**32, 2**63, 10**20):
        with pytest.raises(ValueError, match=f"seed must be .*; got {seed}"):
            check_seed(seed)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("  a\n\n b\t", "a b"),
        ("\ud800\x1b[31m\0", "\ufffd\ufffd[31m\ufffd"),
        ("x" * 10**6, "x" * 9 + "…"),
        ("", ""),
    ],
)
def test_text_on_one_line(text, shown):
    assert one_line(text, 10) == shown


def test_a_table_is_a_table_whatever_is_in_it():
    lines = markdown(("a", "b"), [("x|y\nz", "\ud800")]).encode().decode().splitlines()
    assert lines == ["| a      | b |", "|--------|---|", "| x\\|y z | \ufffd |"]
