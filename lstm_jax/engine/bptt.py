"""Backpropagation through time: the steps of a whole sequence, and their reverse.

Forward, the steps run one after the other. Backward, each step's ``cell.backward`` runs
in the opposite order; what it leaves behind, the gradients of the pre-activations,
gives the gradients of weights and inputs as products over many steps at once, outside
of what is sequential. *How* the steps of a stretch of time are run is a runner's matter
(`runners.py`).

Both directions go through time in chunks (`chunks.py`), which bounds the memory of
everything that is not kept. The reverse needs, of every step, the state before and
after it and whatever the cell keeps. How it gets them is the memory policy:

``"store"``
    everything is kept from the forward;
``"states"``
    the states are kept, the rest is computed again for all steps of a chunk at once;
``"recompute"``
    one state a chunk is kept, and the chunk's forward runs again.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from lstm_jax.engine import trees
from lstm_jax.engine.chunks import chunk_length, scan_chunks
from lstm_jax.engine.custom_vjp import CustomVJP
from lstm_jax.engine.meshes import leading_spec, on_mesh
from lstm_jax.engine.runners import choose_runner, with_memory
from lstm_jax.engine.sequence import Inputs, Settings, Starts, Steps
from lstm_jax.identities import accumulator_dtype


@partial(jax.jit, static_argnums=0)
def run_sequence(
    settings: Settings, params: Any, starts: Starts, inputs: Inputs
) -> tuple[Any, Any]:
    """All outputs (T, *batch, H) and the last state, differentiable as `settings` say.

    With `Settings.every_state` it is all states, (T, *batch, ...), here and below.
    The arguments are checked by `lstm_jax.unroll`; T is at least 1.
    """
    run = _manual if settings.gradient == "manual" else _automatic
    settings = with_memory(settings, params, starts, inputs)

    def out_specs() -> Any:
        x, *_ = jax.tree.leaves(inputs.x)
        batch, steps = leading_spec(x, 1, -1), leading_spec(x, 0, -1)
        state = starts.state
        return (
            jax.tree.map(lambda _: steps, settings.returned(state)),
            jax.tree.map(lambda _: batch, state),
        )

    return on_mesh(partial(run, settings), (params, starts, inputs), out_specs)


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


def _forward(
    settings: Settings, params: Any, starts: Starts, inputs: Inputs, save: bool = False
) -> tuple[Any, Any, Saved]:
    """Outputs, last state, and, where `save` is true, what the reverse needs."""
    runner, _ = choose_runner(settings, params)
    weights = runner.lay_out(params)

    def chunk(entry: Any, chunk_inputs: Any) -> tuple[Any, Any]:
        inputs, _ = chunk_inputs
        final, (new, kept) = runner.steps(
            settings, weights, Starts(entry, starts.reset), inputs.without_padding()
        )
        saved = Saved(
            entries=trees.lead(entry) if save else None,
            states=new if save and settings.memory != "recompute" else None,
            kept=kept if save and settings.memory == "store" else None,
        )
        # The outputs are the first field of the states: where those are kept, once.
        ys = settings.returned(new) if saved.states is None else None
        return final, (ys, saved)

    final, (ys, saved) = scan_chunks(
        settings.checkpoint(chunk, "recompute"),
        starts.state,
        inputs,
        None,
        _chunk_length(settings, params, inputs, save=save),
        reverse=settings.reverse,
    )
    ys = ys if saved.states is None else settings.returned(saved.states)
    return trees.masked(inputs.valid, ys), final, saved


def _backward(
    settings: Settings, residuals: Any, cotangents: Any
) -> tuple[Any, Starts, Inputs]:
    """The gradients of parameters, first states and inputs."""
    cell = settings.cell
    params, starts, inputs, saved = residuals
    dys, dfinal = cotangents
    runner, _ = choose_runner(settings, params)
    weights = runner.lay_out(params)

    def chunk(carry: Any, chunk_inputs: Any) -> tuple[Any, Any]:
        (dstate, dreset), dparams = carry
        (dys, states, kept, inputs), entry = chunk_inputs
        begin, inputs = Starts(entry, starts.reset), inputs.without_padding()
        steps = Steps(states, kept)
        if settings.memory == "recompute":
            _, steps = runner.steps(settings, weights, begin, inputs)
        old = steps.old(begin, inputs.carried, reverse=settings.reverse)
        if settings.memory == "states":
            steps = steps._replace(kept=_kept(settings, params, old, inputs))
        dbegin, dz = runner.reverse_steps(
            settings, weights, begin, inputs, steps, dstate, dys
        )
        more, dx = cell.gradients(params, inputs.x, old, *steps, dz)
        dreset = trees.add(dreset, dbegin.reset)
        return (Starts(dbegin.state, dreset), trees.add(dparams, more)), dx

    (dstarts, dparams), dxs = scan_chunks(
        chunk,
        (
            Starts(dfinal, jax.tree.map(jnp.zeros_like, starts.reset)),
            jax.tree.map(_accumulator, params),
        ),
        (dys, saved.states, saved.kept, inputs),
        saved.entries,
        _chunk_length(settings, params, inputs, save=True),
        reverse=not settings.reverse,
    )
    return trees.cast_like(dparams, params), dstarts, Inputs(dxs, None, None)


def _kept(settings: Settings, params: Any, old: Any, inputs: Inputs) -> Any:
    """What the cell keeps of all steps, again, from the states they started from."""
    u = settings.cell.project(params, inputs.x)
    _, kept = jax.vmap(partial(settings.cell.step, params))(old, u)
    return kept


def _chunk_length(
    settings: Settings, params: Any, inputs: Inputs, *, save: bool
) -> int:
    """How many steps a chunk has; forward and reverse must agree on it."""
    runner, _ = choose_runner(settings, params)
    if runner.at_once and save and settings.memory == "store":
        return inputs.steps
    x = jax.tree.map(lambda a: a[0], inputs.x)
    u = jax.eval_shape(settings.cell.project, params, x)
    step_bytes = sum(
        a.dtype.itemsize * math.prod(n for n in a.shape if isinstance(n, int))
        for a in jax.tree.leaves(u)  # sizes that `jax.export` leaves open count as 1
    )
    memory = settings.memory
    return chunk_length(inputs.steps, step_bytes, memory, runner.chunk_bytes)


def _accumulator(parameter: Array) -> Array:
    """Zeros to sum gradients in: 16-bit parameters accumulate in float32."""
    return jnp.zeros_like(parameter, dtype=accumulator_dtype(parameter.dtype))


def _automatic(
    settings: Settings, params: Any, starts: Starts, inputs: Inputs
) -> tuple[Any, Any]:
    ys, final, _ = _forward(settings, params, starts, inputs)
    return ys, final


_manual = CustomVJP(_automatic)


def _manual_forward(
    settings: Settings, params: Any, starts: Starts, inputs: Inputs
) -> tuple[tuple[Any, Any], Any]:
    ys, final, saved = _forward(settings, params, starts, inputs, save=True)
    return (ys, final), (params, starts, inputs, saved)


_manual.defvjp(_manual_forward, _backward)
