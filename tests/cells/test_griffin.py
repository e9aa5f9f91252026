"""The RG-LRU of the released models: its reverse, heads, and where documents start."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import assert_close, drawn_like

import lstm_jax as lj
from lstm_jax.cells import GRIFFIN

T, B, H, K = 4, 2, 4, 2
STARTS = np.array([[1, 1], [0, 0], [0, 1], [1, 0]], bool)


def drawn(seed=0):
    init = partial(GRIFFIN.init, jax.random.key(0), H + 1, H, heads=K)
    params = drawn_like(jax.eval_shape(partial(init, dtype=jnp.float64)), seed)
    xs = drawn_like(jax.ShapeDtypeStruct((T, B, H), jnp.float64), 1)
    return params, jax.device_put(np.concatenate([xs, STARTS[..., None]], axis=-1))


def test_its_reverse():
    cell = GRIFFIN._replace(init=partial(GRIFFIN.init, heads=2))
    report = lj.check_gradients(cell, input_size=5, hidden_size=4, steps=0)
    assert report.ok, report.table()


def published(params, xs):
    """As the published code says it, in numpy, one step and head after another."""
    params = jax.tree.map(np.asarray, params)
    xs = np.asarray(xs)
    size, h, ys = H // K, np.zeros((B, H)), []
    sigmoid = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
    for x, reset in zip(xs[..., :H], STARTS[..., None], strict=True):
        gate_a, gate_x = (
            sigmoid(
                np.concatenate(
                    [
                        x[:, k * size : (k + 1) * size] @ params.Wx[gate, k]
                        for k in range(K)
                    ],
                    axis=-1,
                )
                + params.b[gate * H : (gate + 1) * H]
            )
            for gate in (0, 1)
        )
        a_param = -params.decay
        log_a = -8.0 * gate_a * np.log1p(np.exp(a_param))
        multiplier = np.where(reset, 1, np.sqrt(1 - np.exp(2 * log_a)))
        h = np.where(reset, 0, np.exp(log_a)) * h + multiplier * gate_x * x
        ys.append(h)
    return jnp.asarray(np.stack(ys))


@pytest.mark.promotes_ranks
def test_it_is_the_published_code():
    params, xs = drawn()
    state = lj.unroll(GRIFFIN, params, xs)[1]  # which the first step leaves out
    ys, _ = lj.unroll(GRIFFIN, params, xs, state)
    assert_close(ys, published(params, xs))


def test_gradients_of_a_parallel_scan():
    params, xs = drawn()

    def loss(params, xs, gradient):
        return jnp.sum(lj.unroll(GRIFFIN, params, xs, gradient=gradient)[0] ** 2)

    found, expected = (
        jax.jit(jax.grad(partial(loss, gradient=gradient), (0, 1)))(params, xs)
        for gradient in ("manual", "automatic")
    )
    assert_close(found, expected)
    assert lj.runner_of(GRIFFIN, params).runner == "associative scan"


def test_bad_sizes():
    with pytest.raises(ValueError, match=r"hidden_size \+ 1, .*got 4 for"):
        GRIFFIN.init(jax.random.key(0), 4, 4)
    with pytest.raises(ValueError, match="must divide hidden_size = 4; got heads = 3"):
        GRIFFIN.init(jax.random.key(0), 5, 4, heads=3)
