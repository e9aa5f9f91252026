"""One layer to run: its sizes, and weights and inputs that belong to no library.

Weights are kept in the order of `lstm_jax`: ``z = x Wx + h Wh + b`` with column blocks
as in `ORDERS`. Peers convert from it and back.
"""

from types import MappingProxyType
from typing import NamedTuple

import numpy as np

ORDERS = MappingProxyType(
    {
        "lstm": "ifog",
        "gru": "rzn",
        "gru_before": "rzn",
        "rnn_tanh": "h",
        "rnn_relu": "h",
    }
)
"""Of the cells that other libraries have too, the column blocks: input, forget and
output gate, g the candidate; reset and update gate, n the candidate; or one alone. The
candidate's recurrent product has no bias of its own."""


class Row(NamedTuple):
    """A row of a table: what is run.

    Attributes:
        T: time steps.
        B: sequences in a batch.
        D: input size.
        H: hidden size.
        dtype: of everything, "float32" for one.
        cell: as `lstm_jax.cells.find_cell` takes it: a key of `CELLS`, or your own as
            ``module:NAME`` or ``file.py:NAME``; a peer knows those of its `cells`.
    """

    T: int
    B: int
    D: int
    H: int
    dtype: str = "float32"
    cell: str = "lstm"


ROWS = (
    Row(T=100, B=32, D=128, H=128),
    Row(T=200, B=64, D=128, H=256),
    Row(T=400, B=32, D=64, H=64),
    Row(T=1000, B=1, D=64, H=128),
    Row(T=256, B=8, D=256, H=512),
)
"""The rows of every table that compares libraries or settings."""


class Outcome(NamedTuple):
    """What every library must agree on: outputs and gradients of ``J = ½ Σ ys²``.

    Attributes:
        ys: (T, B, H).
        dWx: (D, N), blocks in the order that `ORDERS` says.
        dWh: (H, N), the same.
        db: (N,), the same.
        dxs: (T, B, D).
    """

    ys: np.ndarray
    dWx: np.ndarray
    dWh: np.ndarray
    db: np.ndarray
    dxs: np.ndarray


class Problem(NamedTuple):
    """Weights and inputs of a row, the same in every process.

    Attributes:
        row: the sizes.
        Wx: (D, N), blocks in the order that `ORDERS` says; none of other cells.
        Wh: (H, N).
        b: (N,).
        xs: (T, B, D).
    """

    row: Row
    Wx: np.ndarray
    Wh: np.ndarray
    b: np.ndarray
    xs: np.ndarray


def make_problem(row: Row) -> Problem:
    """Draws the weights, of variance 1 / fan-in, and standard normal inputs."""
    generator = np.random.default_rng(0)

    def draw(*shape: int, scale: float = 1.0) -> np.ndarray:
        drawn = scale * generator.standard_normal(shape, dtype=np.float32)
        return drawn.astype(numpy_dtype(row.dtype))

    columns = len(ORDERS.get(row.cell, "")) * row.H
    return Problem(
        row=row,
        Wx=draw(row.D, columns, scale=row.D**-0.5),
        Wh=draw(row.H, columns, scale=row.H**-0.5),
        b=draw(columns, scale=0.1),
        xs=draw(row.T, row.B, row.D),
    )


def numpy_dtype(name: str) -> np.dtype:
    """The dtype of a name, "bfloat16" included."""
    if name == "bfloat16":
        import ml_dtypes  # part of every JAX installation

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def reorder(array: np.ndarray, old: str, new: str) -> np.ndarray:
    """The last axis' blocks in another order, "ifog" to "ifgo" for one."""
    blocks = dict(zip(old, np.split(array, len(old), axis=-1), strict=True))
    return np.concatenate([blocks[gate] for gate in new], axis=-1)
