"""One layer of ``torch.nn`` on a GPU, where cuDNN runs it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.peers.torch_rnn import LAYERS


class TorchLayer:
    """A layer with weights of its own drawing.

    Attributes:
        layer: the module.
    """

    def __init__(self, cell: str, input_size: int, hidden_size: int) -> None:
        torch.manual_seed(0)
        self.layer = LAYERS[cell](input_size, hidden_size).cuda()

    def weights(self) -> dict[str, np.ndarray]:
        """As `lstm_jax.interop.from_torch` reads them."""
        state = self.layer.state_dict()
        return {name: tensor.cpu().numpy() for name, tensor in state.items()}

    def program(
        self, xs: np.ndarray
    ) -> tuple[Callable[[], Any], Callable[[Any], Any], tuple[np.ndarray, ...]]:
        """What runs value and gradient of ``½ Σ ys²``, what waits; value and dxs."""
        inputs = torch.from_numpy(xs).cuda().requires_grad_()
        arguments = (*self.layer.parameters(), inputs)

        def start() -> Any:
            value = self.layer(inputs)[0].square().sum() / 2
            return value, torch.autograd.grad(value, arguments)

        value, gradients = start()
        outputs = value.detach().cpu().numpy(), gradients[-1].cpu().numpy()
        return start, lambda _: torch.cuda.synchronize(), outputs
