"""Weights from and to torch's recurrent modules and cells; needs no torch.

A module's ``state_dict()`` is a mapping of names to tensors. For layer k these are,
with the suffix ``_reverse`` for the direction that reads from the last step::

    weight_ih_lk (G·H, D)    weight_hh_lk (G·H, R)    weight_hr_lk (R, H), if projected
    bias_ih_lk   (G·H,)      bias_hh_lk   (G·H,)

An ``nn.LSTMCell``, ``nn.GRUCell`` or ``nn.RNNCell`` has the same without a suffix.
Rows there are columns here, and LSTM gates lie in the order i, f, g, o. Both biases
of a gate add up, so one is enough here; but the GRU's candidate has both (its bias_hh
is inside the reset).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from lstm_jax.cell import Cell
from lstm_jax.interop.weights import (
    Weights,
    as_numpy,
    check_ranks,
    check_shapes,
    counterpart,
    params_of,
    weights_of,
)
from lstm_jax.layers import Layer

GATES: MappingProxyType[str, str] = MappingProxyType(
    {
        "lstm": "ifgo",
        "projected_lstm": "ifgo",
        "gru": "rzn",
        "rnn_tanh": "h",
        "rnn_relu": "h",
    }
)
"""The order of the row blocks, by cell."""

PROJECTED = ("projected_lstm",)
"""The cells with a matrix weight_hr: an ``nn.LSTM`` with ``proj_size``."""


def from_torch(cell: Cell | str, weights: Mapping[str, Any]) -> Any:
    """The parameters of a stack, or of a cell, from the weights of a torch module.

    Args:
        cell: the cell that the module runs: "lstm", "projected_lstm" (an
            ``nn.LSTM`` with ``proj_size``), "gru", "rnn_tanh" or "rnn_relu" of
            `lstm_jax.CELLS`.
        weights: what the ``state_dict()`` of the recurrent module itself returns, or
            the same names with numpy arrays. A module without biases has none here.

    Returns:
        Parameters for `lstm_jax.layers.unroll_layers`, a tuple of `Layer`; those of an
        ``nn.LSTMCell``, ``nn.GRUCell`` or ``nn.RNNCell`` are a cell's, for
        `lstm_jax.step`. Copies in the same dtype.

    Raises:
        TypeError: a weight is no floating array in main memory.
        ValueError: a name or a shape is not expected, or torch has no such cell.
    """
    cell, gates = counterpart("torch", cell, GATES)
    left = {name: as_numpy(name, weight) for name, weight in weights.items()}
    if "weight_ih" in left:
        params = _take(left, "", cell, gates, weights)
        _check_all_taken(left, cell, "")
        return params
    directions = ["", "_reverse"] if "weight_ih_l0_reverse" in left else [""]
    stack = []
    while not stack or f"weight_ih_l{len(stack)}" in left:
        suffixes = [f"_l{len(stack)}{direction}" for direction in directions]
        drawn = [_take(left, suffix, cell, gates, weights) for suffix in suffixes]
        stack.append(Layer(*drawn))
    _check_all_taken(left, cell, f" in {len(stack)} layers")
    return tuple(stack)


def to_torch(cell: Cell | str, params: Any) -> dict[str, np.ndarray]:
    """The weights of a torch module from the parameters of a stack, or of a cell.

    Where torch has two biases that add up, ours is bias_ih and bias_hh is 0, so that
    `from_torch` gives the parameters back bit for bit.

    Args:
        cell: the cell of the stack, as in `from_torch`.
        params: its parameters, as `lstm_jax.layers.init_layers` makes them; or a
            cell's, for an ``nn.LSTMCell``, ``nn.GRUCell`` or ``nn.RNNCell``.

    Returns:
        Numpy arrays under the names of the module's ``state_dict()``. It loads them
        by ``load_state_dict({name: torch.tensor(w) for name, w in ...})``.

    Raises:
        TypeError: the parameters are not the cell's, or are bfloat16.
        ValueError: they have a wrong shape or several heads, or torch has no such
            cell.
    """
    cell, gates = counterpart("torch", cell, GATES)
    if hasattr(params, "Wx"):
        return _named(weights_of(cell, params, gates), "")
    arrays: dict[str, np.ndarray] = {}
    for number, layer in enumerate(params):
        for own, direction in zip(layer, ("", "_reverse"), strict=True):
            if own is not None:
                weights = weights_of(cell, own, gates)
                arrays |= _named(weights, f"_l{number}{direction}")
    return arrays


def _take(
    left: dict[str, np.ndarray],
    suffix: str,
    cell: Cell,
    gates: str,
    weights: Mapping[str, Any],
) -> Any:
    """The parameters of one cell, taken out of what is `left` of all `weights`."""
    projected = cell.name in PROJECTED
    ih, hh, hr = (f"weight_{product}{suffix}" for product in ("ih", "hh", "hr"))
    matrices = [ih, hh, hr] if projected else [ih, hh]
    absent = [name for name in matrices if name not in left]
    if absent:
        raise ValueError(
            f'weights of cell "{cell.name}" must have the name {absent[0]}; got '
            f"{', '.join(left) or 'none'}"
        )
    check_ranks(left, matrices)
    input_size, output_size = left[ih].shape[1], left[hh].shape[1]
    hidden_size = left[hr].shape[1] if projected else output_size
    rows = len(gates) * hidden_size
    shapes: dict[str, tuple[int, ...]] = {ih: (rows, input_size)}
    shapes |= {hh: (rows, output_size)}
    biases = [f"bias_{product}{suffix}" for product in ("ih", "hh")]
    if any(name.startswith("bias") for name in weights):  # all of them, or none
        absent = [name for name in biases if name not in left]
        if absent:
            raise ValueError(
                f"weights with biases must have the name {absent[0]}; got "
                f"{', '.join(weights)}"
            )
        shapes |= dict.fromkeys(biases, (rows,))
    if projected:
        shapes[hr] = (output_size, hidden_size)
    own = {name: left.pop(name) for name in shapes}
    check_shapes(own, shapes)
    Wx, Wh = own[ih].T, own[hh].T
    found = (own[name].T if name in own else None for name in (*biases, hr))
    return params_of(cell, Weights(Wx, Wh, *found), gates)


def _check_all_taken(left: dict[str, np.ndarray], cell: Cell, where: str) -> None:
    if left:
        raise ValueError(
            f'weights of cell "{cell.name}"{where} do not have the names '
            f"{', '.join(left)}"
        )


def _named(weights: Weights, suffix: str) -> dict[str, np.ndarray]:
    products = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
    return {
        f"{product}{suffix}": np.ascontiguousarray(array.T)
        for product, array in zip(products, weights, strict=True)
        if array is not None
    }
