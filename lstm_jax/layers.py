"""Stacks of unrolled cells, in one or both directions, with dropout between them.

Pure functions over pytrees: `init_layers` makes the parameters, `unroll_layers` runs
them. A bidirectional layer (Schuster & Paliwal, 1997) reads the sequence with two
cells of its own, one from each end, and joins their outputs step by step::

    h_t = [forward h_t, backward h_t]
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, SupportsFloat

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lstm_jax.cell import Cell
from lstm_jax.engine import checks, unroll
from lstm_jax.engine.zoneout import Zoneout
from lstm_jax.initializers import check_size


class Layer(NamedTuple):
    """One value for each direction: parameters, or states.

    Attributes:
        forward: that of the cell that reads from the first step to the last.
        backward: that of the one that reads from the last step to the first; None
            in a layer with one direction.
    """

    forward: Any
    backward: Any = None


class Learned(NamedTuple):
    """A cell's parameters, and the initial state that is learned with them.

    Attributes:
        params: as `cell.init` makes them.
        state: a state of one sequence, without batch axes. Every sequence starts with
            it, so its gradient is the sum over the batch.
    """

    params: Any
    state: Any


class Dropout(NamedTuple):
    """Dropout on what goes from one layer to the next.

    Attributes:
        key: a PRNG key.
        rate: see `dropout`.
        variational: one mask for all steps; see `variational_dropout`.
    """

    key: Array
    rate: SupportsFloat
    variational: bool = False


def init_layers(
    cell: Cell | str,
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    layers: int = 1,
    bidirectional: bool = False,
    learned_state: bool = False,
    dtype: Any = jnp.float32,
    **options: Any,
) -> tuple[Layer, ...]:
    """Draws the parameters of a stack.

    Args:
        cell: a cell, or a name of `lstm_jax.CELLS`.
        key: a PRNG key.
        input_size: D, the size of the first layer's input.
        hidden_size: H, the size of each direction, and of its output unless the cell
            projects that.
        layers: how many, at least 1. Each reads the outputs of the one before.
        bidirectional: whether each layer reads in both directions.
        learned_state: whether each cell's initial state is a parameter too, which
            starts as the cell's own; its parameters are then `Learned`.
        dtype: a floating dtype.
        **options: further arguments of the cell's `init`, such as ``forget_bias`` or
            ``heads``.

    Raises:
        TypeError: an option that the cell's `init` does not have.
        ValueError: a number is below 1.
    """
    cell = checks.as_cell(cell)
    for name, number in (
        ("input_size", input_size),
        ("hidden_size", hidden_size),
        ("layers", layers),
    ):
        check_size(name, number)
    directions = 2 if bidirectional else 1
    keys = jax.random.split(key, (layers, directions))
    stack = []
    for own in keys:
        drawn = [
            cell.init(k, input_size, hidden_size, dtype=dtype, **options) for k in own
        ]
        states = [cell.initial_state(params, ()) for params in drawn]
        input_size = directions * states[0][0].size
        if learned_state:
            drawn = map(Learned, drawn, states)
        stack.append(Layer(*drawn))
    return tuple(stack)


def unroll_layers(
    cell: Cell | str,
    params: tuple[Layer, ...],
    xs: Array,
    state: tuple[Layer, ...] | None = None,
    *,
    lengths: ArrayLike | Sequence[int] | None = None,
    resets: ArrayLike | None = None,
    between: Dropout | None = None,
    zoneout: Zoneout | None = None,
    gradient: str = "manual",
    memory: str = "store",
) -> tuple[Array, tuple[Layer, ...]]:
    """Runs a stack over sequences.

    A long sequence may come in pieces (streaming): the final states of one piece are
    the `state` of the next, and the outputs are those of the whole.

    Args:
        cell: the cell of all layers, or its name.
        params: as `init_layers` makes them.
        xs: inputs, (T, B, D), in the dtype of the parameters.
        state: the initial states, as they are returned; None for the learned ones if
            there are any, or the cell's own. Differentiable.
        lengths: (B,) integers from 0 to T, or None for T; see `lstm_jax.unroll`. The
            backward direction starts at each sequence's own last step.
        resets: (T, B) booleans, true at the first step of a new sequence: before it,
            every layer's state is again the learned one, or the cell's own, whatever
            `state` is. The backward direction, which comes from the other end, is
            reset between the same two steps.
        between: dropout on the outputs of every layer but the last, as in Zaremba et
            al. (2014), figure 2; None for none.
        zoneout: see `lstm_jax.Zoneout`; drawn for each layer and direction by itself.
        gradient: "manual" or "automatic"; see `lstm_jax.unroll`.
        memory: what the reverse keeps; see `lstm_jax.unroll`.

    Returns:
        The last layer's outputs, (T, B, H), or (T, B, 2H) with both directions; and
        the final states of all layers. They are 0 beyond a sequence's length.

    Raises:
        TypeError: as `lstm_jax.unroll`, or states that are no tuple of `Layer`.
        ValueError: as `lstm_jax.unroll`, a rate of dropout out of range, another
            number of states than layers, or states for a stack of both directions.
    """
    cell, states = checks.as_cell(cell, gradient), _check_states(params, state)
    turned = _turned(resets, xs)
    run = partial(_run, cell, lengths=lengths, gradient=gradient, memory=memory)
    finals = []
    for number, (layer, initial) in enumerate(zip(params, states, strict=True)):
        if number and between is not None:
            drop = variational_dropout if between.variational else dropout
            xs = drop(jax.random.fold_in(between.key, number), xs, between.rate)
        one, two = _zoneouts(zoneout, number)
        ys, forward = run(layer.forward, xs, initial, resets=resets, zoneout=one)
        backward = None
        if layer.backward is not None:
            others, backward = run(
                layer.backward, xs, None, resets=turned, zoneout=two, reverse=True
            )
            ys = jnp.concatenate([ys, others], axis=-1)
        xs = ys
        finals.append(Layer(forward, backward))
    return xs, tuple(finals)


def _run(
    cell: Cell, params: Any, xs: Array, state: Any, **options: Any
) -> tuple[Array, Any]:
    """`unroll`; a learned state, if there is one, stands for the cell's own."""
    fresh = None
    if isinstance(params, Learned):
        params, learned = params
        fresh = jax.tree.map(
            lambda s: jnp.broadcast_to(s, (*xs.shape[1:-1], *s.shape)), learned
        )
    elif state is not None and options["resets"] is not None:
        fresh = cell.initial_state(params, xs.shape[1:-1])
    if options["resets"] is not None:
        options["reset_state"] = fresh
    return unroll(cell, params, xs, fresh if state is None else state, **options)


def _check_states(params: tuple[Layer, ...], state: Any) -> list[Any]:
    """The initial state of each layer's forward direction, None where none is given."""
    if state is None:
        return [None] * len(params)
    if any(layer.backward is not None for layer in params):
        raise ValueError(
            "a stack of both directions takes no state: its backward direction starts "
            "at the end, which no piece before has seen. Initial states of both can "
            "be learned (learned_state of init_layers)"
        )
    if not isinstance(state, tuple) or not all(isinstance(s, Layer) for s in state):
        raise TypeError(
            "state must be a tuple of Layer, as unroll_layers returns it; got "
            f"{type(state).__name__}"
        )
    if len(state) != len(params):
        raise ValueError(
            f"state must have one Layer for each of {len(params)} layers; got "
            f"{len(state)}"
        )
    return [layer.forward for layer in state]


def _turned(resets: Any, xs: Array) -> Array | None:
    """Resets for the way back: before the last step of a sequence, not its first."""
    resets = checks.check_resets(resets, xs.shape[:-1])
    if resets is None:
        return None
    return jnp.concatenate([resets[1:], jnp.zeros_like(resets[:1])])


def _zoneouts(zoneout: Zoneout | None, number: int) -> tuple[Any, Any]:
    """The zoneout of both directions of a layer, each with a key of its own."""
    if zoneout is None or zoneout.key is None:
        return zoneout, zoneout
    keys = jax.random.split(jax.random.fold_in(zoneout.key, number))
    one, two = (zoneout._replace(key=key) for key in keys)
    return one, two


def dropout(key: Array, x: Array, rate: SupportsFloat) -> Array:
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


def variational_dropout(key: Array, x: Array, rate: SupportsFloat) -> Array:
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


def _drop(key: Array, x: Array, rate: SupportsFloat, shape: tuple[int, ...]) -> Array:
    dropped = checks.check_rate("rate", rate)
    if dropped == 0:
        return x
    keep = 1 - dropped
    scale = jax.random.bernoulli(key, keep, shape).astype(x.dtype) / keep
    return x * scale
