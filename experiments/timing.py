"""Costs of compiled programs, side by side in one process."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax

from lstm_jax.cell import Cell

Programs = Mapping[str, Callable[..., Any]]
"""By name; mostly compiled ones, `jax.stages.Compiled`."""


processor_seconds = time.process_time
"""A clock that stands while others have the processor; it counts all threads."""


def interleaved(
    programs: Programs,
    arguments: Sequence[Any],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Each program's seconds in each round, after one that does not count."""
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds + 1):
        for name, program in programs.items():
            start = clock()
            jax.block_until_ready(program(*arguments))
            times[name].append(clock() - start)
    return {name: seconds[1:] for name, seconds in times.items()}


def scanned(cell: Cell) -> Cell:
    """The same cell, not known for what other runners take, and so scanned."""
    return cell._replace(step=partial(cell.step), linear=False)


def temporary_bytes(program: jax.stages.Compiled) -> int:
    """What a program needs beside arguments and results, as the compiler says."""
    analysis = program.memory_analysis()
    assert analysis is not None
    return analysis.temp_size_in_bytes
