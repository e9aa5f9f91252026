"""Backpropagation through time: `unroll`, a cell over a sequence, and its reverse.

Forward, the equations of a cell are scanned over time. Backward, each step's
``cell.backward`` is scanned the other way; what it leaves behind, the gradients of
the pre-activations, gives the gradients of weights and inputs as products over many
steps at once, outside of that scan. Both directions go through time in chunks
(`chunks.py`), which bounds the memory of everything that is not kept. Cells that are
linear in their state go through a chunk by a parallel scan (`associative_scan.py`), and
the LSTM on CPUs by compiled C++ (`native/`), for which all steps are one chunk where
everything is kept: the same steps, by a faster way.

The reverse needs, of every step, the state before and after it and whatever the cell
keeps. How it gets them is the memory policy:

``"store"``
    everything is kept from the forward;
``"states"``
    the states are kept, the rest is computed again for all steps of a chunk at once;
``"recompute"``
    one state a chunk is kept, and the chunk's forward runs again.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from lstm_jax.cell import Cell
from lstm_jax.cells.lstm import LSTM, LSTMParams, LSTMState
from lstm_jax.engine import associative_scan, checks, native, trees
from lstm_jax.engine.chunks import chunk_length, scan_chunks
from lstm_jax.engine.meshes import leading_spec, on_mesh
from lstm_jax.engine.reverse_only import reverse_only
from lstm_jax.engine.zoneout import Zoneout, check_zoneout, draw_masks, zoned
from lstm_jax.identities import accumulator_dtype

GRADIENTS = ("manual", "automatic")
MEMORIES = ("store", "states", "recompute")


def unroll(
    cell: Cell,
    params: Any,
    xs: ArrayLike,
    state: Any = None,
    *,
    gradient: str = "manual",
    lengths: ArrayLike | Sequence[int] | None = None,
    resets: ArrayLike | None = None,
    reset_state: Any = None,
    reverse: bool = False,
    memory: str = "store",
    zoneout: Zoneout | None = None,
) -> tuple[Array, Any]:
    """Runs a cell over sequences: ``state_t = step(state_{t-1}, x_t)``.

    Args:
        cell: a cell of `lstm_jax.CELLS`, or one like them.
        params: its parameters, as `cell.init` makes them.
        xs: inputs, (T, *batch, D), time first, in the dtype of the parameters.
            `batch` is usually one axis, (T, B, D); T may be 0.
        state: the initial state, with leading axes `batch`; None for
            `cell.initial_state`. Differentiable.
        gradient: "manual" differentiates by the cell's hand-derived backward
            (reverse mode, to any order); "automatic" leaves the same forward to JAX,
            in any mode.
        lengths: the number of valid steps of each sequence, integers of shape
            `batch`, from 0 to T; None for T. Later steps leave the state as it is,
            so the final state is the one at each sequence's length, and give outputs
            of 0; nothing of `xs` there, NaN included, reaches a value or a gradient.
            Under `jit` the range cannot be checked: more than T counts as T, less
            than 0 as 0.
        resets: booleans (T, *batch); where true, the state is `reset_state` before
            the step.
        reset_state: what resets return to, like `state`; None for `state`. A sequence
            that comes in pieces has another initial state in each, and this in all.
        reverse: runs from the last step to the first. Outputs stay at their inputs'
            places, and the final state is the one after step 0.
        memory: what the manual gradient keeps of the forward: "store" (fastest),
            "states" or "recompute" (leanest); see the module's text. Automatic
            gradients apply `jax.checkpoint` to the same end.
        zoneout: units that keep their old state at random, or in expectation; see
            `lstm_jax.Zoneout`. None for none.

    Returns:
        The outputs (T, *batch, H), and the final state, with the fields of `state`.

    Raises:
        TypeError: a dtype that is not expected, a structure of parameters or state
            that is not the cell's, or forward-mode differentiation of the manual
            gradient.
        ValueError: a shape, a length or a name that is not expected, or manual
            gradients of a cell that has no backward.
    """
    checks.check_choice("gradient", gradient, GRADIENTS)
    checks.check_choice("memory", memory, MEMORIES)
    checks.check_cell(cell, gradient)
    checks.check_params(cell, params)
    xs = checks.check_inputs(cell, params, xs, "T, *batch", 2)
    batch_shape = xs.shape[1:-1]
    state = checks.check_state(cell, params, state, batch_shape)
    lengths = checks.check_lengths(lengths, xs.shape[0], batch_shape)
    resets = checks.check_resets(resets, xs.shape[:-1])
    if reset_state is None:
        reset_state = state
    elif resets is None:
        raise ValueError("reset_state is given, but no resets")
    else:
        reset_state = checks.check_state(cell, params, reset_state, batch_shape)
    if zoneout is not None:
        check_zoneout(zoneout, state)

    if xs.shape[0] == 0:
        return state[0][None][:0], state
    valid = None if lengths is None else _within(lengths, xs.shape[0])
    if jax.config.jax_debug_nans:  # ty: ignore[missing-attribute]
        xs = trees.masked(valid, xs)  # what is kept of the forward is looked at too
    x = xs
    if zoneout is not None:
        x = xs, draw_masks(zoneout, xs.shape[0], state)
        cell = zoned(cell, tuple(sorted(zoneout.rates.items())))
    inputs = Inputs(
        x=x,
        valid=valid,
        carried=None if resets is None else ~resets,
    )
    starts = Starts(state, None if resets is None else reset_state)
    return _unroll(Settings(cell, gradient, reverse, memory), params, starts, inputs)


def step(
    cell: Cell, params: Any, state: Any, x: ArrayLike, *, gradient: str = "manual"
) -> Any:
    """Runs a cell for one step: the state after it from the state before and x.

    Args:
        cell: a cell of `lstm_jax.CELLS`, or one like them.
        params: its parameters, as `cell.init` makes them.
        state: the state before the step, with leading axes `batch`.
        x: the input, (*batch, D).
        gradient: "manual" or "automatic", as in `unroll`.

    Returns:
        The state after the step; its first field is the output.

    Raises:
        TypeError: as `unroll`.
        ValueError: as `unroll`.
    """
    checks.check_choice("gradient", gradient, GRADIENTS)
    checks.check_cell(cell, gradient)
    checks.check_params(cell, params)
    x = checks.check_inputs(cell, params, x, "*batch", 1)
    state = checks.check_state(cell, params, state, x.shape[:-1])
    return _step(cell, gradient, params, state, x)


def lstm_step(params: LSTMParams, state: LSTMState, x: ArrayLike) -> LSTMState:
    """One step, ``LSTMState(h, c)`` from the last one and x (*batch, D).

    Its reverse is the hand-derived one of `lstm_jax.cells.lstm`, as a
    `jax.custom_vjp`; see `step` for shapes and errors.
    """
    return step(LSTM, params, state, x)


class Settings(NamedTuple):
    """The static part of an unrolling: the arguments of `unroll`."""

    cell: Cell
    gradient: str
    reverse: bool
    memory: str

    def checkpoint(self, function: Callable[..., Any], memory: str) -> Any:
        """`function`, recomputed in automatic reverse mode under a policy `memory`."""
        if (self.gradient, self.memory) != ("automatic", memory):
            return function
        return jax.checkpoint(function, prevent_cse=False)


class Starts(NamedTuple):
    """The states that steps start from.

    Attributes:
        state: that of the first step.
        reset: that of a step at which the state is reset; None without resets.
    """

    state: Any
    reset: Any


class Inputs(NamedTuple):
    """What a step gets from outside, each field time-major.

    Attributes:
        x: the input, (T, *batch, D), or all that the cell's `project` takes.
        valid: whether the step is within its sequence's length, (T, *batch); None
            where all are.
        carried: whether the state comes from the step before, (T, *batch), or is
            `Starts.reset`; None where all do.
    """

    x: Any
    valid: Array | None
    carried: Array | None

    @property
    def steps(self) -> int:
        """T."""
        return jax.tree.leaves(self.x)[0].shape[0]


class Saved(NamedTuple):
    """What the forward leaves for the reverse.

    Attributes:
        entries: the state before each chunk, (number of chunks, *batch, ...).
        states: the states after all steps, (T, *batch, ...); None under "recompute".
        kept: what the cell keeps of all steps; None but under "store".
    """

    entries: Any
    states: Any
    kept: Any


# --- the forward ------------------------------------------------------------------


def _steps(settings: Settings, params: Any) -> Callable[..., Any]:
    """The steps of any chunk: ``(reset, entry, inputs) -> last state, (new, kept)``.

    They start from the state `entry`, and are those of `_one_by_one` by definition.
    """
    cell, reverse = settings.cell, settings.reverse
    run = partial(_one_by_one, settings)
    if cell.linear:
        run = settings.checkpoint(
            partial(associative_scan.steps, cell, reverse=reverse), "states"
        )
    elif settings.gradient == "manual" and native.suits(cell, params):
        run = partial(native.steps, run, reverse, native.forward_panels(params))

    def steps(reset: Any, entry: Any, inputs: Inputs) -> tuple[Any, tuple[Any, Any]]:
        x = trees.masked(inputs.valid, inputs.x)
        return run(params, reset, entry, x, inputs.valid, inputs.carried)

    return steps


def _one_by_one(
    settings: Settings,
    params: Any,
    reset: Any,
    entry: Any,
    x: Any,
    valid: Array | None,
    carried: Array | None,
) -> tuple[Any, tuple[Any, Any]]:
    """Each step from the one before it."""
    cell = settings.cell

    def step(state: Any, inputs: Any) -> tuple[Any, tuple[Any, Any]]:
        u, valid, carried = inputs
        old = trees.select(carried, state, reset)
        new, kept = cell.step(params, old, u)
        new = trees.select(valid, new, state)
        return new, (new, kept)

    return lax.scan(
        settings.checkpoint(step, "states"),
        entry,
        (cell.project(params, x), valid, carried),
        reverse=settings.reverse,
    )


def _forward(
    settings: Settings, params: Any, starts: Starts, inputs: Inputs, save: bool = False
) -> tuple[Array, Any, Saved]:
    """Outputs, final state, and, where `save` is true, what the reverse needs."""
    steps = _steps(settings, params)

    def chunk(entry: Any, chunk_inputs: Any) -> tuple[Any, Any]:
        inputs, _ = chunk_inputs
        final, (new, kept) = steps(starts.reset, entry, inputs)
        saved = Saved(
            entries=trees.lead(entry) if save else None,
            states=new if save and settings.memory != "recompute" else None,
            kept=kept if save and settings.memory == "store" else None,
        )
        # The outputs are the first field of the states: where those are kept, once.
        return final, (new[0] if saved.states is None else None, saved)

    final, (ys, saved) = scan_chunks(
        settings.checkpoint(chunk, "recompute"),
        starts.state,
        inputs,
        None,
        _chunk_length(settings, params, inputs, save),
        reverse=settings.reverse,
    )
    ys = ys if saved.states is None else saved.states[0]
    return trees.masked(inputs.valid, ys), final, saved


def _chunk_length(
    settings: Settings, params: Any, inputs: Inputs, save: bool = True
) -> int:
    cell = settings.cell
    if save and settings.memory == "store" and native.suits(cell, params):
        return inputs.steps  # they write over u, and dz over the gates: nothing is more
    x = jax.tree.map(lambda a: a[0], inputs.x)
    u = jax.eval_shape(cell.project, params, x)
    step_bytes = sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(u))
    return chunk_length(inputs.steps, step_bytes, settings.memory)


# --- its reverse ------------------------------------------------------------------


def _recall(settings: Settings, params: Any) -> Callable[..., Any]:
    """``(reset, saved, inputs) -> old, new, kept`` of all steps of any chunk.

    The states before and after them, and what the cell keeps.
    """
    cell = settings.cell
    steps = _steps(settings, params) if settings.memory == "recompute" else None

    def recall(reset: Any, saved: Saved, inputs: Inputs) -> tuple[Any, Any, Any]:
        entry, new, kept = saved
        if steps is not None:
            _, (new, kept) = steps(reset, entry, inputs)
        old = trees.shift(entry, new, reverse=settings.reverse)
        old = trees.select_time(inputs.carried, old, reset)
        if settings.memory == "states":
            u = cell.project(params, trees.masked(inputs.valid, inputs.x))
            _, kept = jax.vmap(partial(cell.step, params))(old, u)
        return old, new, kept

    return recall


def _reverse_steps(settings: Settings, params: Any, reset: Any) -> Callable[..., Any]:
    """The reverse of `_steps`, by definition that of `_one_by_one_reversed`.

    Args:
        settings: of the unrolling.
        params: the parameters.
        reset: the state that resets return to; None without resets.

    Returns:
        ``(steps, valid, carried, dy, dstate, dreset) -> (dstate, dreset), dz``, with
        `steps` as `_recall` gives them, `dy` the gradients of the outputs, `dstate`
        that of the state after the chunk, but for its output, and `dreset` that of the
        state that resets return to, so far; None without resets. It returns those of
        the state before the chunk, of the one that resets return to, and of the
        pre-activations of all steps.
    """
    cell, reverse = settings.cell, settings.reverse
    run = partial(_one_by_one_reversed, settings)
    if cell.linear:
        run = partial(associative_scan.reverse_steps, cell, reverse=reverse)
    elif native.suits(cell, params):
        panels = native.reverse_panels(params)
        run = partial(native.reverse_steps, run, reverse, panels, reset)
    return partial(run, params)


def _one_by_one_reversed(
    settings: Settings,
    params: Any,
    steps: tuple[Any, Any, Any],
    valid: Array | None,
    carried: Array | None,
    dy: Array,
    dstate: Any,
    dreset: Any,
) -> tuple[tuple[Any, Any], Any]:
    """Each step's reverse from the one after it."""
    cell = settings.cell

    def step(carry: Any, step_inputs: Any) -> tuple[Any, Any]:
        dstate, dreset = carry
        dy, (old, new, kept), valid, carried = step_inputs
        dnew = trees.add_output(dstate, trees.masked(valid, dy))
        dold, dz = cell.backward(params, old, new, kept, trees.masked(valid, dnew))
        if carried is not None:
            dreset = trees.add(dreset, trees.masked(~carried, dold))
            dold = trees.masked(carried, dold)
        return (trees.select(valid, dold, dnew), dreset), dz

    return lax.scan(
        step,
        (dstate, dreset),
        (dy, steps, valid, carried),
        reverse=not settings.reverse,
    )


def _backward(
    settings: Settings, residuals: Any, cotangents: Any
) -> tuple[Any, Starts, Inputs]:
    """The gradients of parameters, first states and inputs."""
    cell = settings.cell
    params, starts, inputs, saved = residuals
    dys, dfinal = cotangents
    recall = _recall(settings, params)
    reverse_steps = _reverse_steps(settings, params, starts.reset)

    def chunk(carry: Any, chunk_inputs: Any) -> tuple[Any, Any]:
        dstate, dreset, dparams = carry
        (dy, states, kept, inputs), entry = chunk_inputs
        saved = Saved(entry, states, kept)
        steps = old, new, kept = recall(starts.reset, saved, inputs)
        (dstate, dreset), dz = reverse_steps(
            steps, inputs.valid, inputs.carried, dy, dstate, dreset
        )
        x = trees.masked(inputs.valid, inputs.x)
        more, dx = cell.gradients(params, x, old, new, kept, dz)
        return (dstate, dreset, trees.add(dparams, more)), dx

    (dstate, dreset, dparams), dxs = scan_chunks(
        chunk,
        (
            dfinal,
            jax.tree.map(jnp.zeros_like, starts.reset),
            jax.tree.map(_accumulator, params),
        ),
        (dys, saved.states, saved.kept, inputs),
        saved.entries,
        _chunk_length(settings, params, inputs),
        reverse=not settings.reverse,
    )
    dstarts = Starts(dstate, dreset)
    return trees.cast_like(dparams, params), dstarts, Inputs(dxs, None, None)


def _unroll_automatic(
    settings: Settings, params: Any, starts: Starts, inputs: Inputs
) -> tuple[Array, Any]:
    ys, final, _ = _forward(settings, params, starts, inputs)
    return ys, final


_unroll_rule = jax.custom_vjp(_unroll_automatic, nondiff_argnums=(0,))


def _unroll_rule_forward(
    settings: Settings, params: Any, starts: Starts, inputs: Inputs
) -> tuple[tuple[Array, Any], Any]:
    ys, final, saved = _forward(settings, params, starts, inputs, save=True)
    return (ys, final), (params, starts, inputs, saved)


_unroll_rule.defvjp(_unroll_rule_forward, _backward)


@partial(jax.jit, static_argnums=0)
def _unroll(
    settings: Settings, params: Any, starts: Starts, inputs: Inputs
) -> tuple[Array, Any]:
    run = _unroll_automatic
    if settings.gradient == "manual":
        run = _unroll_rule
        params, starts, x = reverse_only((params, starts, inputs.x))
        inputs = inputs._replace(x=x)

    def out_specs() -> Any:
        x, *_ = jax.tree.leaves(inputs.x)
        batch = leading_spec(x, 1, -1)
        return leading_spec(x, 0, -1), jax.tree.map(lambda _: batch, starts.state)

    return on_mesh(partial(run, settings), (params, starts, inputs), out_specs)


# --- one step ---------------------------------------------------------------------


def _step_automatic(cell: Cell, params: Any, state: Any, x: Array) -> Any:
    new, _ = cell.step(params, state, cell.project(params, x))
    return new


_step_rule = jax.custom_vjp(_step_automatic, nondiff_argnums=(0,))


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
    run = _step_automatic
    if gradient == "manual":
        run = _step_rule
        params, state, x = reverse_only((params, state, x))

    def out_specs() -> Any:
        return jax.tree.map(lambda _: leading_spec(x, 0, -1), state)

    return on_mesh(partial(run, cell), (params, state, x), out_specs)


# --- trees of arrays --------------------------------------------------------------


def _within(lengths: Array, steps: int) -> Array:
    """The mask of valid steps, (T, *batch)."""
    times = jnp.arange(steps)  # an 8-bit type of lengths may not hold T
    times = times.reshape(steps, *(1,) * lengths.ndim)
    return times < lengths.astype(times.dtype)


def _accumulator(parameter: Array) -> Array:
    """Zeros to sum gradients in: 16-bit parameters accumulate in float32."""
    return jnp.zeros_like(parameter, dtype=accumulator_dtype(parameter.dtype))
