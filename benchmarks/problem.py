"""One layer to run: its sizes, and weights and inputs that belong to no library.

Weights are kept in the order of `lstm_jax`: ``z = x Wx + h Wh + b`` with column blocks
for input, forget, output gate and candidate, "ifog". Peers convert from it and back.
"""

from typing import NamedTuple

import numpy as np

ORDER = "ifog"


class Row(NamedTuple):
    """A row of a table: what is run.

    Attributes:
        T: time steps.
        B: sequences in a batch.
        D: input size.
        H: hidden size.
        dtype: of everything, "float32" for one.
        cell: a key of `lstm_jax.CELLS`. Peers know "lstm" only.
    """

    T: int
    B: int
    D: int
    H: int
    dtype: str = "float32"
    cell: str = "lstm"

    @property
    def product_flops(self) -> int:
        """The arithmetic of an LSTM's matrix products in one forward pass.

        A multiplication and an addition for each of the 4H (D + H) weights, each step
        and each sequence. The reverse does twice as much: once for the gradients of
        inputs and states, once for those of the weights.
        """
        return 2 * self.T * self.B * 4 * self.H * (self.D + self.H)

    @property
    def output_bytes(self) -> int | None:
        """The size of an LSTM's outputs, (T, B, H); other cells' may differ."""
        if self.cell != "lstm":
            return None
        return self.T * self.B * self.H * numpy_dtype(self.dtype).itemsize


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
        dWx: (D, 4H), blocks in the order `ORDER`.
        dWh: (H, 4H), the same.
        db: (4H,), the same.
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
        Wx: (D, 4H).
        Wh: (H, 4H).
        b: (4H,).
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

    return Problem(
        row=row,
        Wx=draw(row.D, 4 * row.H, scale=row.D**-0.5),
        Wh=draw(row.H, 4 * row.H, scale=row.H**-0.5),
        b=draw(4 * row.H, scale=0.1),
        xs=draw(row.T, row.B, row.D),
    )


def numpy_dtype(name: str) -> np.dtype:
    """The dtype of a name, "bfloat16" included."""
    if name == "bfloat16":
        import ml_dtypes  # part of every JAX installation

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def reorder(array: np.ndarray, old: str, new: str) -> np.ndarray:
    """The last axis' four blocks in another order, "ifog" to "ifgo" for one."""
    blocks = dict(zip(old, np.split(array, 4, axis=-1), strict=True))
    return np.concatenate([blocks[gate] for gate in new], axis=-1)
