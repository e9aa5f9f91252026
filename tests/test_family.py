"""Every cell's hand-derived backward against automatic and numerical gradients."""

from functools import lru_cache, partial
from importlib import import_module

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lstm_jax as lj

MODULES = {
    "coupled": ("COUPLED_LSTM",),
    "elman": ("RNN_TANH", "RNN_RELU"),
    "gru": ("GRU",),
    "gru_before": ("GRU_BEFORE",),
    "indrnn": ("INDRNN",),
    "layer_norm_lstm": ("LAYER_NORM_LSTM",),
    "lstm": ("LSTM",),
    "mgu": ("MGU",),
    "min_gru": ("MIN_GRU",),
    "min_lstm": ("MIN_LSTM",),
    "multiplicative": ("MULTIPLICATIVE_LSTM",),
    "peephole": ("PEEPHOLE_LSTM",),
    "projected": ("PROJECTED_LSTM",),
    "rg_lru": ("RG_LRU",),
    "slstm": ("SLSTM",),
}
CELLS = [
    getattr(import_module(f"lstm_jax.cells.{module}"), name)
    for module, names in MODULES.items()
    for name in names
]
each_cell = pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)

D, H, T, B = 3, 4, 7, 3


def _random(key, like, scale=0.7):
    """Values where no gate is saturated and no rectifier's z is 0."""
    leaves, structure = jax.tree.flatten(like)
    keys = jax.random.split(key, len(leaves))
    drawn = [
        scale * jax.random.normal(k, a.shape, a.dtype)
        for k, a in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, drawn)


def _setting(cell, **sizes):
    """Random parameters, biases and elementwise ones included, state and inputs."""
    keys = jax.random.split(jax.random.key(7), 4)
    params = cell.init(keys[0], D, H, dtype=jnp.float64, **sizes)
    params = _random(keys[1], params)
    warm = _random(keys[2], jnp.zeros((B, D)))
    # The state after a step: sLSTM's normalizer has to be positive.
    state = lj.step(cell, params, cell.initial_state(params, (B,)), warm)
    return params, state, _random(keys[3], jnp.zeros((T, B, D)))


def _dnew(state):
    """A gradient of the new state, different in every field."""
    return _random(jax.random.key(1), state)


def _close(got, expected, tolerance):
    for (path, a), b in zip(
        jax.tree.leaves_with_path(got), jax.tree.leaves(expected), strict=True
    ):
        scale = max(1.0, float(np.max(np.abs(b), initial=0)))
        np.testing.assert_allclose(
            a, b, rtol=0, atol=tolerance * scale, err_msg=jax.tree_util.keystr(path)
        )


@lru_cache
def _pulls(cell):
    """By hand and automatically: what a step's gradient makes of the new state's."""

    def pulls(params, state, x, dnew):
        return [
            jax.vjp(partial(lj.step, cell, gradient=gradient), params, state, x)[1](
                dnew
            )
            for gradient in ("manual", "automatic")
        ]

    return jax.jit(pulls)


@each_cell
def test_a_step_agrees_with_automatic(cell):
    params, state, xs = _setting(cell)
    manual, automatic = _pulls(cell)(params, state, xs[0], _dnew(state))
    _close(manual, automatic, 1e-12)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(manual))


@each_cell
def test_a_step_agrees_with_central_differences(cell):
    """Along one random direction for each field of parameters, state and input."""
    params, state, xs = _setting(cell)
    dnew = _dnew(state)
    manual, _ = _pulls(cell)(params, state, xs[0], dnew)
    leaves, structure = jax.tree.flatten((params, state, xs[0]))

    def objective(k, direction, size):
        moved = [*leaves[:k], leaves[k] + size * direction, *leaves[k + 1 :]]
        new = lj.step(cell, *jax.tree.unflatten(structure, moved))
        return sum(map(jnp.vdot, new, dnew))

    for k, gradient in enumerate(jax.tree.leaves(manual)):
        direction = _random(jax.random.key(k), gradient, 1.0)
        rise = objective(k, direction, 1e-6) - objective(k, direction, -1e-6)
        expected = jnp.vdot(gradient, direction)
        assert abs(rise / 2e-6 - expected) <= 1e-6 * max(1, abs(expected))


@each_cell
@pytest.mark.parametrize("size", [1e3, -1e3])
def test_saturated_gates_have_finite_gradients(cell, size):
    params, state, xs = _setting(cell)
    params = params._replace(b=jnp.full_like(params.b, size))
    initial = cell.initial_state(params, (B,))
    pulled = _pulls(cell)(params, initial, xs[0], _dnew(state))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(pulled))


OPTIONS = {
    "masked": {
        "lengths": np.array([0, 4, T]),
        "resets": np.arange(T * B).reshape(T, B) % 5 == 2,
        "reverse": True,
    },
    "states": {"memory": "states"},
    "recompute": {"memory": "recompute"},
}


@each_cell
@pytest.mark.parametrize(
    "options",
    [
        "masked",
        pytest.param("states", marks=pytest.mark.slow),
        pytest.param("recompute", marks=pytest.mark.slow),
    ],
)
def test_unrolled_agrees_with_automatic(cell, options):
    params, state, xs = _setting(cell)

    def objective(params, state, xs, gradient):
        ys, final = lj.unroll(
            cell, params, xs, state, gradient=gradient, **OPTIONS[options]
        )
        out = (ys, *final)
        return sum(jnp.vdot(a, _random(jax.random.key(a.ndim), a)) for a in out)

    @jax.jit
    def gradients(*args):
        return [
            jax.grad(objective, (0, 1, 2))(*args, gradient)
            for gradient in ("manual", "automatic")
        ]

    _close(*gradients(params, state, xs), 1e-12)


@each_cell
def test_initial_parameters(cell):
    params = cell.init(jax.random.key(0), D, H)
    assert {leaf.dtype for leaf in params} == {jnp.dtype(jnp.float32)}
    assert cell.sizes(params)["input_size"] == D
    assert cell.sizes(params)["hidden_size"] == H
    with pytest.raises(ValueError, match="hidden_size must be at least 1"):
        cell.init(jax.random.key(0), D, 0)
    with pytest.raises(TypeError, match="dtype must be floating"):
        cell.init(jax.random.key(0), D, H, dtype=jnp.int32)


HEADED = [cell for cell in CELLS if cell.name in ("slstm", "gru")]


@pytest.mark.parametrize("cell", HEADED, ids=lambda cell: cell.name)
def test_heads_are_a_block_diagonal_recurrence(cell):
    """K heads equal one head whose recurrent matrices have zeros between heads."""
    params, state, xs = _setting(cell, heads=2)
    gates, heads, size, _ = params.Wh.shape
    assert (heads, size) == (2, H // 2)
    dense = np.zeros((H, gates, H))
    for k in range(heads):
        part = slice(k * size, (k + 1) * size)
        dense[part, :, part] = np.swapaxes(params.Wh[:, k], 0, 1)
    one_head = params._replace(Wh=jnp.asarray(dense.reshape(H, gates * H)))
    assert cell.sizes(params)["heads"] == heads
    _close(
        lj.step(cell, params, state, xs[0]),
        lj.step(cell, one_head, state, xs[0]),
        1e-14,
    )
    manual, automatic = _pulls(cell)(params, state, xs[0], _dnew(state))
    _close(manual, automatic, 1e-12)


def test_heads_must_divide_the_hidden_size():
    with pytest.raises(ValueError, match="heads must divide hidden_size = 4"):
        CELLS[0].init(jax.random.key(0), D, H, heads=3)


def test_projection_size():
    cell = next(cell for cell in CELLS if cell.name == "projected_lstm")
    params = cell.init(jax.random.key(0), D, H, projection_size=1)
    ys, final = lj.unroll(cell, params, jnp.zeros((T, B, D), jnp.float32))
    assert (ys.shape, final.c.shape) == ((T, B, 1), (B, H))
    with pytest.raises(ValueError, match="projection_size must be at least 1"):
        cell.init(jax.random.key(0), D, H, projection_size=0)
