"""`step` and `lstm_step`: one step of a cell, and its hand-derived reverse."""

from functools import partial
from typing import Any

import jax
from jax import Array
from jax.typing import ArrayLike

from lstm_jax.cell import Cell
from lstm_jax.cells.lstm import LSTM, LSTMParams, LSTMState
from lstm_jax.engine import checks, trees
from lstm_jax.engine.custom_vjp import CustomVJP
from lstm_jax.engine.meshes import leading_spec, on_mesh
from lstm_jax.engine.sequence import GRADIENTS


def step(
    cell: Cell | str, params: Any, state: Any, x: ArrayLike, *, gradient: str = "manual"
) -> Any:
    """Runs a cell for one step: the state after it from the state before and x.

    Args:
        cell: a cell, or a name of `lstm_jax.CELLS`.
        params: its parameters, as `cell.init` makes them.
        state: the state before the step, with leading axes `batch`.
        x: the input, (*batch, D).
        gradient: "manual" or "automatic", as in `unroll`.

    Returns:
        The state after the step; its first field is the output.

    Raises:
        TypeError: as `unroll`.
        ValueError: as `unroll`.

    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> gru = lj.CELLS["gru"]
        >>> params = gru.init(jax.random.key(0), 3, 4)
        >>> state = lj.step(gru, params, None, jnp.ones((2, 3)))  # None: no step before
        >>> state.h.shape
        (2, 4)
    """
    checks.check_choice("gradient", gradient, GRADIENTS)
    cell = checks.as_cell(cell, gradient)
    checks.check_params(cell, params)
    x = checks.check_inputs(cell, params, x, "*batch", 1)
    state = checks.check_state(cell, params, state, x.shape[:-1])
    return _step(cell, gradient, params, state, x)


def lstm_step(params: LSTMParams, state: LSTMState, x: ArrayLike) -> LSTMState:
    """One step, ``LSTMState(h, c)`` from the last one and x (*batch, D).

    Its reverse is the hand-derived one of `lstm_jax.cells.lstm`, attached as
    `jax.custom_vjp` does it (`lstm_jax.engine.custom_vjp`, which adds forward mode);
    see `step` for shapes and errors.
    """
    return step(LSTM, params, state, x)


def _step_automatic(cell: Cell, params: Any, state: Any, x: Array) -> Any:
    new, _ = cell.step(params, state, cell.project(params, x))
    return new


_step_rule = CustomVJP(_step_automatic)


def _step_rule_forward(cell: Cell, params: Any, state: Any, x: Array) -> Any:
    new, kept = cell.step(params, state, cell.project(params, x))
    return new, (params, x, state, new, kept)


def _step_rule_backward(cell: Cell, residuals: Any, dnew: Any) -> Any:
    params, x, state, new, kept = residuals
    dstate, dz = cell.backward(params, state, new, kept, dnew)
    dparams, dx = cell.gradients(params, x, state, new, kept, dz)
    return trees.cast_like(dparams, params), dstate, dx


_step_rule.defvjp(_step_rule_forward, _step_rule_backward)


@partial(jax.jit, static_argnums=(0, 1))
def _step(cell: Cell, gradient: str, params: Any, state: Any, x: Array) -> Any:
    run = _step_rule if gradient == "manual" else _step_automatic

    def out_specs() -> Any:
        return jax.tree.map(lambda _: leading_spec(x, 0, -1), state)

    return on_mesh(partial(run, cell), (params, state, x), out_specs)
