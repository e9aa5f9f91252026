"""Checks of the numbers that a user gives."""

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
            raise TypeError(f"{name} must be an integer; got {number!r}")
        if number < least:
            raise ValueError(f"{name} must be at least {least}; got {number}")
