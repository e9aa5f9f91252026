"""Haiku: `dynamic_unroll` of `hk.LSTM`, `hk.GRU` or `hk.VanillaRNN`.

Its LSTM has one matrix for ``[x, h]``, blocks "igfo", and adds 1 to the forget gate's
bias. Its GRU resets before the product, and its z keeps the new where ours keeps the
old, so that gate has its weights negated: 1 - σ(z) = σ(-z). Its simple cell has
rectifiers alone.
"""

from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from benchmarks.peers import Built
from benchmarks.peers.compiled import Weights, compiled
from benchmarks.problem import ORDERS, Problem, reorder

LSTM = "igfo"
GRU = "zrn"


def build(problem: Problem, device: str) -> Built:
    """One core, time-major."""
    del device
    row, dtype = problem.row, problem.xs.dtype

    def layer(xs: Array) -> Array:
        zeros = jnp.zeros((row.B, row.H), dtype)
        if row.cell == "lstm":
            state = hk.LSTMState(hidden=zeros, cell=zeros)
            return hk.dynamic_unroll(hk.LSTM(row.H), xs, state)[0]
        if row.cell == "gru_before":
            return hk.dynamic_unroll(hk.GRU(row.H), xs, zeros)[0]
        core = hk.VanillaRNN(row.H, double_bias=False)
        return hk.dynamic_unroll(core, xs, zeros)[0]

    transformed = hk.without_apply_rng(hk.transform(layer))
    names = list(jax.eval_shape(transformed.init, jax.random.key(0), problem.xs))
    params, weights = CONVERSIONS[row.cell](problem, names)
    params = jax.tree.map(jnp.asarray, params)
    return compiled(transformed.apply, params, problem.xs, to_weights=weights)


Conversion = tuple[Any, Callable[[Any], Weights]]
"""Haiku's parameters, and what converts their gradients back."""


def _lstm(problem: Problem, names: list[str]) -> Conversion:
    [linear], own = names, ORDERS["lstm"]
    row = problem.row
    added = np.repeat([0, 1, 0, 0], row.H).astype(problem.b.dtype)
    joined = np.concatenate([problem.Wx, problem.Wh])

    def weights(gradients: Any) -> Weights:
        w = reorder(gradients[linear]["w"], LSTM, own)
        return w[: row.D], w[row.D :], reorder(gradients[linear]["b"], LSTM, own)

    w, b = reorder(joined, own, LSTM), reorder(problem.b - added, own, LSTM)
    return {linear: {"w": w, "b": b}}, weights


def _gru(problem: Problem, names: list[str]) -> Conversion:
    [gru], own = names, ORDERS["gru_before"]
    sign = np.repeat([-1, 1, 1], problem.row.H).astype(problem.b.dtype)

    def weights(gradients: Any) -> Weights:
        parts = (sign * gradients[gru][name] for name in ("w_i", "w_h", "b"))
        wx, wh, b = (reorder(part, GRU, own) for part in parts)
        return wx, wh, b

    parts = {"w_i": problem.Wx, "w_h": problem.Wh, "b": problem.b}
    own_parts = {name: sign * reorder(a, own, GRU) for name, a in parts.items()}
    return {gru: own_parts}, weights


def _simple(problem: Problem, names: list[str]) -> Conversion:
    of_input, of_state = names

    def weights(gradients: Any) -> Weights:
        return (
            gradients[of_input]["w"],
            gradients[of_state]["w"],
            gradients[of_input]["b"],
        )

    params = {
        of_input: {"w": problem.Wx, "b": problem.b},
        of_state: {"w": problem.Wh},
    }
    return params, weights


CONVERSIONS = {"lstm": _lstm, "gru_before": _gru, "rnn_relu": _simple}
