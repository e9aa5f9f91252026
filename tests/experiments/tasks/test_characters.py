"""The language model: segments and one long pass, the cut, sampling, its reference."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import on_device

import lstm_jax as lj
from experiments.tasks import Data, characters

SIZE, SEGMENT, SEGMENTS = 7, 5, 4
pytestmark = pytest.mark.promotes_ranks

CONFIG = characters.Config(
    batch_size=3, hidden_size=4, embedding_size=3, segment=SEGMENT
)


@pytest.fixture(scope="module")
def text():
    """Three streams of four segments, and a character beyond."""
    return np.random.default_rng(0).integers(0, SIZE, (3, SEGMENT * SEGMENTS + 1))


@pytest.fixture(scope="module")
def model():
    @jax.jit
    def wide(key):
        drawn = characters.init_model(lj.LSTM, CONFIG, SIZE, key)
        return jax.tree.map(lambda p: 2 * p.astype(jnp.float64), drawn)

    return wide(jax.random.key(1))


@pytest.fixture(scope="module")
def task(text):
    return characters.make_task(CONFIG, lj.LSTM, Data(text, text, text))


@jax.jit
@jax.value_and_grad
def whole(model, text):
    """The loss of one long pass, and its gradients."""
    state = lj.LSTM.initial_state(model.network.cell, (3,))
    return characters.nats(lj.LSTM, model, state, text)[0]


@partial(jax.jit, static_argnums=2)
@jax.value_and_grad
def in_segments(model, text, cut):
    """The same a segment at a time, the state cut in between."""
    state = lj.LSTM.initial_state(model.network.cell, (3,))
    values = []
    for start in range(0, SEGMENT * SEGMENTS, SEGMENT):
        part = text[:, start : start + SEGMENT + 1]
        value, state = characters.nats(lj.LSTM, model, state, part)
        state = cut(state)
        values.append(value)
    return jnp.mean(jnp.stack(values))


def largest_difference(one, other):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return max(np.abs(np.asarray(a) - np.asarray(b)).max() for a, b in pairs)


def test_segments_without_the_cut_are_one_long_pass(model, text):
    found = in_segments(model, text, lambda state: state)
    expected = whole(model, text)
    assert largest_difference(found, expected) < 1e-14


def test_the_cut_changes_gradients_and_no_value(model, text):
    expected = whole(model, text)
    found = in_segments(model, text, jax.lax.stop_gradient)
    assert float(found[0]) == pytest.approx(float(expected[0]), rel=1e-14)
    assert largest_difference(found[1], expected[1]) > 1e-4


def test_training_carries_the_state_and_cuts_gradients(model, text, task):
    """The steps of a pass, at fixed parameters, are the segments with the cut."""
    loss = jax.jit(jax.value_and_grad(task.loss, has_aux=True))
    carry, values, gradients = task.start(model), [], []
    for _ in range(SEGMENTS):
        (value, carry), gradient = loss(model, carry, jax.random.key(9), text)
        values.append(value)
        gradients.append(jax.device_get(gradient))
    mean = jax.tree.map(lambda *g: sum(g) / SEGMENTS, *gradients)
    expected = in_segments(model, text, jax.lax.stop_gradient)
    assert np.mean(values) == pytest.approx(float(expected[0]), rel=1e-13)
    assert largest_difference(mean, expected[1]) < 1e-14
    # The next pass begins with a state that has read nothing.
    (again, carry), _ = loss(model, carry, jax.random.key(9), text)
    assert again == pytest.approx(float(values[0]), rel=1e-14)
    assert carry[0] == 1


def test_bits_are_nats_over_ln_2(model, text, task):
    found = jax.jit(task.evaluate)(model, text)["bits_per_character"]
    assert found == pytest.approx(float(whole(model, text)[0]) / np.log(2), rel=1e-13)


def test_a_network_that_knows_nothing_needs_log2_of_the_alphabet(model, text, task):
    nothing = jax.tree.map(np.zeros_like, model)
    found = jax.jit(task.evaluate)(nothing, text)["bits_per_character"]
    assert found == pytest.approx(np.log2(SIZE))


def test_writing_remembers_all_that_was_written(model):
    """300 texts: every draw is the one that reading all before it would lead to."""
    larger = jax.tree.map(lambda p: 4 * np.asarray(p), model)  # the state matters
    model, prompt = on_device((larger, np.asarray([1, 2, 3])))
    length = 4
    keys = jax.random.split(jax.random.key(0), 300)

    @jax.jit
    @jax.vmap
    def written(key):
        return characters.write(lj.LSTM, model, key, prompt, length, 2.0)

    @jax.jit
    @jax.vmap
    def drawn_again(key, found):
        read = model.embedding[jnp.concatenate([prompt, found])]
        outputs, _ = lj.unroll(lj.LSTM, model.network.cell, read)
        scores = outputs @ model.network.weights + model.network.bias
        draw = jax.vmap(jax.random.categorical)
        return draw(jax.random.split(key, length), scores[2:-1] / 2)

    found = written(keys)
    np.testing.assert_array_equal(found, drawn_again(keys, found))
    assert len(np.unique(np.asarray(found), axis=0)) > 50


def test_writing_draws_with_the_probabilities_of_the_network(model):
    flat = model._replace(network=jax.tree.map(np.zeros_like, model.network))
    bias = np.log([0.5, 0.25, 0.25, 1e-9, 1e-9, 1e-9, 1e-9])
    flat = flat._replace(network=flat.network._replace(bias=bias))
    prompt = np.asarray([0])
    write = jax.jit(partial(characters.write, lj.LSTM, length=2000))
    key = jax.random.key(0)
    drawn = write(flat, key, prompt, temperature=1.0)
    shares = np.bincount(np.asarray(drawn), minlength=SIZE) / 2000
    np.testing.assert_allclose(shares[:3], [0.5, 0.25, 0.25], atol=0.04)
    # At a temperature of 1/2 probabilities are squared: 4/6, 1/6, 1/6.
    drawn = write(flat, key, prompt, temperature=0.5)
    assert np.mean(np.asarray(drawn) == 0) == pytest.approx(2 / 3, abs=0.04)


def test_letter_frequencies_by_hand():
    train, test = np.asarray([[0, 0, 1]]), np.asarray([[0, 2]])
    found = characters.unigram_bits(Data(train, test, test))
    assert found == pytest.approx(-(np.log2(3 / 6) + np.log2(1 / 6)) / 2)


def test_a_segment_longer_than_the_streams_is_an_error(text):
    config = characters.Config(segment=30)
    with pytest.raises(ValueError, match="segment: 30 is longer than the streams"):
        characters.make_task(config, lj.LSTM, Data(text, text, text))
