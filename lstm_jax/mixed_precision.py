"""Mixed precision: matrix products of 16 bits, everything else of 32.

Source: Micikevicius et al. (2018), "Mixed precision training", section 3: master
parameters, sums and what is elementwise stay in float32. What loses little from 16
bits, and gains most, are the operands of matrix products.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.extend.core import JaxprEqn, jaxprs_in_params
from jax.typing import DTypeLike

from lstm_jax.cell import Cell
from lstm_jax.engine.checks import as_cell
from lstm_jax.jaxprs import computed, evaluate


def mixed_precision(cell: Cell | str, dtype: DTypeLike = jnp.bfloat16) -> Cell:
    """The cell, with operands of 16 bits in all its matrix products.

    Parameters, inputs, states, outputs and gradients are float32 as before, and so is
    all elementwise arithmetic; only where the cell multiplies matrices, forward and in
    its hand-written reverse, both are rounded to `dtype`, and the product is summed
    in float32. The cell's functions are not written again: the dot products in their
    jaxprs are replaced. Automatic gradients round the same products of the forward;
    what JAX makes of their reverse is its own.

    Args:
        cell: a cell, or a name of `lstm_jax.CELLS`.
        dtype: bfloat16 or float16.

    Returns:
        A cell with the same parameters and states. Equal arguments give equal cells.

    Raises:
        TypeError: no cell, or another dtype.
        NotImplementedError: when the cell runs, a product inside a loop or a custom
            rule of its own.

    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> params = lj.LSTM.init(jax.random.key(0), 3, 4)
        >>> ys, _ = lj.unroll(mixed_precision(lj.LSTM), params, jnp.ones((5, 2, 3)))
        >>> ys.dtype
        dtype('float32')
    """
    cell = as_cell(cell)
    if jnp.dtype(dtype) not in (jnp.bfloat16, jnp.float16):
        raise TypeError(f"dtype must be bfloat16 or float16; got {jnp.dtype(dtype)}")
    return _mixed(cell, jnp.dtype(dtype))


@lru_cache(maxsize=256)
def _mixed(cell: Cell, dtype: jnp.dtype) -> Cell:
    mixed = cell._replace(
        project=_rounded(cell.project, dtype), step=_rounded(cell.step, dtype)
    )
    if not cell.derived:
        return mixed
    return mixed._replace(
        backward=_rounded(cell.backward, dtype),
        gradients=_rounded(cell.gradients, dtype),
    )


def _rounded(function: Callable[..., Any], dtype: jnp.dtype) -> Callable[..., Any]:
    def run(*arguments: Any) -> Any:
        trace = jax.make_jaxpr(function, return_shape=True)
        jaxpr, results = trace(*arguments)
        node = partial(_with_rounded_products, dtype)
        flat = evaluate(jaxpr, jax.tree.leaves(arguments), node)
        return jax.tree.unflatten(jax.tree.structure(results), flat)

    return run


def _with_rounded_products(
    dtype: jnp.dtype, equation: JaxprEqn, operands: list[Any]
) -> list[Any]:
    """The outputs of an equation, whose product's operands have the dtype."""
    if equation.primitive is lax.dot_general_p:
        return [_product(equation, *operands, dtype)]
    if any(map(_multiplies, jaxprs_in_params(equation.params))):
        raise NotImplementedError(
            f"mixed_precision: a cell's matrix product inside {equation.primitive}"
        )
    return computed(equation, operands)


def _multiplies(jaxpr: Any) -> bool:
    return any(
        equation.primitive is lax.dot_general_p
        or any(map(_multiplies, jaxprs_in_params(equation.params)))
        for equation in jaxpr.eqns
    )


def _product(equation: Any, lhs: Array, rhs: Array, dtype: jnp.dtype) -> Array:
    return lax.dot_general(
        lhs.astype(dtype),
        rhs.astype(dtype),
        equation.params["dimension_numbers"],
        precision=equation.params["precision"],
        preferred_element_type=equation.outvars[0].aval.dtype,
        out_sharding=equation.params["out_sharding"],
    )
