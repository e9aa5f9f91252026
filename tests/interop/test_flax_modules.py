"""Cells as flax modules: the same numbers as `unroll`, wherever flax cells go."""

import pickle
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from oracles import EACH_GRADIENT, EACH_KIND, assert_close, drawn_like

import lstm_jax as lj
from lstm_jax.interop import LinenCell, NNXCell, from_nnx

STEPS, BATCH, INPUT_SIZE, HIDDEN_SIZE = 4, 2, 3, 4
XS = drawn_like(jax.ShapeDtypeStruct((BATCH, STEPS, INPUT_SIZE), "float64"))


def made(cell=lj.LSTM, **options):
    return NNXCell(
        INPUT_SIZE,
        HIDDEN_SIZE,
        cell=cell,
        param_dtype=jnp.float64,
        rngs=nnx.Rngs(0),
        **options,
    )


def square(ys):
    return (ys**2).sum()


def unrolled(cell, params, xs=XS, **options):
    """Outputs of `lj.unroll` in the layout of flax, batch first."""
    ys, final = lj.unroll(cell, params, xs.swapaxes(0, 1), **options)
    return ys.swapaxes(0, 1), final


def gradients_of_unroll(cell, params):
    return jax.jit(jax.grad(lambda p: square(unrolled(cell, p)[0])))(params)


@EACH_KIND
def test_any_cell_in_nnx_rnn(cell):
    module = made(cell)
    rnn = nnx.RNN(module, return_carry=True)

    def loss(rnn):
        carry, ys = rnn(XS)
        return square(ys), (carry, ys)

    found, (carry, ys) = nnx.jit(nnx.grad(loss, has_aux=True))(rnn)
    expected_ys, final = unrolled(cell, module.params)
    assert_close((ys, carry), (expected_ys, final))
    gradients = {field: value[...] for field, value in found["cell"].items()}
    assert_close(gradients, gradients_of_unroll(cell, module.params)._asdict())


def ten_times(*arguments):
    dstate, dz = lj.LSTM.backward(*arguments)
    return dstate, jax.tree.map(lambda d: 10 * d, dz)


def test_the_gradient_that_was_asked_for_runs():
    """A cell with a wrong reverse shows which."""
    cell = lj.LSTM._replace(backward=ten_times)

    def run(gradient, x):
        module = made(cell, gradient=gradient)
        _, y = module(module.initialize_carry((INPUT_SIZE,)), x)
        return y.sum()

    by_hand, by_jax = (
        jax.grad(partial(run, gradient))(XS[0, 0])
        for gradient in ("manual", "automatic")
    )
    assert_close(by_hand, 10 * by_jax)


@EACH_GRADIENT
def test_unroll_is_ljs(gradient):
    module = made(gradient=gradient)
    xs, lengths = XS.swapaxes(0, 1), jnp.array([1, 3])
    found = module.unroll(xs, lengths=lengths, reverse=True, memory="states")
    expected = lj.unroll(
        lj.LSTM, module.params, xs, lengths=lengths, reverse=True, gradient="automatic"
    )
    assert_close(found, expected)


@pytest.mark.promotes_ranks
def test_lengths_and_both_directions():
    lengths = jnp.array([STEPS, 2])
    forward, backward = made(), made(forget_bias=2.0)
    ys = nnx.Bidirectional(nnx.RNN(forward), nnx.RNN(backward))(XS, seq_lengths=lengths)
    valid = (jnp.arange(STEPS) < lengths[:, None])[..., None]
    expected = [
        unrolled(lj.LSTM, module.params, lengths=lengths, reverse=reverse)[0]
        for module, reverse in ((forward, False), (backward, True))
    ]
    # What nnx computes beyond a sequence's length is left to nnx.
    ys = jnp.where(valid, ys, jnp.zeros_like(ys))
    assert_close(ys, jnp.concatenate(expected, axis=-1))


def test_the_parameters_can_be_replaced():
    module, theirs = made(), nnx.LSTMCell(INPUT_SIZE, HIDDEN_SIZE, rngs=nnx.Rngs(1))
    params = jax.tree.map(lambda a: a.astype(jnp.float64), from_nnx(lj.LSTM, theirs))
    module.set_params(params)
    assert_close(module.params, params, 0.0)
    with pytest.raises(TypeError, match="must have one dtype"):
        module.set_params(params._replace(b=params.b.astype(jnp.float32)))
    assert_close(module.params, params, 0.0)


def test_without_a_bias():
    module = made("gru", bias=False)
    bare = module.params
    assert (bare.b, bare.bh) == (None, None)
    assert len(jax.tree.leaves(nnx.state(module, nnx.Param))) == 2
    _, y = module(module.initialize_carry((INPUT_SIZE,)), XS[0, 0])
    assert y.shape == (HIDDEN_SIZE,)
    twice = bare._replace(Wx=2 * bare.Wx)
    module.set_params(twice)
    assert_close(module.params, twice, 0.0)
    with pytest.raises(ValueError, match="have a bias if the module has one"):
        module.set_params(made("gru").params)


def test_the_carry_can_be_drawn():
    module = made()
    zeros = module.initialize_carry((BATCH, INPUT_SIZE))
    assert_close(zeros, lj.LSTM.initial_state(module.params, (BATCH,)), 0.0)
    for rngs in (nnx.Rngs(0), nnx.Rngs(0).carry):
        drawn = module.initialize_carry(
            (BATCH, INPUT_SIZE), rngs, jax.nn.initializers.normal()
        )
        assert type(drawn) is lj.LSTMState
        assert drawn.h.shape == (BATCH, HIDDEN_SIZE)
        assert drawn.h.dtype == jnp.float64
        assert not np.allclose(drawn.h, drawn.c)


@pytest.mark.jax_defaults
def test_optax_trains_it():
    module = NNXCell(INPUT_SIZE, HIDDEN_SIZE, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(module, optax.adam(0.01), wrt=nnx.Param)
    xs = XS.astype(jnp.float32)

    @nnx.jit
    def step(module, optimizer):
        loss, gradients = nnx.value_and_grad(lambda m: square(nnx.RNN(m)(xs)))(module)
        optimizer.update(module, gradients)
        return loss

    losses = [step(module, optimizer) for _ in range(10)]
    assert losses[-1] < 0.9 * losses[0]


def test_bad_arguments():
    with pytest.raises(ValueError, match="gradient must be one of"):
        made(gradient="none")
    forward_alone = lj.LSTM._replace(backward=None)
    with pytest.raises(ValueError, match="has no hand-derived backward"):
        made(forward_alone)


# --- linen ----------------------------------------------------------------------------


@EACH_GRADIENT
@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_linen_rnn(name, gradient):
    cell = lj.CELLS[name]
    module = LinenCell(INPUT_SIZE, HIDDEN_SIZE, cell, gradient, param_dtype=jnp.float64)
    rnn = nn.RNN(module, return_carry=True)
    variables = rnn.init(jax.random.key(0), XS)
    params = variables["params"]["cell"]["cell"]

    def loss(variables):
        carry, ys = rnn.apply(variables, XS)
        return square(ys), (carry, ys)

    found, (carry, ys) = jax.jit(jax.grad(loss, has_aux=True))(variables)
    expected_ys, final = unrolled(cell, params)
    assert_close((ys, carry), (expected_ys, final))
    gradients = found["params"]["cell"]["cell"]
    assert_close(gradients, gradients_of_unroll(cell, params))


# --- what flax's own cells do ---------------------------------------------------------


def linen(**options):
    return LinenCell(INPUT_SIZE, HIDDEN_SIZE, param_dtype=jnp.float64, **options)


@pytest.mark.parametrize("name", ["lstm", "slstm"])
def test_a_carry_before_there_are_parameters(name):
    """flax's idiom: an unbound module makes the carry that `init` is called with."""
    module = linen(cell=lj.CELLS[name])
    carry = module.initialize_carry(jax.random.key(0), (BATCH, INPUT_SIZE))
    variables = module.init(jax.random.key(1), carry, XS[:, 0])
    found = module.apply(variables, carry, XS[:, 0])
    params = variables["params"]["cell"]
    assert_close(carry, lj.CELLS[name].initial_state(params, (BATCH,)))
    new = lj.step(lj.CELLS[name], params, carry, XS[:, 0])
    assert_close(found, (new, new[0]))


def test_a_dtype_to_compute_in():
    """Parameters stay as they are; integers become numbers."""
    whole = jnp.ones((BATCH, INPUT_SIZE), jnp.int32)
    module = linen(dtype=jnp.float32)
    carry = module.initialize_carry(jax.random.key(0), whole.shape)
    variables = module.init(jax.random.key(1), carry, whole)
    assert {a.dtype for a in jax.tree.leaves(variables)} == {jnp.dtype("float64")}
    found = module.apply(variables, carry, whole)
    assert {a.dtype for a in jax.tree.leaves((carry, found))} == {jnp.dtype("float32")}

    cell = made(dtype=jnp.float32)
    carry = cell.initialize_carry(whole.shape)
    stepped = cell(carry, whole)
    unrolled = cell.unroll(whole[None])
    found = jax.tree.leaves((carry, stepped, unrolled))
    assert {a.dtype for a in found} == {jnp.dtype("float32")}
    assert cell.Wx[...].dtype == jnp.float64
    assert_close(unrolled[0][0], stepped[1], 1e-6)


def test_modules_pickle():
    """With the cell that they had, which runs as before."""
    module = made()
    again = pickle.loads(pickle.dumps(module))
    assert again.cell == lj.LSTM
    assert_close(again.params, module.params)
    module = linen()
    assert pickle.loads(pickle.dumps(module)) == module
