"""Cells of this library as ``flax.nnx`` cells, to be used wherever those are."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from lstm_jax.cell import Cell
from lstm_jax.cells import LSTM
from lstm_jax.engine import GRADIENTS, checks, step, unroll


class NNXCell(nnx.RNNCellBase):
    """A cell of this library as an ``nnx.RNNCellBase``.

    ``nnx.RNN`` and ``nnx.Bidirectional`` run it step by step; `unroll` runs it over a
    sequence by this library's own engine, which is faster. The carry is the cell's
    state, and each field of its parameters is an ``nnx.Param`` under its own name.

    Args:
        in_features: D.
        hidden_features: H.
        cell: a cell, or a name of `lstm_jax.CELLS`.
        gradient: "manual" or "automatic"; see `lstm_jax.unroll`.
        param_dtype: the floating dtype of the parameters.
        dtype: the floating dtype to compute in: parameters and inputs, integers too,
            are cast to it, and so are states. None for `param_dtype`, which inputs
            must then have.
        rngs: draws the parameters from its stream ``params``.
        **options: passed on to the cell's `init`.

    Raises:
        TypeError, ValueError: as `lstm_jax.unroll` and the cell's `init`.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        *,
        cell: Cell | str = LSTM,
        gradient: str = "manual",
        param_dtype: Any = jnp.float32,
        dtype: Any = None,
        rngs: nnx.Rngs,
        **options: Any,
    ):
        checks.check_choice("gradient", gradient, GRADIENTS)
        cell = checks.as_cell(cell, gradient)
        self.cell = nnx.static(cell)
        self.gradient = gradient
        self.dtype = dtype
        params = cell.init(
            rngs.params(), in_features, hidden_features, dtype=param_dtype, **options
        )
        self.structure = type(params)
        for field, value in params._asdict().items():
            setattr(self, field, None if value is None else nnx.Param(value))

    @property
    def params(self) -> Any:
        """The parameters, as `lstm_jax.unroll` takes them."""
        own = (getattr(self, field) for field in self.structure._fields)
        return self.structure(*(None if p is None else p[...] for p in own))

    def set_params(self, params: Any) -> None:
        """Replaces the parameters, by converted ones for example.

        Raises:
            TypeError, ValueError: they are not what the cell's `init` would make, or
                have biases where the module has none, or none where it has.
        """
        checks.check_params(self.cell, params)
        if jax.tree.structure(params) != jax.tree.structure(self.params):
            raise ValueError("parameters must have a bias if the module has one")
        for field, value in params._asdict().items():
            if value is not None:
                getattr(self, field)[...] = value

    @property
    def num_feature_axes(self) -> int:
        """One: (*batch, D)."""
        return 1

    def initialize_carry(
        self,
        input_shape: tuple[int, ...],
        rngs: Any = None,
        carry_init: Any = None,
    ) -> Any:
        """The cell's initial state for inputs of the shape (*batch, D).

        Args:
            input_shape: the shape of one step's input.
            rngs: read only with `carry_init`.
            carry_init: an initializer that draws each field instead.
        """
        state = self.cell.initial_state(self._cast(self.params), input_shape[:-1])
        if carry_init is None:
            return state
        stream = rngs.carry if isinstance(rngs, nnx.Rngs) else rngs
        return jax.tree.map(lambda a: carry_init(stream(), a.shape, a.dtype), state)

    def __call__(self, carry: Any, inputs: Array) -> tuple[Any, Array]:
        """One step: the new state, and its output h; see `lstm_jax.step`."""
        params, carry, inputs = self._cast((self.params, carry, inputs))
        carry = step(self.cell, params, carry, inputs, gradient=self.gradient)
        return carry, carry[0]

    def unroll(self, xs: Array, state: Any = None, **options: Any) -> tuple[Array, Any]:
        """Outputs and final state of sequences (T, *batch, D), time first.

        Args:
            xs: the inputs.
            state: the initial state.
            **options: `lengths`, `resets`, `reverse` and `memory` of
                `lstm_jax.unroll`.
        """
        params, xs, state = self._cast((self.params, xs, state))
        options["gradient"] = self.gradient
        return unroll(self.cell, params, xs, state, **options)

    def _cast(self, tree: Any) -> Any:
        if self.dtype is None:
            return tree
        return jax.tree.map(lambda a: jnp.asarray(a, self.dtype), tree)
