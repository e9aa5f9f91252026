"""Bad input at each door: what kind of error, and what it says came."""

import inspect
import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import tree
from oracles import EACH_CELL, EACH_GRADIENT, drawn_inputs, drawn_params, on_device

import lstm_jax as lj

# As users call them. Elsewhere in the tests annotations are checked, before the doors.
unroll = inspect.unwrap(lj.unroll)
step = inspect.unwrap(lj.step)

PARAMS, XS, STATE = drawn_inputs(lj.LSTM, 5, (4,), hidden_size=2)
STATE_OF_ONE = on_device(tree.map(lambda a: np.asarray(a)[:1], STATE))


class Other(NamedTuple):
    h: jax.Array
    c: jax.Array


class Tensor:
    """An array of some other library."""

    shape, ndim, dtype = (5, 4, 3), 3, "float64, of that library"

    def __getitem__(self, _):
        return self


class Row(NamedTuple):
    """Arguments in place of good ones; the error, and a part of its message."""

    changed: dict
    error: type[Exception]
    message: str


def params_with(**fields):
    return {"params": PARAMS._replace(**fields)}


def ones(*shape, dtype=float):
    return on_device(np.ones(shape, dtype))


def in_32_bits(values):
    return on_device(tree.map(lambda a: np.asarray(a, np.float32), values))


NO_BACKWARD = lj.gated(
    "underived",
    init=lj.LSTM.init,
    initial_state=lj.LSTM.initial_state,
    equations=lambda params, state, u, v: (state, None),
)

# What `unroll` and `step` share.
BOTH = {
    "gradient": Row(
        {"gradient": "numeric"},
        ValueError,
        "gradient must be one of 'manual', 'automatic'; got 'numeric'",
    ),
    "gradient of another type": Row({"gradient": 1}, ValueError, "; got 1"),
    "no name of a cell": Row(
        {"cell": "lstn"}, ValueError, "cell must be one of 'rnn_tanh', 'rnn_relu'"
    ),
    "no cell": Row({"cell": 4}, TypeError, "cell must be an lstm_jax.Cell, such as"),
    "no backward": Row(
        {"cell": NO_BACKWARD},
        ValueError,
        'cell "underived" has no hand-derived backward; pass gradient="automatic"',
    ),
    "params None": Row(
        {"params": None}, TypeError, "must be what its init returns; got a NoneType"
    ),
    "params a tuple": Row(
        {"params": tuple(PARAMS)}, TypeError, "init returns; got a tuple"
    ),
    "params a dict": Row(
        {"params": PARAMS._asdict()}, TypeError, "init returns; got a dict"
    ),
    "params of another cell": Row(
        {"params": Other(PARAMS.Wx, PARAMS.Wh)},
        TypeError,
        "init returns; got Other(h, c)",
    ),
    "params with a list": Row(
        params_with(b=[0.0] * 8), TypeError, "parameters must be arrays; got float"
    ),
    "params of integers": Row(
        params_with(b=ones(8, dtype=int)),
        TypeError,
        "parameters must have a floating dtype; got int64",
    ),
    "params of two dtypes": Row(
        params_with(b=ones(8, dtype=jnp.float32)),
        TypeError,
        "parameters must have one dtype; got float32, float64",
    ),
    "params of a wrong size": Row(
        params_with(b=ones(6)),
        ValueError,
        "field b, must have the shape (8,); got (6,)",
    ),
    "params that do not fit": Row(
        params_with(Wx=ones(3, 12)),
        ValueError,
        "field Wx, must have the shape (3, 8); got (3, 12)",
    ),
    "params of a wrong rank": Row(params_with(b=ones(1, 8)), ValueError, "got (1, 8)"),
    "inputs None": Row({"x": None}, TypeError, "must be arrays; got NoneType"),
    "inputs a list": Row({"x": [[0.0]]}, TypeError, "must be arrays; got list"),
    "inputs of another library": Row(
        {"x": Tensor()}, TypeError, "must be arrays of JAX or NumPy; got test_doors.Ten"
    ),
    "inputs of integers": Row(
        {"x": ones(*XS.shape, dtype=int)},
        TypeError,
        "must have a floating dtype; got int64",
    ),
    "inputs of complex numbers": Row(
        {"x": ones(*XS.shape, dtype=complex)}, TypeError, "got complex128"
    ),
    "inputs of another dtype": Row(
        {"x": in_32_bits(XS)},
        TypeError,
        "must have the parameters' dtype float64; got float32. Nothing is cast in",
    ),
    "inputs of another size": Row(
        {"x": ones(5, 4, 2)},
        ValueError,
        ", its last axis the parameters' input size; got (",
    ),
    "state a tuple": Row(
        {"state": tuple(STATE)}, TypeError, "must be LSTMState(h, c); got a tuple"
    ),
    "state of another cell": Row(
        {"state": Other(*STATE)}, TypeError, "must be LSTMState(h, c); got Other(h, c)"
    ),
    "state of one sequence": Row(
        {"state": STATE_OF_ONE},
        ValueError,
        'the state of cell "lstm", field h, must have the shape (',
    ),
    "state of another dtype": Row(
        {"state": in_32_bits(STATE)},
        TypeError,
        "field h, must have the dtype float64; got float32",
    ),
    "state of integers": Row(
        {"state": STATE._replace(c=ones(*STATE.c.shape, dtype=int))},
        TypeError,
        "field c, must have a floating dtype; got int64",
    ),
}

UNROLL = {
    "memory": Row(
        {"memory": "none"},
        ValueError,
        "memory must be one of None, 'store', 'states', 'recompute'; got 'none'",
    ),
    "inputs without time": Row(
        {"x": ones(3)}, ValueError, "xs must have the shape (T, *batch, 3)"
    ),
    "lengths of floats": Row(
        {"lengths": ones(4)}, TypeError, "lengths must be integers; got float64"
    ),
    "lengths of booleans": Row(
        {"lengths": ones(4, dtype=bool)},
        TypeError,
        "lengths must be integers; got bool",
    ),
    "lengths of another batch": Row(
        {"lengths": np.ones(3, int)},
        ValueError,
        "must have the shape (4,), one for each sequence; got (3,)",
    ),
    "one length for all": Row(
        {"lengths": 5}, ValueError, "must have the shape (4,), one for"
    ),
    "lengths beyond T": Row(
        {"lengths": np.array([0, 6, 5, 9])},
        ValueError,
        "lengths must be from 0 to T = 5; got 6 for sequence 1, and 1 more like it",
    ),
    "lengths below 0": Row(
        {"lengths": on_device(np.array([-1, 2, 3, 4]))},
        ValueError,
        "= 5; got -1 for sequence 0",
    ),
    "resets of integers": Row(
        {"resets": np.zeros((5, 4), int)},
        TypeError,
        "resets must be booleans; got int64",
    ),
    "resets without time": Row(
        {"resets": np.zeros(4, bool)},
        ValueError,
        "resets must have the shape (5, 4); got (4,)",
    ),
    "resets with features": Row(
        {"resets": np.zeros((5, 4, 1), bool)}, ValueError, "got (5, 4, 1)"
    ),
}

GOOD = {"cell": lj.LSTM, "params": PARAMS, "x": XS, "state": STATE}


def call_unroll(cell, params, x, state, **options):
    return unroll(cell, params, x, state, **options)


def call_step(cell, params, x, state, **options):
    x = x[0] if hasattr(x, "ndim") else x
    return step(cell, params, state, x, **options)


def refused(call, row):
    call(**GOOD)
    with pytest.raises(row.error) as caught:
        call(**GOOD | row.changed)
    assert row.message in str(caught.value)


@pytest.mark.parametrize("row", (BOTH | UNROLL).values(), ids=BOTH | UNROLL)
def test_unroll_refuses(row):
    refused(call_unroll, row)


@pytest.mark.parametrize("row", BOTH.values(), ids=BOTH)
def test_step_refuses(row):
    refused(call_step, row)


def test_step_refuses_a_scalar():
    with pytest.raises(ValueError, match=r"x must have the shape \(\*batch, 3\)"):
        step(lj.LSTM, PARAMS, None, jnp.zeros(()))


@EACH_CELL
@EACH_GRADIENT
def test_every_cell_has_these_doors(cell, gradient):
    """Each parameter and each field of the state of a size too large by one."""
    params, xs, state = drawn_inputs(cell, 2, (4,))
    leaves, structure = tree.flatten((params, state))
    for k, leaf in enumerate(leaves):
        wrong = [*leaves]
        wrong[k] = ones(*leaf.shape[:-1], leaf.shape[-1] + 1)
        bad_params, bad_state = tree.unflatten(structure, wrong)
        for call in (call_unroll, call_step):
            with pytest.raises(
                (TypeError, ValueError), match=f'cell "{cell.name}"|xs? '
            ):
                call(cell, bad_params, xs, bad_state, gradient=gradient)


# --- what passes ---------------------------------------------------------------------


def test_numpy_arrays_and_lists_of_lengths_pass():
    expected = lj.unroll(lj.LSTM, PARAMS, XS, STATE, lengths=jnp.array([0, 1, 5, 3]))
    params, xs, state = tree.map(np.asarray, (PARAMS, XS, STATE))
    found = lj.unroll(lj.LSTM, params, xs, state, lengths=[0, 1, 5, 3])
    tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.uint32])
def test_lengths_of_any_integer_type(dtype):
    """300 steps, more than 8 bits count."""
    params = drawn_params(lj.LSTM)
    lengths = np.array([0, 100, 127], dtype)
    ys, _ = lj.unroll(lj.LSTM, params, jnp.ones((300, 3, 3)), lengths=lengths)
    assert np.array_equal(np.sum(np.any(ys, axis=-1), axis=0), lengths)


def test_an_empty_list_of_lengths_is_one_of_integers():
    xs = jnp.zeros((5, 0, 3))
    ys, _ = lj.unroll(lj.LSTM, PARAMS, xs, lengths=[])
    assert ys.shape == (5, 0, 2)


def test_a_message_about_many_lengths_is_short():
    xs = jnp.zeros((5, 600, 3))
    with pytest.raises(ValueError, match="sequence 0, and 599 more") as caught:
        lj.unroll(lj.LSTM, PARAMS, xs, lengths=[9] * 600)
    assert len(str(caught.value)) < 100


def test_64_bits_switched_on_after_an_error():
    """What parameters should be is remembered, but not across this switch."""
    cell = lj.LSTM._replace(name="seen by no other test")
    double = lj.LSTMParams(np.zeros((3, 8)), np.zeros((2, 8)), np.zeros(8))
    xs = np.zeros((5, 4, 3))
    with jax.enable_x64(False), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX's word on float64, which it makes float32
        with pytest.raises(TypeError):
            lj.unroll(cell, double, xs)
    ys, _ = lj.unroll(cell, double, xs)
    assert ys.dtype == jnp.float64


def test_a_single_sequence_has_a_single_length():
    ys, _ = lj.unroll(lj.LSTM, PARAMS, XS[:, 0], lengths=3)
    assert np.array_equal(np.any(ys, axis=-1), [True, True, True, False, False])


def test_doors_stand_under_jit_too():
    with pytest.raises(ValueError, match="input size"):
        jax.jit(lambda xs: lj.unroll(lj.LSTM, PARAMS, xs))(XS[..., :2])
