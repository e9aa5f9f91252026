"""The gradient carried forward, at every step and without the past.

Real-time recurrent learning (Williams & Zipser, 1989; `lstm_jax.rtrl`) beside
backpropagation through time. A stream has no end, so whoever learns from it by going
back goes back so many steps and no further: what is left out is the error that is
measured here. Carried forward, the gradient is whole after every step, from as much
memory at the last as at the first; the price is a column for every parameter.
"""

import dataclasses
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax, tree
from jax.flatten_util import ravel_pytree
from rich.console import Console

from experiments import plots
from experiments.cell_source import cell_source
from experiments.checks import at_least
from experiments.tables import markdown
from experiments.timing import interleaved, processor_seconds, temporary_bytes
from experiments.training import Options
from lstm_jax import rtrl
from lstm_jax.cells import CELLS, find_cell
from lstm_jax.engine import unroll
from lstm_jax.files import write_whole


@dataclass(frozen=True)
class ForwardConfig:
    """What the comparison follows from.

    Attributes:
        cell: a name of `lstm_jax.CELLS`, ``module:NAME`` or ``file.py:NAME``.
        stream: the steps of the stream.
        windows: how many steps back a truncated gradient goes.
        input_size: D.
        hidden_size: H of the stream, and where T grows.
        steps: T where H grows.
        lengths: T as it grows.
        sizes: H as it grows.
        repeats: runs of which the fastest counts.
        seeds: streams, with parameters and inputs of their own.
    """

    cell: str = "lstm"
    stream: int = 60
    windows: tuple[int, ...] = (1, 2, 5, 10, 20, 40)
    input_size: int = 4
    hidden_size: int = 8
    steps: int = 100
    lengths: tuple[int, ...] = (25, 100, 400, 1600)
    sizes: tuple[int, ...] = (2, 4, 8, 16)
    repeats: int = 5
    seeds: int = 3


PRESETS = MappingProxyType(
    {
        "default": ForwardConfig(),
        "quick": ForwardConfig(
            stream=12, windows=(1, 4), lengths=(5, 10), sizes=(2, 3), repeats=1
        ),
    }
)


WAYS = ("back", "forward")
"""Backpropagation through time, and real-time recurrent learning."""


def run_forward(
    config: ForwardConfig, folder: Path, options: Options, console: Console
) -> None:
    """Measures, unless that has been done, and writes result.json and results.md."""
    at_least(1, repeats=config.repeats, seeds=config.seeds, stream=config.stream)
    at_least(1, windows=min(config.windows), input_size=config.input_size)
    at_least(1, sizes=min(config.sizes), lengths=min(config.lengths))
    at_least(1, hidden_size=config.hidden_size, steps=config.steps)
    written = json.loads(json.dumps(dataclasses.asdict(config)))
    written |= cell_source(config.cell)
    known = folder / "result.json"
    if options.resume and known.is_file():
        if json.loads(known.read_text("utf-8"))["config"] == written:
            return
        console.print(f"{folder} is of another config, and measured anew")
    result = {"config": written, **measure(config)}
    write_whole(known, json.dumps(result, indent=1).encode())
    write_whole(folder / "results.md", tables(result).encode())


def draw_forward(config: ForwardConfig, folder: Path) -> None:
    """The picture, from result.json."""
    del config
    result = json.loads((folder / "result.json").read_text("utf-8"))
    plots.forward_gradients(folder / "forward_gradients.png", result)


def measure(config: ForwardConfig) -> dict[str, Any]:
    """All that is measured, ready for JSON."""
    with jax.enable_x64(True):
        errors = [stream_errors(config, seed) for seed in range(config.seeds)]
    means = np.mean(errors, axis=0)
    along = [costs(config, steps, config.hidden_size) for steps in config.lengths]
    across = [costs(config, config.steps, size) for size in config.sizes]
    return {
        "windows": dict(
            zip(map(str, config.windows), means[:-1].tolist(), strict=True)
        ),
        "carried": float(means[-1]),
        "lengths": along,
        "sizes": across,
    }


def stream_errors(config: ForwardConfig, seed: int) -> list[float]:
    """The error of ∂J_t/∂θ, going back through each window, and carried forward.

    It is ‖found - whole‖ / ‖whole‖, the mean over the steps t of the stream. The whole
    gradient is the sum over τ of ∂J_t/∂θ_τ, where θ_τ are the parameters of step τ
    alone; that of a window of K steps has the last K terms.
    """
    params, xs, state, dys = problem(config, config.stream, config.hidden_size, seed)
    transition = rtrl.transition_of(find_cell(config.cell, CELLS))

    def losses(theta: Any, of_steps: Any) -> Array:
        def step(state: Any, inputs: Any) -> tuple[Any, Array]:
            x, dy, more = inputs
            own = tree.map(jnp.add, theta, more)
            state = transition(own, state, x)
            return state, jnp.vdot(dy, state[0])

        return lax.scan(step, state, (xs, dys, of_steps))[1]

    def forward(carried: rtrl.Carried, inputs: Any) -> tuple[rtrl.Carried, Array]:
        x, dy = inputs
        carried = rtrl.advance(transition, params, carried, x)
        dstate = tree.map(jnp.zeros_like, state)
        term = rtrl.gradient(params, carried, type(dstate)(dy, *dstate[1:]))
        return carried, ravel_pytree(term)[0]

    nothing = tree.map(lambda p: jnp.zeros((len(xs), *p.shape)), params)
    apart = jax.jit(jax.jacrev(losses, 1))(params, nothing)
    terms = np.concatenate(
        [np.asarray(a).reshape(len(xs), len(xs), -1) for a in tree.leaves(apart)], -1
    )
    _, carried = jax.jit(partial(lax.scan, forward))(
        rtrl.begin(params, lambda _: state), (xs, dys)
    )
    whole = terms.sum(axis=1)
    back = np.arange(len(xs))[:, None] - np.arange(len(xs))
    found = [
        np.einsum("tk,tkp->tp", (back < window).astype(float), terms)
        for window in config.windows
    ]
    size = np.linalg.norm(whole, axis=1)
    return [
        float(np.mean(np.linalg.norm(f - whole, axis=1) / size))
        for f in (*found, np.asarray(carried))
    ]


def costs(config: ForwardConfig, steps: int, hidden_size: int) -> dict[str, Any]:
    """Temporary bytes, and processor seconds, of the gradient of a sequence."""
    cell = find_cell(config.cell, CELLS)
    params, xs, state, dys = problem(config, steps, hidden_size, 0)

    def back(params: Any, xs: Array, dys: Array) -> Any:
        return jax.grad(lambda p: jnp.vdot(dys, unroll(cell, p, xs, state)[0]))(params)

    def forward(params: Any, xs: Array, dys: Array) -> Any:
        nothing = tree.map(lambda s: jnp.zeros((steps, *s.shape), s.dtype), state)
        dstates = type(state)(dys, *nothing[1:])
        begun = rtrl.begin(params, lambda _: state)
        return rtrl.learn(rtrl.transition_of(cell), params, begun, xs, dstates)[0]

    arguments = params, xs, dys
    programs = {
        name: jax.jit(run).lower(*arguments).compile()
        for name, run in (("back", back), ("forward", forward))
    }
    times = interleaved(programs, arguments, config.repeats, processor_seconds)
    return {
        "steps": steps,
        "hidden_size": hidden_size,
        "parameters": sum(p.size for p in tree.leaves(params)),
        "bytes": {name: temporary_bytes(p) for name, p in programs.items()},
        "seconds": {name: min(times[name]) for name in programs},
    }


def problem(
    config: ForwardConfig, steps: int, hidden_size: int, seed: int
) -> tuple[Any, Array, Any, Array]:
    """Parameters, xs (T, D), the first state, and the gradients of the outputs."""
    keys = jax.random.split(jax.random.key(seed), 3)
    cell = find_cell(config.cell, CELLS)
    dtype = jnp.zeros(()).dtype
    params = cell.init(keys[0], config.input_size, hidden_size, dtype=dtype)
    xs = jax.random.normal(keys[1], (steps, config.input_size), dtype)
    state = cell.initial_state(params, ())
    return (
        params,
        xs,
        state,
        jax.random.normal(keys[2], (steps, *state[0].shape), dtype),
    )


def tables(result: dict[str, Any]) -> str:
    """What the gradient of a window lacks; memory and time as T and H grow."""
    errors = {f"{window} steps back": e for window, e in result["windows"].items()}
    errors["carried forward"] = result["carried"]
    first = markdown(
        ["gradient of each step", "relative error"],
        [[name, f"{error:.1e}"] for name, error in errors.items()],
    )
    head = ["T", "H", "parameters"]
    head += [f"{way}, {unit}" for unit in ("KiB", "µs a step") for way in WAYS]
    rows = [_cost_row(c) for c in (*result["lengths"], *result["sizes"])]
    return f"{first}\n{markdown(head, rows)}"


def _cost_row(cost: dict[str, Any]) -> list[str]:
    memory = [f"{cost['bytes'][way] / 2**10:,.0f}" for way in WAYS]
    each = [f"{1e6 * cost['seconds'][way] / cost['steps']:,.1f}" for way in WAYS]
    numbers = (cost[name] for name in ("steps", "hidden_size", "parameters"))
    return [*(f"{number:,}" for number in numbers), *memory, *each]
