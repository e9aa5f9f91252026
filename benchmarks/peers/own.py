"""This library: one gradient and one memory policy a peer."""

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import lstm_jax as lj
from benchmarks.peers import Built
from benchmarks.peers.compiled import Weights, compiled
from benchmarks.problem import ORDERS, Problem
from lstm_jax.cells import find_cell
from lstm_jax.cells.gru_before import GRUBeforeParams


def build(
    problem: Problem,
    device: str,
    gradient: str = "manual",
    memory: str = "store",
    native: str = "1",
) -> Built:
    """`lstm_jax.unroll`; cells that no other library has draw their own weights."""
    del device
    os.environ["LSTM_JAX_NATIVE"] = native  # read before the first unrolling
    row = problem.row
    cell = find_cell(row.cell, lj.CELLS)

    def apply(params: Any, xs: Array) -> Array:
        return lj.unroll(cell, params, xs, gradient=gradient, memory=memory)[0]

    params = cell.init(jax.random.key(0), row.D, row.H, dtype=problem.xs.dtype)
    if row.cell not in ORDERS:
        return compiled(apply, params, problem.xs, to_weights=_in_a_row)
    params = params._replace(**_fields(problem))
    return compiled(apply, params, problem.xs, to_weights=_weights)


def _fields(problem: Problem) -> dict[str, Array]:
    """The parameters that the problem gives."""
    fields = {"Wx": problem.Wx, "Wh": problem.Wh, "b": problem.b}
    if problem.row.cell == "gru_before":  # the candidate's product is another
        fields["Wh"], fields["Wn"] = np.split(problem.Wh, [2 * problem.row.H], axis=1)
    return {name: jnp.asarray(a) for name, a in fields.items()}


def _weights(gradients: Any) -> Weights:
    Wh = gradients.Wh
    if isinstance(gradients, GRUBeforeParams):
        Wh = np.concatenate([Wh, gradients.Wn], axis=1)
    return gradients.Wx, Wh, gradients.b


def _in_a_row(gradients: Any) -> Weights:
    """All gradients that there are."""
    everything = np.concatenate([g.reshape(-1) for g in jax.tree.leaves(gradients)])
    return everything, everything[:0], everything[:0]
