"""The LSTM with one equation taken out or changed: which of them matter?

After Greff et al. (2017), "LSTM: a search space odyssey", section 3, which gave the
variants their names: no input, forget or output gate, no activation of the candidate
or of the output, and the gates' own recurrence removed. Equation numbers are those of
`lstm_jax.cells.lstm`. A cell here is its equations alone: it has automatic gradients,
which is all that a comparison needs.
"""

from collections.abc import Callable
from functools import partial
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
from jax import Array

from lstm_jax.cell import Cell
from lstm_jax.cells.lstm import LSTMParams, LSTMState, init
from lstm_jax.gated import gated
from lstm_jax.identities import sigmoid, tanh
from lstm_jax.initializers import ZeroState

Gate = Callable[[Array], Array]


def always_open(z: Array) -> Array:
    """A gate that lets everything through, whatever it sees."""
    return jnp.ones_like(z)


def as_it_is(z: Array) -> Array:
    """No activation."""
    return z


def equations(
    params: LSTMParams,
    state: LSTMState,
    u: Array,
    v: Array,
    *,
    input_gate: Gate = sigmoid,
    forget_gate: Gate = sigmoid,
    output_gate: Gate = sigmoid,
    candidate: Gate = tanh,
    output: Gate = tanh,
) -> tuple[LSTMState, tuple[()]]:
    """Equations (1) to (7), with another function in place of one of them."""
    c_prev = state.c
    z_i, z_f, z_o, z_g = jnp.split(u + v, 4, axis=-1)
    c = input_gate(z_i) * candidate(z_g) + forget_gate(z_f) * c_prev
    h = output_gate(z_o) * output(c)
    return LSTMState(h=h, c=c), ()


def gates_without_recurrence(
    params: LSTMParams, state: LSTMState, u: Array, v: Array
) -> tuple[LSTMState, tuple[()]]:
    """The same, but gates see the input alone: equation (1) without h_prev Wh."""
    seen = v.at[..., : 3 * state.c.shape[-1]].set(0)
    return equations(params, state, u, seen)


def _variant(name: str, changed: Callable[..., Any]) -> Cell:
    return gated(name, init=init, initial_state=ZeroState(LSTMState), equations=changed)


ABLATIONS: MappingProxyType[str, Cell] = MappingProxyType(
    {
        name: _variant(name, changed)
        for name, changed in {
            "no_input_gate": partial(equations, input_gate=always_open),
            "no_forget_gate": partial(equations, forget_gate=always_open),
            "no_output_gate": partial(equations, output_gate=always_open),
            "no_candidate_tanh": partial(equations, candidate=as_it_is),
            "no_output_tanh": partial(equations, output=as_it_is),
            "no_gate_recurrence": gates_without_recurrence,
        }.items()
    }
)
"""The LSTM less one thing, by what it lacks."""
