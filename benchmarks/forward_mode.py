"""Forward mode through hand-written reverses: `python -m benchmarks.forward_mode`.

Each transformation of each cell with `gradient="manual"` beside `"automatic"`: how far
the results are apart in float64, relative to the largest number among them, and how
long they take in float32, in interleaved rounds. Prints two tables in Markdown.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax import Array, tree

import lstm_jax as lj
from benchmarks.command import told
from experiments.checks import at_least
from experiments.tasks import find_cells
from experiments.timing import interleaved

GRADIENTS = ("manual", "automatic")

Loss = Callable[[Any, Array], Array]
"""J of the parameters and the inputs."""


def jvp(loss: Loss, at: Any, along: Any) -> Any:
    """J and its derivative along a direction of all arguments."""
    return jax.jvp(loss, at, along)


def linearize(loss: Loss, at: Any, along: Any) -> Any:
    """The same derivative, linearized first."""
    return jax.linearize(loss, *at)[1](*along)


def vmap_of_jvp(loss: Loss, at: Any, along: Any) -> Any:
    """Derivatives along two directions at once."""
    two = tree.map(lambda v: jnp.stack([v, -2 * v]), along)
    return jax.vmap(lambda v: jax.jvp(loss, at, v)[1])(two)


def jacfwd(loss: Loss, at: Any, along: Any) -> Any:
    """The gradient of one input, x of the first step and sequence, carried forward."""
    del along
    params, xs = at
    return jax.jacfwd(lambda x: loss(params, xs.at[0, 0].set(x)))(xs[0, 0])


def hessian(loss: Loss, at: Any, along: Any) -> Any:
    """The Hessian of the same input: forward over reverse."""
    del along
    params, xs = at
    return jax.hessian(lambda x: loss(params, xs.at[0, 0].set(x)))(xs[0, 0])


def hessian_product(loss: Loss, at: Any, along: Any) -> Any:
    """The Hessian of all arguments times a direction: `jvp` of `grad`."""
    return jax.jvp(jax.grad(loss, (0, 1)), at, along)[1]


def grad_of_jvp(loss: Loss, at: Any, along: Any) -> Any:
    """The same product, reverse over forward."""
    return jax.grad(lambda *at: jax.jvp(loss, at, along)[1], (0, 1))(*at)


def jvp_of_jvp(loss: Loss, at: Any, along: Any) -> Any:
    """The second derivative along a direction, forward over forward."""
    once = lambda *at: jax.jvp(loss, at, along)[1]  # noqa: E731
    return jax.jvp(once, at, along)[1]


TRANSFORMATIONS = {
    "`jvp`": jvp,
    "`linearize`": linearize,
    "`vmap` of `jvp`": vmap_of_jvp,
    "`jacfwd`": jacfwd,
    "`hessian`": hessian,
    "`jvp` of `grad`": hessian_product,
    "`grad` of `jvp`": grad_of_jvp,
    "`jvp` of `jvp`": jvp_of_jvp,
}
TIMED = ("`jvp`", "`jvp` of `grad`", "`jacfwd`")


@dataclass(frozen=True)
class Config:
    """What is compared.

    Attributes:
        cells: names, or your own as module:NAME or file.py:NAME; none for all.
        errors: whether to print the table of errors.
        times: whether to print the table of times.
        shape: T, B, D and H of what is timed.
        rounds: how often each program runs.
    """

    cells: tuple[str, ...] = ()
    errors: bool = True
    times: bool = True
    shape: tuple[int, int, int, int] = (100, 16, 64, 64)
    rounds: int = 15


def main(config: Config) -> None:
    """Prints a row for each cell.

    Raises:
        ValueError: a cell is not known, or a number is out of range.
    """
    at_least(1, rounds=config.rounds, sizes=min(config.shape))
    cells = find_cells(config.cells or lj.CELLS, lj.CELLS)
    if config.errors:
        print_head("", TRANSFORMATIONS)
        for cell in cells:
            print_row(
                cell.name, [f"{e:.0e}" if e else "0" for e in errors(cell).values()]
            )
        print()
    if config.times:
        print_head("", TIMED)
        for cell in cells:
            found = ratios(cell, config)
            print_row(cell.name, [spread(found[name]) for name in TIMED])


def errors(cell: lj.Cell) -> dict[str, float]:
    """How far manual is from automatic, in float64, for each transformation."""
    with jax.enable_x64(True):
        at, along, weights = problem(cell, (4, 2, 3, 4), jnp.float64)

        @partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
        def ask(at: Any, along: Any) -> Any:
            return {
                name: [
                    transformed(partial(loss, cell, gradient, weights), at, along)
                    for gradient in GRADIENTS
                ]
                for name, transformed in TRANSFORMATIONS.items()
            }

        return {name: distance(*pair) for name, pair in ask(at, along).items()}


def ratios(cell: lj.Cell, config: Config) -> dict[str, list[float]]:
    """The time of manual over that of automatic, in float32, of each round."""
    at, along, weights = problem(cell, config.shape, jnp.float32)
    found = {}
    for name in TIMED:
        programs = {}
        for gradient in GRADIENTS:
            of = partial(loss, cell, gradient, weights)
            run = jax.jit(partial(TRANSFORMATIONS[name], of))
            programs[gradient] = run.lower(at, along).compile()
        times = interleaved(programs, (at, along), config.rounds)
        pairs = zip(*(times[gradient] for gradient in GRADIENTS), strict=True)
        found[name] = [manual / automatic for manual, automatic in pairs]
    return found


def problem(
    cell: lj.Cell, shape: tuple[int, int, int, int], dtype: Any
) -> tuple[Any, Any, Array]:
    """(params, xs), a direction of both, and the weights of J."""
    steps, batch, input_size, hidden_size = shape
    rng = np.random.default_rng(0)
    params = cell.init(jax.random.key(0), input_size, hidden_size, dtype=dtype)
    drawn = lambda shape: jnp.asarray(rng.normal(size=shape), dtype)  # noqa: E731
    at = params, drawn((steps, batch, input_size))
    output = cell.initial_state(params, (batch,))[0]
    return at, tree.map(lambda a: drawn(a.shape), at), drawn((steps, *output.shape))


def loss(cell: lj.Cell, gradient: str, weights: Array, params: Any, xs: Array) -> Array:
    """J, which is not linear in the outputs."""
    ys, _ = lj.unroll(cell, params, xs, gradient=gradient)
    return jnp.sum(jnp.sin(weights * ys))


def distance(found: Any, expected: Any) -> float:
    """The largest deviation over the largest number expected."""
    pairs = zip(tree.leaves(found), tree.leaves(expected), strict=True)
    deviation = max(float(jnp.max(jnp.abs(f - e))) for f, e in pairs)
    largest = max(float(jnp.max(jnp.abs(e))) for e in tree.leaves(expected))
    return deviation / largest if deviation else 0.0


def spread(values: Sequence[float]) -> str:
    """The median, and the quartiles."""
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
    return f"{median:.2f} ({low:.2f} to {high:.2f})"


def print_head(title: str, columns: Sequence[str] | dict[str, Any]) -> None:
    """The first two lines of a table in Markdown."""
    print_row(title, list(columns))
    print("|---|" + "---:|" * len(columns))


def print_row(name: str, cells: Sequence[str]) -> None:
    """A line of a table in Markdown."""
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    with told():
        main(
            tyro.cli(
                Config, prog="python -m benchmarks.forward_mode", description=__doc__
            )
        )
