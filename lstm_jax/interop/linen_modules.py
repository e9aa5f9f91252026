"""Cells of this library as a flax linen cell."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from lstm_jax.cell import Cell
from lstm_jax.cells import LSTM
from lstm_jax.engine import step


class LinenCell(nn.RNNCellBase):
    """A cell of this library for ``flax.linen.RNN`` and ``Bidirectional``.

    The carry is the cell's state; the variable collection ``params`` has one entry,
    ``cell``, the cell's parameters.

    Attributes:
        input_size: D.
        hidden_size: H.
        cell: a cell of `lstm_jax.CELLS`, or one like them.
        gradient: "manual" or "automatic"; see `lstm_jax.unroll`.
        param_dtype: a floating dtype; inputs must have the same.
    """

    input_size: int
    hidden_size: int
    cell: Cell = LSTM
    gradient: str = "manual"
    param_dtype: Any = jnp.float32

    def setup(self) -> None:
        """Draws the parameters."""
        init = partial(self.cell.init, dtype=self.param_dtype)
        self.weights = self.param("cell", init, self.input_size, self.hidden_size)

    @property
    def num_feature_axes(self) -> int:
        """One: (*batch, D)."""
        return 1

    def initialize_carry(self, rng: Array, input_shape: tuple[int, ...]) -> Any:
        """The cell's initial state for inputs of the shape (*batch, D)."""
        del rng
        return self.cell.initial_state(self.weights, input_shape[:-1])

    def __call__(self, carry: Any, inputs: Array) -> tuple[Any, Array]:
        """One step: the new state, and its output h; see `lstm_jax.step`."""
        carry = step(self.cell, self.weights, carry, inputs, gradient=self.gradient)
        return carry, carry[0]
