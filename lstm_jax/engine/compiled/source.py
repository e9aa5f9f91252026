"""The C++ of a cell's steps: what is written from its equations, and what goes around.

`numbers.h` says what the equations are written with, vectors of numbers; `steps.h` has
the time, the batch, the masks and the recurrent product. Between them stand the cell's
`Step` and `Reverse`. `weight_gradients.h` has the products after the reverse,
`threads.h` the threads, and `calls.h` is how XLA calls all of it.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from lstm_jax.engine.compiled.processor import vector_bytes
from lstm_jax.engine.compiled.unit import Program, Unit
from lstm_jax.engine.compiled.writing import write

FOLDER = Path(__file__).parent
HEADERS = tuple(
    FOLDER / f"{name}.h"
    for name in ("numbers", "calls", "threads", "steps", "weight_gradients")
)
TYPES = {
    jnp.dtype(jnp.float32): ("float", "float"),
    jnp.dtype(jnp.float64): ("double", "double"),
    jnp.dtype(jnp.bfloat16): ("float", "Bfloat16"),
    jnp.dtype(jnp.float16): ("float", "_Float16"),
}
"""For each dtype of arrays the types that are computed in, and stored."""


def reads(*reverse: Program | None) -> tuple[int, ...]:
    """The fields of the state that programs read, of the old or of the new one."""
    groups = [one.reads(group) for one in reverse if one for group in ("old", "new")]
    return tuple(sorted(set().union(*groups)))


def kept_parts(unit: Unit) -> tuple[int, int]:
    """How many leaves of what is kept lie in each of two arrays.

    The first has as many numbers as u, if whole leaves come to that: it is written over
    u, and u's gradient over it. What is left is in the second.
    """
    sizes = jax.tree.leaves(unit.kept)
    u = len(unit.forward.inputs["u"])
    ends = [sum(sizes[: k + 1]) for k in range(len(sizes))]
    first = ends.index(u) + 1 if u in ends else len(sizes)
    return first, len(sizes) - first


def source(unit: Unit, backward: Program, dtype: DTypeLike) -> str:
    """The text of a library with the steps of a cell and their reverse.

    It says nothing of the cell's name: cells of the same equations share a library.

    Args:
        unit: of the cell.
        backward: the unit's reverse.
        dtype: a key of `TYPES`.
    """
    scalar, stored = TYPES[jnp.dtype(dtype)]
    forward, own = unit.forward, unit.own_gradients
    read = reads(backward, own)
    sizes = {
        "kOwn": len(forward.inputs["own"]),
        "kStates": len(unit.state),
        "kU": len(forward.inputs["u"]),
        "kV": len(forward.inputs["v"]),
        "kKept": len(forward.outputs["kept"]),
        "kFirst": sum(jax.tree.leaves(unit.kept)[: kept_parts(unit)[0]]),
        "kDu": len(backward.outputs["du"]),
        "kDv": len(backward.outputs["dv"]),
        "kDown": len(own.outputs["down"]) if own else 0,
        "kReads": len(read),
    }
    constants = ", ".join(f"{name} = {size}" for name, size in sizes.items())
    fields = ", ".join(map(str, read)) or "0"
    return f"""\
// The steps of a cell, from its equations.

using Scalar = {scalar};
constexpr int kVectorBytes = {vector_bytes()};
#include "numbers.h"
using Stored = {stored};

namespace {{

constexpr int {constants};
constexpr int kRead[] = {{{fields}}};

{write(forward, "Step")}
{write(backward, "Reverse")}
{write(own, "OwnGradients") if own else "inline void OwnGradients(...) {}"}
}}  // namespace

#include "steps.h"
#include "weight_gradients.h"
"""
