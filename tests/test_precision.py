"""Mixed precision: products of 16 bits, and nothing else."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import jaxprs_in_params
from oracles import (
    EACH_KIND,
    assert_close,
    drawn_inputs,
    drawn_like,
    pulled,
    results_like,
)

import lstm_jax as lj

SIZES = {"input_size": 8, "hidden_size": 8, "dtype": jnp.dtype("float32")}
MASKS = {"lengths": np.array([0, 5, 3]), "resets": np.arange(15).reshape(5, 3) == 7}
# Each product is rounded once; a few steps multiply that.
TOLERANCES = {"bfloat16": 0.03, "float16": 0.005}


def drawn(cell):
    arguments = drawn_inputs(cell, 5, (3,), **SIZES)
    return arguments, results_like(*arguments)


@EACH_KIND
@pytest.mark.parametrize("dtype", TOLERANCES)
@jax.default_matmul_precision("highest")
def test_close_to_float32_and_of_its_dtype(cell, dtype):
    """And not the same: the products are rounded, float32's on no device."""
    if dtype == "float16" and cell is not lj.LSTM:
        pytest.skip("one cell is enough")
    arguments, dout = drawn(cell)
    mixed = lj.mixed_precision(cell, jnp.dtype(dtype))
    expected = pulled(cell, *arguments, dout, **MASKS)
    for gradient in ("manual", "automatic"):
        found = pulled(mixed, *arguments, dout, gradient=gradient, **MASKS)
        assert_close(found, expected, TOLERANCES[dtype])
        assert not np.allclose(found[0][0], expected[0][0], rtol=1e-6, atol=0)


def equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from equations(inner)


@EACH_KIND
@pytest.mark.parametrize("memory", ["store", "states"])
def test_products_are_all_that_has_16_bits(cell, memory):
    """Operands of products are cast for them alone, and their sums are float32."""
    arguments, dout = drawn(cell)
    mixed = lj.mixed_precision(cell)

    def gradients(*arguments):
        return pulled(mixed, *arguments, dout, memory=memory)

    found = list(equations(jax.make_jaxpr(gradients)(*arguments).jaxpr))
    products = [e for e in found if e.primitive is lax.dot_general_p]
    assert len(products) >= 3  # of the input, of both its gradients
    for product in products:
        assert {v.aval.dtype for v in product.invars} == {jnp.dtype(jnp.bfloat16)}
        assert product.outvars[0].aval.dtype == jnp.float32
    makers = {
        e.primitive.name
        for e in found
        for v in e.outvars
        if getattr(v.aval, "dtype", None) == jnp.bfloat16
    }
    assert makers == {"convert_element_type"}


def test_heads_and_the_hessian():
    """Products by head are einsums; the rounded reverse can be differentiated again."""
    cell = lj.mixed_precision(lj.LSTM)
    init = partial(lj.LSTM.init, jax.random.key(0), 4, 8, heads=2)
    params = drawn_like(jax.eval_shape(init))
    xs = drawn_like(np.empty((3, 2, 4), np.float32), 1)

    def squared_gradient(cell, params):
        d = jax.grad(lambda p: jnp.sum(lj.unroll(cell, p, xs)[0] ** 2))(params)
        return sum(jnp.sum(a**2) for a in d)

    found, expected = (
        jax.jit(jax.grad(lambda p, cell=c: squared_gradient(cell, p)))(params)
        for c in (cell, lj.LSTM)
    )
    assert_close(found, expected, 0.1)


def test_equal_arguments_give_equal_cells():
    """So that calls alike are compiled once."""
    assert lj.mixed_precision(lj.LSTM) == lj.mixed_precision(lj.LSTM, jnp.bfloat16)
    assert lj.mixed_precision(lj.LSTM, jnp.float16) != lj.mixed_precision(lj.LSTM)


def test_a_step_is_mixed_too():
    params, xs, state = drawn_inputs(lj.LSTM, 5, (3,), **SIZES)
    cell = lj.mixed_precision(lj.LSTM)
    new, _ = lj.unroll(cell, params, xs[:1], state)
    assert_close(lj.step(cell, params, state, xs[0]).h, new[0], 1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.int8, jnp.float64])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(TypeError, match="dtype must be bfloat16 or float16; got"):
        lj.mixed_precision(lj.LSTM, dtype)


def test_what_is_no_cell_is_refused():
    with pytest.raises(TypeError, match="cell must be an"):
        inspect.unwrap(lj.mixed_precision)(lj.CELLS)


def test_a_product_in_a_loop_is_refused():
    def step(params, state, u):
        looped = lax.fori_loop(0, 2, lambda _, h: h @ params.Wh[:, :8], state.h)
        return state._replace(h=looped), None

    cell = lj.mixed_precision(lj.LSTM._replace(step=step))
    arguments, _ = drawn(lj.LSTM)
    with pytest.raises(NotImplementedError, match="matrix product inside scan"):
        lj.unroll(cell, *arguments, gradient="automatic")
