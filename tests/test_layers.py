"""Stacks of cells: against each row unrolled by itself, layer by layer."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import EACH_CELL, assert_close, drawn_like, on_device

from lstm_jax.cells import LSTM, LSTMState
from lstm_jax.engine import unroll
from lstm_jax.layers import (
    Dropout,
    Layer,
    drop_connect,
    dropout,
    init_layers,
    unroll_layers,
    variational_dropout,
)

T, B, D, H = 5, 4, 3, 2
LENGTHS = np.array([0, 1, 3, T])


def stack(layers=2, bidirectional=True):
    return init_layers(
        LSTM,
        jax.random.key(0),
        D,
        H,
        layers=layers,
        bidirectional=bidirectional,
        dtype=jnp.float64,
    )


@pytest.fixture
def xs():
    return drawn_like(np.empty((T, B, D)), 1)


def one_row(params, x):
    """A single sequence without padding; backward is forward on the flipped one."""
    finals = []
    for layer in params:
        ys, forward = unroll(LSTM, layer.forward, x)
        backward = None
        if layer.backward is not None:
            others, backward = unroll(LSTM, layer.backward, x[::-1])
            ys = jnp.concatenate([ys, others[::-1]], axis=-1)
        x = ys
        finals.append(Layer(forward, backward))
    return x, tuple(finals)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_stack_is_its_rows_one_by_one(xs, layers, bidirectional):
    params = stack(layers, bidirectional)

    @jax.jit
    def both(params, xs):
        rows = [one_row(params, xs[:n, k : k + 1]) for k, n in enumerate(LENGTHS)]
        return unroll_layers(LSTM, params, xs, lengths=LENGTHS), rows

    (ys, finals), rows = jax.tree.map(np.asarray, both(params, xs))
    assert ys.shape == (T, B, H * (1 + bidirectional))
    for row, length in enumerate(LENGTHS):
        expected, expected_finals = rows[row]
        np.testing.assert_allclose(ys[:length, row], expected[:, 0], atol=1e-14)
        np.testing.assert_array_equal(ys[length:, row], 0)
        jax.tree.map(
            lambda a, b, n=row: np.testing.assert_allclose(a[n], b[0], atol=1e-14),
            finals,
            expected_finals,
        )


@EACH_CELL
def test_every_cell_stacks(cell):
    """Whatever the size of its output."""

    def run(key, xs):
        options = {"layers": 3, "bidirectional": True, "dtype": xs.dtype}
        return unroll_layers(cell, init_layers(cell, key, D, H, **options), xs)

    ys, (*_, last) = jax.eval_shape(run, jax.random.key(0), jnp.ones((T, B, D)))
    assert ys.shape == (T, B, 2 * last.forward[0].shape[-1])


def test_manual_and_automatic_gradients_agree(xs):
    weights = drawn_like(np.empty((T, B, 2 * H)), 2)

    def objective(gradient, params, xs):
        ys, finals = unroll_layers(LSTM, params, xs, lengths=LENGTHS, gradient=gradient)
        return (ys * weights).sum() + sum(f.sum() for f in jax.tree.leaves(finals))

    manual, automatic = (
        jax.jit(jax.grad(partial(objective, name), argnums=(0, 1)))(stack(), xs)
        for name in ("manual", "automatic")
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13),
        manual,
        automatic,
    )


def test_dropout_is_between_layers_alone(xs):
    between = Dropout(jax.random.key(3), 0.5)
    one, two = stack(layers=1), stack(layers=2)
    plain, _ = unroll_layers(LSTM, one, xs)
    np.testing.assert_array_equal(
        unroll_layers(LSTM, one, xs, between=between)[0], plain
    )
    first = dropout(jax.random.fold_in(between.key, 1), plain, 0.5)
    expected, _ = unroll_layers(LSTM, two[1:], first)
    np.testing.assert_array_equal(
        unroll_layers(LSTM, two, xs, between=between)[0], expected
    )
    varied, _ = unroll_layers(LSTM, two, xs, between=between._replace(variational=True))
    first = variational_dropout(jax.random.fold_in(between.key, 1), plain, 0.5)
    np.testing.assert_array_equal(varied, unroll_layers(LSTM, two[1:], first)[0])


@pytest.mark.parametrize("kind", [dropout, variational_dropout])
@pytest.mark.parametrize("rate", [0.2, 0.75])
def test_dropout_keeps_the_mean(kind, rate):
    dropped = np.asarray(kind(jax.random.key(4), jnp.ones((20, 100, 50)), rate))
    assert set(np.unique(dropped)) == {0.0, 1 / (1 - rate)}
    # Five standard deviations of as many draws as there are.
    draws = dropped.size // (20 if kind is variational_dropout else 1)
    assert abs(dropped.mean() - 1) < 5 * np.sqrt(rate / (1 - rate) / draws)
    constant = (dropped == dropped[:1]).all()
    assert constant == (kind is variational_dropout)


@pytest.mark.parametrize("kind", [dropout, variational_dropout])
@pytest.mark.parametrize("rate", [np.float64(0.5), jnp.float32(0.5), np.array(0.5)])
def test_a_rate_is_a_number_whatever_its_type(kind, rate):
    x = jnp.ones((4, 3), jnp.bfloat16)
    found = kind(jax.random.key(4), x, rate)
    assert found.dtype == x.dtype
    np.testing.assert_array_equal(found, kind(jax.random.key(4), x, 0.5))


def test_inputs_that_are_projected_already(xs):
    """As docs/peers.md says: an identity stands for Wx."""
    params = LSTM.init(jax.random.key(0), D, H, dtype=xs.dtype)
    us = xs @ params.Wx
    own = params._replace(Wx=jnp.eye(us.shape[-1], dtype=us.dtype))
    assert_close(unroll(LSTM, own, us), unroll(LSTM, params, xs))


@pytest.mark.parametrize("heads", [1, 2])
def test_drop_connect(heads):
    params = init_layers(LSTM, jax.random.key(0), D, 4, layers=2, heads=heads)
    ones = on_device(jax.tree.map(np.ones_like, params))
    dropped = drop_connect(jax.random.key(0), ones, 0.5)
    for layer, of_layer in zip(dropped, ones, strict=True):
        assert set(np.unique(layer.forward.Wh)) == {0.0, 2.0}
        same = layer.forward._replace(Wh=of_layer.forward.Wh)
        assert_close(same, of_layer.forward, 0.0)
    masks = [np.asarray(layer.forward.Wh) for layer in dropped]
    assert (masks[0] != masks[1]).any()


@pytest.mark.parametrize("heads", [1, 2])
def test_recurrent_dropout_misses_units(heads):
    """Weights without some rows are those of an output without some units."""
    params = LSTM.init(jax.random.key(0), D, 4, dtype=jnp.float64, heads=heads)
    dropped = drop_connect(jax.random.key(1), params, 0.5, units=True)
    ones = on_device(jax.tree.map(np.ones_like, params))
    kept = np.asarray(drop_connect(jax.random.key(1), ones, 0.5, units=True).Wh)
    kept = kept[:, 0] if heads == 1 else kept[0, :, :, 0].ravel()
    assert set(np.unique(kept)) == {0.0, 2.0}
    state, u = LSTMState(*np.ones((2, 4))), np.zeros(16)
    step = jax.jit(LSTM.step)
    found, _ = step(dropped, state, u)
    expected, _ = step(params, state._replace(h=kept), u)
    assert_close(found, expected)


def test_dropped_weights_have_no_gradient(xs):
    params = LSTM.init(jax.random.key(0), xs.shape[-1], 4, dtype=xs.dtype)

    def loss(params):
        dropped = drop_connect(jax.random.key(1), params, 0.5)
        return jnp.sum(unroll(LSTM, dropped, xs)[0])

    found = jax.grad(loss)(params).Wh
    mask = drop_connect(jax.random.key(1), jax.tree.map(jnp.ones_like, params), 0.5).Wh
    np.testing.assert_array_equal(found == 0, mask == 0)


def test_a_field_to_drop_that_is_not_there():
    params = stack()
    with pytest.raises(ValueError, match="fields must be names of parameters; got 'Q'"):
        drop_connect(jax.random.key(0), params, 0.5, fields=("Wh", "Q"))


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_a_rate_out_of_range(rate):
    with pytest.raises(ValueError, match=r"rate must be from 0 to 1.*got"):
        dropout(jax.random.key(0), jnp.ones(3), rate)


@pytest.mark.parametrize("name", ["input_size", "hidden_size", "layers"])
def test_a_size_below_one(name):
    sizes = {"input_size": D, "hidden_size": H, "layers": 1} | {name: 0}
    with pytest.raises(ValueError, match=f"{name} must be at least 1; got 0"):
        init_layers(LSTM, jax.random.key(0), **sizes)


def test_a_size_that_is_no_integer():
    with pytest.raises(TypeError, match=r"hidden_size must be an integer; got 8\.0"):
        init_layers.__wrapped__(LSTM, jax.random.key(0), 3, 8.0)


def test_every_cell_of_a_stack_is_drawn_by_itself():
    cells = [cell for layer in stack(layers=3) for cell in layer]
    recurrent = [np.asarray(cell.Wh) for cell in cells]
    assert len(cells) == 6
    for n, one in enumerate(recurrent):
        assert all(not np.array_equal(one, other) for other in recurrent[:n])
