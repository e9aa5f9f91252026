"""Weights of Keras layers: there and back, outputs, gradients, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import assert_close, drawn_like, drawn_params

import lstm_jax as lj
from lstm_jax.interop import from_keras, to_keras
from lstm_jax.layers import Layer, unroll_layers

STEPS, BATCH, INPUT_SIZE, HIDDEN_SIZE = 5, 2, 3, 4

# Keras 3.15 reads its own variables in numpy's old way.
pytestmark = [
    pytest.mark.promotes_ranks,
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
    ),
]

# Our cell, the Keras layer, and the arguments that make it this cell.
LAYERS = {
    "lstm": ("LSTM", {}),
    "gru": ("GRU", {}),
    "gru_before": ("GRU", {"reset_after": False}),
    "rnn_tanh": ("SimpleRNN", {}),
    "rnn_relu": ("SimpleRNN", {"activation": "relu"}),
}
EACH_LAYER = pytest.mark.parametrize("name", LAYERS)
EACH_DIRECTION = pytest.mark.parametrize(
    "bidirectional", [False, True], ids=["forward", "both-ways"]
)


def tanh_of_64_bits(x):
    """Keras' own tanh computes in 32 bits on JAX, whatever it gets."""
    return jnp.tanh(x)


@pytest.fixture
def keras(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    import keras

    assert keras.backend.backend() == "jax"
    before = keras.config.floatx()
    keras.utils.set_random_seed(0)
    # Keras mixes 32 and 64 bits where JAX is strict.
    with (
        jax.numpy_dtype_promotion("standard"),
        keras.utils.custom_object_scope({"tanh_of_64_bits": tanh_of_64_bits}),
    ):
        yield keras
    keras.config.set_floatx(before)


def drawn_layer(cell, bidirectional=False):
    """Parameters of which none is 0."""
    params = drawn_params(cell, INPUT_SIZE, HIDDEN_SIZE)
    return Layer(params, drawn_like(params, 1) if bidirectional else None)


def assert_same_bits(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for f, e in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        f, e = np.asarray(f), np.asarray(e)
        assert (f.dtype, f.shape) == (e.dtype, e.shape)
        assert f.tobytes() == e.tobytes()


# --- against Keras itself -------------------------------------------------------------


@pytest.mark.interop("keras")
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-6)]
)
@EACH_DIRECTION
@EACH_LAYER
def test_outputs_and_gradients_are_keras(keras, name, bidirectional, dtype, tolerance):
    cell = lj.CELLS[name]
    keras.config.set_floatx(dtype)
    kind, options = LAYERS[name]
    if dtype == "float64" and name != "rnn_relu":
        options = options | {"activation": tanh_of_64_bits}
    layer = getattr(keras.layers, kind)(
        HIDDEN_SIZE, return_sequences=True, dtype=dtype, **options
    )
    if bidirectional:
        layer = keras.layers.Bidirectional(layer, dtype=dtype)
    layer.build((BATCH, STEPS, INPUT_SIZE))
    layer.set_weights(drawn_like(layer.get_weights()))
    xs = drawn_like(jax.ShapeDtypeStruct((STEPS, BATCH, INPUT_SIZE), dtype), 1)
    width = HIDDEN_SIZE * (2 if bidirectional else 1)
    weights = drawn_like(jax.ShapeDtypeStruct((STEPS, BATCH, width), dtype), 2)
    others = [variable.value for variable in layer.non_trainable_variables]

    def theirs(variables, xs):
        ys, _ = layer.stateless_call(variables, others, xs.swapaxes(0, 1))
        return (ys.swapaxes(0, 1) * weights).sum(), ys.swapaxes(0, 1)

    def ours(params, xs):
        ys, _ = unroll_layers(cell, (params,), xs)
        return (ys * weights).sum(), ys

    variables = [variable.value for variable in layer.trainable_variables]
    expected, ys = jax.jit(jax.grad(theirs, (0, 1), has_aux=True))(variables, xs)
    params = from_keras(cell, layer.get_weights(), bidirectional=bidirectional)
    found, own_ys = jax.jit(jax.grad(ours, (0, 1), has_aux=True))(params, xs)

    assert_close(own_ys, ys, tolerance)
    assert_close(found[1], expected[1], tolerance)
    arrays = to_keras(cell, found[0])
    if name == "gru":  # the two gates' biases add up: ours is one
        for bias in arrays[2::3]:
            bias[1, : 2 * HIDDEN_SIZE] = bias[0, : 2 * HIDDEN_SIZE]
    assert_close(arrays, [np.asarray(d) for d in expected[0]], tolerance)


@pytest.mark.interop("keras")
@EACH_LAYER
def test_a_layer_takes_what_it_gave(keras, name):
    cell = lj.CELLS[name]
    kind, options = LAYERS[name]
    layer = keras.layers.Bidirectional(getattr(keras.layers, kind)(4, **options))
    layer.build((BATCH, STEPS, INPUT_SIZE))
    before = layer.get_weights()
    back = to_keras(cell, from_keras(cell, before, bidirectional=True))
    layer.set_weights(back)
    assert_same_bits(layer.get_weights(), before)


# --- without Keras --------------------------------------------------------------------


@EACH_DIRECTION
@EACH_LAYER
def test_there_and_back_bit_for_bit(name, bidirectional):
    cell = lj.CELLS[name]
    layer = drawn_layer(cell, bidirectional)
    # The sign of a zero is a bit too.
    layer = jax.tree.map(lambda a: a.at[..., 0].set(-0.0), layer)
    arrays = to_keras(cell, layer)
    found = from_keras(cell, arrays, bidirectional=bidirectional)
    assert_same_bits(found, layer)


def test_gates():
    """Each number in its place, told one by one."""
    gru = type(drawn_params(lj.CELLS["gru"]))(
        Wx=jnp.array([[1.0, 2.0, 3.0]]),  # r, z, n
        Wh=jnp.array([[10.0, 20.0, 30.0]]),
        b=jnp.array([-1.0, -2.0, -3.0]),
        bh=jnp.array([-30.0]),
    )
    kernel, recurrent_kernel, bias = to_keras(lj.CELLS["gru"], Layer(gru))  # z, r, n
    assert kernel.tolist() == [[2.0, 1.0, 3.0]]
    assert recurrent_kernel.tolist() == [[20.0, 10.0, 30.0]]
    assert bias.tolist() == [[-2.0, -1.0, -3.0], [0.0, 0.0, -30.0]]


@EACH_DIRECTION
@EACH_LAYER
def test_a_layer_without_biases(name, bidirectional):
    cell = lj.CELLS[name]
    whole = drawn_layer(cell, bidirectional)
    bare = cell.init(jax.random.key(0), INPUT_SIZE, HIDDEN_SIZE, bias=False)
    absent = {field: None for field, a in bare._asdict().items() if a is None}
    params = Layer(*(p and p._replace(**absent) for p in whole))
    arrays = to_keras(cell, params)
    matrices = [array for n, array in enumerate(to_keras(cell, whole)) if n % 3 < 2]
    assert_same_bits(arrays, matrices)
    found = from_keras(cell, arrays, bidirectional=bidirectional)
    assert_same_bits(found, params)


def test_two_layers_are_not_two_directions():
    arrays = to_keras(lj.LSTM, drawn_layer(lj.LSTM))
    with pytest.raises(ValueError, match="got 6 arrays with bidirectional=False"):
        from_keras(lj.LSTM, arrays + arrays)
    with pytest.raises(ValueError, match="got 3 arrays with bidirectional=True"):
        from_keras(lj.LSTM, arrays, bidirectional=True)
    other = [arrays[1], *arrays[1:]]  # on top of it: its inputs are H numbers
    with pytest.raises(ValueError, match="weights of the same shapes; got"):
        from_keras(lj.LSTM, arrays + other, bidirectional=True)


WRONG = {
    "one array": (lambda w: w[:1], ValueError, "got 1 arrays"),
    "five arrays": (lambda w: (w + w)[:5], ValueError, "got 5 arrays"),
    "rank": (
        lambda w: [w[2], *w[1:]],
        ValueError,
        r"kernel must be a matrix; got \(16",
    ),
    "shape": (
        lambda w: [w[0][:, :-1], *w[1:]],
        ValueError,
        r"kernel must have the shape \(3, 16\); got \(3, 15\)",
    ),
    "bias": (
        lambda w: [*w[:2], np.stack([w[2], w[2]])],
        ValueError,
        r"bias must have the shape \(16,\); got \(2, 16\)",
    ),
    "integers": (
        lambda w: [np.ones(array.shape, int) for array in w],
        TypeError,
        "must have a floating dtype; got int64",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_weights_that_are_no_lstms(wrong):
    change, error, message = WRONG[wrong]
    weights = change(to_keras(lj.LSTM, drawn_layer(lj.LSTM)))
    with pytest.raises(error, match=message):
        from_keras(lj.LSTM, weights)


def test_weights_of_another_cell():
    weights = to_keras(lj.CELLS["gru_before"], drawn_layer(lj.CELLS["gru_before"]))
    with pytest.raises(ValueError, match=r"bias must have the shape \(2, 12\)"):
        from_keras(lj.CELLS["gru"], weights)
    with pytest.raises(ValueError, match=r"kernel must have the shape \(3, 16\)"):
        from_keras(lj.LSTM, weights)


def test_a_cell_that_keras_has_not():
    cell = lj.CELLS["projected_lstm"]
    with pytest.raises(ValueError, match=r'cells lstm, .*; got "projected_lstm"'):
        from_keras(cell, [])
    with pytest.raises(ValueError, match=r'cells lstm, .*; got "projected_lstm"'):
        to_keras(cell, drawn_layer(cell))
