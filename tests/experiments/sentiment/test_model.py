"""The classifier: pooling, padding, dropout, names."""

from functools import partial

import jax
import numpy as np
import pytest

from experiments.sentiment.model import POOLINGS, SequenceClassifier
from lstm_jax.layers import Layer

pytestmark = pytest.mark.jax_defaults

T, V = 6, 11
LENGTHS = jax.device_put(np.asarray([0, 1, 4, T], np.int32))
TOKENS = jax.device_put(np.random.default_rng(0).integers(2, V, (4, T), np.int32))
SMALL = {"vocabulary_size": V, "embedding_size": 3, "hidden_size": 2}


def init(model, *ratios):
    return model.init(jax.random.key(1), TOKENS, LENGTHS, *ratios, train=False)


def classifier(**fields):
    model = SequenceClassifier(**SMALL, **fields)
    return model, init(model)


def by_hand(name, y, h):
    """What a pooling gives for one row's valid outputs y (n, F)."""
    if name == "last":
        return h
    if len(y) == 0:
        return np.zeros_like(h)
    return y.mean(axis=0) if name == "mean" else y.max(axis=0)


@pytest.mark.parametrize("name", sorted(POOLINGS))
def test_pooling_sees_the_valid_steps_alone(name):
    rng, lengths = np.random.default_rng(2), np.asarray(LENGTHS)
    ys = np.asarray(rng.normal(size=(T, 4, 3)) - 2, np.float32)
    ys[np.arange(T)[:, None] >= lengths] = 0.0  # as `unroll` leaves them
    h = np.asarray(rng.normal(size=(4, 3)), np.float32)
    pooled = jax.jit(POOLINGS[name])(ys, LENGTHS, Layer((h,)))
    for row, n in enumerate(lengths):
        expected = by_hand(name, ys[:n, row], h[row])
        np.testing.assert_allclose(pooled[row], expected, rtol=1e-6)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_padding_changes_nothing_and_empty_rows_are_finite(bidirectional):
    model, params = classifier(
        bidirectional=bidirectional, pooling=("last", "mean", "max")
    )

    @jax.jit
    def logits_and_gradients(tokens):
        def total(params):
            logits = model.apply(params, tokens, LENGTHS, train=False)
            return (logits**2).sum(), logits

        return jax.grad(total, has_aux=True)(params)

    padding = np.arange(T) >= np.asarray(LENGTHS)[:, None]
    found = logits_and_gradients(np.where(padding, 0, TOKENS))
    other = logits_and_gradients(np.where(padding, V - 1, TOKENS))
    for one, two in zip(*map(jax.tree.leaves, (found, other)), strict=True):
        np.testing.assert_array_equal(one, two)
        assert np.isfinite(one).all()
    # An empty row is the head's bias: everything pooled is 0.
    bias = params["params"]["head"]["bias"]
    np.testing.assert_array_equal(found[1][:1], bias)


def test_manual_and_automatic_gradients_agree():
    def gradients(name):
        model, params = classifier(
            gradient=name,
            bidirectional=True,
            word_dropout=0.2,
            embedding_dropout=0.3,
            head_dropout=0.3,
        )

        def total(params):
            rngs = {"dropout": jax.random.key(5)}
            return model.apply(params, TOKENS, LENGTHS, train=True, rngs=rngs).sum()

        return jax.jit(jax.grad(total))(params)

    manual, automatic = gradients("manual"), gradients("automatic")
    assert max(np.abs(g).max() for g in jax.tree.leaves(manual)) > 0.01
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), manual, automatic)


@pytest.mark.parametrize(
    "field", ["word_dropout", "embedding_dropout", "layer_dropout", "head_dropout"]
)
def test_each_dropout_acts_in_training_alone(field):
    plain, params = classifier(layers=2)
    model = plain.clone(**{field: 0.5})

    @partial(jax.jit, static_argnums=(0, 1))
    def logits(model, train, key):
        rngs = {"dropout": key}
        return model.apply(params, TOKENS, LENGTHS, train=train, rngs=rngs)

    keys = jax.random.key(6), jax.random.key(7)
    np.testing.assert_array_equal(
        logits(model, False, keys[0]), logits(plain, True, keys[0])
    )
    one, again = logits(model, True, keys[0]), logits(model, True, keys[0])
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, logits(model, True, keys[1]))


def test_a_dropped_word_is_the_unknown_word():
    model, params = classifier(word_dropout=0.999999)
    rngs = {"dropout": jax.random.key(8)}
    apply = jax.jit(model.apply, static_argnames="train")
    dropped = apply(params, TOKENS, LENGTHS, train=True, rngs=rngs)
    unknown = apply(params, np.ones_like(TOKENS), LENGTHS, train=False)
    np.testing.assert_allclose(dropped, unknown, rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cell": "lsmt"}, "cell must be one of .*'lstm'.*got 'lsmt'"),
        ({"gradient": "auto"}, "gradient must be one of .*got 'auto'"),
        ({"memory": "none"}, "memory must be one of .*got 'none'"),
        ({"pooling": ("mean", "min")}, "pooling must be one of .*got 'min'"),
        ({"pooling": ()}, "pooling must name at least one of"),
        ({"head_dropout": 1.0}, "head_dropout must be from 0 to 1.*got 1.0"),
        ({"layers": 0}, "layers must be at least 1; got 0"),
    ],
)
def test_unknown_names_and_numbers_out_of_range(fields, message):
    with pytest.raises(ValueError, match=message):
        classifier(**fields)


def test_ratios_are_inputs_beside_the_words():
    """A network whose words are all alike tells texts apart by their ratios alone."""
    model = SequenceClassifier(**SMALL, ratios=3)
    ratios = np.random.default_rng(1).normal(size=(*TOKENS.shape, 3))
    ratios = ratios.astype(np.float32)
    params = init(model, jax.device_put(ratios))
    apply = jax.jit(partial(model.apply, params, train=False))
    same, changed = np.ones_like(TOKENS), ratios.copy()
    changed[2, 0, 1] += 1.0
    before, after = (np.asarray(apply(same, LENGTHS, r)) for r in (ratios, changed))
    np.testing.assert_array_equal(before != after, [False, False, True, False])
    for wrong in (None, ratios[..., :2], ratios[:, :1]):
        with pytest.raises(ValueError, match="ratios: expected shape"):
            apply(TOKENS, LENGTHS, wrong)
