"""How a kernel's work is divided: the choice of a tile, in one place.

A step is short, so what counts is how long its chain of events takes: the product, the
sums of its parts, the equations, and the numbers' way to the team's other blocks. The
time of a step is estimated as a sum of such terms, whose `WEIGHTS` were fitted to
measurements of 398 tiles on an H200 (LSTM, GRU and simple cell, H from 64 to 512,
batches from 1 to 128). `choose` takes the tile for which it is least; of those that
were measured it took 1.05 times as long as the fastest on average, and at most 1.33
times.
"""

import math
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from lstm_jax.engine.compiled.cuda.kernel import (
    Job,
    Tile,
    ceil_div,
    counts,
    elements,
    left,
    matrix,
    pieces,
    shared_bytes,
    slots,
)


class Device(NamedTuple):
    """What a device grants.

    Attributes:
        architecture: such as "sm_90".
        processors: multiprocessors.
        shared_bytes: the shared memory that a block can have.
    """

    architecture: str
    processors: int
    shared_bytes: int

    @property
    def clusters(self) -> bool:
        """Whether blocks can reach each other's shared memory."""
        return int(self.architecture.removeprefix("sm_")) >= 90

    def at_once(self, tile: Tile) -> int:
        """How many teams run at the same time, one block on a processor.

        A cluster is within one part of the device, of 16 or 18 processors; only some
        of them have room for 16.
        """
        if tile.form == "CLUSTER" and tile.blocks > 1:
            parts = self.processors // (18 if tile.blocks == 16 else 16)
            return max(1, parts * (16 // tile.blocks))
        return self.processors // tile.blocks


class TooLarge(Exception):
    """Weights that do not fit on chip; the message says so."""


REGISTERS = 65536
"""Of a multiprocessor."""

CLUSTERS = (2, 4, 8, 16)
GRIDS = (2, 4, 8, 16, 32, 64, 128)
THREADS = (128, 256, 384, 512)


@cache
def choose(job: Job, batch: int, device: Device) -> Tile:
    """The tile with the least estimated time.

    Raises:
        TooLarge: there is none, since the weights do not fit on chip.
    """

    def time(tile: Tile) -> float:
        return estimate(job, tile, batch, device)

    for forms in ("BLOCK", "CLUSTER"), ("GRID",):
        found = list(candidates(job, batch, device, forms))
        if found:
            return min(found, key=time)
    raise TooLarge(f"the recurrent weights of {job.units} units do not fit on chip")


def pays(job: Job, batch: int, device: Device) -> bool:
    """Whether the kernel's steps are faster than a scan's.

    A scan's step takes 12 µs to launch its kernels, and what large products and the
    device's memory take; where a batch of many rows meets many units, that is less than
    what a kernel whose weights leave little room for rows takes.
    """
    tile = choose(job, batch, device)
    count, numbers = counts(job), batch * job.heads * job.units
    products = 2 * numbers * count.V * job.units / (5e7 if job.exact else 1.5e8)
    moved = 8 * numbers * sum(count) / 2e6
    return estimate(job, tile, batch, device) < 12 + products + moved


def candidates(
    job: Job, batch: int, device: Device, forms: tuple[str, ...]
) -> Iterator[Tile]:
    """All tiles of some forms that fit on a device."""
    for form in forms:
        if form == "CLUSTER" and not device.clusters:
            continue
        numbers = {"BLOCK": (1,), "CLUSTER": CLUSTERS, "GRID": GRIDS}[form]
        for blocks in numbers:
            if blocks > min(device.processors, ceil_div(job.units, 4)):
                continue
            for threads in THREADS:
                tile = Tile(form, blocks, 0, threads, False, 0, 0)
                if not job.exact and job.dtype != "float64":
                    yield from _on_tensor_cores(job, tile, batch, device)
                yield from _plain(job, tile, batch, device)
                yield from _direct(job, tile, batch, device)


def _on_tensor_cores(
    job: Job, tile: Tile, batch: int, device: Device
) -> Iterator[Tile]:
    rows, columns = matrix(job, tile)
    warps = tile.threads // 32
    for split in (1, 2, 4, 8, 16):
        if warps % split or split > ceil_div(rows, 16):
            continue
        each = ceil_div(ceil_div(columns, 16), warps // split)
        if each * (warps // split) * 16 > 1.5 * max(columns, 16):
            continue  # most of the warps would have nothing to do
        for batch_rows in (8,) if batch <= 8 else (8, 16):
            found = tile._replace(
                rows=batch_rows, tensor=True, columns=each, split=split
            )
            yield from _fitted(job, found, device)


def _plain(job: Job, tile: Tile, batch: int, device: Device) -> Iterator[Tile]:
    rows, columns = matrix(job, tile)
    for split in (1, 2, 4, 8, 16, 32):
        each = ceil_div(columns, tile.threads // split)
        if each > 8 or each * (tile.threads // split) > 1.4 * max(columns, 128):
            continue
        found = tile._replace(columns=each, split=split)
        if pieces(job, found) * 4 * split > 1.5 * max(rows, 32):
            continue
        for batch_rows in (1, 2, 4, 8):
            if batch_rows < 2 * batch:
                yield from _fitted(job, found._replace(rows=batch_rows), device)


def _direct(job: Job, tile: Tile, batch: int, device: Device) -> Iterator[Tile]:
    if job.direction == "reverse" or job.units % tile.blocks:
        return
    own = job.units // tile.blocks
    for split in (1, 2, 4, 8, 16, 32):
        groups = tile.threads // split
        each = ceil_div(own, groups)
        if each * (groups - 32 // split) >= own:
            continue  # a warp without an element
        found = tile._replace(columns=each * counts(job).V, split=split, direct=True)
        if found.columns > 16 or pieces(job, found) * 4 * split > 1.5 * job.units:
            continue
        for batch_rows in (1, 2, 4, 8):
            if batch_rows < 2 * batch:
                yield from _fitted(job, found._replace(rows=batch_rows), device)


def _fitted(job: Job, tile: Tile, device: Device) -> Iterator[Tile]:
    """The tile with as many weights in registers as there are, if all fit."""
    count = counts(job)
    words = 2 if job.dtype == "float64" else 1
    of_element = 3 * count.S + count.U + count.K + count.P + 2
    if job.direction == "reverse":
        of_element += count.U + count.V
    of_elements = elements(job, tile) * words * of_element
    if tile.tensor:
        each, summed = 8 * tile.columns, (8 * tile.columns + 4) * (tile.rows // 8)
    else:
        each = 4 * tile.columns * words
        summed = (tile.columns * tile.rows + 4 + 4 * tile.columns) * words
    most = min(255, REGISTERS // tile.threads // 8 * 8)
    room = (most - 36 - of_elements - summed) // each
    if room < 0:
        return
    tile = tile._replace(stashed=max(0, pieces(job, tile) - room))
    if shared_bytes(job, tile) <= device.shared_bytes:
        yield tile


# --- what a step takes ----------------------------------------------------------------

# fmt: off
WEIGHTS: dict[tuple[str, str], dict[str, float]] = {
    ("forward", "direct"): {
        "step": 0.1725, "warps": 0.0023, "moved": 0.072, "warp": 0.093,
        "stages": 0.0544, "stash": 0.1692, "sent": 0.0237,
    },
    ("forward", "plain"): {
        "step": 0.2624, "warps": 0.0038, "moved": 0.0522, "warp": 0.065,
        "loads": 0.0377, "chain": 0.0101, "stages": 0.0161, "sums": 0.001,
        "stash": 0.2075, "sent": 0.0036, "team": 0.0641,
    },
    ("forward", "tensor"): {
        "step": 0.3188, "warps": 0.0056, "moved": 0.2787, "warp": 0.4203,
        "chain": 0.0074, "sums": 0.0482, "stash": 0.328, "sent": 0.0071,
    },
    ("reverse", "plain"): {
        "warps": 0.0089, "moved": 0.2008, "warp": 0.0141, "loads": 0.0694,
        "chain": 0.0738, "stages": 0.0457, "sums": 0.2309, "stash": 0.2589,
        "sent": 0.0448, "team": 0.1239,
    },
    ("reverse", "tensor"): {
        "step": 0.427, "moved": 0.2157, "warp": 0.657, "sums": 0.4157,
        "stash": 0.2719, "sent": 0.0161,
    },
}
# fmt: on
"""By direction and `kind` of tile: µs a step for each of `terms`."""


def estimate(job: Job, tile: Tile, batch: int, device: Device) -> float:
    """The time of a step of all rows, in µs."""
    weights = WEIGHTS[job.direction, kind(tile)]
    found = terms(job, tile, batch)
    once = sum(weight * found[name] for name, weight in weights.items())
    teams = job.heads * ceil_div(batch, tile.rows)
    through_memory = 2.0 if tile.form == "GRID" else 0.0
    return (once + through_memory) * ceil_div(teams, device.at_once(tile))


def kind(tile: Tile) -> str:
    """How a tile multiplies."""
    return "tensor" if tile.tensor else "direct" if tile.direct else "plain"


def terms(job: Job, tile: Tile, batch: int) -> dict[str, float]:
    """What the time of a step depends on."""
    _, columns = matrix(job, tile)
    each, warps, sums = pieces(job, tile), tile.threads / 32, tile.columns * tile.rows
    own = elements(job, tile)
    others = tile.blocks if tile.blocks > 1 else 0
    if tile.tensor:
        row_tiles = tile.rows // 8
        found = {
            "warp": warps / 4 * each * 2 * tile.columns * row_tiles / 100,
            "chain": each,
            "sums": warps * tile.columns * row_tiles * 4 / 100,
            "stash": warps * tile.stashed * tile.columns * 2 / 100,
        }
    else:
        found = {
            "warp": warps / 4 * each * 4 * sums / 100,
            "loads": warps * each * tile.rows / 100,
            "chain": each * max(1, 4 // sums) / 100,
            "stages": math.log2(tile.split),
            "sums": left(sums, tile.split),
            "stash": warps * tile.stashed * tile.columns / 100,
        }
    if job.direction == "forward":
        copies = tile.split if tile.direct else 1
        found["sent"] = own * ceil_div(others, copies)
    else:
        given = min(tile.rows, batch) * columns * slots(tile) / tile.threads
        found["sent"] = given * others / 10
        found["parts"] = tile.blocks * slots(tile) * own
    if not tile.tensor:  # those of one block were not measured
        found["team"] = float(others > 0)
    moved = 4 * batch * job.heads * job.units * sum(counts(job)) / 1e6
    return {"step": 1.0, "warps": warps, "moved": moved, **found}
