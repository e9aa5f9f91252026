"""JAX's door to cuDNN: our LSTM's weights in its layout, outputs and gradients.

``lstm_ref``, its authors' reference in plain JAX, runs anywhere; cuDNN itself needs a
GPU (`make test-gpu`). Both sides multiply in plain float32.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import rnn
from oracles import assert_close, drawn_like

import lstm_jax as lj
from lstm_jax.interop import to_torch
from lstm_jax.layers import init_layers, unroll_layers

STEPS, BATCH, INPUT_SIZE, HIDDEN_SIZE, LAYERS = 5, 3, 3, 4, 2
LENGTHS = (5, 1, 3)
SIZES = (INPUT_SIZE, HIDDEN_SIZE, LAYERS, 0.0, True)  # 0.0: dropout

# It mixes dtypes and reads 32 bits.
pytestmark = pytest.mark.jax_defaults


def packed(params):
    """cuDNN's one vector: all matrices, then all biases, named as torch names them."""
    weights = to_torch(lj.LSTM, params)
    kinds = ("weight", "bias")
    arrays = [w for kind in kinds for name, w in weights.items() if kind in name]
    return jnp.concatenate([jnp.asarray(array).reshape(-1) for array in arrays])


def reference(x, h, c, weights, lengths):
    unpacked = rnn.unpack_lstm_weights(
        weights, INPUT_SIZE, HIDDEN_SIZE, LAYERS, bidirectional=True
    )
    return rnn.lstm_ref(x, h, c, *unpacked, lengths, *SIZES)


def cudnn(x, h, c, weights, lengths):
    return rnn.lstm(x, h, c, weights, lengths, *SIZES, jax.lax.Precision.HIGHEST)


@pytest.mark.parametrize(
    ("theirs", "lengths", "tolerance"),
    [
        pytest.param(reference, LENGTHS, 1e-6, id="reference"),
        pytest.param(cudnn, LENGTHS, 1e-5, id="cudnn", marks=pytest.mark.gpu),
        pytest.param(cudnn, (5, 5, 5), 1e-5, id="cudnn whole", marks=pytest.mark.gpu),
    ],
)
@jax.default_matmul_precision("highest")
def test_outputs_and_gradients(theirs, lengths, tolerance):
    lengths = jnp.asarray(lengths, jnp.int32)
    params = drawn_like(
        jax.eval_shape(
            lambda: init_layers(
                lj.LSTM,
                jax.random.key(0),
                INPUT_SIZE,
                HIDDEN_SIZE,
                layers=LAYERS,
                bidirectional=True,
            )
        )
    )
    xs = drawn_like(jax.ShapeDtypeStruct((STEPS, BATCH, INPUT_SIZE), jnp.float32), 1)
    like = (
        jax.ShapeDtypeStruct((STEPS, BATCH, 2 * HIDDEN_SIZE), jnp.float32),
        *[jax.ShapeDtypeStruct((2 * LAYERS, BATCH, HIDDEN_SIZE), jnp.float32)] * 2,
    )
    dys, *others = drawn_like(like, 2)
    within = jnp.arange(STEPS)[:, None] < lengths  # beyond it ys are 0
    cotangents = (jnp.where(within[..., None], dys, 0), *others)
    zeros = jnp.zeros(like[1].shape)

    def run_theirs(weights, xs):
        ys, h, c = theirs(xs.swapaxes(0, 1), zeros, zeros, weights, lengths)
        return ys.swapaxes(0, 1), h, c

    def run_ours(params, xs):
        ys, finals = unroll_layers(lj.LSTM, params, xs, lengths=lengths)
        states = [state for layer in finals for state in layer]
        return ys, *(jnp.stack(fields) for fields in zip(*states, strict=True))

    # Not jitted: JAX's door to cuDNN gives wrong gradients from a jitted program.
    expected, pull = jax.vjp(run_theirs, packed(params), xs)
    dweights, dxs = pull(cotangents)
    found, own_pull = jax.vjp(jax.jit(run_ours), params, xs)
    dparams, own_dxs = own_pull(cotangents)

    assert_close(found, expected, tolerance)
    assert_close(own_dxs, dxs, tolerance)
    # Both of their biases have the gradient of our one.
    biases = to_torch(lj.LSTM, dparams)
    twice = {n: biases[n.replace("bias_hh", "bias_ih")] for n in biases}
    own = [twice[n] for kind in ("weight", "bias") for n in twice if kind in n]
    assert_close(
        np.concatenate([a.reshape(-1) for a in own]), np.asarray(dweights), tolerance
    )
