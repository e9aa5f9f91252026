"""`unroll`: a cell over sequences, the door of the engine.

Arguments are checked here and become the types of `sequence.py`; what runs then is
`bptt.run_sequence`.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lstm_jax.cell import Cell
from lstm_jax.engine import checks, trees
from lstm_jax.engine.bptt import run_sequence
from lstm_jax.engine.sequence import GRADIENTS, MEMORIES, Inputs, Settings, Starts
from lstm_jax.engine.zoneout import Zoneout, check_zoneout, draw_masks, zoned


def unroll(
    cell: Cell | str,
    params: Any,
    xs: ArrayLike,
    state: Any = None,
    *,
    gradient: str = "manual",
    lengths: ArrayLike | Sequence[int] | None = None,
    resets: ArrayLike | None = None,
    reset_state: Any = None,
    reverse: bool = False,
    memory: str | None = None,
    zoneout: Zoneout | None = None,
    mask: ArrayLike | None = None,
    masked_outputs: str = "zero",
    states: bool = False,
    time_axis: int = 0,
) -> tuple[Any, Any]:
    """Runs a cell over sequences: ``state_t = step(state_{t-1}, x_t)``.

    Args:
        cell: a cell, or a name of `lstm_jax.CELLS`.
        params: its parameters, as `cell.init` makes them.
        xs: inputs, (T, *batch, D), time first, in the dtype of the parameters.
            `batch` is usually one axis, (T, B, D); T may be 0.
        state: the initial state, with leading axes `batch`; None for
            `cell.initial_state`. Differentiable.
        gradient: "manual" differentiates in reverse mode by the cell's hand-derived
            backward; "automatic" leaves the same forward to JAX. Forward mode, and
            derivatives of derivatives, go through either.
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
        memory: what the manual gradient keeps of the forward: "store" (most),
            "states" or "recompute" (leanest); see `lstm_jax.engine.bptt`. None for
            the one that is the fastest as a rule: "store", but for many sequences of
            small layers on CPUs ("recompute"), and scans on GPUs ("states").
            Automatic gradients apply `jax.checkpoint` to the same end, and None is
            "store".
        zoneout: units that keep their old state at random, or in expectation; see
            `lstm_jax.Zoneout`. None for none.
        mask: booleans (T, *batch), true at valid steps, with holes anywhere; the
            others are treated as those beyond `lengths`. None where all are valid.
        masked_outputs: what steps that are not valid put out: "zero", or "last", the
            output of the valid step that ran before, or of the initial state.
        states: returns the states after all steps in the place of the outputs, which
            are their first field. The steps then run as a scan, not compiled.
        time_axis: where `xs`, `resets`, `mask` and what is returned of all steps have
            time: 1 for (B, T, D).

    Returns:
        The outputs (T, *batch, H), or the states of all steps, with the fields of
        `state`, (T, *batch, ...); and the final state.

    Raises:
        TypeError: a dtype that is not expected, or a structure of parameters or state
            that is not the cell's.
        ValueError: a shape, a length or a name that is not expected, or manual
            gradients of a cell that has no backward.

    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> params = lj.LSTM.init(jax.random.key(0), 3, 4)  # D = 3, H = 4
        >>> xs = jnp.ones((5, 2, 3))  # T = 5, B = 2
        >>> ys, final = lj.unroll(lj.LSTM, params, xs, lengths=[5, 1])
        >>> ys.shape, final.c.shape
        ((5, 2, 4), (2, 4))
        >>> bool(jnp.all(final.h[1] == ys[0, 1]))  # the state at its length
        True
    """
    checks.check_choice("gradient", gradient, GRADIENTS)
    checks.check_choice("memory", memory, (None, *MEMORIES))
    cell = checks.as_cell(cell, gradient)
    checks.check_params(cell, params)
    checks.check_choice("masked_outputs", masked_outputs, ("zero", "last"))
    xs = checks.check_inputs(cell, params, xs, "T, *batch", 2)
    checks.check_time_axis(time_axis, xs)
    xs = trees.move_time(xs, time_axis, 0)
    batch_shape = xs.shape[1:-1]
    state = checks.check_state(cell, params, state, batch_shape)
    lengths = checks.check_lengths(lengths, xs.shape[0], batch_shape)
    resets = checks.check_booleans("resets", resets, xs.shape[:-1], time_axis)
    mask = checks.check_booleans("mask", mask, xs.shape[:-1], time_axis)
    if reset_state is None:
        reset_state = state
    elif resets is None:
        raise ValueError("reset_state is given, but no resets")
    else:
        reset_state = checks.check_state(cell, params, reset_state, batch_shape)
    if zoneout is not None:
        zoneout = check_zoneout(zoneout, state)

    settings = Settings(cell, gradient, reverse, memory, states)
    if xs.shape[0] == 0:
        none = jax.tree.map(lambda a: a[None][:0], settings.returned(state))
        return trees.move_time(none, 0, time_axis), state
    valid = mask
    if lengths is not None:
        within = _within(lengths, xs.shape[0])
        valid = within if mask is None else within & mask
    if jax.config.jax_debug_nans:  # ty: ignore[missing-attribute]
        xs = trees.masked(valid, xs)  # what is kept of the forward is looked at too
    x = xs
    if zoneout is not None:
        x = xs, draw_masks(zoneout, xs.shape[0], state)
        rates = tuple(sorted(zoneout.rates.items()))
        settings = settings._replace(cell=zoned(cell, rates))
    inputs = Inputs(
        x=x,
        valid=valid,
        carried=None if resets is None else ~resets,
    )
    starts = Starts(state, None if resets is None else reset_state)
    ys, final = run_sequence(settings, params, starts, inputs)
    if masked_outputs == "last" and valid is not None:
        ys = trees.hold(valid, ys, settings.returned(state), reverse=reverse)
    return trees.move_time(ys, 0, time_axis), final


def _within(lengths: Array, steps: int) -> Array:
    """The mask of valid steps, (T, *batch)."""
    times = jnp.arange(steps)  # an 8-bit type of lengths may not hold T
    times = times.reshape(steps, *(1,) * lengths.ndim)
    return times < lengths.astype(times.dtype)[None]
