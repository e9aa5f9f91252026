"""What other libraries have: the same outputs and gradients here, feature by feature.

A case is a feature of docs/peers.md and a library that has it. It says what is computed
there and here, both as functions of the same arrays: our parameters, inputs and states.
What each makes of them is then compared, and so are the gradients of all.
"""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import tree
from oracles import assert_close, drawn_like

import lstm_jax as lj
from lstm_jax.layers import Layer, drop_connect, init_layers, unroll_layers

T, B, D, H = 4, 2, 3, 5
GATES = "ifog"

pytestmark = [
    pytest.mark.promotes_ranks,
    # Keras 3.15 reads its own variables in numpy's old way.
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
    ),
]


class Case(NamedTuple):
    """One computation, here and there.

    Attributes:
        ours: a function of `arguments`.
        theirs: the same, its results in the same order.
        arguments: like what both get; drawn for the test.
        on_torch: whether `theirs` is a function of tensors.
    """

    ours: Callable[..., Any]
    theirs: Callable[..., Any]
    arguments: tuple[Any, ...]
    on_torch: bool = False


CASES: dict[tuple[str, str], Callable[[Any], Case]] = {}
"""By feature and library, both as docs/peers.md calls them."""


def case(feature, library):
    def kept(function):
        CASES[feature, library] = function
        return function

    return kept


def like(dtype, *shape):
    return jax.ShapeDtypeStruct(shape, dtype)


def params_like(dtype, cell="lstm", input_size=D, hidden_size=H, **options):
    init = partial(lj.CELLS[cell].init, jax.random.key(0), input_size, hidden_size)
    return jax.eval_shape(partial(init, dtype=dtype, **options))


def state_like(dtype, *sizes):
    return lj.LSTMState(*(like(dtype, *sizes, H),) * 2)


def ordered(w, source, target):
    """Column blocks in another order, of an array or a tensor."""
    size = w.shape[-1] // len(source)
    blocks = [source.index(gate) for gate in target]
    return w[..., np.concatenate([np.arange(size) + k * size for k in blocks])]


def leaves(results):
    """All arrays in order, whatever they are named."""
    return tree.leaves(results)


# --- flax -----------------------------------------------------------------------------


def linen(params):
    """The parameters of an `nn.OptimizedLSTMCell` of linen."""
    blocks = (jnp.split(w, 4, axis=-1) for w in params)
    found = {}
    for gate, wx, wh, b in zip(GATES, *blocks, strict=True):
        found |= {f"i{gate}": {"kernel": wx}, f"h{gate}": {"kernel": wh, "bias": b}}
    return {"cell": found}


def linen_rnn(params):
    return nn.RNN(nn.OptimizedLSTMCell(H, param_dtype=params.Wx.dtype))


def linen_both(params, merge_fn=None):
    """A `Bidirectional` and its variables."""
    own = {"forward_rnn": linen(params.forward), "backward_rnn": linen(params.backward)}
    rnns = linen_rnn(params.forward), linen_rnn(params.backward)
    options = {} if merge_fn is None else {"merge_fn": merge_fn}
    return nn.Bidirectional(*rnns, **options), {"params": own}


@case("batch-major data", "flax")
def _(dtype):
    def theirs(params, xs):
        return linen_rnn(params).apply({"params": linen(params)}, xs)

    def ours(params, xs):
        return lj.unroll("lstm", params, xs, time_axis=1)[0]

    return Case(ours, theirs, (params_like(dtype), like(dtype, B, T, D)))


def both_ways_like(dtype):
    return Layer(params_like(dtype), params_like(dtype))


@case("states for both directions", "flax")
def _(dtype):
    def theirs(params, xs, state):
        module, variables = linen_both(params)
        carries = tuple((s.c, s.h) for s in state)
        return module.apply(variables, xs, initial_carry=carries, time_major=True)

    def ours(params, xs, state):
        return unroll_layers("lstm", (params,), xs, (state,))[0]

    state = Layer(*(state_like(dtype, B),) * 2)
    return Case(ours, theirs, (both_ways_like(dtype), like(dtype, T, B, D), state))


@case("merges of both directions", "flax")
def _(dtype):
    merges = {"sum": jnp.add, "mean": lambda a, b: (a + b) / 2, "product": jnp.multiply}

    def theirs(params, xs):
        each = (linen_both(params, merge_fn) for merge_fn in merges.values())
        return [module.apply(own, xs, time_major=True) for module, own in each]

    def ours(params, xs):
        return [unroll_layers("lstm", (params,), xs, merge=m)[0] for m in merges]

    return Case(ours, theirs, (both_ways_like(dtype), like(dtype, T, B, D)))


GRID, WINDOW, CHANNELS = (3, 2), (3, 3), 2


def conv_like(dtype):
    init = partial(lj.conv_lstm(GRID, WINDOW).init, jax.random.key(0), 6, 12)
    return jax.eval_shape(partial(init, dtype=dtype)), like(dtype, T, B, 6)


def on_grid(xs):
    return xs.reshape(*xs.shape[:-1], *GRID, -1)


def run_conv(params, xs, **options):
    return lj.unroll(lj.conv_lstm(GRID, WINDOW), params, xs, **options)[0]


def haiku_conv(params, bias="b", kernel="w"):
    """The parameters of flax's or Haiku's two convolutions, which add 1 as above."""
    added = jnp.repeat(jnp.array([0, 1, 0, 0], params.b.dtype), params.b.size // 4)
    b = ordered(params.b - added, GATES, "igfo")
    Wx, Wh = (ordered(w, GATES, "igfo") for w in (params.Wx, params.Wh))
    Wx, Wh = (w.reshape(*WINDOW, -1, w.shape[-1]) for w in (Wx, Wh))
    return {kernel: Wx, bias: b}, {kernel: Wh, bias: 0 * b}


@case("convolutional LSTM", "flax")
def _(dtype):
    def theirs(params, xs):
        ih, hh = haiku_conv(params, "bias", "kernel")
        cell = nn.ConvLSTMCell(CHANNELS, WINDOW, param_dtype=xs.dtype)
        variables = {"params": {"cell": {"ih": ih, "hh": hh}}}
        ys = nn.RNN(cell, time_major=True).apply(variables, on_grid(xs))
        return ys.reshape(T, B, -1)

    return Case(run_conv, theirs, conv_like(dtype))


# --- haiku ----------------------------------------------------------------------------


def haiku_lstm(params):
    """The parameters of an `hk.LSTM`, which adds 1 to the forget gate's bias."""
    added = jnp.repeat(jnp.array([0, 1, 0, 0], params.b.dtype), params.b.size // 4)
    w, b = jnp.concatenate([params.Wx, params.Wh]), params.b - added
    return {"w": ordered(w, GATES, "igfo"), "b": ordered(b, GATES, "igfo")}


def haiku_gru(params):
    """The parameters of an `hk.GRU`, whose z = 1 takes the new where ours keeps."""
    sign = jnp.repeat(jnp.array([-1, 1, 1], params.b.dtype), params.b.size // 3)
    Wh = jnp.concatenate([params.Wh, params.Wn], axis=-1)
    parts = {"w_i": params.Wx, "w_h": Wh, "b": params.b}
    return {name: sign * ordered(w, "rzn", "zrn") for name, w in parts.items()}


def haiku(make, weights, *arguments):
    """What a function that makes and runs cores returns, with these weights."""
    transformed = hk.without_apply_rng(hk.transform(make))
    return transformed.apply(weights, *arguments)


def zeros(xs, size):
    return jnp.zeros((B, size), xs.dtype)


@case("batch-major data", "Haiku")
def _(dtype):
    def theirs(params, xs):
        def run(xs):
            state = hk.LSTMState(zeros(xs, H), zeros(xs, H))
            return hk.dynamic_unroll(hk.LSTM(H), xs, state, time_major=False)[0]

        return haiku(run, {"lstm/linear": haiku_lstm(params)}, xs)

    def ours(params, xs):
        return lj.unroll("lstm", params, xs, time_axis=1)[0]

    return Case(ours, theirs, (params_like(dtype), like(dtype, B, T, D)))


@case("the states of all steps", "Haiku")
def _(dtype):
    def theirs(params, xs, state):
        def run(xs, state):
            core, state = hk.LSTM(H), hk.LSTMState(*state)
            _, states = hk.dynamic_unroll(core, xs, state, return_all_states=True)
            return states

        return haiku(run, {"lstm/linear": haiku_lstm(params)}, xs, state)

    def ours(params, xs, state):
        return lj.unroll("lstm", params, xs, state, states=True)[0]

    arguments = params_like(dtype), like(dtype, T, B, D), state_like(dtype, B)
    return Case(ours, theirs, arguments)


CELLS, SIZES = ("lstm", "gru_before"), (H, 2)


def stack_like(dtype, cells=CELLS, sizes=SIZES):
    options = {"layers": len(cells), "dtype": dtype}
    init = partial(init_layers, cells, jax.random.key(0), D, sizes, **options)
    return jax.eval_shape(init)


@case("stacks of different cells and sizes", "Haiku")
def _(dtype):
    def theirs(params, xs):
        def run(xs):
            core = hk.DeepRNN([hk.LSTM(H), hk.GRU(2)])
            state = hk.LSTMState(zeros(xs, H), zeros(xs, H)), zeros(xs, 2)
            return hk.dynamic_unroll(core, xs, state)[0]

        one, two = (layer.forward for layer in params)
        weights = {"lstm/linear": haiku_lstm(one), "gru": haiku_gru(two)}
        return haiku(run, weights, xs)

    def ours(params, xs):
        return unroll_layers(CELLS, params, xs)[0]

    return Case(ours, theirs, (stack_like(dtype), like(dtype, T, B, D)))


@case("functions between layers", "Haiku")
def _(dtype):
    def theirs(params, xs):
        def run(xs):
            core = hk.DeepRNN([hk.LSTM(H), jax.nn.gelu, hk.GRU(2)])
            state = hk.LSTMState(zeros(xs, H), zeros(xs, H)), zeros(xs, 2)
            return hk.dynamic_unroll(core, xs, state)[0]

        one, two = (layer.forward for layer in params)
        weights = {"lstm/linear": haiku_lstm(one), "gru": haiku_gru(two)}
        return haiku(run, weights, xs)

    def ours(params, xs):
        between = lambda number, ys, xs: jax.nn.gelu(ys)  # noqa: E731
        return unroll_layers(CELLS, params, xs, between=between)[0]

    return Case(ours, theirs, (stack_like(dtype), like(dtype, T, B, D)))


@case("convolutional LSTM", "Haiku")
def _(dtype):
    def theirs(params, xs):
        def run(xs):
            core = hk.Conv2DLSTM(GRID, CHANNELS, WINDOW)
            state = core.initial_state(B)
            state = tree.map(lambda a: a.astype(xs.dtype), state)
            return hk.dynamic_unroll(core, xs, state)[0].reshape(T, B, -1)

        own = haiku_conv(params)
        names = (f"conv2_dlstm/{of}_to_hidden" for of in ("input", "hidden"))
        weights = dict(zip(names, own, strict=True))
        return haiku(run, weights, on_grid(xs))

    return Case(run_conv, theirs, conv_like(dtype))


# --- torch ----------------------------------------------------------------------------


def torch_weights(params, suffix):
    """The weights of one layer and direction of a `torch.nn.LSTM`."""
    Wx, Wh, b = (w if w is None else ordered(w, GATES, "ifgo") for w in params)
    found = {f"weight_ih_{suffix}": Wx.T, f"weight_hh_{suffix}": Wh.T}
    if b is not None:
        found |= {f"bias_ih_{suffix}": b, f"bias_hh_{suffix}": 0 * b}
    return found


def torch_lstm(weights, *arguments, **options):
    """What a `torch.nn.LSTM` with these weights returns."""
    import torch

    module = torch.nn.LSTM(D, H, **options)
    return torch.func.functional_call(module, weights, arguments)


@case("batch-major data", "torch")
def _(dtype):
    def theirs(params, xs):
        return torch_lstm(torch_weights(params, "l0"), xs, batch_first=True)[0]

    def ours(params, xs):
        return lj.unroll("lstm", params, xs, time_axis=1)[0]

    return Case(ours, theirs, (params_like(dtype), like(dtype, B, T, D)), on_torch=True)


@case("states for both directions", "torch")
def _(dtype):
    def theirs(params, xs, state):
        one, two = params
        weights = torch_weights(one, "l0") | torch_weights(two, "l0_reverse")
        return torch_lstm(weights, xs, tuple(state), bidirectional=True)

    def ours(params, xs, state):
        each = Layer(*(tree.map(lambda s, n=n: s[n], state) for n in (0, 1)))
        ys, (final,) = unroll_layers("lstm", (params,), xs, (each,))
        return ys, tree.map(lambda a, b: jnp.stack([a, b]), *final)

    arguments = both_ways_like(dtype), like(dtype, T, B, D), state_like(dtype, 2, B)
    return Case(ours, theirs, arguments, on_torch=True)


@case("no bias", "torch")
def _(dtype):
    def theirs(params, xs):
        return torch_lstm(torch_weights(params, "l0"), xs, bias=False)[0]

    def ours(params, xs):
        return lj.unroll("lstm", params, xs)[0]

    bare = params_like(dtype, bias=False)
    return Case(ours, theirs, (bare, like(dtype, T, B, D)), on_torch=True)


# --- Keras ----------------------------------------------------------------------------


def keras_tanh(x):
    """Keras' own tanh computes in 32 bits on JAX, whatever it gets."""
    return jnp.tanh(x)


def keras_weights(params):
    """Those of an `LSTM`, or of a `GRU` with `reset_after=False`."""
    if not hasattr(params, "Wn"):
        return [w if w is None else ordered(w, GATES, "ifgo") for w in params]
    Wh = jnp.concatenate([params.Wh, params.Wn], axis=-1)
    return [ordered(w, "rzn", "zrn") for w in (params.Wx, Wh, params.b)]


def keras_layer(kind, xs, size=H, **options):
    """An `LSTM` or `GRU` for batch-major inputs, by name."""
    import keras

    if kind == "GRU":
        options |= {"reset_after": False}
    dtype = xs.dtype.name
    options |= {"return_sequences": True, "dtype": dtype, "activation": keras_tanh}
    layer = getattr(keras.layers, kind)(size, **options)
    layer.build(xs.shape)
    return layer


def run_keras(layer, weights, xs, **options):
    others = [variable.value for variable in layer.non_trainable_variables]
    variables = [w for w in weights if w is not None]
    return layer.stateless_call(variables, others, xs, **options)[0]


def turned(xs):
    return xs.swapaxes(0, 1)


@case("batch-major data", "Keras")
def _(dtype):
    def theirs(params, xs):
        return run_keras(keras_layer("LSTM", xs), keras_weights(params), xs)

    def ours(params, xs):
        return lj.unroll("lstm", params, xs, time_axis=1)[0]

    return Case(ours, theirs, (params_like(dtype), like(dtype, B, T, D)))


def keras_both(params, xs, merge_mode="concat"):
    """A `Bidirectional`, and its weights."""
    import keras

    one, options = keras_layer("LSTM", xs), {"dtype": xs.dtype.name}
    with keras.utils.custom_object_scope({"keras_tanh": keras_tanh}):
        layer = keras.layers.Bidirectional(one, merge_mode=merge_mode, **options)
    layer.build(xs.shape)
    one, two = params
    return layer, [*keras_weights(one), *keras_weights(two)]


@case("states for both directions", "Keras")
def _(dtype):
    def theirs(params, xs, state):
        layer, weights = keras_both(params, xs)
        return run_keras(layer, weights, xs, initial_state=leaves(state))

    def ours(params, xs, state):
        return unroll_layers("lstm", (params,), xs, (state,), time_axis=1)[0]

    state = Layer(*(state_like(dtype, B),) * 2)
    return Case(ours, theirs, (both_ways_like(dtype), like(dtype, B, T, D), state))


@case("merges of both directions", "Keras")
def _(dtype):
    merges = {"sum": "sum", "mean": "ave", "product": "mul"}

    def theirs(params, xs):
        return [
            run_keras(*keras_both(params, xs, mode), xs) for mode in merges.values()
        ]

    def ours(params, xs):
        run = partial(unroll_layers, "lstm", (params,), xs, time_axis=1)
        return [run(merge=merge)[0] for merge in merges]

    return Case(ours, theirs, (both_ways_like(dtype), like(dtype, B, T, D)))


MASK = jnp.array([[1, 0, 1, 1], [0, 1, 0, 0]], bool)


@case("masks with holes", "Keras")
def _(dtype):
    def theirs(params, xs):
        weights = keras_weights(params)
        return [
            run_keras(
                keras_layer("LSTM", xs, zero_output_for_mask=zero),
                *(weights, xs),
                mask=MASK,
            )
            for zero in (True, False)
        ]

    def ours(params, xs):
        return [
            lj.unroll(
                *("lstm", params, xs), mask=MASK, masked_outputs=outputs, time_axis=1
            )[0]
            for outputs in ("zero", "last")
        ]

    return Case(ours, theirs, (params_like(dtype), like(dtype, B, T, D)))


@case("stacks of different cells and sizes", "Keras")
def _(dtype):
    def theirs(params, xs):
        for kind, size, layer in zip(("LSTM", "GRU"), SIZES, params, strict=True):
            weights = keras_weights(layer.forward)
            xs = run_keras(keras_layer(kind, xs, size), weights, xs)
        return xs

    def ours(params, xs):
        return unroll_layers(CELLS, params, xs, time_axis=1)[0]

    return Case(ours, theirs, (stack_like(dtype), like(dtype, B, T, D)))


@case("residual connections", "Keras")
def _(dtype):
    def theirs(params, xs):
        for layer in params[:-1]:
            weights = keras_weights(layer.forward)
            xs = xs + run_keras(keras_layer("LSTM", xs, D), weights, xs)
        weights = keras_weights(params[-1].forward)
        return run_keras(keras_layer("LSTM", xs, D), weights, xs)

    def ours(params, xs):
        residual = lambda number, ys, xs: ys + xs  # noqa: E731
        return unroll_layers("lstm", params, xs, between=residual, time_axis=1)[0]

    stack = stack_like(dtype, ("lstm",) * 3, D)
    return Case(ours, theirs, (stack, like(dtype, B, T, D)))


@case("recurrent dropout", "Keras")
def _(dtype):
    keys, rate = jax.random.split(jax.random.key(5), B), 0.4

    def dropped(key, params):
        return drop_connect(key, params, rate, units=True)

    def theirs(params, xs):
        layer = keras_layer("SimpleRNN", xs, recurrent_dropout=rate)
        ones = tree.map(jnp.ones_like, params)
        mask = jax.vmap(lambda key: dropped(key, ones).Wh[:, 0])(keys)
        layer.cell.get_recurrent_dropout_mask = lambda h: mask  # in place of its own
        return run_keras(layer, list(params), xs, training=True)

    def ours(params, xs):
        return jax.vmap(
            lambda key, xs: lj.unroll("rnn_tanh", dropped(key, params), xs)[0]
        )(keys, xs)

    return Case(ours, theirs, (params_like(dtype, "rnn_tanh"), like(dtype, B, T, D)))


@case("no bias", "Keras")
def _(dtype):
    def theirs(params, xs):
        layer = keras_layer("LSTM", xs, use_bias=False)
        return run_keras(layer, keras_weights(params), xs)

    def ours(params, xs):
        return lj.unroll("lstm", params, xs, time_axis=1)[0]

    return Case(ours, theirs, (params_like(dtype, bias=False), like(dtype, B, T, D)))


@case("convolutional LSTM", "Keras")
def _(dtype):
    def theirs(params, xs):
        import keras

        layer = keras.layers.ConvLSTM2D(
            *(CHANNELS, WINDOW),
            padding="same",
            activation=keras_tanh,
            recurrent_activation="sigmoid",
            return_sequences=True,
            dtype=xs.dtype.name,
        )
        layer.build(on_grid(xs).shape)
        weights = keras_weights(params)
        kernels = [w.reshape(*WINDOW, -1, w.shape[-1]) for w in weights[:2]]
        return run_keras(layer, [*kernels, weights[2]], on_grid(xs)).reshape(B, T, -1)

    params, xs = conv_like(dtype)
    xs = like(dtype, B, T, xs.shape[-1])
    return Case(partial(run_conv, time_axis=1), theirs, (params, xs))


# --- Equinox --------------------------------------------------------------------------


@case("no bias", "Equinox")
def _(dtype):
    def theirs(params, xs):
        theirs = eqx.nn.GRUCell(D, H, use_bias=False, key=jax.random.key(0))
        weights = params.Wx.T, params.Wh.T
        cell = eqx.tree_at(lambda c: (c.weight_ih, c.weight_hh), theirs, weights)

        def step(state, x):
            state = jax.vmap(cell)(x, state)
            return state, state

        return jax.lax.scan(step, zeros(xs, H), xs)[1]

    def ours(params, xs):
        return lj.unroll("gru", params, xs)[0]

    bare = params_like(dtype, "gru", bias=False)
    return Case(ours, theirs, (bare, like(dtype, T, B, D)))


# --- the tests ------------------------------------------------------------------------


def on_torch(function, arguments):
    """The results of a function of tensors, and the gradients of its arguments.

    Of the sum of the results, each number with a weight that its place decides.
    """
    import torch

    flat, structure = tree.flatten(arguments)
    tensors = [torch.tensor(np.asarray(a), requires_grad=True) for a in flat]
    results = leaves(function(*tree.unflatten(structure, tensors)))
    weights = drawn_like([result.detach().numpy() for result in results], 1)
    cotangents = [torch.tensor(np.asarray(w)) for w in weights]
    gradients = torch.autograd.grad(results, tensors, cotangents)
    return tuple(
        [jnp.asarray(a.detach().numpy()) for a in part] for part in (results, gradients)
    )


def on_jax(function, arguments):
    """The same of a function of arrays."""

    @jax.jit
    def run(*arguments):
        results, pull = jax.vjp(lambda *a: leaves(function(*a)), *arguments)
        return results, leaves(pull(drawn_like(results, 1)))

    return run(*arguments)


NEEDS = {"torch": ["torch"], "Keras": ["keras"]}


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-6)]
)
@pytest.mark.parametrize(
    ("feature", "library"),
    [
        pytest.param(
            *key,
            marks=[pytest.mark.interop(name) for name in NEEDS.get(key[1], [])],
            id="-".join(key),
        )
        for key in CASES
    ],
)
def test_outputs_and_gradients_are_the_peers(
    feature, library, dtype, tolerance, monkeypatch
):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    made = CASES[feature, library](dtype)
    arguments = drawn_like(made.arguments)
    run = on_torch if made.on_torch else on_jax
    with jax.numpy_dtype_promotion("standard"):
        expected = run(made.theirs, arguments)
    found = on_jax(made.ours, arguments)
    assert_close(found, expected, tolerance)


def test_the_table_says_what_is_tested():
    """Of the features whose numbers are compared, all libraries that have them."""
    text = (Path(__file__).parents[2] / "docs/peers.md").read_text("utf-8")
    section = text.split("## The same numbers")[1].split("\n## ")[0]
    head, _, *rows = re.findall(r"(?m)^\|(.*)\|$", section)
    _, *libraries, _ = map(str.strip, head.split("|"))
    told = set()
    for row in rows:
        feature, *cells, here = map(str.strip, row.split("|"))
        assert here, feature
        told |= {
            (feature, library)
            for library, cell in zip(libraries, cells, strict=True)
            if cell
        }
    assert told == set(CASES)
