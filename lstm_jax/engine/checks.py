"""The checks at the public doors: what was expected, and what came instead.

Nothing is cast or broadcast here or behind; whatever would need it is an error.
"""

import inspect
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from lstm_jax.cell import Cell
from lstm_jax.cells import CELLS
from lstm_jax.engine import trees


def check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Raises ValueError if an argument is none of its choices."""
    if value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"{name} must be one of {listed}; got {value!r}")


def as_cell(cell: object, gradient: str = "automatic") -> Cell:
    """The cell, or that of `CELLS` with this name, if it has such gradients.

    Raises:
        TypeError: it is neither a cell nor a name.
        ValueError: there is none of this name, or it has no hand-written backward
            where `gradient` is "manual".
    """
    if isinstance(cell, str):
        check_choice("cell", cell, tuple(CELLS))
        cell = CELLS[cell]
    if not isinstance(cell, Cell):
        raise TypeError(
            'cell must be an lstm_jax.Cell, such as lstm_jax.CELLS["lstm"], or its '
            f'name, "lstm"; got {cell!r}'
        )
    if gradient == "manual" and not cell.derived:
        raise ValueError(
            f'cell "{cell.name}" has no hand-derived backward; pass '
            'gradient="automatic"'
        )
    return cell


def check_init(cell: Cell, sizes: dict[str, int]) -> None:
    """Raises TypeError if a cell's `init` can't be called with these sizes by name."""
    try:
        inspect.signature(cell.init).bind(None, **sizes, dtype=None)
    except TypeError as error:
        named = ", ".join(sizes)
        raise TypeError(
            f'init of cell "{cell.name}" must take the arguments (key, {named}, *, '
            f"dtype), the sizes by these names; it takes "
            f"{inspect.signature(cell.init)}: {error}"
        ) from None


def check_params(cell: Cell, params: Any) -> None:
    """Raises if `params` are not what the cell's `init` would make."""
    leaves = jax.tree.leaves(params)
    for leaf in leaves:
        _check_float("parameters", leaf)
    dtypes = sorted({str(leaf.dtype) for leaf in leaves})
    if len(dtypes) > 1:
        raise TypeError(f"parameters must have one dtype; got {', '.join(dtypes)}")
    sizes = {}
    try:
        sizes = cell.sizes(params)
        x64 = jax.config.jax_enable_x64  # ty: ignore[missing-attribute]
        expected = _expected_params(cell, tuple(sizes.items()), dtypes[0], x64)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        if sizes:
            check_init(cell, sizes)
        raise TypeError(
            f'parameters of cell "{cell.name}" must be what its init returns; got '
            f"{_describe(params)}"
        ) from error
    _check_like(f'parameters of cell "{cell.name}"', params, expected)


def check_inputs(cell: Cell, params: Any, x: Any, axes: str, rank: int) -> Array:
    """`x` as an array, if it is floating, in the parameters' dtype, and of their size.

    Args:
        cell: the cell.
        params: its checked parameters.
        x: the inputs.
        axes: how to write their expected leading axes in a message.
        rank: the smallest number of axes.
    """
    name = "xs" if rank == 2 else "x"
    _check_float(name, x)
    size = cell.sizes(params)["input_size"]
    if x.ndim < rank or x.shape[-1] != size:
        raise ValueError(
            f"{name} must have the shape ({axes}, {size}), its last axis the "
            f"parameters' input size; got {x.shape}"
        )
    dtype = jax.tree.leaves(params)[0].dtype
    if x.dtype != dtype:
        raise TypeError(
            f"{name} must have the parameters' dtype {dtype}; got {x.dtype}. "
            "Nothing is cast in silence: use .astype"
        )
    # Unlike jnp.asarray, this lets NaN in padding pass under jax_debug_nans.
    return x if isinstance(x, Array) else jax.device_put(x)


def check_state(
    cell: Cell, params: Any, state: Any, batch_shape: tuple[int, ...]
) -> Any:
    """`state`, checked; the cell's own initial state if it is None."""
    if state is None:
        return cell.initial_state(params, batch_shape)
    expected = jax.eval_shape(lambda p: cell.initial_state(p, batch_shape), params)
    _check_like(f'the state of cell "{cell.name}"', state, expected)
    return jax.tree.map(jnp.asarray, state)


def check_lengths(
    lengths: Any, steps: int, batch_shape: tuple[int, ...]
) -> Array | None:
    """`lengths` as an array, if they are integers, one a sequence, from 0 to T."""
    if lengths is None:
        return None
    if not hasattr(lengths, "dtype"):
        # Of an empty list numpy would make floats.
        lengths = np.asarray(lengths, None if np.size(lengths) else np.int32)
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise TypeError(f"lengths must be integers; got {lengths.dtype}")
    if lengths.shape != batch_shape:
        raise ValueError(
            f"lengths must have the shape {batch_shape}, one for each sequence; got "
            f"{lengths.shape}"
        )
    if not isinstance(lengths, Tracer):
        values = np.asarray(lengths)
        wrong = np.argwhere((values < 0) | (values > steps)).tolist()
        if wrong:
            first = tuple(wrong[0])
            others = f", and {len(wrong) - 1} more like it" if wrong[1:] else ""
            raise ValueError(
                f"lengths must be from 0 to T = {steps}; got {values[first]} for "
                f"sequence {', '.join(map(str, first))}{others}"
            )
    return jnp.asarray(lengths)


def check_rate(name: str, rate: Any) -> float:
    """`rate` as a float, if it is a number from 0 to 1, 1 excluded.

    NumPy's and JAX's numbers are taken as the numbers they are: as arrays they would
    change the dtype of what they multiply.
    """
    if isinstance(rate, Tracer):
        raise TypeError(
            f"{name} must be a number that is known when the function is traced; got "
            f"{rate}. Under jit, make it a static argument"
        )
    if isinstance(rate, str) or np.ndim(rate):
        raise TypeError(f"{name} must be a number; got {rate!r}")
    try:
        number = float(rate)
    except TypeError:
        raise TypeError(f"{name} must be a number; got {rate!r}") from None
    if not 0 <= number < 1:
        raise ValueError(f"{name} must be from 0 to 1, 1 excluded; got {rate}")
    return number


def check_time_axis(time_axis: int, xs: Any) -> None:
    """Raises ValueError if it is none of the axes before the last."""
    if not 0 <= time_axis < xs.ndim - 1:
        raise ValueError(
            f"time_axis must be from 0 to {xs.ndim - 2} for xs of the shape "
            f"{xs.shape}; got {time_axis}"
        )


def check_booleans(
    name: str, given: Any, shape: tuple[int, ...], time_axis: int = 0
) -> Array | None:
    """`given` with time first, if it is booleans, one a step and sequence.

    Args:
        name: of the argument.
        given: what was given for it; None is no argument.
        shape: (T, *batch).
        time_axis: where `given` has time.
    """
    if given is None:
        return None
    if not hasattr(given, "dtype"):
        given = np.asarray(given)
    if given.dtype != jnp.bool_:
        raise TypeError(f"{name} must be booleans; got {given.dtype}")
    steps, *batch = shape
    expected = (*batch[:time_axis], steps, *batch[time_axis:])
    if given.shape != expected:
        raise ValueError(f"{name} must have the shape {expected}; got {given.shape}")
    return trees.move_time(jnp.asarray(given), time_axis, 0)


@lru_cache(maxsize=256)
def _expected_params(
    cell: Cell, sizes: tuple[tuple[str, int], ...], dtype: str, x64: bool
) -> Any:
    """What `init` makes; it depends on whether JAX has 64 bits, so `x64` is a key."""

    def init() -> Any:
        return cell.init(jax.random.key(0), **dict(sizes), dtype=jnp.dtype(dtype))

    return jax.eval_shape(init)


def _check_float(name: str, x: Any) -> None:
    dtype = getattr(x, "dtype", None)
    if dtype is None:
        raise TypeError(f"{name} must be arrays; got {type(x).__name__}")
    if not isinstance(dtype, np.dtype):  # a tensor of another library
        raise TypeError(
            f"{name} must be arrays of JAX or NumPy; got {type(x).__module__}."
            f"{type(x).__name__}. jnp.asarray(numpy.asarray(tensor)) makes one"
        )
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"{name} must have a floating dtype; got {dtype}")


def _check_like(name: str, tree: Any, expected: Any) -> None:
    if jax.tree.structure(tree) != jax.tree.structure(expected):
        raise TypeError(f"{name} must be {_describe(expected)}; got {_describe(tree)}")
    pairs = zip(jax.tree.leaves_with_path(expected), jax.tree.leaves(tree), strict=True)
    for (path, want), got in pairs:
        field = f"{name}, field {jax.tree_util.keystr(path, simple=True)},"
        _check_float(field, got)
        if got.shape != want.shape:
            raise ValueError(
                f"{field} must have the shape {want.shape}; got {got.shape}"
            )
        if got.dtype != want.dtype:
            raise TypeError(
                f"{field} must have the dtype {want.dtype}; got {got.dtype}"
            )


def _describe(tree: Any) -> str:
    fields = getattr(tree, "_fields", None)
    if fields is None:
        return f"a {type(tree).__name__}"
    return f"{type(tree).__name__}({', '.join(fields)})"
