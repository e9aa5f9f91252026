"""Other libraries: weights in and out, and the cells as flax modules.

======================================  =============================================
`from_torch`, `to_torch`                ``torch.nn.LSTM``, ``GRU``, ``RNN``, and cells
`from_keras`, `to_keras`                Keras' ``LSTM``, ``GRU``, ``SimpleRNN``
`from_nnx`, `to_nnx`                    the cells of ``flax.nnx``
`NNXCell`, `LinenCell`                  any cell of this library inside flax
======================================  =============================================

The converters of weights work on names and arrays; they import neither torch nor
Keras.
"""

from lstm_jax.interop.keras_weights import from_keras, to_keras
from lstm_jax.interop.linen_modules import LinenCell
from lstm_jax.interop.nnx_modules import NNXCell
from lstm_jax.interop.nnx_weights import from_nnx, to_nnx
from lstm_jax.interop.torch_weights import from_torch, to_torch

__all__ = [
    "LinenCell",
    "NNXCell",
    "from_keras",
    "from_nnx",
    "from_torch",
    "to_keras",
    "to_nnx",
    "to_torch",
]
