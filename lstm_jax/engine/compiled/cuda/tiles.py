"""How a kernel's work is divided: the choice of a tile, in one place.

A step is short, so what counts is how long its chain of events takes: the product, the
sums of its parts, the equations, and the numbers' way to the team's other blocks. The
time of a step is estimated as a sum of such terms, whose `WEIGHTS` were fitted to
measurements of 424 tiles on an H100 (LSTM and GRU, H from 64 to 512, batches from 1 to
128). `choose` takes the tile for which it is least; of those that were measured it was
within a tenth of the fastest, but for plain products of H = 256 and 512 in the reverse,
where it was within four tenths.
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
def choose(job: Job, batch: int, heads: int, device: Device) -> Tile:
    """The tile with the least estimated time.

    Raises:
        TooLarge: there is none, since the weights do not fit on chip.
    """

    def time(tile: Tile) -> float:
        return estimate(job, tile, batch, heads, device)

    for forms in ("BLOCK", "CLUSTER"), ("GRID",):
        found = list(candidates(job, batch, device, forms))
        if found:
            return min(found, key=time)
    raise TooLarge(f"the recurrent weights of {job.units} units do not fit on chip")


def pays(job: Job, batch: int, heads: int, device: Device) -> bool:
    """Whether the kernel's steps are faster than a scan's.

    A scan's step takes 12 µs to launch its kernels, and what large products and the
    device's memory take; where a batch of many rows meets many units, that is less than
    what a kernel whose weights leave little room for rows takes.
    """
    tile = choose(job, batch, heads, device)
    count, numbers = counts(job), batch * heads * job.units
    products = 2 * numbers * count.V * job.units / (5e7 if job.exact else 1.5e8)
    moved = 8 * numbers * sum(count) / 2e6
    return estimate(job, tile, batch, heads, device) < 12 + products + moved


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


def _fitted(job: Job, tile: Tile, device: Device) -> Iterator[Tile]:
    """The tile with as many weights in registers as there are, if all fit."""
    count, own = counts(job), ceil_div(job.units, tile.blocks)
    words = 2 if job.dtype == "float64" else 1
    of_elements = (
        ceil_div(tile.rows * own, tile.threads)
        * words
        * (3 * count.S + count.U + count.K + count.P + 2)
    )
    if tile.tensor:
        each, sums = 8 * tile.columns, (8 * tile.columns + 4) * (tile.rows // 8)
    else:
        each = 4 * tile.columns * words
        sums = (tile.columns * tile.rows + 4 + 4 * tile.columns) * words
    most = min(255, REGISTERS // tile.threads // 8 * 8)
    room = (most - 36 - of_elements - sums) // each
    if room < 0:
        return
    tile = tile._replace(stashed=max(0, pieces(job, tile) - room))
    if shared_bytes(job, tile) <= device.shared_bytes:
        yield tile


# --- what a step takes ----------------------------------------------------------------

# fmt: off
WEIGHTS: dict[tuple[str, bool], dict[str, float]] = {
    ("forward", True): {
        "step": 0.4002, "chain": 0.014, "warp": 0.7339, "sums": 0.1937,
        "stash": 0.1266, "sent": 0.0074,
    },
    ("forward", False): {
        "step": 0.2472, "team": 0.1361, "chain": 0.0003, "warp": 0.0974,
        "loads": 0.0562, "stages": 0.0284, "stash": 0.1022, "sent": 0.0045,
    },
    ("reverse", True): {
        "step": 0.5326, "chain": 0.016, "warp": 0.6158, "sums": 0.4799,
        "stash": 0.1549, "sent": 0.0183, "parts": 0.0005,
    },
    ("reverse", False): {
        "step": 0.2855, "team": 0.1779, "warps": 0.0059, "chain": 0.0001,
        "warp": 0.088, "loads": 0.049, "stages": 0.0212, "stash": 0.1748,
        "sent": 0.0594,
    },
}
# fmt: on
"""By direction and tensor cores: µs a step for each of `terms`."""


def estimate(job: Job, tile: Tile, batch: int, heads: int, device: Device) -> float:
    """The time of a step of all rows, in µs."""
    weights = WEIGHTS[job.direction, tile.tensor]
    found = terms(job, tile, batch)
    once = sum(weight * found[name] for name, weight in weights.items())
    teams = heads * ceil_div(batch, tile.rows)
    through_memory = 2.0 if tile.form == "GRID" else 0.0
    return (once + through_memory) * ceil_div(teams, device.at_once(tile))


def terms(job: Job, tile: Tile, batch: int) -> dict[str, float]:
    """What the time of a step depends on."""
    _, columns = matrix(job, tile)
    each, warps = pieces(job, tile), tile.threads / 32
    elements = ceil_div(tile.rows * ceil_div(job.units, tile.blocks), tile.threads)
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
            "warp": warps / 4 * each * 4 * tile.columns * tile.rows / 100,
            "loads": warps * each * tile.rows / 100,
            "chain": each * 4 * max(1, 4 / (tile.columns * tile.rows)),
            "stages": math.log2(tile.split),
            "sums": warps / 4 * tile.columns * tile.rows / 100,
            "stash": warps * tile.stashed * tile.columns / 100,
        }
    if job.direction == "forward":
        found["sent"] = elements * others
    else:
        sums = min(tile.rows, batch) * columns * slots(tile) / tile.threads
        found["sent"] = sums * others / 10
        found["parts"] = tile.blocks * slots(tile) * elements
    return {"step": 1.0, "team": float(others > 0), "warps": warps, **found}
