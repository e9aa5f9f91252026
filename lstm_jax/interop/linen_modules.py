"""Cells of this library as a flax linen cell."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from lstm_jax.cell import Cell
from lstm_jax.cells import LSTM
from lstm_jax.engine import checks, step


class LinenCell(nn.RNNCellBase):
    """A cell of this library for ``flax.linen.RNN`` and ``Bidirectional``.

    The carry is the cell's state; the variable collection ``params`` has one entry,
    ``cell``, the cell's parameters.

    Attributes:
        input_size: D.
        hidden_size: H.
        cell: a cell, or a name of `lstm_jax.CELLS`.
        gradient: "manual" or "automatic"; see `lstm_jax.unroll`.
        param_dtype: the floating dtype of the parameters.
        dtype: the floating dtype to compute in: parameters and inputs, integers too,
            are cast to it, and so are states. None for `param_dtype`, which inputs
            must then have.
    """

    input_size: int
    hidden_size: int
    cell: Cell | str = LSTM
    gradient: str = "manual"
    param_dtype: Any = jnp.float32
    dtype: Any = None

    def setup(self) -> None:
        """Draws the parameters."""
        init = partial(self._cell.init, dtype=self.param_dtype)
        self.weights = self.param("cell", init, self.input_size, self.hidden_size)

    @property
    def _cell(self) -> Cell:
        return checks.as_cell(self.cell, self.gradient)

    @property
    def num_feature_axes(self) -> int:
        """One: (*batch, D)."""
        return 1

    def initialize_carry(self, rng: Array, input_shape: tuple[int, ...]) -> Any:
        """The cell's initial state for inputs of the shape (*batch, D).

        Outside of ``init`` and ``apply``, where the module has no parameters yet, it is
        that of parameters drawn from `rng`.
        """
        if self.scope is not None:
            return self._cell.initial_state(self._cast(self.weights), input_shape[:-1])

        def state(rng: Array) -> Any:
            weights = self._cell.init(
                rng, self.input_size, self.hidden_size, dtype=self.param_dtype
            )
            return self._cell.initial_state(self._cast(weights), input_shape[:-1])

        return jax.jit(state)(rng)  # whose compiler drops what is not needed

    def __call__(self, carry: Any, inputs: Array) -> tuple[Any, Array]:
        """One step: the new state, and its output h; see `lstm_jax.step`."""
        weights, carry, inputs = self._cast((self.weights, carry, inputs))
        carry = step(self._cell, weights, carry, inputs, gradient=self.gradient)
        return carry, carry[0]

    def _cast(self, tree: Any) -> Any:
        if self.dtype is None:
            return tree
        return jax.tree.map(lambda a: jnp.asarray(a, self.dtype), tree)
