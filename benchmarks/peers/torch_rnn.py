"""PyTorch: `torch.nn.LSTM`, `GRU` and `RNN` (cuDNN on a GPU, on a CPU partly oneDNN).

Their weights are transposed, with two biases, of which the second is 0 here.
"""

from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.peers import Built
from benchmarks.problem import ORDERS, Outcome, Problem, reorder

LAYERS = {
    "lstm": torch.nn.LSTM,
    "gru": torch.nn.GRU,
    "rnn_tanh": partial(torch.nn.RNN, nonlinearity="tanh"),
    "rnn_relu": partial(torch.nn.RNN, nonlinearity="relu"),
}
"""The module of each cell."""

TORCH = {"lstm": "ifgo", "gru": "rzn", "rnn_tanh": "h", "rnn_relu": "h"}
"""The order of its row blocks."""


def build(problem: Problem, device: str) -> Built:
    """One layer, time-major; its number of threads is that of OpenMP."""
    row = problem.row
    own, theirs = ORDERS[row.cell], TORCH[row.cell]
    dtype = getattr(torch, row.dtype)
    where = torch.device("cuda" if device == "gpu" else "cpu")

    def tensor(array: np.ndarray) -> Any:
        # numpy's bfloat16 is no type that torch reads; float32 holds it exactly.
        exact = array.astype("float32") if row.dtype == "bfloat16" else array
        return torch.from_numpy(np.ascontiguousarray(exact)).to(where, dtype)

    layer = LAYERS[row.cell](row.D, row.H).to(where, dtype)
    values = {
        "weight_ih_l0": tensor(reorder(problem.Wx, own, theirs).T),
        "weight_hh_l0": tensor(reorder(problem.Wh, own, theirs).T),
        "bias_ih_l0": tensor(reorder(problem.b, own, theirs)),
        "bias_hh_l0": tensor(np.zeros_like(problem.b)),
    }
    layer.load_state_dict(values)
    xs = tensor(problem.xs).requires_grad_()
    inputs = (*(getattr(layer, name) for name in values), xs)

    def wait() -> None:
        if device == "gpu":
            torch.cuda.synchronize()

    def forward() -> Any:
        with torch.no_grad():
            ys = layer(xs)[0]
        wait()
        return ys

    def value_and_gradient() -> Any:
        ys = layer(xs)[0]
        ys = ys.to(torch.promote_types(ys.dtype, torch.float32))
        value = ys.square().sum() / 2
        gradients = torch.autograd.grad(value, inputs)
        wait()
        return value, gradients

    def outcome() -> Outcome:
        wx, wh, b, _, dxs = (_array(g) for g in value_and_gradient()[1])
        wx, wh, b = (reorder(part, theirs, own) for part in (wx.T, wh.T, b))
        return Outcome(_array(forward()), wx, wh, b, dxs)

    return Built(forward, value_and_gradient, outcome, None, None)


def _array(tensor: Any) -> np.ndarray:
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).cpu().numpy()
