"""Under which settings gradients are compared, whoever asks."""

from collections.abc import Generator
from contextlib import contextmanager

import jax

from lstm_jax.gradcheck.oracles import DIRECTIONS
from lstm_jax.initializers import check_size


@contextmanager
def as_compared() -> Generator[None]:
    """In float64, whatever the caller's settings are."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        yield


def check_differencing(difference_step: float, max_entries: int) -> None:
    """Raises ValueError if differences can't be taken so."""
    if not 0 < difference_step < 1:
        raise ValueError(f"difference_step must be in (0, 1); got {difference_step}")
    check_size("max_entries", max_entries, least=DIRECTIONS)
