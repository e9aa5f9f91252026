"""The other checker: `jax.test_util.check_grads` at its defaults."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads

from lstm_jax.cell import Cell
from lstm_jax.gradcheck.points import Sizes, draw, forward_only


def one_step(cell: Cell) -> Callable[..., Any]:
    """One step of a cell under its manual rule, not compiled, for `check_grads`.

    Arrays may come as NumPy's, of which the cells know nothing.
    """

    @jax.custom_vjp
    def run(*arguments: Any) -> Any:
        return forward(*arguments)[0]

    def forward(*arguments: Any) -> Any:
        params, x, state = jax.tree.map(jnp.array, arguments)
        new, kept = cell.step(params, state, cell.project(params, x))
        return new, (params, x, state, new, kept)

    def reverse(residuals: Any, dnew: Any) -> Any:
        residuals, dnew = jax.tree.map(jnp.array, (residuals, dnew))
        params, x, state, new, kept = residuals
        dstate, dz = cell.backward(params, state, new, kept, dnew)
        dparams, dx = cell.gradients(params, x, state, new, kept, dz)
        return dparams, dx, dstate

    run.defvjp(forward, reverse)
    return run


def passes_check_grads(cell: Cell, sizes: Sizes, dtype: Any) -> bool:
    """Whether `jax.test_util.check_grads` at its defaults lets a cell pass."""
    with jax.enable_x64(True):
        point = draw(forward_only(cell), sizes)
    double = dtype == jnp.float64
    with jax.enable_x64(double), jax.numpy_dtype_promotion("standard"):
        args = jax.tree.map(
            lambda a: jnp.asarray(np.asarray(a), dtype),
            (point.params, point.xs[0], point.state),
        )
        try:
            check_grads(one_step(cell), args, order=1, modes=("rev",))
        except Exception:  # an AssertionError, or JAX's word on a wrong shape
            return False
    return True
