"""Weights of torch modules: there and back, outputs, gradients, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import assert_close, drawn_like

import lstm_jax as lj
from lstm_jax.interop import from_torch, to_torch
from lstm_jax.layers import Layer, init_layers, unroll_layers

STEPS, BATCH, INPUT_SIZE, HIDDEN_SIZE = 6, 3, 3, 4
LENGTHS = (4, STEPS, 1)

# Our cell, the torch module, and the arguments that make it this cell.
MODULES = {
    "lstm": ("LSTM", {}),
    "projected_lstm": ("LSTM", {"proj_size": 2}),
    "gru": ("GRU", {}),
    "rnn_tanh": ("RNN", {"nonlinearity": "tanh"}),
    "rnn_relu": ("RNN", {"nonlinearity": "relu"}),
}
EACH_MODULE = pytest.mark.parametrize("name", MODULES)


@pytest.fixture
def torch():
    import torch

    torch.manual_seed(0)
    return torch


def drawn_stack(cell, layers=1, bidirectional=False, **options):
    """Parameters of which none is 0."""
    options |= {"layers": layers, "bidirectional": bidirectional}

    def init():
        key = jax.random.key(0)
        return init_layers(
            cell, key, INPUT_SIZE, HIDDEN_SIZE, dtype=jnp.float64, **options
        )

    return drawn_like(jax.eval_shape(init))


def assert_same_bits(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for f, e in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        f, e = np.asarray(f), np.asarray(e)
        assert (f.dtype, f.shape) == (e.dtype, e.shape)
        assert f.tobytes() == e.tobytes()


# --- against torch itself -------------------------------------------------------------


def run_torch(torch, module, x, weights, lengths):
    """Outputs, final states, and the gradients of their weighted sum."""
    x = torch.tensor(x, requires_grad=True)
    if lengths is None:
        ys, final = module(x)
    else:
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            x, lengths, enforce_sorted=False
        )
        packed_ys, final = module(packed)
        ys, _ = torch.nn.utils.rnn.pad_packed_sequence(packed_ys, total_length=STEPS)
    final = final if isinstance(final, tuple) else (final,)
    values = [ys, *final]
    loss = sum(
        (v * torch.tensor(w)).sum() for v, w in zip(values, weights, strict=True)
    )
    loss.backward()
    gradients = {name: p.grad.numpy() for name, p in module.named_parameters()}
    return [v.detach().numpy() for v in values], gradients, x.grad.numpy()


def run_ours(cell, params, x, weights, lengths):
    """The same, and states stacked as torch does: layer by layer, both directions."""

    def values(params, x):
        ys, finals = unroll_layers(
            cell, params, x, lengths=None if lengths is None else jnp.array(lengths)
        )
        states = [state for layer in finals for state in layer if state is not None]
        return [ys, *(jnp.stack(fields) for fields in zip(*states, strict=True))]

    @jax.jit
    def run(params, x, weights):
        found, pull = jax.vjp(values, params, x)
        return found, pull(weights)

    found, (dparams, dx) = run(
        params, jnp.asarray(x), [jnp.asarray(w) for w in weights]
    )
    return found, to_torch(cell, dparams), dx


def in_one(arrays):
    return np.concatenate([array.reshape(-1) for array in arrays.values()])


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supp:UserWarning")
@pytest.mark.interop("torch")
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-6)]
)
@pytest.mark.parametrize(
    ("layers", "bidirectional", "lengths"),
    [(1, False, None), (1, True, None), (3, True, LENGTHS)],
    ids=["one", "both-ways", "three-both-ways-packed"],
)
@EACH_MODULE
def test_outputs_and_gradients_are_torchs(
    torch, name, layers, bidirectional, lengths, dtype, tolerance
):
    cell = lj.CELLS[name]
    kind, options = MODULES[name]
    module = getattr(torch.nn, kind)(
        INPUT_SIZE, HIDDEN_SIZE, layers, bidirectional=bidirectional, **options
    ).to(getattr(torch, dtype))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(STEPS, BATCH, INPUT_SIZE)).astype(dtype)
    with torch.no_grad():
        ys, final = module(torch.tensor(x))
    shapes = [v.shape for v in (ys, *(final if kind == "LSTM" else (final,)))]
    weights = [rng.normal(size=shape).astype(dtype) for shape in shapes]

    params = from_torch(cell, module.state_dict())
    values, dweights, dx = run_torch(torch, module, x, weights, lengths)
    found, ours, dxs = run_ours(cell, params, x, weights, lengths)

    assert_close(found, [jnp.asarray(v) for v in values], tolerance)
    assert_close(dxs, jnp.asarray(dx), tolerance)
    assert list(ours) == list(dweights)
    for key in ours:
        if key.startswith("bias_hh"):
            # Where torch's two biases add up, ours is one, told as bias_ih.
            inner = 2 * HIDDEN_SIZE if name == "gru" else None
            ours[key][:inner] = ours[key.replace("hh", "ih")][:inner]
    # As one vector: in 32 bits an entry near 0 has no digits of its own.
    assert_close(in_one(ours), in_one(dweights), tolerance)


@pytest.mark.interop("torch")
@EACH_MODULE
def test_a_module_loads_what_it_gave(torch, name):
    cell = lj.CELLS[name]
    kind, options = MODULES[name]
    module = getattr(torch.nn, kind)(
        INPUT_SIZE, HIDDEN_SIZE, 2, bidirectional=True, dtype=torch.float64, **options
    )
    before = {key: w.numpy().copy() for key, w in module.state_dict().items()}
    back = to_torch(cell, from_torch(cell, module.state_dict()))
    module.load_state_dict({key: torch.tensor(w) for key, w in back.items()})
    assert list(back) == list(before)
    for key, weight in before.items():
        if key.startswith("weight"):
            assert_same_bits(back[key], weight)
    # A second time, with the biases' sums in one place, all is the same.
    assert_same_bits(to_torch(cell, from_torch(cell, module.state_dict())), back)


@pytest.mark.interop("torch")
@pytest.mark.parametrize("name", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
def test_cells(torch, name):
    kind, options = MODULES[name]
    options = {"dtype": torch.float64, **options}
    module = getattr(torch.nn, f"{kind}Cell")(INPUT_SIZE, HIDDEN_SIZE, **options)
    params = from_torch(name, module.state_dict())
    state = drawn_like(lj.CELLS[name].initial_state(params, (BATCH,)))
    x = drawn_like(jax.ShapeDtypeStruct((BATCH, INPUT_SIZE), jnp.float64), 1)

    given = [torch.tensor(np.asarray(a)) for a in state]
    found = module(torch.tensor(np.asarray(x)), given if kind == "LSTM" else given[0])
    found = found if kind == "LSTM" else (found,)
    expected = lj.step(name, params, state, x)
    assert_close([jnp.asarray(a.detach().numpy()) for a in found], list(expected))
    back = to_torch(name, params)
    module.load_state_dict({key: torch.tensor(w) for key, w in back.items()})
    assert_same_bits(from_torch(name, module.state_dict()), params)


@pytest.mark.interop("torch")
def test_training_there_changes_nothing_here(torch):
    module = torch.nn.LSTM(INPUT_SIZE, 64, proj_size=1)
    params = from_torch(lj.CELLS["projected_lstm"], module.state_dict())
    before = jax.tree.map(np.array, params)
    with torch.no_grad():
        for weight in module.parameters():
            weight.zero_()
    assert_same_bits(params, before)


@pytest.mark.interop("torch")
def test_tensors_that_numpy_cannot_read(torch):
    module = torch.nn.RNN(INPUT_SIZE, HIDDEN_SIZE)
    cell = lj.CELLS["rnn_tanh"]
    with pytest.raises(TypeError, match=r"weight_ih_l0 cannot be read.*requires grad"):
        from_torch(cell, dict(module.named_parameters()))
    with pytest.raises(TypeError, match=r"weight_ih_l0 cannot be read.*BFloat16"):
        from_torch(cell, module.to(torch.bfloat16).state_dict())


# --- without torch --------------------------------------------------------------------


@pytest.mark.parametrize("bidirectional", [False, True])
@EACH_MODULE
def test_there_and_back_bit_for_bit(name, bidirectional):
    cell = lj.CELLS[name]
    params = drawn_stack(cell, 3, bidirectional)
    # The sign of a zero is a bit too.
    params = jax.tree.map(lambda a: a.at[..., 0].set(-0.0), params)
    assert_same_bits(from_torch(cell, to_torch(cell, params)), params)


@pytest.mark.parametrize("name", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
def test_a_cell_there_and_back_bit_for_bit(name):
    ((params, _),) = drawn_stack(lj.CELLS[name])
    weights = to_torch(name, params)
    assert list(weights) == ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
    assert_same_bits(from_torch(name, weights), params)
    with pytest.raises(ValueError, match=f'"{name}" do not have the names fc'):
        from_torch(name, weights | {"fc": weights["weight_ih"]})


@EACH_MODULE
def test_a_module_without_biases(name):
    params = drawn_stack(lj.CELLS[name], 2, bias=False)
    weights = to_torch(name, params)
    assert not [key for key in weights if key.startswith("bias")]
    assert_same_bits(from_torch(name, weights), params)


def test_rows_and_gates():
    """Each number in its place, told one by one."""
    H = 1
    params = lj.LSTMParams(
        Wx=jnp.array([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]),  # i, f, o, g
        Wh=jnp.array([[10.0, 20.0, 30.0, 40.0]]),
        b=jnp.array([-1.0, -2.0, -3.0, -4.0]),
    )
    weights = to_torch(lj.LSTM, (Layer(params),))
    assert params.Wh.shape == (H, 4 * H)
    assert {key: w.tolist() for key, w in weights.items()} == {
        "weight_ih_l0": [[1.0, 5.0], [2.0, 6.0], [4.0, 8.0], [3.0, 7.0]],  # i, f, g, o
        "weight_hh_l0": [[10.0], [20.0], [40.0], [30.0]],
        "bias_ih_l0": [-1.0, -2.0, -4.0, -3.0],
        "bias_hh_l0": [0.0, 0.0, 0.0, 0.0],
    }


def test_two_biases_are_one():
    weights = to_torch(lj.LSTM, drawn_stack(lj.LSTM))
    weights["bias_hh_l0"] = np.arange(4.0 * HIDDEN_SIZE)
    ((params, _),) = from_torch(lj.LSTM, weights)
    one = weights | {
        "bias_ih_l0": weights["bias_ih_l0"] + weights["bias_hh_l0"],
        "bias_hh_l0": np.zeros(4 * HIDDEN_SIZE),
    }
    assert_same_bits(from_torch(lj.LSTM, one), (Layer(params),))


def without(weights, name):
    return {key: w for key, w in weights.items() if key != name}


WRONG = {
    "no weights": (lambda w: {}, ValueError, "must have the name weight_ih_l0; got no"),
    "a name lost": (
        lambda w: without(w, "weight_hh_l1"),
        ValueError,
        "must have the name weight_hh_l1; got",
    ),
    "a name more": (
        lambda w: w | {"fc.weight": w["bias_ih_l0"]},
        ValueError,
        "in 2 layers do not have the names fc.weight",
    ),
    "a layer lost": (
        lambda w: {k: v for k, v in w.items() if k[-1] != "0"},
        ValueError,
        "must have the name weight_ih_l0; got weight_ih_l1",
    ),
    "one bias": (
        lambda w: {k: v for k, v in w.items() if k != "bias_hh_l1"},
        ValueError,
        "weights with biases must have the name bias_hh_l1; got weight_ih_l0,",
    ),
    "projected": (
        lambda w: w | {"weight_hr_l0": w["weight_hh_l0"]},
        ValueError,
        "do not have the names weight_hr_l0",
    ),
    "rank": (
        lambda w: w | {"weight_ih_l0": w["bias_ih_l0"]},
        ValueError,
        r"weight_ih_l0 must be a matrix; got \(16,\)",
    ),
    "shape": (
        lambda w: w | {"weight_ih_l0": w["weight_ih_l0"][:-1]},
        ValueError,
        r"weight_ih_l0 must have the shape \(16, 3\); got \(15, 3\)",
    ),
    "bias": (
        lambda w: w | {"bias_hh_l0": w["bias_hh_l0"][:-1]},
        ValueError,
        r"bias_hh_l0 must have the shape \(16,\); got \(15,\)",
    ),
    "integers": (
        lambda w: {k: np.ones(v.shape, int) for k, v in w.items()},
        TypeError,
        "must have a floating dtype; got int64",
    ),
    "two dtypes": (
        lambda w: w | {"weight_ih_l0": w["weight_ih_l0"].astype(np.float32)},
        TypeError,
        "must have one dtype; got float32, float64",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_weights_that_are_no_lstms(wrong):
    change, error, message = WRONG[wrong]
    weights = change(to_torch(lj.LSTM, drawn_stack(lj.LSTM, 2)))
    with pytest.raises(error, match=message):
        from_torch(lj.LSTM, weights)


def test_bfloat16_names_the_way_out():
    half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), drawn_stack(lj.LSTM))
    with pytest.raises(TypeError, match="bfloat16 parameters have no counterpart"):
        to_torch(lj.LSTM, half)


def test_weights_of_another_cell():
    weights = to_torch(lj.LSTM, drawn_stack(lj.LSTM))
    with pytest.raises(ValueError, match=r"weight_ih_l0 must have the shape \(12, 3\)"):
        from_torch(lj.CELLS["gru"], weights)
    with pytest.raises(ValueError, match="must have the name weight_hr_l0"):
        from_torch(lj.CELLS["projected_lstm"], weights)


def test_a_cell_that_torch_has_not():
    cell = lj.CELLS["gru_before"]
    with pytest.raises(ValueError, match=r'cells lstm, .*; got "gru_before"'):
        from_torch(cell, {})
    with pytest.raises(ValueError, match=r'cells lstm, .*; got "gru_before"'):
        to_torch(cell, drawn_stack(cell))


def test_parameters_that_torch_has_not():
    with pytest.raises(TypeError, match='parameters of cell "gru" must be'):
        to_torch(lj.CELLS["gru"], drawn_stack(lj.LSTM))
    heads = lj.LSTM.init(jax.random.key(0), 3, 4, heads=2)
    with pytest.raises(ValueError, match=r"one head.*got Wh of shape \(4, 2, 2, 2\)"):
        to_torch(lj.LSTM, (Layer(heads),))


def test_64_bits_are_not_cut_to_32():
    weights = to_torch(lj.LSTM, drawn_stack(lj.LSTM))
    with (
        jax.enable_x64(False),
        pytest.raises(TypeError, match=r"float64 weights need .*jax_enable_x64"),
    ):
        from_torch(lj.LSTM, weights)
