"""The convolutional LSTM: every unit sees its neighbourhood on a grid.

Source: Shi et al. (2015), "Convolutional LSTM network: a machine learning approach for
precipitation nowcasting", equation 3, without the peepholes, as in Keras, flax and
Haiku. It is the LSTM of `lstm_jax.cells.lstm` at every place of a grid, with
convolutions in the place of both products. A convolution is a weighted input of
patches: at every place, P(x) has the features of the places around it, zeros beyond
the edge. With u = P(x) Wx + b and v = P(h_prev) Wh, equations (1) to (7) are the
LSTM's.

The grid lies in the features: x is (..., D) with D = places * channels, what
``image.reshape(..., -1)`` makes of (..., *grid, channels), and so is h. Whatever an
engine or a stack does with a cell it does with this one.
"""

import itertools
import math
from collections.abc import Iterator
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from lstm_jax.cell import Cell
from lstm_jax.cells.lstm import LSTMGates, LSTMParams, LSTMState, equations
from lstm_jax.cells.lstm import backward as equations_backward
from lstm_jax.identities import bias_gradient, weight_gradient, weighted_input
from lstm_jax.initializers import (
    Initializer,
    check_size,
    glorot_uniform,
    init_blocks,
    init_inputs,
    orthogonal,
)


class Grid(NamedTuple):
    """The places, and what each of them sees.

    Attributes:
        shape: the number of places along each axis, such as (rows, columns).
        window: the size of a patch along each axis; the place itself is its middle.
    """

    shape: tuple[int, ...]
    window: tuple[int, ...]

    @property
    def places(self) -> int:
        """How many there are."""
        return math.prod(self.shape)

    @property
    def margins(self) -> list[tuple[int, int]]:
        """How many zeros stand before and after the grid, along each axis."""
        return [((size - 1) // 2, size // 2) for size in self.window]

    def shifts(self) -> Iterator[tuple[slice, ...]]:
        """For each place of a window, where it lies in the grid with its margins."""
        for first in itertools.product(*map(range, self.window)):
            yield tuple(slice(k, k + n) for k, n in zip(first, self.shape, strict=True))


def patches(grid: Grid, x: Array) -> Array:
    """P(x): of (..., places * channels) the patch of each place.

    Returns:
        (..., places, window * channels).
    """
    lead = x.shape[:-1]
    image = x.reshape(*lead, *grid.shape, -1)
    margins = [*((0, 0) for _ in lead), *grid.margins, (0, 0)]
    wide = jnp.pad(image, margins)
    seen = [wide[..., *shift, :] for shift in grid.shifts()]
    return jnp.concatenate(seen, axis=-1).reshape(*lead, grid.places, -1)


def patches_backward(grid: Grid, dp: Array) -> Array:
    """∂J/∂x from ∂J/∂P: what a place is in several patches is summed.

    Returns:
        (..., places * channels).
    """
    lead = dp.shape[:-2]
    dp = dp.reshape(*lead, *grid.shape, -1)
    parts = jnp.split(dp, math.prod(grid.window), axis=-1)
    sizes = [n + sum(m) for n, m in zip(grid.shape, grid.margins, strict=True)]
    dwide = jnp.zeros((*lead, *sizes, parts[0].shape[-1]), dp.dtype)
    for shift, part in zip(grid.shifts(), parts, strict=True):
        dwide = dwide.at[..., *shift, :].add(part)
    inside = (
        slice(before, before + n)
        for n, (before, _) in zip(grid.shape, grid.margins, strict=True)
    )
    return dwide[..., *inside, :].reshape(*lead, -1)


def by_gate(z: Array) -> Array:
    """Column blocks of all places, (..., 4 places H), from (..., places, 4 H)."""
    *lead, places, columns = z.shape
    blocks = z.reshape(*lead, places, 4, columns // 4)
    return jnp.moveaxis(blocks, -2, -3).reshape(*lead, -1)


def by_place(grid: Grid, z: Array) -> Array:
    """The reverse of `by_gate`, which only moves numbers."""
    lead = z.shape[:-1]
    blocks = z.reshape(*lead, 4, grid.places, -1)
    return jnp.moveaxis(blocks, -3, -2).reshape(*lead, grid.places, -1)


def init(
    grid: Grid,
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    dtype: DTypeLike = jnp.float32,
    forget_bias: float = 1.0,
    input_init: Initializer = glorot_uniform,
    recurrent_init: Initializer = orthogonal,
    bias: bool = True,
) -> LSTMParams:
    """Draws parameters; arguments and errors as in `lstm_jax.cells.lstm.init`.

    Raises:
        ValueError: sizes that are no multiples of the number of places.
    """
    sizes = {"input_size": input_size, "hidden_size": hidden_size}
    for name, size in sizes.items():
        check_size(name, size)
        if size % grid.places:
            raise ValueError(
                f"{name} must be a multiple of the {grid.places} places of the grid "
                f"{grid.shape}; got {size}"
            )
    key_x, key_h = jax.random.split(key)
    seen, channels = math.prod(grid.window), hidden_size // grid.places
    biases = (0.0, forget_bias, 0.0, 0.0)
    weights = init_inputs(
        *(key_x, seen * input_size // grid.places, channels, biases, dtype),
        input_init=input_init,
        bias=bias,
    )
    Wh = init_blocks(recurrent_init, key_h, seen * channels, channels, 4, dtype)
    return LSTMParams(**weights, Wh=Wh)


def sizes(grid: Grid, params: LSTMParams) -> dict[str, int]:
    """The size arguments of `init` that made the parameters."""
    seen = math.prod(grid.window)
    channels, hidden = params.Wx.shape[0] // seen, params.Wh.shape[0] // seen
    found = {
        "input_size": grid.places * channels,
        "hidden_size": grid.places * hidden,
    }
    return found if params.b is not None else found | {"bias": False}


def initial_state(
    grid: Grid, params: LSTMParams, batch_shape: tuple[int, ...]
) -> LSTMState:
    """Zeros, (*batch_shape, H)."""
    shape = (*batch_shape, sizes(grid, params)["hidden_size"])
    return LSTMState(*(jnp.zeros(shape, params.Wx.dtype) for _ in range(2)))


def project(grid: Grid, params: LSTMParams, x: Array) -> Array:
    """U = P(x) Wx + b, in the LSTM's blocks, (..., 4H)."""
    return by_gate(weighted_input(patches(grid, x), params.Wx, params.b))


def step(
    grid: Grid, params: LSTMParams, state: LSTMState, u: Array
) -> tuple[LSTMState, LSTMGates]:
    """Equations (1) to (7), with v = P(h_prev) Wh."""
    v = by_gate(weighted_input(patches(grid, state.h), params.Wh))
    return equations(params, state, u, v)


def backward(
    grid: Grid,
    params: LSTMParams,
    state: LSTMState,
    new_state: LSTMState,
    gates: LSTMGates,
    dnew: LSTMState,
) -> tuple[LSTMState, Array]:
    """The reverse of `step`: the equations', and then v's."""
    dstate, dz = equations_backward(params, state, new_state, gates, dnew)
    dh_prev = patches_backward(grid, by_place(grid, dz) @ params.Wh.T)
    return dstate._replace(h=dh_prev), dz


def gradients(
    grid: Grid,
    params: LSTMParams,
    x: Array,
    state: LSTMState,
    new_state: LSTMState,
    gates: LSTMGates,
    dz: Array,
) -> tuple[LSTMParams, Array]:
    """The weighted-input rule for both convolutions, summed over places as well."""
    dz = by_place(grid, dz)
    dparams = LSTMParams(
        Wx=weight_gradient(dz, patches(grid, x)),
        Wh=weight_gradient(dz, patches(grid, state.h)),
        b=bias_gradient(dz) if params.b is not None else params.b,
    )
    return dparams, patches_backward(grid, dz @ params.Wx.T)


def conv_lstm(shape: tuple[int, ...], window: tuple[int, ...] | int = 3) -> Cell:
    """The cell on a grid.

    Its parameters are `LSTMParams`, whose matrices have a row for each channel of each
    place of a window, and a column for each gate and channel of h: what ``reshape``
    makes of a kernel (*window, channels, 4 * channels of h). Its steps are a scan, not
    compiled, since units see their neighbours.

    Args:
        shape: the number of places along each axis, such as (rows, columns); one axis,
            two or more.
        window: the size of the neighbourhood along each axis, or along all of them.

    Returns:
        A cell whose `input_size` and `hidden_size` are places * channels. Two calls
        with the same arguments make equal cells.

    Raises:
        TypeError: a size is no integer.
        ValueError: a size is less than 1, or there are as many of both as not.

    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> cell = conv_lstm((8, 8))
        >>> params = cell.init(jax.random.key(0), 8 * 8 * 1, 8 * 8 * 4)
        >>> images = jnp.ones((5, 2, 8, 8, 1))  # T, B, rows, columns, channels
        >>> ys, final = lj.unroll(cell, params, images.reshape(5, 2, -1))
        >>> ys.reshape(5, 2, 8, 8, 4).shape
        (5, 2, 8, 8, 4)
    """
    window = (window,) * len(shape) if isinstance(window, int) else tuple(window)
    for name, sizes in {"shape": shape, "window": window}.items():
        for size in sizes:
            check_size(name, size)
    if not shape or len(window) != len(shape):
        raise ValueError(
            f"window must have a size for each axis of the grid {shape}; got {window}"
        )
    return _conv_lstm(Grid(tuple(shape), window))


@lru_cache(maxsize=256)
def _conv_lstm(grid: Grid) -> Cell:
    return Cell(
        name="conv_lstm",
        init=partial(init, grid),
        sizes=partial(sizes, grid),
        initial_state=partial(initial_state, grid),
        project=partial(project, grid),
        step=partial(step, grid),
        backward=partial(backward, grid),
        gradients=partial(gradients, grid),
    )
