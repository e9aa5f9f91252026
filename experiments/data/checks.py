"""Checks of numbers at the public door."""

from typing import Any

import numpy as np


def at_least(least: int, **numbers: Any) -> None:
    """Checks that every number is an integer of at least `least`.

    Raises:
        TypeError: one is no integer; it is named.
        ValueError: one is below `least`; it is named.
    """
    for name, number in numbers.items():
        if not isinstance(number, int | np.integer) or isinstance(number, bool):
            raise TypeError(f"{name}: expected an integer, got {number!r}")
        if number < least:
            raise ValueError(f"{name}: expected {least} or more, got {number}")
