"""How a cell begins: draws of its weights, and the state of zeros."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from operator import index
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.nn import initializers
from jax.typing import DTypeLike

from lstm_jax.cell import Sizes
from lstm_jax.gated import weight_sizes
from lstm_jax.identities import accumulator_dtype, concatenate

Initializer = Callable[..., Array]


@dataclass(frozen=True)
class ZeroState:
    """`Cell.initial_state` for a state whose fields are all zeros, (..., H).

    Attributes:
        state: the state's NamedTuple.
        sizes: the cell's `Cell.sizes`.
    """

    state: Any
    sizes: Sizes = weight_sizes

    def __call__(self, params: Any, batch_shape: tuple[int, ...]) -> Any:
        """As `lstm_jax.cell.InitialState`."""
        shape = (*batch_shape, self.sizes(params)["hidden_size"])
        fields = self.state._fields
        return self.state(*(jnp.zeros(shape, params.Wx.dtype) for _ in fields))


def init_weights(
    key: Array,
    input_size: int,
    hidden_size: int,
    biases: Sequence[float],
    dtype: DTypeLike = jnp.float32,
    *,
    input_init: Initializer | None = None,
    recurrent_init: Initializer | None = None,
    heads: int = 1,
    bias: bool = True,
) -> dict[str, Any]:
    """Draws the fields Wx, Wh and b of a `gated` cell.

    Args:
        key: a PRNG key.
        input_size: D, at least 1.
        hidden_size: H, at least 1.
        biases: the initial bias of each column block; their number is G.
        dtype: a floating dtype.
        input_init: a `jax.nn.initializers` function, called for each (D, H) block;
            None for `glorot_uniform`.
        recurrent_init: the same for each block of recurrent weights; None for
            `orthogonal`.
        heads: K, how many parts the recurrence falls into.
        bias: whether there is one; if not, `b` is None, and nothing is trained.

    Returns:
        Wx (D, G·H), b (G·H,) or None, and Wh (H, G·H), or (G, K, H/K, H/K) if K > 1.

    Raises:
        TypeError: a size is no integer, or a dtype not floating.
        ValueError: a size is less than 1, or `heads` does not divide `hidden_size`.
    """
    key_x, key_h = jax.random.split(key)
    weights = init_inputs(
        *(key_x, input_size, hidden_size, biases, dtype),
        input_init=input_init,
        bias=bias,
    )
    recurrent_init = recurrent_init or orthogonal
    blocks = len(biases)
    check_size("heads", heads)
    if hidden_size % heads:
        raise ValueError(
            f"heads must divide hidden_size = {hidden_size}; got heads = {heads}"
        )
    if heads == 1:
        Wh = init_blocks(recurrent_init, key_h, hidden_size, hidden_size, blocks, dtype)
    else:
        size = hidden_size // heads
        keys = jax.random.split(key_h, (blocks, heads))
        draw = jax.vmap(jax.vmap(lambda k: recurrent_init(k, (size, size), dtype)))
        Wh = draw(keys)
    return weights | {"Wh": Wh}


def init_inputs(
    key: Array,
    input_size: int,
    hidden_size: int,
    biases: Sequence[float],
    dtype: DTypeLike = jnp.float32,
    *,
    input_init: Initializer | None = None,
    bias: bool = True,
) -> dict[str, Any]:
    """Draws the fields Wx and b alone; arguments and errors as in `init_weights`."""
    check_size("input_size", input_size)
    check_size("hidden_size", hidden_size)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"dtype must be floating; got {jnp.dtype(dtype)}")
    input_init = input_init or glorot_uniform
    return {
        "Wx": init_blocks(input_init, key, input_size, hidden_size, len(biases), dtype),
        "b": jax.device_put(np.repeat(np.asarray(biases, dtype), hidden_size))
        if bias
        else None,
    }


def init_blocks(
    initializer: Initializer,
    key: Array,
    rows: int,
    columns: int,
    blocks: int,
    dtype: DTypeLike,
) -> Array:
    """Draws a (rows, blocks * columns) matrix block by block.

    Each gate has a matrix of its own, so each column block is drawn by itself:
    orthogonal recurrent weights are orthogonal gate by gate, and the fan-out that
    Glorot's bound depends on is one gate's.
    """
    keys = jax.random.split(key, blocks)
    drawn = [initializer(k, (rows, columns), dtype) for k in keys]
    return concatenate(*drawn)


def check_size(name: str, size: Any, least: int = 1) -> None:
    """Raises if `size` is no integer (TypeError), or less than `least` (ValueError)."""
    try:
        whole = index(size)
    except TypeError:
        raise TypeError(f"{name} must be an integer; got {size!r}") from None
    if whole < least:
        raise ValueError(f"{name} must be at least {least}; got {size}")


def _one_program(draw: Initializer) -> Initializer:
    """The same as one program for each shape, rather than one for each operation."""
    compiled = jax.jit(draw, static_argnums=(1, 2))

    @wraps(draw)
    def drawn(key: Array, shape: Sequence[int], dtype: DTypeLike) -> Array:
        return compiled(key, tuple(shape), dtype)

    return drawn


glorot_uniform: Initializer = _one_program(initializers.glorot_uniform())
"""Input weights: Glorot & Bengio (2010), equation 16."""


@_one_program
def orthogonal(key: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """Recurrent weights: Saxe et al. (2014), section 3.

    Drawn in float32 at least, since a QR decomposition has no 16 bits.
    """
    draw = initializers.orthogonal()
    return draw(key, shape, accumulator_dtype(dtype)).astype(dtype)
