"""Checks of the numbers that a user gives."""

from typing import Any

import numpy as np

LARGEST = 2**31 - 1
"""What arrays are counted and indexed with: int32."""


def at_least(least: int, **numbers: Any) -> None:
    """Checks that every number is an integer of at least `least`.

    Raises:
        TypeError: one is no integer; it is named.
        ValueError: one is below `least`; it is named.
    """
    for name, number in numbers.items():
        if not isinstance(number, int | np.integer) or isinstance(number, bool):
            raise TypeError(f"{name} must be an integer; got {number!r}")
        if number < least:
            raise ValueError(f"{name} must be at least {least}; got {number}")


def within(least: int, most: int, **numbers: Any) -> None:
    """Checks that every number is an integer from `least` to `most`.

    Raises:
        TypeError: one is no integer; it is named.
        ValueError: one is out of range; it is named.
    """
    at_least(least, **numbers)
    for name, number in numbers.items():
        if number > most:
            raise ValueError(f"{name} must be at most {most}; got {number}")


def check_seed(seed: int) -> None:
    """Checks that JAX has a key of its own for a seed: 32 bits, not negative.

    Raises:
        TypeError, ValueError: as `within`.
    """
    within(0, 2**32 - 1, seed=seed)
