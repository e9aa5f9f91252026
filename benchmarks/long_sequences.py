"""Memory and time of each policy at T = 4096: `python -m benchmarks.long_sequences`.

Outputs and gradients of one layer, from given gradients of the outputs, in interleaved
rounds. Cells that are linear in their state are measured step after step as well, and
as one parallel scan over all steps.
"""

import statistics
from functools import partial
from typing import Any
from unittest import mock

import jax
import tyro

import lstm_jax as lj
from experiments.timing import interleaved, temporary_bytes
from lstm_jax.engine import bptt

STEPS, SIZE = 4096, 64
BATCHES = (1, 16)
ROUNDS = 5

POLICIES = {
    "automatic": {"gradient": "automatic"},
    "store": {"memory": "store"},
    "states": {"memory": "states"},
    "recompute": {"memory": "recompute"},
}


def main() -> None:
    """Prints a table for each cell and batch."""
    for batch in BATCHES:
        lstm, linear = lj.CELLS["lstm"], lj.CELLS["min_gru"]
        report(
            f"lstm, B = {batch}",
            {name: compiled(lstm, batch, **o) for name, o in POLICIES.items()},
        )
        scans = {
            "step after step": compiled(linear._replace(linear=False), batch),
            "a chunk at a time": compiled(linear, batch),
        }
        with mock.patch.object(bptt, "chunk_length", lambda steps, *_: steps):
            jax.clear_caches()  # the length is no argument of what is traced
            scans["all at once"] = compiled(linear, batch)
        jax.clear_caches()
        report(f"min_gru, B = {batch}", scans)


def report(title: str, programs: dict[str, jax.stages.Compiled]) -> None:
    """Prints the medians of several programs' times, and what they take."""
    shape = programs[next(iter(programs))].args_info[0]
    arguments = [
        jax.random.normal(jax.random.key(n), leaf.shape) / leaf.shape[-1]
        for n, leaf in enumerate(jax.tree.leaves(shape))
    ]
    arguments = jax.tree.unflatten(jax.tree.structure(shape), arguments)
    times = interleaved(programs, arguments, ROUNDS)
    print(f"\n{title}, T = {STEPS}, D = H = {SIZE}\n\n| | ms | temporary MB |")
    print("|---|---|---|")
    for name, program in programs.items():
        median = 1e3 * statistics.median(times[name])
        memory = temporary_bytes(program) / 1e6
        print(f"| {name} | {median:.1f} | {memory:.1f} |", flush=True)


def compiled(cell: lj.Cell, batch: int, **options: Any) -> jax.stages.Compiled:
    """The outputs, and the gradients of parameters and inputs from theirs."""
    params = cell.init(jax.random.key(0), SIZE, SIZE)
    xs = dys = jax.ShapeDtypeStruct((STEPS, batch, SIZE), params.b.dtype)

    def run(params: Any, xs: jax.Array, dys: jax.Array) -> Any:
        unroll = partial(lj.unroll, cell, **options)
        ys, pull, _ = jax.vjp(unroll, params, xs, has_aux=True)
        return ys, pull(dys)

    return jax.jit(run).lower(params, xs, dys).compile()


if __name__ == "__main__":
    tyro.cli(main, prog="python -m benchmarks.long_sequences", description=__doc__)
