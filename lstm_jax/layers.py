"""Stacks of unrolled cells, in one or both directions, with dropout between them.

Pure functions over pytrees: `init_layers` makes the parameters, `unroll_layers` runs
them. A bidirectional layer (Schuster & Paliwal, 1997) reads the sequence with two
cells of its own, one from each end, and joins their outputs step by step::

    h_t = [forward h_t, backward h_t]
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from lstm_jax.bptt import unroll
from lstm_jax.cell import Cell


class Layer(NamedTuple):
    """One value for each direction: parameters, or states.

    Attributes:
        forward: that of the cell that reads from the first step to the last.
        backward: that of the one that reads from the last step to the first; None
            in a layer with one direction.
    """

    forward: Any
    backward: Any = None


class Dropout(NamedTuple):
    """Dropout on what goes from one layer to the next.

    Attributes:
        key: a PRNG key.
        rate: see `dropout`.
        variational: one mask for all steps; see `variational_dropout`.
    """

    key: Array
    rate: float
    variational: bool = False


def init_layers(
    cell: Cell,
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    layers: int = 1,
    bidirectional: bool = False,
    dtype: Any = jnp.float32,
) -> tuple[Layer, ...]:
    """Draws the parameters of a stack.

    Args:
        cell: a cell of `lstm_jax.CELLS`, or one like them.
        key: a PRNG key.
        input_size: D, the size of the first layer's input.
        hidden_size: H, the size of each direction, and of its output unless the cell
            projects that.
        layers: how many, at least 1. Each reads the outputs of the one before.
        bidirectional: whether each layer reads in both directions.
        dtype: a floating dtype.

    Raises:
        ValueError: a number is below 1.
    """
    for name, number in (
        ("input_size", input_size),
        ("hidden_size", hidden_size),
        ("layers", layers),
    ):
        if number < 1:
            raise ValueError(f"{name} must be at least 1; got {number}")
    directions = 2 if bidirectional else 1
    keys = jax.random.split(key, (layers, directions))
    stack = []
    for own in keys:
        drawn = [cell.init(k, input_size, hidden_size, dtype=dtype) for k in own]
        stack.append(Layer(*drawn))
        output, *_ = cell.initial_state(drawn[0], ())
        input_size = directions * output.size
    return tuple(stack)


def unroll_layers(
    cell: Cell,
    params: tuple[Layer, ...],
    xs: Array,
    *,
    lengths: Array | None = None,
    between: Dropout | None = None,
    gradient: str = "manual",
    memory: str = "store",
) -> tuple[Array, tuple[Layer, ...]]:
    """Runs a stack over sequences, from the cells' own initial states.

    Args:
        cell: the cell of all layers.
        params: as `init_layers` makes them.
        xs: inputs, (T, B, D), in the dtype of the parameters.
        lengths: (B,) integers from 0 to T, or None for T; see `lstm_jax.unroll`. The
            backward direction starts at each sequence's own last step.
        between: dropout on the outputs of every layer but the last, as in Zaremba et
            al. (2014), figure 2; None for none.
        gradient: "manual" or "automatic"; see `lstm_jax.unroll`.
        memory: what the reverse keeps; see `lstm_jax.unroll`.

    Returns:
        The last layer's outputs, (T, B, H), or (T, B, 2H) with both directions; and
        the final states of all layers. They are 0 beyond a sequence's length.

    Raises:
        TypeError: as `lstm_jax.unroll`.
        ValueError: as `lstm_jax.unroll`, or a rate of dropout out of range.
    """
    run = partial(unroll, cell, lengths=lengths, gradient=gradient, memory=memory)
    finals = []
    for number, layer in enumerate(params):
        if number and between is not None:
            drop = variational_dropout if between.variational else dropout
            xs = drop(jax.random.fold_in(between.key, number), xs, between.rate)
        ys, forward = run(layer.forward, xs)
        backward = None
        if layer.backward is not None:
            others, backward = run(layer.backward, xs, reverse=True)
            ys = jnp.concatenate([ys, others], axis=-1)
        xs = ys
        finals.append(Layer(forward, backward))
    return xs, tuple(finals)


def dropout(key: Array, x: Array, rate: float) -> Array:
    """Zeroes each entry with probability `rate`; the rest grows by 1 / (1 - rate).

    Source: Srivastava et al. (2014), in the form that needs no scaling later.

    Args:
        key: a PRNG key.
        x: any floating array.
        rate: from 0 to 1, 1 excluded.

    Raises:
        ValueError: a rate out of range.
    """
    return _drop(key, x, rate, x.shape)


def variational_dropout(key: Array, x: Array, rate: float) -> Array:
    """The same with one mask for all steps of a sequence, x of shape (T, ...).

    Source: Gal & Ghahramani (2016), section 4: what is dropped stays dropped through
    time, so the noise of a long sequence does not average out.

    Args:
        key: a PRNG key.
        x: a floating array with time as its first axis.
        rate: from 0 to 1, 1 excluded.

    Raises:
        ValueError: a rate out of range.
    """
    return _drop(key, x, rate, (1, *x.shape[1:]))


def check_rate(name: str, rate: float) -> None:
    """Raises ValueError if a rate of dropout is not from 0 to 1, 1 excluded."""
    if not 0 <= rate < 1:
        raise ValueError(f"{name} must be from 0 to 1, 1 excluded; got {rate}")


def _drop(key: Array, x: Array, rate: float, shape: tuple[int, ...]) -> Array:
    check_rate("rate", rate)
    if rate == 0:
        return x
    keep = 1 - rate
    scale = jax.random.bernoulli(key, keep, shape).astype(x.dtype) / keep
    return x * scale
