"""PyTorch: `torch.nn.LSTM` (oneDNN on a CPU, cuDNN on a GPU).

Its weights are transposed, with row blocks "ifgo" and two biases, of which the second
is 0 here.
"""

from typing import Any

import numpy as np
import torch

from benchmarks.peers import Built
from benchmarks.problem import ORDER, Outcome, Problem, reorder

TORCH = "ifgo"


def build(problem: Problem, device: str) -> Built:
    """One layer, time-major; its number of threads is that of OpenMP."""
    row = problem.row
    dtype = getattr(torch, row.dtype)
    where = torch.device("cuda" if device == "gpu" else "cpu")

    def tensor(array: np.ndarray) -> Any:
        # numpy's bfloat16 is no type that torch reads; float32 holds it exactly.
        exact = array.astype("float32") if row.dtype == "bfloat16" else array
        return torch.from_numpy(np.ascontiguousarray(exact)).to(where, dtype)

    layer = torch.nn.LSTM(row.D, row.H).to(where, dtype)
    values = {
        "weight_ih_l0": tensor(reorder(problem.Wx, ORDER, TORCH).T),
        "weight_hh_l0": tensor(reorder(problem.Wh, ORDER, TORCH).T),
        "bias_ih_l0": tensor(reorder(problem.b, ORDER, TORCH)),
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
        value = layer(xs)[0].float().square().sum() / 2
        gradients = torch.autograd.grad(value, inputs)
        wait()
        return value, gradients

    def outcome() -> Outcome:
        wx, wh, b, _, dxs = (_array(g) for g in value_and_gradient()[1])
        wx, wh, b = (reorder(part, TORCH, ORDER) for part in (wx.T, wh.T, b))
        return Outcome(_array(forward()), wx, wh, b, dxs)

    return Built(forward, value_and_gradient, outcome, None, None)


def _array(tensor: Any) -> np.ndarray:
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).cpu().numpy()
