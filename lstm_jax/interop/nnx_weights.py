"""Weights from and to the recurrent cells of ``flax.nnx``.

=====================  ==============================  ===============================
module                 cell                            gates
=====================  ==============================  ===============================
``OptimizedLSTMCell``  ``"lstm"``                      i, f, g, o side by side
``LSTMCell``           ``"lstm"``                      a pair of Linear modules each
``GRUCell``            ``"gru"``                       r, z, n side by side
``SimpleCell``         ``"rnn_tanh"``, ``"rnn_relu"``  none
=====================  ==============================  ===============================

Of each pair of Linear modules, one for the input and one for the state, one has the
bias. A GRU of nnx has none inside the reset.
"""

from types import MappingProxyType
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx

from lstm_jax.cell import Cell
from lstm_jax.interop.weights import (
    Weights,
    as_numpy,
    counterpart,
    params_of,
    weights_of,
)


class Pair(NamedTuple):
    """Two Linear modules whose outputs add up, by attribute, and their gates."""

    of_input: str
    of_state: str
    gates: str


PAIRS: MappingProxyType[type, tuple[Pair, ...]] = MappingProxyType(
    {
        nnx.OptimizedLSTMCell: (Pair("dense_i", "dense_h", "ifgo"),),
        nnx.LSTMCell: (
            Pair("ii", "hi", "i"),
            Pair("if_", "hf", "f"),
            Pair("ig", "hg", "g"),
            Pair("io", "ho", "o"),
        ),
        nnx.GRUCell: (Pair("dense_i", "dense_h", "rzn"),),
        nnx.SimpleCell: (Pair("dense_i", "dense_h", "h"),),
    }
)
"""What a module is made of."""

GATES: MappingProxyType[str, str] = MappingProxyType(
    {"lstm": "ifgo", "gru": "rzn", "rnn_tanh": "h", "rnn_relu": "h"}
)
"""The order of the gates in `PAIRS`, by cell."""


def from_nnx(cell: Cell | str, module: Any) -> Any:
    """The parameters of a cell from those of a flax.nnx cell.

    Args:
        cell: the cell that the module runs: "lstm", "gru", "rnn_tanh" or "rnn_relu"
            of `lstm_jax.CELLS`.
        module: an ``nnx.OptimizedLSTMCell``, ``LSTMCell``, ``GRUCell`` or
            ``SimpleCell``.

    Returns:
        The cell's parameters, copies in the same dtype.

    Raises:
        TypeError: the module is none of these.
        ValueError: it computes something else than the cell.
    """
    cell, gates = counterpart("flax.nnx", cell, GATES)
    parts = [
        [as_numpy(name, variable[...]) for name, variable in _variables(*pair)]
        for pair in _pairs(cell, module)
    ]
    Wx, Wh, b = (np.concatenate(part, axis=-1) for part in zip(*parts, strict=True))
    return params_of(cell, Weights(Wx, Wh, b, np.zeros_like(b)), gates)


def to_nnx(cell: Cell | str, params: Any, module: Any) -> None:
    """Writes the parameters of a cell into a flax.nnx cell of the same sizes.

    `from_nnx` gives them back bit for bit.

    Args:
        cell: the cell, as in `from_nnx`.
        params: its parameters.
        module: as in `from_nnx`; its weights are replaced, all or, after an error,
            none.

    Raises:
        TypeError: the module is none of these, or has another dtype.
        ValueError: it computes something else than the cell or has other sizes, or
            the parameters have no biases, or are a GRU's whose bias inside the reset
            is not 0.
    """
    cell, gates = counterpart("flax.nnx", cell, GATES)
    pairs = _pairs(cell, module)
    weights = weights_of(cell, params, gates)
    if weights.bx is None or weights.bh is None:
        raise ValueError("cells of flax.nnx have biases; got parameters without")
    if weights.bh.any():
        raise ValueError(
            "nnx.GRUCell has no bias inside the reset: bh must be 0; got "
            f"{np.count_nonzero(weights.bh)} entries that are not"
        )
    starts = np.cumsum([of_state.out_features for _, of_state in pairs])[:-1]
    own = (weights.Wx, weights.Wh, weights.bx)
    blocks = zip(*(np.split(array, starts, axis=-1) for array in own), strict=True)
    writes = [
        (name, variable, array)
        for pair, arrays in zip(pairs, blocks, strict=True)
        for (name, variable), array in zip(_variables(*pair), arrays, strict=True)
    ]
    for name, variable, array in writes:
        _check_like(name, variable, array)
    for _, variable, array in writes:
        variable[...] = jnp.array(array)


def _pairs(cell: Cell, module: Any) -> list[tuple[nnx.Linear, nnx.Linear]]:
    """The pairs of Linear modules of `module`, if it computes what `cell` does."""
    if type(module) not in PAIRS:
        known = ", ".join(kind.__name__ for kind in PAIRS)
        raise TypeError(f"module must be a flax.nnx {known}; got {module!r}")
    pairs = PAIRS[type(module)]
    activation = nnx.relu if cell.name == "rnn_relu" else nnx.tanh
    same = (
        "".join(pair.gates for pair in pairs) == GATES[cell.name]
        and module.activation_fn is activation
        and getattr(module, "gate_fn", nnx.sigmoid) is nnx.sigmoid
        and not getattr(module, "residual", False)
    )
    if not same:
        raise ValueError(
            f'module must compute the cell "{cell.name}"; got a '
            f"{type(module).__name__} with {module.activation_fn}, which does not"
        )
    return [(getattr(module, p.of_input), getattr(module, p.of_state)) for p in pairs]


def _variables(of_input: nnx.Linear, of_state: nnx.Linear) -> list[tuple[str, Any]]:
    """The variables of a pair, by the names of our parameters."""
    biased = of_input if of_input.use_bias else of_state
    return [("Wx", of_input.kernel), ("Wh", of_state.kernel), ("b", biased.bias)]


def _check_like(name: str, variable: Any, array: np.ndarray) -> None:
    if variable.shape != array.shape:
        raise ValueError(
            f"the module's {name} must have the shape {array.shape} of the "
            f"parameters; got {variable.shape}"
        )
    if variable.dtype != array.dtype:
        raise TypeError(
            f"the module's {name} must have the dtype {array.dtype} of the "
            f"parameters; got {variable.dtype}"
        )
