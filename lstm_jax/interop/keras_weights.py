"""Weights from and to Keras' ``LSTM``, ``GRU`` and ``SimpleRNN``; needs no Keras.

A layer's ``get_weights()`` is a list of numpy arrays: its kernel (D, G·H), its
recurrent kernel (H, G·H) and its bias (G·H,). A GRU with ``reset_after=True``, Keras'
default, has a bias (2, G·H): that of the input product, then that of the recurrent one.
``Bidirectional`` lists the forward layer's arrays, then the backward layer's. LSTM
gates lie in the order i, f, g, o (g is Keras' c), GRU gates in the order z, r, n
(Keras' h).
"""

from collections.abc import Sequence
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
        "gru": "zrn",
        "gru_before": "zrn",
        "rnn_tanh": "h",
        "rnn_relu": "h",
    }
)
"""The order of the column blocks, by cell."""

TWO_BIASES = ("gru",)
"""The cells whose bias there has a row for each product."""


def from_keras(
    cell: Cell | str, weights: Sequence[Any], *, bidirectional: bool = False
) -> Layer:
    """The parameters of a layer from the weights of a Keras layer.

    Args:
        cell: the cell that the layer runs: "lstm", "gru", "gru_before" (a GRU with
            ``reset_after=False``), "rnn_tanh" or "rnn_relu" of `lstm_jax.CELLS`.
            Keras' default activations are meant; weights say nothing of others.
        weights: what the layer's ``get_weights()`` returns. A layer without a bias
            has none here.
        bidirectional: whether the layer is a ``Bidirectional`` one. The arrays alone
            do not tell it from two layers on top of each other.

    Returns:
        Parameters for one layer of `lstm_jax.layers.unroll_layers`, copies in the
        same dtype; of both directions if `bidirectional`.

    Raises:
        TypeError: a weight is no floating array.
        ValueError: a number of arrays or a shape is not expected, or Keras has no such
            cell.
    """
    cell, gates = counterpart("Keras", cell, GATES)
    arrays = [as_numpy(f"weight {n}", weight) for n, weight in enumerate(weights)]
    expected = (4, 6) if bidirectional else (2, 3)
    if len(arrays) not in expected:
        told = "a layer of both directions has these twice"
        raise ValueError(
            "weights must be kernel, recurrent_kernel and bias, or the first two "
            f"({told}; pass bidirectional=True for one, and the layers of a stack one "
            f"by one); got {len(arrays)} arrays with bidirectional={bidirectional}"
        )
    if not bidirectional:
        return Layer(_joined(cell, gates, arrays))
    half = len(arrays) // 2
    forward, backward = arrays[:half], arrays[half:]
    shapes = [[array.shape for array in own] for own in (forward, backward)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            "both directions of a layer must have weights of the same shapes; got "
            f"{shapes[0]} and {shapes[1]}"
        )
    return Layer(_joined(cell, gates, forward), _joined(cell, gates, backward))


def to_keras(cell: Cell | str, params: Layer) -> list[np.ndarray]:
    """The weights of a Keras layer from the parameters of a layer.

    Args:
        cell: the cell of the layer, as in `from_keras`.
        params: its parameters, in one direction or both.

    Returns:
        What the layer's ``set_weights`` takes; `from_keras` gives the parameters back
        bit for bit.

    Raises:
        TypeError: the parameters are not the cell's, or are bfloat16.
        ValueError: they have a wrong shape or several heads, or Keras has no such
            cell.
    """
    cell, gates = counterpart("Keras", cell, GATES)
    arrays: list[np.ndarray] = []
    for own in params:
        if own is not None:
            Wx, Wh, bx, bh, _ = weights_of(cell, own, gates)
            arrays += [Wx, Wh]
            if bx is not None and bh is not None:
                arrays += [np.stack([bx, bh]) if cell.name in TWO_BIASES else bx]
    return arrays


def _joined(cell: Cell, gates: str, arrays: list[np.ndarray]) -> Any:
    """The parameters of one direction."""
    own = dict(zip(("kernel", "recurrent_kernel", "bias"), arrays, strict=False))
    check_ranks(own, ("kernel", "recurrent_kernel"))
    input_size, hidden_size = (len(array) for array in arrays[:2])
    columns = len(gates) * hidden_size
    shapes: dict[str, tuple[int, ...]] = {"kernel": (input_size, columns)}
    shapes["recurrent_kernel"] = (hidden_size, columns)
    if "bias" in own:
        shapes["bias"] = (2, columns) if cell.name in TWO_BIASES else (columns,)
    check_shapes(own, shapes)
    bias = own.get("bias")
    if bias is None:
        bx = bh = None
    else:
        bx, bh = bias if cell.name in TWO_BIASES else (bias, np.zeros_like(bias))
    return params_of(cell, Weights(*arrays[:2], bx, bh), gates)
