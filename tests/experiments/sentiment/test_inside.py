"""What the last layer reads, and what the score asks of its outputs."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.sentiment import SequenceClassifier, look_inside, precision
from lstm_jax.cells import CELLS
from lstm_jax.engine import unroll

pytestmark = pytest.mark.jax_defaults

T, H = 5, 3
IDS = jax.device_put(np.asarray([4, 2, 7, 1, 4], np.int32))
LENGTHS = jax.device_put(np.asarray([T], np.int32))
RATIOS = np.linspace(-1, 2, 2 * T).reshape(T, 2)


@pytest.fixture(autouse=True)
def float64():
    with precision("float64"):
        yield


def ratios_of(model):
    return jax.device_put(RATIOS[:, : model.ratios])


def classifier(**fields):
    model = SequenceClassifier(
        vocabulary_size=9,
        embedding_size=4,
        hidden_size=H,
        pooling=("last", "mean", "max"),
        dtype=jnp.float64,
        **fields,
    )
    given = IDS[None], LENGTHS, ratios_of(model)[None]
    params = model.init(jax.random.key(0), *given, train=False)
    return model, params


@pytest.mark.parametrize(
    ("layers", "bidirectional", "ratios"), [(1, False, 2), (2, True, 0)]
)
def test_inside_is_what_the_whole_classifier_does(layers, bidirectional, ratios):
    model, params = classifier(
        layers=layers, bidirectional=bidirectional, ratios=ratios
    )
    look = jax.jit(partial(look_inside, model))
    inside = look(params, IDS, ratios_of(model))

    def whole(cell_params):
        last = params["params"]["layers"][-1]._replace(forward=cell_params)
        stack = (*params["params"]["layers"][:-1], last)
        changed = {"params": {**params["params"], "layers": stack}}
        given = IDS[None], LENGTHS, ratios_of(model)[None]
        return model.apply(changed, *given, train=False)[0]

    def alone(cell_params):
        ys, _ = unroll(CELLS["lstm"], cell_params, inside.xs[:, None])
        return jnp.sum(ys[:, 0] * inside.dys)

    # The chain rule: what the outputs are asked for gives the parameters' gradients.
    logit, expected = jax.jit(jax.value_and_grad(whole))(inside.params)
    np.testing.assert_allclose(inside.logit, logit, rtol=1e-12)
    found = jax.jit(jax.grad(alone))(inside.params)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)
