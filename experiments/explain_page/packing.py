"""Numbers as the page takes them: a few units of each array, in base 64."""

import base64
from collections.abc import Sequence

import numpy as np
from jax import Array


def float32(values: np.ndarray | Array) -> str:
    """Little-endian 32-bit numbers, in base 64."""
    return base64.b64encode(np.asarray(values, "<f4").tobytes()).decode("ascii")


def bfloat16(values: np.ndarray | Array) -> str:
    """The upper halves of 32-bit numbers, two or three digits, in base 64."""
    bits = np.asarray(values, "<f4").view("<u4").astype(np.uint64)
    halves = np.where(np.isfinite(values), (bits + 0x8000) >> 16, bits >> 16)
    return base64.b64encode(halves.astype("<u2").tobytes()).decode("ascii")


def at_units(values: np.ndarray | Array, units: Sequence[int | None]) -> str:
    """Chosen units, and after them the mean |·| of all.

    Args:
        values: (T, N).
        units: which; NaN stands for None.

    Returns:
        (T, len(units) + 1) as `float32` gives it.
    """
    found = np.asarray(values, np.float64)
    nothing = np.full(len(found), np.nan)
    columns = [nothing if unit is None else found[:, unit] for unit in units]
    with np.errstate(over="ignore"):  # the lowest number of 64 bits has no 32
        return float32(np.stack([*columns, np.abs(found).mean(axis=1)], axis=1))


def relative(wrong: np.ndarray | Array, right: np.ndarray | Array) -> np.ndarray:
    """‖wrong - right‖ / ‖right‖ at every step, (T,); 0 where both are 0."""
    wrong, right = np.asarray(wrong, np.float64), np.asarray(right, np.float64)
    with np.errstate(all="ignore"):
        off = np.linalg.norm((wrong - right).reshape(len(right), -1), axis=1)
        size = np.linalg.norm(right.reshape(len(right), -1), axis=1)
        return np.where(off == 0, 0.0, off / size)
