"""What the last layer of a classifier reads, and what the score asks of its outputs."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from experiments.sentiment.model import POOLINGS, SequenceClassifier, join_ratios
from lstm_jax.engine import checks
from lstm_jax.layers import Layer, unroll_layers


class Inside(NamedTuple):
    """One text in the last layer's forward direction.

    Attributes:
        params: the cell's.
        xs: what it reads, (T, D).
        dys: the gradient of the logit with respect to its outputs, (T, H); what
            reaches the final state is the last output's.
        logit: what the classifier says of the text.
    """

    params: Any
    xs: Array
    dys: Array
    logit: Array


@partial(jax.jit, static_argnums=0)
def look_inside(
    model: SequenceClassifier, params: Any, ids: Array, ratios: Array | None = None
) -> Inside:
    """A text in the last layer of a classifier.

    Args:
        model: the classifier.
        params: its parameters.
        ids: the words, (T,) integers, at least one.
        ratios: (T, F), beside each word, where the classifier reads some.
    """
    own = params["params"]
    cell, layers = checks.as_cell(model.cell), own["layers"]
    xs = own["embedding"][ids][:, None]
    xs = join_ratios(xs, None if ratios is None else ratios[None])
    if len(layers) > 1:
        xs, _ = unroll_layers(cell, layers[:-1], xs)
    ys, finals = unroll_layers(cell, layers[-1:], xs)
    # The outputs of the forward direction come first, before the backward one's.
    ahead = finals[0].forward[0].shape[-1]
    logit, dys = jax.value_and_grad(partial(_logit, model, own["head"], finals[0]))(
        ys[..., :ahead], ys[..., ahead:]
    )
    return Inside(layers[-1].forward, xs[:, 0], dys[:, 0], logit)


def _logit(
    model: SequenceClassifier, head: Any, final: Layer, ahead: Array, others: Array
) -> Array:
    """The logit from the last layer's outputs, the final one of its forward direction.

    Args:
        model: the classifier.
        head: its last parameters.
        final: the layer's final states.
        ahead: the forward direction's outputs, (T, 1, H).
        others: the backward direction's, (T, 1, H) or (T, 1, 0).
    """
    last = final.forward._replace(**{final.forward._fields[0]: ahead[-1]})
    ys = jnp.concatenate([ahead, others], axis=-1)
    lengths = jnp.full(1, len(ys), jnp.int32)
    pooled = [
        POOLINGS[name](ys, lengths, final._replace(forward=last))
        for name in model.pooling
    ]
    features = jnp.concatenate(pooled, axis=-1)
    return (features @ head["kernel"] + head["bias"])[0, 0]
