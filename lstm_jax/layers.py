"""Stacks of unrolled cells, in one or both directions, with dropout between them.

Pure functions over pytrees: `init_layers` makes the parameters, `unroll_layers` runs
them. A bidirectional layer (Schuster & Paliwal, 1997) reads the sequence with two
cells of its own, one from each end, and joins their outputs step by step::

    h_t = [forward h_t, backward h_t]    or their sum, mean or product

Layers may differ in cell and size. What goes from one layer to the next may pass
dropout, or a function of one's own: a residual connection is
``lambda number, ys, xs: ys + xs``.
"""

from collections.abc import Callable, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, SupportsFloat

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lstm_jax.cell import Cell
from lstm_jax.engine import checks, trees, unroll
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


Between = Callable[[int, Array, Array], Array]
"""``(number, ys, xs) -> xs of the next layer``, from a layer's outputs and inputs.

The next layer has the number `number`, from 1; all arrays have time first.
"""

MERGES: MappingProxyType[str, Callable[[Array, Array], Array]] = MappingProxyType(
    {
        "concatenate": lambda ys, others: jnp.concatenate([ys, others], axis=-1),
        "sum": jnp.add,
        "mean": lambda ys, others: (ys + others) / 2,
        "product": jnp.multiply,
    }
)
"""Ways to join the outputs of both directions."""


def init_layers(
    cell: Cell | str | Sequence[Cell | str],
    key: Array,
    input_size: int,
    hidden_size: int | Sequence[int],
    *,
    layers: int = 1,
    bidirectional: bool = False,
    merge: str = "concatenate",
    learned_state: bool = False,
    dtype: Any = jnp.float32,
    **options: Any,
) -> tuple[Layer, ...]:
    """Draws the parameters of a stack.

    Args:
        cell: a cell, or a name of `lstm_jax.CELLS`; or one for each layer.
        key: a PRNG key.
        input_size: D, the size of the first layer's input.
        hidden_size: H, the size of each direction, and of its output unless the cell
            projects that; or one for each layer.
        layers: how many, at least 1. Each reads the outputs of the one before.
        bidirectional: whether each layer reads in both directions.
        merge: how their outputs are joined, as for `unroll_layers`.
        learned_state: whether each cell's initial state is a parameter too, which
            starts as the cell's own; its parameters are then `Learned`.
        dtype: a floating dtype.
        **options: further arguments of the cell's `init`, such as ``forget_bias`` or
            ``heads``.

    Raises:
        TypeError: an option that the cell's `init` does not have.
        ValueError: a number is below 1, not one cell or size for each layer, or an
            unknown name.
    """
    check_size("layers", layers)
    check_size("input_size", input_size)
    checks.check_choice("merge", merge, tuple(MERGES))
    cells = [checks.as_cell(own) for own in _each("cell", cell, layers)]
    sizes = _each("hidden_size", hidden_size, layers)
    directions = 2 if bidirectional else 1
    keys = jax.random.split(key, (layers, directions))
    stack = []
    for cell, size, own in zip(cells, sizes, keys, strict=True):
        check_size("hidden_size", size)
        drawn = [cell.init(k, input_size, size, dtype=dtype, **options) for k in own]
        states = [cell.initial_state(params, ()) for params in drawn]
        joined = 2 if bidirectional and merge == "concatenate" else 1
        input_size = joined * states[0][0].size
        if learned_state:
            drawn = map(Learned, drawn, states)
        stack.append(Layer(*drawn))
    return tuple(stack)


def unroll_layers(
    cell: Cell | str | Sequence[Cell | str],
    params: tuple[Layer, ...],
    xs: ArrayLike,
    state: tuple[Layer, ...] | None = None,
    *,
    lengths: ArrayLike | Sequence[int] | None = None,
    resets: ArrayLike | None = None,
    between: Dropout | Between | None = None,
    zoneout: Zoneout | None = None,
    gradient: str = "manual",
    memory: str | None = None,
    mask: ArrayLike | None = None,
    masked_outputs: str = "zero",
    merge: str = "concatenate",
    time_axis: int = 0,
) -> tuple[Array, tuple[Layer, ...]]:
    """Runs a stack over sequences.

    A long sequence may come in pieces (streaming): the final states of one piece are
    the `state` of the next, and the outputs are those of the whole.

    Args:
        cell: the cell of all layers, or its name; or one for each layer.
        params: as `init_layers` makes them.
        xs: inputs, (T, B, D), in the dtype of the parameters.
        state: the initial states, a `Layer` for each layer, as they are returned; None
            for the learned ones if there are any, or the cell's own, and so for a
            direction without one. Differentiable. A sequence that comes in pieces
            has none for the backward direction: it starts at the end, which no piece
            before has seen.
        lengths: (B,) integers from 0 to T, or None for T; see `lstm_jax.unroll`. The
            backward direction starts at each sequence's own last step.
        resets: (T, B) booleans, true at the first step of a new sequence: before it,
            every layer's state is again the learned one, or the cell's own, whatever
            `state` is. The backward direction, which comes from the other end, is
            reset between the same two steps.
        between: dropout on the outputs of every layer but the last, as in Zaremba et
            al. (2014), figure 2; or a function, see `Between`; None for none.
        zoneout: see `lstm_jax.Zoneout`; drawn for each layer and direction by itself.
        gradient: "manual" or "automatic"; see `lstm_jax.unroll`.
        memory: what the reverse keeps; see `lstm_jax.unroll`.
        mask: (T, B) booleans, true at valid steps; see `lstm_jax.unroll`.
        masked_outputs: of steps that are not valid; see `lstm_jax.unroll`.
        merge: how the outputs of both directions are joined: "concatenate", "sum",
            "mean" or "product".
        time_axis: where `xs`, `resets`, `mask` and the outputs have time: 1 for
            (B, T, D).

    Returns:
        The last layer's outputs, (T, B, H), or (T, B, 2H) where two directions are
        concatenated; and the final states of all layers. Outputs are 0 beyond a
        sequence's length, unless `masked_outputs` says otherwise.

    Raises:
        TypeError: as `lstm_jax.unroll`, or states that are no tuple of `Layer`.
        ValueError: as `lstm_jax.unroll`, a rate of dropout out of range, another
            number of states or cells than layers, or a state for a direction that a
            layer does not have.
    """
    cells = [checks.as_cell(c, gradient) for c in _each("cell", cell, len(params))]
    states = _check_states(params, state)
    checks.check_choice("merge", merge, tuple(MERGES))
    checks.check_time_axis(time_axis, xs)
    xs = trees.move_time(xs, time_axis, 0)
    shape = xs.shape[:-1]
    resets = checks.check_booleans("resets", resets, shape, time_axis)
    mask = checks.check_booleans("mask", mask, shape, time_axis)
    options = {"lengths": lengths, "mask": mask, "masked_outputs": masked_outputs}
    options |= {"gradient": gradient, "memory": memory}
    turned = _turned(resets)
    ys, finals = xs, []
    for number, (cell, layer, initial) in enumerate(
        zip(cells, params, states, strict=True)
    ):
        run = partial(_run, cell, xs=xs, **options)
        one, two = _zoneouts(zoneout, number)
        ys, forward = run(layer.forward, initial.forward, resets=resets, zoneout=one)
        backward = None
        if layer.backward is not None:
            others, backward = run(
                layer.backward,
                initial.backward,
                resets=turned,
                zoneout=two,
                reverse=True,
            )
            ys = MERGES[merge](ys, others)
        finals.append(Layer(forward, backward))
        if number + 1 < len(params):
            xs = _passed_on(between, number + 1, ys, xs)
    return trees.move_time(ys, 0, time_axis), tuple(finals)


def _each(name: str, given: Any, layers: int) -> list[Any]:
    """What was given for each layer, or for all."""
    if isinstance(given, str | Cell) or not isinstance(given, Sequence):
        return [given] * layers
    if len(given) != layers:
        raise ValueError(
            f"{name} must be one for all layers, or one for each of {layers}; got "
            f"{len(given)}"
        )
    return list(given)


def _passed_on(
    between: Dropout | Between | None, number: int, ys: Array, xs: Any
) -> Array:
    """The inputs of layer `number`, from the outputs and inputs of the one before."""
    if between is None:
        return ys
    if not isinstance(between, Dropout):
        return between(number, ys, xs)
    drop = variational_dropout if between.variational else dropout
    return drop(jax.random.fold_in(between.key, number), ys, between.rate)


def _run(
    cell: Cell, params: Any, state: Any, xs: Any, **options: Any
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


def _check_states(params: tuple[Layer, ...], state: Any) -> Sequence[Layer]:
    """The initial states of each layer, None where none is given."""
    if state is None:
        return [Layer(None)] * len(params)
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
    for number, (layer, own) in enumerate(zip(params, state, strict=True)):
        if layer.backward is None and own.backward is not None:
            raise ValueError(
                f"layer {number} reads in one direction, but its state has one for the "
                "backward direction too"
            )
    return state


def _turned(resets: Array | None) -> Array | None:
    """Resets for the way back: before the last step of a sequence, not its first."""
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


def drop_connect(
    key: Array,
    params: Any,
    rate: SupportsFloat,
    *,
    fields: Sequence[str] = ("Wh",),
    units: bool = False,
) -> Any:
    """Zeroes recurrent weights with probability `rate`; the rest grows as in `dropout`.

    Drawn before an unrolling, the mask is one for all steps, and for all of the batch.

    Sources: Wan et al. (2013), DropConnect; on the recurrent weights of an LSTM, Merity
    et al. (2018), section 2. With `units`, a weight goes with all others of its row, so
    that the products miss a unit of the old output: the recurrent dropout of Gal &
    Ghahramani (2016), section 4, whose mask is one for each sequence. For that, draw
    one for each::

        def of_one(key, xs):  # (T, D)
            dropped = drop_connect(key, params, rate, units=True)
            return unroll(cell, dropped, xs)


        ys, final = jax.vmap(of_one, (0, 1), (1, 0))(keys, xs)

    Args:
        key: a PRNG key.
        params: a cell's, or a stack's, whose layers are then drawn each by itself.
        rate: from 0 to 1, 1 excluded.
        fields: the weights to drop, by the names of parameters.
        units: whether whole rows are dropped.

    Raises:
        ValueError: a rate out of range, or a field that no cell has.
    """
    leaves, structure = jax.tree.flatten_with_path(params)
    names = [getattr(path[-1], "name", None) for path, _ in leaves]
    for field in fields:
        if field not in names:
            raise ValueError(f"fields must be names of parameters; got {field!r}")
    found = []
    for number, (name, (_, w)) in enumerate(zip(names, leaves, strict=True)):
        if name in fields:
            shape = _one_a_unit(w) if units else w.shape
            w = _drop(jax.random.fold_in(key, number), w, rate, shape)
        found.append(w)
    return jax.tree.unflatten(structure, found)


def _one_a_unit(w: Array) -> tuple[int, ...]:
    """The shape of recurrent weights with one number for each unit that they see."""
    if w.ndim == 4:  # (G, K, H/K, H/K), of several heads
        return 1, *w.shape[1:3], 1
    return w.shape[0], *(1,) * (w.ndim - 1)


def _drop(key: Array, x: Array, rate: SupportsFloat, shape: tuple[int, ...]) -> Array:
    dropped = checks.check_rate("rate", rate)
    if dropped == 0:
        return x
    keep = 1 - dropped
    scale = jax.random.bernoulli(key, keep, shape).astype(x.dtype) / keep
    return x * scale
