"""Every cell's hand-derived backward against automatic and numerical gradients."""

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
    "lstm": ("LSTM",),
    "mgu": ("MGU",),
    "peephole": ("PEEPHOLE_LSTM",),
}
CELLS = [
    getattr(import_module(f"lstm_jax.cells.{module}"), name)
    for module, names in MODULES.items()
    for name in names
]
WITH_HEADS = [cell for cell in CELLS if "heads" in cell.sizes.__code__.co_consts]

D, H, T, B = 3, 4, 7, 3


def _random(key, like, scale=0.7):
    """Values where no gate is saturated and no rectifier's z is 0."""
    leaves, structure = jax.tree.flatten(like)
    keys = jax.random.split(key, len(leaves))
    drawn = [
        scale * jax.random.normal(k, a.shape, a.dtype) for k, a in zip(keys, leaves)
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


def _objective(cell, gradient, **options):
    """A function whose gradient reaches every output and every final state field."""

    def objective(params, state, xs):
        ys, final = lj.unroll(cell, params, xs, state, gradient=gradient, **options)
        return sum(
            jnp.sum(jnp.cos(jnp.arange(a.size, dtype=a.dtype).reshape(a.shape)) * a)
            for a in (ys, *jax.tree.leaves(final))
        )

    return objective


def _close(got, expected, tolerance):
    for (path, a), b in zip(
        jax.tree.leaves_with_path(got), jax.tree.leaves(expected), strict=True
    ):
        scale = max(1.0, float(np.max(np.abs(b), initial=0)))
        np.testing.assert_allclose(
            a, b, rtol=0, atol=tolerance * scale, err_msg=jax.tree_util.keystr(path)
        )


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_one_step_agrees_with_automatic(cell):
    params, state, xs = _setting(cell)

    def step(gradient):
        return lambda *args: lj.step(cell, *args, gradient=gradient)

    new, pull = jax.vjp(step("manual"), params, state, xs[0])
    _, expected = jax.vjp(step("automatic"), params, state, xs[0])
    dnew = _random(jax.random.key(1), new)
    _close(pull(dnew), expected(dnew), 1e-12)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(pull(dnew)))


MASKS = {
    "plain": {},
    "reverse": {"reverse": True},
    "masked": {
        "lengths": np.array([0, 4, T]),
        "resets": np.arange(T * B).reshape(T, B) % 5 == 2,
    },
}


@pytest.mark.parametrize("masks", MASKS)
@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_unrolled_agrees_with_automatic(cell, masks):
    args = _setting(cell)
    grads = [
        jax.jit(jax.grad(_objective(cell, gradient, **MASKS[masks]), (0, 1, 2)))(*args)
        for gradient in ("manual", "automatic")
    ]
    _close(*grads, 1e-12)


@pytest.mark.parametrize("memory", ["states", "recompute"])
@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_memory_policies_agree(cell, memory):
    args = _setting(cell)
    grads = [
        jax.jit(jax.grad(_objective(cell, "manual", memory=m), (0, 1, 2)))(*args)
        for m in (memory, "store")
    ]
    _close(*grads, 1e-12)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_agrees_with_central_differences(cell):
    """Along one direction for each argument's field."""
    args = _setting(cell)
    objective = jax.jit(_objective(cell, "manual"))
    grads = jax.grad(objective, (0, 1, 2))(*args)
    leaves, structure = jax.tree.flatten(args)
    step = 1e-6
    for k, gradient in enumerate(jax.tree.leaves(grads)):
        direction = _random(jax.random.key(k), gradient, 1.0)
        ends = [
            objective(
                *jax.tree.unflatten(
                    structure,
                    [
                        *leaves[:k],
                        leaves[k] + sign * step * direction,
                        *leaves[k + 1 :],
                    ],
                )
            )
            for sign in (1, -1)
        ]
        slope = (ends[0] - ends[1]) / (2 * step)
        expected = jnp.vdot(gradient, direction)
        assert abs(slope - expected) <= 1e-6 * max(1, abs(expected))


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_initial_parameters(cell):
    params = cell.init(jax.random.key(0), D, H)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.float32)}
    assert cell.sizes(params)["input_size"] == D
    assert cell.sizes(params)["hidden_size"] == H
    with pytest.raises(ValueError, match="hidden_size must be at least 1"):
        cell.init(jax.random.key(0), D, 0)
    with pytest.raises(TypeError):
        cell.init(jax.random.key(0), 2.5, H)
    with pytest.raises(TypeError, match="dtype must be floating"):
        cell.init(jax.random.key(0), D, H, dtype=jnp.int32)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
@pytest.mark.parametrize("scale", [1e3, -1e3])
def test_saturated_gates_have_finite_gradients(cell, scale):
    params = cell.init(jax.random.key(0), D, H, dtype=jnp.float64)
    params = params._replace(b=jnp.full_like(params.b, scale))
    xs = jnp.ones((T, B, D))
    for gradient in ("manual", "automatic"):
        grads = jax.grad(_objective(cell, gradient), (0, 2))(params, None, xs)
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(grads))
