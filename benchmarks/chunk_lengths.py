"""How many steps a chunk should have: `python -m benchmarks.chunk_lengths`.

Value and gradient of one LSTM layer, scanned, with chunks of several lengths, in
interleaved rounds, beside the length that `lstm_jax.engine.chunks` chooses. What its
constants rest on. (The LSTM's compiled steps take all of time at once.)
"""

import statistics
from unittest import mock

import jax
import jax.numpy as jnp
import tyro

import lstm_jax as lj
from benchmarks.problem import ROWS
from experiments.timing import interleaved, scanned, temporary_bytes
from lstm_jax.engine import bptt

LENGTHS = (5, 8, 10, 20, 25, 40, 50, 100)
ROUNDS = 9


def main() -> None:
    """Prints a table for each row of the benchmark."""
    for row in ROWS:
        steps, batch, input_size, hidden_size, *_ = row
        print(f"\nT, B, D, H = {row[:4]}\n\n| steps | ms | to chosen | temporary MB |")
        print("|---|---|---|---|")
        cell = scanned(lj.CELLS["lstm"])
        params = cell.init(jax.random.key(0), input_size, hidden_size)
        shape = (steps, batch, input_size)
        xs = jax.random.normal(jax.random.key(1), shape, params.Wx.dtype)
        programs = {"chosen": compiled(cell, params, xs, None)}
        for length in LENGTHS:
            if steps % length == 0:
                programs[str(length)] = compiled(cell, params, xs, length)
        times = interleaved(programs, (params, xs), ROUNDS)
        for name, program in programs.items():
            ratios = [t / c for t, c in zip(times[name], times["chosen"], strict=True)]
            print(
                f"| {name} | {1e3 * statistics.median(times[name]):.1f} "
                f"| {statistics.median(ratios):.2f} "
                f"| {temporary_bytes(program) / 1e6:.1f} |",
                flush=True,
            )


def compiled(
    cell: lj.Cell, params: lj.LSTMParams, xs: jax.Array, length: int | None
) -> jax.stages.Compiled:
    """The value and gradient, with chunks of `length` steps; None for the library's."""

    def loss(params: lj.LSTMParams, xs: jax.Array) -> jax.Array:
        ys, _ = lj.unroll(cell, params, xs)
        return jnp.sum(ys**2)

    choose = bptt.chunk_length if length is None else lambda *_: length
    jax.clear_caches()  # the length is no argument of what is traced
    with mock.patch.object(bptt, "chunk_length", choose):
        program = jax.jit(jax.value_and_grad(loss, (0, 1)))
        return program.lower(params, xs).compile()


if __name__ == "__main__":
    tyro.cli(main, prog="python -m benchmarks.chunk_lengths", description=__doc__)
