"""What every cell of the table must be, whatever its equations."""

import importlib
import inspect
import pickle
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import tree
from oracles import EACH_CELL, assert_close, drawn_inputs

import lstm_jax as lj
from lstm_jax.cells import PROJECTED_LSTM, SLSTM
from lstm_jax.gated import BlockSizes, GatedBackward, GatedGradients, GatedStep
from lstm_jax.initializers import ZeroState

KEY = jax.random.key(0)
INPUT_SIZE, HIDDEN_SIZE = 3, 4


def init_of(cell, **options):
    return cell.init(KEY, INPUT_SIZE, HIDDEN_SIZE, **options)


@EACH_CELL
def test_its_name_is_its_key(cell):
    assert lj.CELLS[cell.name] is cell


@EACH_CELL
def test_it_is_a_static_argument(cell):
    assert hash(cell) == hash(cell._replace())
    assert cell == cell._replace()
    assert cell != cell._replace(name="another")
    run = jax.jit(lambda c: c.initial_state(init_of(c), ()), static_argnums=0)
    assert run.eval_shape(cell)


@EACH_CELL
def test_it_is_the_same_after_it_was_pickled(cell):
    again = pickle.loads(pickle.dumps(cell))
    assert again == cell
    assert hash(again) == hash(cell)


def test_two_gated_cells_of_the_same_functions_are_equal():
    def built(**changed):
        step, reverse = lj.LSTM.step, lj.LSTM.backward
        given = {
            "init": lj.LSTM.init,
            "initial_state": ZeroState(lj.LSTMState),
            "equations": step.equations,
            "backward": reverse.backward,
        }
        return lj.gated("lstm", **{**given, **changed})

    assert built() == lj.LSTM
    assert hash(built()) == hash(lj.LSTM)
    assert built(equations=SLSTM.step.equations) != lj.LSTM
    assert built(backward=SLSTM.backward.backward) != lj.LSTM
    assert built(sizes=BlockSizes(4)) != lj.LSTM


@EACH_CELL
def test_a_cell_without_its_reverse_says_so(cell):
    assert cell.derived
    assert not cell._replace(backward=None, gradients=None).derived
    assert not cell._replace(backward=None).derived


def test_a_gated_cell_without_a_backward_has_no_gradients():
    given = {"init": lj.LSTM.init, "initial_state": lj.LSTM.initial_state}
    cell = lj.gated("forward", equations=lj.LSTM.step.equations, **given)
    assert cell.backward is None
    assert cell.gradients is None


@EACH_CELL
def test_a_cell_is_gated_in_all_of_its_functions_or_in_none(cell):
    kinds = zip(
        (cell.step, cell.backward, cell.gradients),
        (GatedStep, GatedBackward, GatedGradients),
        strict=True,
    )
    assert len({isinstance(function, kind) for function, kind in kinds}) == 1


@EACH_CELL
def test_sizes_are_those_of_init(cell):
    sizes = cell.sizes(init_of(cell))
    assert (sizes["input_size"], sizes["hidden_size"]) == (INPUT_SIZE, HIDDEN_SIZE)
    again = cell.init(KEY, **sizes)
    tree.map(np.testing.assert_array_equal, again, init_of(cell))


@EACH_CELL
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_parameters_have_the_dtype_asked_for(cell, dtype):
    params = jax.eval_shape(lambda: init_of(cell, dtype=dtype))
    assert {leaf.dtype for leaf in tree.leaves(params)} == {jnp.dtype(dtype)}


@EACH_CELL
def test_parameters_are_finite_and_drawn_from_the_key(cell):
    params, other = init_of(cell), cell.init(jax.random.key(1), INPUT_SIZE, HIDDEN_SIZE)
    assert all(np.all(np.isfinite(leaf)) for leaf in tree.leaves(params))
    tree.map(np.testing.assert_array_equal, params, init_of(cell))
    assert any(
        not np.array_equal(a, b)
        for a, b in zip(tree.leaves(params), tree.leaves(other), strict=True)
    )


@EACH_CELL
def test_no_two_parameters_are_one_array(cell):
    """A training step that takes its arguments over cannot take one over twice."""
    leaves = tree.leaves(init_of(cell))
    assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves)


@EACH_CELL
def test_recurrent_weights_are_orthogonal_gate_by_gate(cell):
    params = init_of(cell, dtype=jnp.float64)
    Wh = getattr(params, "Wh", None)
    if Wh is None:
        pytest.skip(f"{cell.name} has no recurrent matrix")
    if Wh.shape[0] != HIDDEN_SIZE or Wh.shape[1] % HIDDEN_SIZE:
        pytest.skip(f"the recurrent matrix of {cell.name} is not square by gate")
    for block in np.split(np.asarray(Wh), Wh.shape[1] // HIDDEN_SIZE, axis=1):
        assert_close(block.T @ block, np.eye(HIDDEN_SIZE))


@EACH_CELL
def test_options_of_init_are_used(cell):
    """Whichever of the initializers a cell has can be replaced."""
    accepted = inspect.signature(cell.init).parameters
    for option, field in (("input_init", "Wx"), ("recurrent_init", "Wh")):
        if option in accepted or "options" in accepted:
            if field not in init_of(cell)._fields:
                continue
            params = init_of(cell, **{option: jax.nn.initializers.constant(7.0)})
            assert np.all(np.asarray(getattr(params, field)) == 7.0)
    if "forget_bias" in accepted:
        changed = [
            not np.array_equal(a, b)
            for a, b in zip(init_of(cell, forget_bias=7.0), init_of(cell), strict=True)
        ]
        assert sum(changed) == 1
        assert accepted["forget_bias"].default in np.asarray(init_of(cell).b)
        assert 7.0 in np.asarray(init_of(cell, forget_bias=7.0).b)


@EACH_CELL
def test_a_dtype_that_is_not_floating(cell):
    with pytest.raises(TypeError, match="dtype must be floating; got int32"):
        init_of(cell, dtype=jnp.int32)


@EACH_CELL
@pytest.mark.parametrize("sizes", [(0, 4), (3, 0), (-1, 4), (2.0, 4), ("3", 4)])
def test_wrong_sizes(cell, sizes):
    with pytest.raises((TypeError, ValueError), match=r"input_size|hidden_size"):
        inspect.unwrap(cell.init)(KEY, *sizes)


@EACH_CELL
@pytest.mark.parametrize("batch_shape", [(), (2,), (2, 3)])
def test_the_initial_state(cell, batch_shape):
    params = jax.eval_shape(lambda: init_of(cell, dtype=jnp.bfloat16))
    state = jax.eval_shape(lambda p: cell.initial_state(p, batch_shape), params)
    assert type(state)._fields
    for leaf in state:
        assert leaf.shape[: len(batch_shape)] == batch_shape
        assert leaf.dtype == jnp.bfloat16


@EACH_CELL
def test_a_step_takes_any_leading_axes(cell):
    """And each example is a problem of its own."""
    params, xs, state = drawn_inputs(cell, 1, (2, 3))

    def one(arrays):
        return tree.map(lambda a: a[1, 2], arrays)

    @jax.jit
    def both(params, state, x):
        new = lj.step(cell, params, state, x)
        return new, lj.step(cell, params, one(state), one(x))

    new, alone = both(params, state, xs[0])
    assert tree.map(jnp.shape, new) == tree.map(jnp.shape, state)
    assert_close(one(tree.map(np.asarray, new)), alone)


@EACH_CELL
def test_its_docstring_has_numbered_equations(cell):
    """From (1) on, with a source that has a year."""
    text = importlib.import_module(cell.init.__module__).__doc__
    numbers = [int(n) for n in re.findall(r"(?m)^ +\((\d+)\) ", text)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 2
    assert re.search(r"\b(19|20)\d\d\b", text)


# --- options of some cells -----------------------------------------------------------


def test_heads_must_divide_the_hidden_size():
    with pytest.raises(ValueError, match="heads must divide hidden_size = 4; got"):
        init_of(lj.LSTM, heads=3)


def test_heads_are_drawn_orthogonal():
    Wh = init_of(lj.LSTM, heads=2, dtype=jnp.float64).Wh
    assert Wh.shape == (4, 2, HIDDEN_SIZE // 2, HIDDEN_SIZE // 2)
    found = Wh.swapaxes(-1, -2) @ Wh
    assert_close(found, jnp.broadcast_to(jnp.eye(HIDDEN_SIZE // 2), Wh.shape))


def test_the_size_of_a_projection():
    params = init_of(PROJECTED_LSTM, projection_size=1)
    assert PROJECTED_LSTM.sizes(params)["projection_size"] == 1
    state = PROJECTED_LSTM.initial_state(params, (2,))
    assert (state.h.shape, state.c.shape) == ((2, 1), (2, HIDDEN_SIZE))
    with pytest.raises(ValueError, match="projection_size must be at least 1"):
        init_of(PROJECTED_LSTM, projection_size=0)


# --- what a gated cell's backward may return -----------------------------------------


def with_a_zero_for_h(*args):
    dstate, dz = lj.LSTM.backward.backward(*args)
    return dstate._replace(h=jnp.zeros_like(dstate.c)), dz


def with_dz_twice(*args):
    dstate, dz = with_a_zero_for_h(*args)
    return dstate, dz, dz


def with_two_products(*args):
    dstate, dz = lj.LSTM.backward.backward(*args)
    return dstate, dz, 1 * dz


@pytest.mark.parametrize(
    "backward", [with_a_zero_for_h, with_dz_twice, with_two_products]
)
def test_a_gated_backward_may_leave_out_what_is_known(backward):
    params, xs, state = drawn_inputs(lj.LSTM, 1, (2,))

    @partial(jax.jit, static_argnums=0)
    def gradients(cell, x):
        new, kept = lj.LSTM.step(params, state, lj.LSTM.project(params, x))
        dstate, dz = cell.backward(params, state, new, kept, tree.map(jnp.cos, new))
        return dstate, cell.gradients(params, x, state, new, kept, dz)

    changed = lj.LSTM._replace(backward=GatedBackward(backward))
    found, expected = (gradients(cell, xs[0]) for cell in (changed, lj.LSTM))
    tree.map(np.testing.assert_array_equal, found, expected)
