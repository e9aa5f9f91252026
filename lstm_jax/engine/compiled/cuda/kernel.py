"""Kernels and their text: a cell's own equations, a tile, and the steps around them.

A kernel's text is put together from the constants that it is compiled with, the machine
(`gpu.h`), the functions of one number (`scalars.h`), the cell's equations or their
reverse, as `lstm_jax.engine.compiled.write` writes them, and the steps: the product
(`product.h`), who computes what (`steps.h`), and one of `forward.cu` and `reverse.cu`.
"""

from functools import cache
from pathlib import Path
from typing import NamedTuple

from lstm_jax.cell import Cell
from lstm_jax.engine.compiled.unit import Program, Value, trace
from lstm_jax.engine.compiled.writing import write

FOLDER = Path(__file__).parent

FORMS = ("BLOCK", "CLUSTER", "GRID")
"""What a team is: one block, a cluster of blocks, or blocks anywhere in the grid."""

DTYPES = {"float32": 32, "float64": 64, "bfloat16": 16, "float16": 17}
"""The dtypes of arrays, and the kernels' numbers for them."""


AHEAD = 4
"""How many steps before it is needed what a step reads from memory is fetched."""


class Job(NamedTuple):
    """What a kernel computes.

    Attributes:
        direction: "forward" or "reverse".
        cell: a gated cell with a product.
        units: hidden units of a head.
        dtype: that of the arrays, a key of `DTYPES`.
        masked: whether steps can be outside of a sequence's length.
        resets: whether there are resets.
        exact: whether products of float32 have all of its digits. They may be those of
            tensor cores otherwise, which round the factors to 10 bits.
        heads: of the cell.
    """

    direction: str
    cell: Cell
    units: int
    dtype: str
    masked: bool = False
    resets: bool = False
    exact: bool = False
    heads: int = 1


class Tile(NamedTuple):
    """How a kernel's work is divided.

    Attributes:
        form: what a team is, one of `FORMS`.
        blocks: of a team; they divide the hidden units.
        rows: of the batch, which a team takes through all of time.
        threads: of a block.
        tensor: whether products run on tensor cores.
        columns: of the matrix, a thread; on tensor cores tiles of 16 of them, a warp.
        split: the parts into which the terms of a sum are divided.
        stashed: pieces of a thread's weights that are in shared memory.
        direct: of a forward, whether the lanes that share a unit's sums also compute
            its equations, without a way through shared memory.
    """

    form: str
    blocks: int
    rows: int
    threads: int
    tensor: bool
    columns: int
    split: int
    stashed: int = 0
    direct: bool = False


class Kernel(NamedTuple):
    """A kernel to be run: all that is static about it.

    Attributes:
        job: what it computes.
        tile: how that is divided.
        reverse: whether steps go from the last to the first.
    """

    job: Job
    tile: Tile
    reverse: bool


class Counts(NamedTuple):
    """Of a unit: states, kept numbers, blocks of u and v, own parameters."""

    S: int
    K: int
    U: int
    V: int
    P: int


@cache
def counts(job: Job) -> Counts:
    """The numbers of the job's cell."""
    forward = trace(job.cell, job.dtype).forward
    states, u, v, own = (len(forward.inputs[k]) for k in ("old", "u", "v", "own"))
    return Counts(states, len(forward.outputs["kept"]), u, v, own)


@cache
def text(job: Job, tile: Tile, machine: str | None = None) -> str:
    """The whole text of a kernel, which includes nothing.

    Args:
        job: what it computes.
        tile: how that is divided.
        machine: what stands in for `gpu.h`; None for that file.
    """
    parts = (
        _constants(job, tile),
        _read("gpu.h") if machine is None else machine,
        _read("scalars.h"),
        *(write(program, name) for name, program in programs(job).items()),
        _read("product.h"),
        _read("steps.h"),
        _read(f"{job.direction}.cu"),
    )
    return "\n".join(parts)


@cache
def programs(job: Job) -> dict[str, Program]:
    """The functions of one unit that a kernel calls at every step, by name.

    The reverse of a step falls into two: `prepare` is what does not depend on the
    gradients, and runs while these are on their way; `reverse_step` is the rest.
    """
    unit = trace(job.cell, job.dtype)
    if job.direction == "forward":
        return {"step": unit.forward}
    assert unit.backward is not None
    prepare, rest = divided(unit.backward, "dnew", "ready")
    return {"prepare": prepare, "reverse_step": rest}


def divided(program: Program, late: str, ready: str) -> tuple[Program, Program]:
    """A program as two: what does not depend on the inputs `late`, and the rest.

    Args:
        program: the program.
        late: a group of inputs.
        ready: what to call the numbers that the first gives to the second.
    """
    values = program.values
    second: set[int] = set()
    for number, value in values.items():
        is_late = value.operation == "input" and value.attributes[0] == late
        if is_late or not second.isdisjoint(value.operands):
            second.add(number)
    for number in reversed(values):  # truth values are no numbers: found again
        if values[number].boolean and any(number in values[n].operands for n in second):
            second.add(number)
    used = {n for number in second for n in values[number].operands}
    used.update(n for group in program.outputs.values() for n in group)
    given = [
        number
        for number in sorted(used - second)
        if values[number].operation not in ("input", "constant")
    ]
    first = set(given)
    for number in reversed(values):
        if number in first:
            first.update(values[number].operands)
    places = {number: place for place, number in enumerate(given)}
    rest = {
        number: Value("input", (), (ready, places[number]), False)
        if number in places
        else value
        for number, value in values.items()
        if number in second | used
    }
    early = {group: names for group, names in program.inputs.items() if group != late}
    numbers = tuple(f"{ready}_{place}" for place in places.values())
    return (
        program._replace(
            values={n: value for n, value in values.items() if n in first},
            inputs=early,
            outputs={ready: tuple(given)},
        ),
        program._replace(values=rest, inputs=program.inputs | {ready: numbers}),
    )


def _read(name: str) -> str:
    return (FOLDER / name).read_text("utf-8")


def _constants(job: Job, tile: Tile) -> str:
    constants = {
        **{form: number for number, form in enumerate(FORMS)},
        **counts(job)._asdict(),
        "H": job.units,
        "HEADS": job.heads,
        "AHEAD": AHEAD,
        "SAME": int(trace(job.cell, job.dtype).one_gradient),
        "MASKED": int(job.masked),
        "RESETS": int(job.resets),
        "VALUE": DTYPES[job.dtype],
        **{name.upper(): number for name, number in tile._asdict().items()},
        "TENSOR": int(tile.tensor),
        "DIRECT": int(tile.direct),
        "SHARED_BYTES": shared_bytes(job, tile),
        "READY": sum(len(p.outputs.get("ready", ())) for p in programs(job).values()),
    }
    lines = [f"#define {name} {number}" for name, number in constants.items()]
    real = "double" if job.dtype == "float64" else "float"
    first = f"// The {job.direction} steps of {job.cell.name}."
    return "\n".join((first, *lines, f"typedef {real} real;", ""))


# --- sizes, as product.h and the two directions have them -----------------------------


def matrix(job: Job, tile: Tile) -> tuple[int, int]:
    """Rows and columns of the matrix that a block multiplies by at every step."""
    own = counts(job).V * ceil_div(job.units, tile.blocks)
    return (job.units, own) if job.direction == "forward" else (own, job.units)


def elements(job: Job, tile: Tile) -> int:
    """How many elements, each a unit in a row, a thread computes."""
    if tile.direct:
        return left(tile.rows * tile.columns // counts(job).V, tile.split)
    return ceil_div(tile.rows * ceil_div(job.units, tile.blocks), tile.threads)


def pieces(job: Job, tile: Tile) -> int:
    """How many pieces a thread's weights fall into, of 16 rows or of 4."""
    rows, _ = matrix(job, tile)
    if tile.tensor:
        return ceil_div(ceil_div(rows, 16), tile.split)
    return ceil_div(ceil_div(rows, tile.split), 4)


def left(count: int, lanes: int) -> int:
    """How many of some sums a lane has left when lanes have shared them out."""
    return left(count // 2, lanes // 2) if lanes > 1 and count % 2 == 0 else count


def slots(tile: Tile) -> int:
    """How many partial sums the product leaves."""
    return tile.split if tile.tensor else 1


def exchanged(job: Job, tile: Tile) -> int:
    """The numbers that a team's blocks give each other in a step."""
    if job.direction == "forward":
        return tile.rows * job.units
    own = ceil_div(job.units, tile.blocks)
    return tile.blocks**2 * slots(tile) * tile.rows * own


def shared_bytes(job: Job, tile: Tile) -> int:
    """What a block needs of shared memory."""
    size = 8 if job.dtype == "float64" else 4
    _, columns = matrix(job, tile)
    own, each = ceil_div(job.units, tile.blocks), pieces(job, tile)
    if tile.tensor:
        stride = each * tile.split * 16
        stride += 0 if stride % 32 == 16 else 16
        stash = 2 * tile.stashed * tile.columns * tile.threads
    else:
        stride = tile.split * (each * 4 + 16 // size)
        stash = tile.stashed * tile.columns * tile.threads
    numbers = 2 * tile.rows * stride + 4 * (stash + 1)
    if job.direction == "reverse":
        parts = 1 if tile.form == "GRID" else tile.blocks * slots(tile)
        numbers += 2 * parts * tile.rows * own
    elif not tile.direct:
        numbers += slots(tile) * tile.rows * (columns + 4)
    copied = elements(job, tile) * tile.threads if tile.direct else tile.rows * own
    numbers += AHEAD * fields(job) * copied
    return numbers * size + 128  # and alignment, and mailboxes


def fields(job: Job) -> int:
    """The numbers and truth values of an element that a step reads from memory."""
    count = counts(job)
    read = count.U if job.direction == "forward" else count.S + count.K + 1
    return read + job.masked + job.resets


def ceil_div(a: int, b: int) -> int:
    """⌈a / b⌉."""
    return -(-a // b)
