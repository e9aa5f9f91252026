"""Every gradient five ways: manual, automatic, by the graph, numerical, forward.

For each cell: the table of all named quantities, the error against the length of the
sequence, the error of finite differences against their step, and what the manual
gradient costs beside the automatic one in time and memory.
"""

import dataclasses
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.checks import at_least, check_seed
from experiments.timing import interleaved, temporary_bytes
from experiments.training import environment
from lstm_jax import graph, rtrl
from lstm_jax.cell import Cell
from lstm_jax.engine import unroll
from lstm_jax.gradcheck import Report
from lstm_jax.gradcheck.oracles import once

EXPONENTS = np.arange(-12, 0.01, 0.5)


@dataclass(frozen=True)
class ComparisonConfig:
    """What a comparison follows from.

    Attributes:
        cells: names, ``module:NAME`` or ``file.py:NAME``; none for all.
        lengths: the lengths of sequences at which errors are compared.
        cost_shape: T, B, D and H of the comparison of time and memory.
        repeats: runs of which the fastest counts.
        seed: of parameters, inputs and J.
        out: each cell gets a folder of its name in it.
    """

    cells: tuple[str, ...] = ()
    lengths: tuple[int, ...] = (1, 2, 5, 10, 20, 50, 100)
    cost_shape: tuple[int, int, int, int] = (100, 16, 64, 64)
    repeats: int = 20
    seed: int = 0
    out: Path = Path("runs/compare_gradients")


def compare(cell: Cell, report: Report, config: ComparisonConfig) -> dict[str, Any]:
    """All that is measured of a cell, ready for JSON."""
    with jax.enable_x64(True):
        lengths = errors_at_lengths(cell, config)
        steps = differences_at_steps(cell, config.seed)
    return {
        "cell": cell.name,
        "config": {**dataclasses.asdict(config), "out": str(config.out)},
        "ok": report.ok,
        "quantities": [row._asdict() for row in report.rows],
        "remainder_order": report.orders["one step"],
        "worst": {
            oracle: report.worst_error(oracle)
            for oracle in ("automatic", "graph", "numerical")
        },
        "lengths": {"steps": list(config.lengths), "errors": lengths},
        "differences": {"step": (10.0**EXPONENTS).tolist(), **steps},
        "cost": cost(cell, config),
        "environment": environment(),
    }


def loss(
    cell: Cell,
    gradient: str,
    weights: Array,
    params: Any,
    xs: Array,
    state: Any,
    lengths: Array | None = None,
) -> Array:
    """J: a random linear function of all outputs."""
    ys, _ = unroll(cell, params, xs, state, gradient=gradient, lengths=lengths)
    return jnp.sum(weights * ys)


def problem(
    cell: Cell, shape: tuple[int, int, int, int], dtype: Any, seed: int
) -> tuple[Array, tuple[Any, Array, Any]]:
    """The weights of J, and (params, xs, state)."""
    steps, batch, input_size, hidden_size = shape
    at_least(1, steps=steps, batch=batch)
    check_seed(seed)
    keys = jax.random.split(jax.random.key(seed), 3)
    params = cell.init(keys[0], input_size, hidden_size, dtype=dtype)
    xs = jax.random.normal(keys[1], (steps, batch, input_size), dtype)
    state = cell.initial_state(params, (batch,))
    weights = jax.random.normal(keys[2], (steps, *state[0].shape), dtype)
    return weights, (params, xs, state)


def errors_at_lengths(cell: Cell, config: ComparisonConfig) -> list[dict[str, float]]:
    """The largest relative error of the manual gradient against three others.

    Relative to the largest number that was added up to the gradient: what is left of it
    may be 0 but for rounding, as the gradient of the sLSTM's stabilizer is. The one
    that is carried forward is that of the parameters.
    """
    steps = max(config.lengths)
    weights, args = problem(cell, (steps, 2, 3, 4), jnp.float64, config.seed)
    manual = partial(loss, cell, "manual", weights)
    automatic = partial(loss, cell, "automatic", weights)

    @once
    def ask(args: Any, lengths: Array) -> tuple[Any, ...]:
        def at(steps: Array) -> tuple[Any, ...]:
            every, lengths = (0, 1, 2), jnp.broadcast_to(steps, (2,))
            return (
                jax.grad(manual, every)(*args, lengths),
                jax.grad(automatic, every)(*args, lengths),
                graph.grad(automatic, every)(*args, lengths),
                graph.added_up(lambda args: automatic(*args, lengths))(args),
                _carried_forward(cell, weights, steps, *args),
            )

        return jax.vmap(at)(lengths)

    found = jax.tree.map(np.asarray, ask(args, np.asarray(config.lengths)))
    errors = []
    for index in range(len(config.lengths)):
        by_hand, by_jax, by_graph, terms, forward = jax.tree.map(
            lambda a, k=index: a[k], found
        )
        errors.append(
            {
                "automatic": _largest_error(by_hand, by_jax, terms),
                "graph": _largest_error(by_hand, by_graph, terms),
                "forward": _largest_error(by_hand[0], forward, terms[0]),
            }
        )
    return errors


def _carried_forward(
    cell: Cell, weights: Array, steps: Array, params: Any, xs: Array, state: Any
) -> Any:
    """The gradient of the parameters by real-time recurrent learning."""
    within = (jnp.arange(len(weights)) < steps)[:, None, None]
    nothing = jax.tree.map(lambda s: jnp.zeros((len(weights), *s.shape)), state)
    dstates = type(state)(jnp.where(within, weights, 0), *nothing[1:])
    begun = rtrl.begin(params, lambda _: state)
    return rtrl.learn(rtrl.transition_of(cell), params, begun, xs, dstates)[0]


def differences_at_steps(cell: Cell, seed: int) -> dict[str, list[float]]:
    """The relative error of finite differences, against their step.

    The derivative of J along four random directions of all parameters, the input and
    the state, by one-sided and by central differences; the manual gradient is what
    they are compared with. The error is that of the four together.
    """
    weights, args = problem(cell, (5, 2, 3, 4), jnp.float64, seed)
    manual = partial(loss, cell, "manual", weights)
    automatic = partial(loss, cell, "automatic", weights)
    rng = np.random.default_rng(seed)
    directions = jax.tree.map(
        lambda a: jnp.asarray(rng.normal(size=(4, *a.shape))), args
    )
    steps = jnp.asarray(10.0**EXPONENTS)

    @once
    def ask(args: Any, directions: Any, steps: Array) -> tuple[Array, ...]:
        def at(direction: Any, h: Array) -> Array:
            return automatic(*jax.tree.map(lambda a, v: a + h * v, args, direction))

        def along(direction: Any) -> Array:
            scales = jnp.concatenate([steps, -steps, jnp.zeros(1)])
            return jax.vmap(partial(at, direction))(scales)

        gradient = jax.grad(manual, (0, 1, 2))(*args)
        products = jax.tree.map(
            lambda g, v: jnp.sum(g * v, axis=tuple(range(1, v.ndim))),
            gradient,
            directions,
        )
        return sum(jax.tree.leaves(products)), jax.vmap(along)(directions)

    exact, values = (np.asarray(a) for a in ask(args, directions, steps))
    ahead, behind, center = np.split(values, [len(steps), 2 * len(steps)], axis=1)
    h = np.asarray(steps)
    found = {"one-sided": (ahead - center) / h, "central": (ahead - behind) / (2 * h)}
    scale = np.linalg.norm(exact)
    return {
        name: (np.linalg.norm(slopes - exact[:, None], axis=0) / scale).tolist()
        for name, slopes in found.items()
    }


def cost(cell: Cell, config: ComparisonConfig) -> dict[str, dict[str, float]]:
    """Milliseconds and temporary MiB of value and gradient, in float32."""
    weights, args = problem(cell, config.cost_shape, jnp.float32, config.seed)
    programs = {}
    for gradient in ("manual", "automatic"):
        of_args = jax.value_and_grad(partial(loss, cell, gradient, weights), (0, 1, 2))
        programs[gradient] = jax.jit(of_args).lower(*args).compile()
    times = interleaved(programs, args, config.repeats)
    return {
        gradient: {
            "milliseconds": 1e3 * min(times[gradient]),
            "temporary_mib": temporary_bytes(program) / 2**20,
        }
        for gradient, program in programs.items()
    }


def _largest_error(found: Any, expected: Any, terms: Any) -> float:
    """The largest deviation, relative to the gradient and to the terms of its sum."""

    def error(f: np.ndarray, e: np.ndarray, t: np.ndarray) -> float:
        scale = max(np.max(np.abs(e)), np.max(t))
        return float(np.max(np.abs(f - e)) / scale) if scale else 0.0

    return max(jax.tree.leaves(jax.tree.map(error, found, expected, terms)))
