"""Which runner takes a cell's steps, and what value and gradient cost beside others."""

from collections.abc import Callable
from functools import partial
from html import escape
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from experiments.cell_page.charts import bars
from experiments.cell_page.section import Asked, Section, paragraph
from experiments.timing import interleaved, scanned, temporary_bytes
from lstm_jax.cell import Cell
from lstm_jax.cells import CELLS
from lstm_jax.engine import runner_of, unroll

ROUNDS = 15


def section(asked: Asked) -> Section:
    """The times of a layer, in rounds in which each has a turn."""
    cell, (steps, batch, inputs, units) = asked.cell, asked.shape
    gradient = "manual" if cell.derived else "automatic"
    params = cell.init(jax.random.key(0), inputs, units)
    choice = runner_of(cell, params, gradient=gradient)
    programs = {
        name: compiled(apply, params, asked.shape)
        for name, (apply, params) in _layers(cell, choice.runner, asked.shape).items()
    }
    times = interleaved({n: run for n, (run, _) in programs.items()}, (), ROUNDS)
    own, *_ = times
    found = {
        name: {
            "milliseconds": 1e3 * median(seconds),
            "ratio": median(t / o for t, o in zip(seconds, times[own], strict=True)),
            "temporary_mib": programs[name][1] / 2**20,
        }
        for name, seconds in times.items()
    }
    rows = [
        (name, f["milliseconds"], _said(f, name == own)) for name, f in found.items()
    ]
    words = f"T = {steps}, B = {batch}, D = {inputs}, H = {units}"
    how = (
        f"Value and gradient of one float32 layer, {words}: medians of {ROUNDS} "
        "rounds, their ratio to the cell's, and the memory that the compiler asks for "
        "beside arguments and results. Times say as much as the machine is quiet."
    )
    runner = (
        f"<p>Its steps are run by <b>{escape(choice.runner)}</b>: "
        f"{escape(choice.why)}.</p>"
    )
    body = paragraph(how, "quiet") + runner + bars(rows)
    record = {"runner": choice._asdict(), "shape": asked.shape, "costs": found}
    beside = found["our LSTM"]["ratio"] if "our LSTM" in found else 1.0
    mine = found[own]["milliseconds"]
    glance = f"{mine:.2g} ms; our LSTM takes {beside:.2f} × as long"
    return Section(glance, body, record)


def _layers(
    cell: Cell, runner: str, shape: tuple[int, int, int, int]
) -> dict[str, tuple[Callable[..., Array], Any]]:
    """The layers to time, the cell's own first: (params, xs) -> ys, and params."""
    _, batch, *sizes = shape

    def ours(cell: Cell, gradient: str) -> tuple[Callable[..., Array], Any]:
        def apply(params: Any, xs: Array) -> Array:
            return unroll(cell, params, xs, gradient=gradient)[0]

        return apply, cell.init(jax.random.key(0), *sizes)

    layers = {}
    if cell.derived:
        layers[f"{cell.name}, {runner}"] = ours(cell, "manual")
        if runner != "scan":
            layers[f"{cell.name}, scan"] = ours(scanned(cell), "manual")
    layers[f"{cell.name}, automatic gradients"] = ours(cell, "automatic")
    if cell != CELLS["lstm"]:
        layers["our LSTM"] = ours(CELLS["lstm"], "manual")
    layers["flax's LSTM"] = _flax_lstm(batch, *sizes)
    return layers


def _flax_lstm(
    batch: int, input_size: int, hidden_size: int
) -> tuple[Callable[..., Array], Any]:
    cell = nnx.OptimizedLSTMCell(input_size, hidden_size, rngs=nnx.Rngs(0))
    layer = nnx.RNN(cell, time_major=True, rngs=nnx.Rngs(0))
    graph, params, rest = nnx.split(layer, nnx.Param, ...)
    zeros = jnp.zeros((batch, hidden_size))

    def apply(params: Any, xs: Array) -> Array:
        return nnx.merge(graph, params, rest)(xs, initial_carry=(zeros, zeros))

    return apply, params


def compiled(
    apply: Callable[..., Array], params: Any, shape: tuple[int, int, int, int]
) -> tuple[Callable[[], Any], int]:
    """What runs value and gradient of ``½ Σ ys²``, and the bytes that it needs."""
    steps, batch, inputs, _ = shape

    def loss(params: Any, xs: Array) -> Array:
        return jnp.sum(apply(params, xs) ** 2) / 2

    arguments = params, jax.random.normal(jax.random.key(1), (steps, batch, inputs))
    program = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(*arguments).compile()
    return partial(program, *arguments), temporary_bytes(program)


def _said(found: dict[str, float], own: bool) -> str:
    ratio = "" if own else f" · {found['ratio']:.2f} ×"
    memory = f"{found['temporary_mib']:.2g} MiB"
    return f"{found['milliseconds']:.3g} ms{ratio} · {memory}"
