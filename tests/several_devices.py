"""`unroll` on four devices; test_transformations.py runs this in a program of its own.

JAX settles the number of devices once for a program, and other tests want one.
"""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from oracles import (
    EACH_GRADIENT,
    EACH_KIND,
    EACH_MEMORY,
    assert_close,
    drawn_inputs,
    drawn_like,
    on_device,
)

import lstm_jax as lj
from lstm_jax.engine import runner_of

DEVICES = 4
STEPS = 3
LENGTHS = np.array([0, 1, 3, 2])
RESETS = np.arange(STEPS * DEVICES).reshape(STEPS, DEVICES) % 5 == 1

SHARED = PartitionSpec()
BY_SEQUENCE = PartitionSpec("data")
BY_TIME_AND_SEQUENCE = PartitionSpec(None, "data")
# Parameters and what they are applied to: xs, lengths, resets.
SPECS = (SHARED, BY_TIME_AND_SEQUENCE, BY_SEQUENCE, BY_TIME_AND_SEQUENCE)


def mesh_of(kind):
    return jax.make_mesh((DEVICES,), ("data",), axis_types=(kind,))


def drawn(cell):
    params, xs, _ = drawn_inputs(cell, STEPS, (DEVICES,))
    return params, xs, *on_device((LENGTHS, RESETS))


def loss(cell, params, xs, lengths, resets, **options):
    masks = {"lengths": lengths, "resets": resets}
    ys, final = lj.unroll(cell, params, xs, **masks, **options)
    return jnp.sum(ys**2) + sum(jnp.sum(jnp.sin(s)) for s in jax.tree.leaves(final))


def value_and_gradients(cell, **options):
    return jax.value_and_grad(partial(loss, cell, **options), (0, 1))


@cache
def expected_of(cell):
    return jax.jit(value_and_gradients(cell, gradient="automatic"))(*drawn(cell))


def test_there_are_four_devices():
    assert jax.device_count() == DEVICES


@EACH_KIND
@EACH_GRADIENT
def test_shard_map_with_its_check_of_replication(cell, gradient):
    """Weights that all devices share get the gradient of the whole batch."""
    arguments = drawn(cell)

    def on_each_device(*arguments):
        value, gradients = value_and_gradients(cell, gradient=gradient)(*arguments)
        return lax.psum(value, "data"), gradients

    run = jax.shard_map(
        on_each_device,
        mesh=mesh_of(AxisType.Auto),
        in_specs=SPECS,
        out_specs=(SHARED, (SHARED, BY_TIME_AND_SEQUENCE)),
    )
    assert_close(jax.jit(run)(*arguments), expected_of(cell))


@EACH_GRADIENT
@EACH_MEMORY
@pytest.mark.parametrize("check", [True, False])
def test_gradients_of_a_shard_map(gradient, memory, check):
    arguments = drawn(lj.LSTM)

    def total(*arguments):
        value = loss(lj.LSTM, *arguments, gradient=gradient, memory=memory)
        return lax.psum(value, "data")

    run = jax.shard_map(
        total,
        mesh=mesh_of(AxisType.Auto),
        in_specs=SPECS,
        out_specs=SHARED,
        check_vma=check,
    )
    found = jax.jit(jax.value_and_grad(run, (0, 1)))(*arguments)
    assert_close(found, expected_of(lj.LSTM))


@EACH_GRADIENT
def test_a_step_under_shard_map(gradient):
    params, xs, _, _ = drawn(lj.LSTM)

    def total(params, x):
        new = lj.step(lj.LSTM, params, None, x, gradient=gradient)
        return jnp.sum(jnp.sin(new.h) + new.c**2)

    def on_each_device(params, x):
        return jax.grad(total)(params, x)

    run = jax.shard_map(
        on_each_device,
        mesh=mesh_of(AxisType.Auto),
        in_specs=(SHARED, BY_SEQUENCE),
        out_specs=SHARED,
    )
    expected = jax.jit(jax.grad(total))(params, xs[0])
    assert_close(jax.jit(run)(params, xs[0]), expected)


@EACH_KIND
@EACH_GRADIENT
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_jit_over_a_mesh(cell, gradient, kind):
    arguments = drawn(cell)
    expected = expected_of(cell)
    mesh = mesh_of(kind)
    shardings = [NamedSharding(mesh, spec) for spec in SPECS]
    with jax.set_mesh(mesh):
        placed = tuple(map(jax.device_put, arguments, shardings))
        run = jax.jit(value_and_gradients(cell, gradient=gradient))
        value, (dparams, dxs) = run(*placed)
    assert_close((value, (dparams, dxs)), expected)
    assert dxs.sharding.is_equivalent_to(shardings[1], dxs.ndim)
    assert all(d.sharding.is_fully_replicated for d in jax.tree.leaves(dparams))


@EACH_GRADIENT
def test_results_on_explicit_axes_lie_like_the_inputs(gradient):
    params, xs, _, _ = drawn(lj.LSTM)
    with jax.set_mesh(mesh_of(AxisType.Explicit)):
        xs = jax.device_put(xs, BY_TIME_AND_SEQUENCE)
        ys, final = lj.unroll(lj.LSTM, params, xs, gradient=gradient)
        new = lj.step(lj.LSTM, params, None, xs[0], gradient=gradient)
    assert jax.typeof(ys).sharding.spec == PartitionSpec(None, "data", None)
    for state in (final, new):
        assert jax.typeof(state.h).sharding.spec == PartitionSpec("data", None)


def along(run, at, masks):
    """The derivative in a direction of parameters and xs."""
    tangents = drawn_like(at, 7)
    return jax.jvp(lambda *at: run(*at, *masks), at, tangents)


def hessian_product(run, at, masks):
    """Forward over reverse."""
    gradients = jax.grad(lambda *at: run(*at, *masks), (0, 1))
    return jax.jvp(gradients, at, drawn_like(at, 7))[1]


def bias_jacobian(run, at, masks):
    """Forward, a column for each number."""
    params, xs = at
    return jax.jacfwd(lambda b: run(params._replace(b=b), xs, *masks))(params.b)


@cache
def evaluated(evaluate, cell):
    """What `evaluate` finds on one device, of automatic gradients."""
    params, xs, *masks = drawn(cell)
    run = partial(loss, cell, gradient="automatic")
    return jax.jit(lambda at: evaluate(run, at, masks))((params, xs))


EACH_FORWARD = pytest.mark.parametrize(
    "evaluate", [along, hessian_product, bias_jacobian]
)


@EACH_FORWARD
@pytest.mark.parametrize("name", ["lstm", "min_gru"])
def test_forward_mode_of_a_shard_map(name, evaluate):
    """With its check of replication."""
    cell = lj.CELLS[name]
    params, xs, *masks = drawn(cell)

    def total(*arguments):
        return lax.psum(loss(cell, *arguments), "data")

    run = jax.shard_map(
        total, mesh=mesh_of(AxisType.Auto), in_specs=SPECS, out_specs=SHARED
    )
    found = jax.jit(lambda at: evaluate(run, at, masks))((params, xs))
    assert_close(found, evaluated(evaluate, cell))


@EACH_FORWARD
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_forward_mode_of_jit_over_a_mesh(kind, evaluate):
    arguments = drawn(lj.LSTM)
    expected = evaluated(evaluate, lj.LSTM)
    mesh = mesh_of(kind)
    with jax.set_mesh(mesh):
        placed = [
            jax.device_put(a, NamedSharding(mesh, spec))
            for a, spec in zip(arguments, SPECS, strict=True)
        ]
        run = jax.jit(lambda *a: evaluate(partial(loss, lj.LSTM), a[:2], a[2:]))
        assert_close(run(*placed), expected)


@pytest.mark.parametrize("key", [None, jax.random.key(0)], ids=["expected", "drawn"])
@pytest.mark.parametrize("name", ["lstm", "min_gru"])
def test_zoneout_over_a_mesh(name, key):
    cell = lj.CELLS[name]
    arguments = drawn(cell)
    zoneout = lj.Zoneout({"h": 0.5}, key)
    run = jax.jit(value_and_gradients(cell, zoneout=zoneout))
    expected = run(*arguments)
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = mesh_of(kind)
        with jax.set_mesh(mesh):
            placed = [
                jax.device_put(a, NamedSharding(mesh, spec))
                for a, spec in zip(arguments, SPECS, strict=True)
            ]
            assert_close(run(*placed), expected)


@pytest.mark.parametrize("name", ["lstm", "min_gru"])
@pytest.mark.parametrize("mixed", [False, True], ids=["zoneout", "mixed precision"])
def test_wrapped_cells_under_shard_map(name, mixed):
    """Gradients of a shard_map, with its check of replication."""
    cell, options = lj.CELLS[name], {"zoneout": lj.Zoneout({"h": 0.5})}
    arguments = drawn(cell)
    if mixed:
        cell, options = lj.mixed_precision(cell), {}

    def total(*arguments):
        return lax.psum(loss(cell, *arguments, **options), "data")

    run = jax.shard_map(
        total, mesh=mesh_of(AxisType.Auto), in_specs=SPECS, out_specs=SHARED
    )
    found = jax.jit(jax.value_and_grad(run, (0, 1)))(*arguments)
    expected = jax.jit(value_and_gradients(cell, **options))(*arguments)
    assert_close(found, expected, 1e-2 if mixed else 1e-12)


@pytest.mark.parametrize("many", [False, True], ids=["alone", "vmap"])
def test_compiled_steps_take_each_device_s_part(many):
    """No device sees another's sequences, nor waits but for the gradients' sum."""
    cell = lj.CELLS["gru"]
    params, xs, *_ = drawn(cell)
    if runner_of(cell, params).runner != "compiled C++":
        pytest.skip("no C++ compiler, or LSTM_JAX_NATIVE=0")

    def total(params, xs):
        return jnp.sum(jnp.sin(lj.unroll(cell, params, xs)[0]))

    run, spec = jax.value_and_grad(total, (0, 1)), BY_TIME_AND_SEQUENCE
    if many:
        run, spec = jax.vmap(run, (None, 0)), PartitionSpec(None, *spec)
        xs = jnp.stack([xs, -xs])
    mesh = mesh_of(AxisType.Auto)
    placed = [
        jax.device_put(a, NamedSharding(mesh, s))
        for a, s in ((params, SHARED), (xs, spec))
    ]
    compiled = jax.jit(run).lower(*placed).compile()
    assert_close(compiled(*placed), jax.jit(run)(params, xs))
    text = compiled.as_text()
    [call] = [line for line in text.splitlines() if "_Forward" in line]
    assert f"f64[{'2,' if many else ''}1,4]" in call.split("custom-call")[0]
    assert "all-gather" not in text
