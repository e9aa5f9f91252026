"""`jax.export`: programs for other machines, and for sizes that are not known yet."""

import jax
import jax.numpy as jnp
import pytest
from jax import export
from oracles import assert_close, drawn_inputs

import lstm_jax as lj


def value_and_gradient(cell, **options):
    def loss(params, xs):
        return jnp.sum(lj.unroll(cell, params, xs, **options)[0] ** 2)

    return jax.jit(jax.value_and_grad(loss))


@pytest.mark.parametrize("name", ["lstm", "min_gru"])
def test_an_exported_program_needs_nothing_of_this_machine(name):
    """No call of what was compiled here; and it runs."""
    params, xs, _ = drawn_inputs(lj.CELLS[name], 5, (2,))
    run = value_and_gradient(lj.CELLS[name])
    exported = export.export(run, platforms=("cpu", "cuda"))(params, xs)
    assert "custom_call @lstm_jax" not in exported.mlir_module()
    assert_close(exported.call(params, xs), run(params, xs))


def test_it_goes_through_a_file():
    params, xs, _ = drawn_inputs(lj.LSTM, 5, (2,))
    run = jax.jit(lambda given, xs: lj.unroll(lj.LSTM, type(params)(*given), xs)[0])
    again = export.deserialize(export.export(run)(tuple(params), xs).serialize())
    assert_close(again.call(tuple(params), xs), run(tuple(params), xs))


@pytest.mark.parametrize(
    ("shape", "gradient", "memory"),
    [
        ("t, b, 3", "manual", None),
        ("t, b, 3", "manual", "recompute"),
        ("t, b, 3", "automatic", "store"),
        ("20, b, 3", "manual", "store"),
        ("t, 2, 3", "manual", "states"),
    ],
)
def test_symbolic_sizes(shape, gradient, memory):
    params, xs, _ = drawn_inputs(lj.LSTM, 20, (2,))
    run = value_and_gradient(lj.LSTM, gradient=gradient, memory=memory)
    symbolic = jax.ShapeDtypeStruct(export.symbolic_shape(shape), xs.dtype)
    exported = export.export(run)(params, symbolic)
    assert_close(exported.call(params, xs), run(params, xs))
