"""The networks of the experiments: a cell over a sequence, and a linear read-out."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import ArrayLike

from experiments.data import Series, pad_series
from experiments.tasks.seeds import Scorer, Task, Training
from lstm_jax.cell import Cell
from lstm_jax.engine import unroll


class Network(NamedTuple):
    """Parameters.

    Attributes:
        cell: the cell's own.
        weights: from its outputs (H,) to answers (O,).
        bias: (O,).
    """

    cell: Any
    weights: Array
    bias: Array


def init_network(
    cell: Cell, input_size: int, hidden_size: int, output_size: int, key: Array
) -> Network:
    """Draws parameters, the cell's in its own way."""
    key_cell, key_out = jax.random.split(key)
    params = cell.init(key_cell, input_size, hidden_size)
    features = cell.initial_state(params, ())[0].shape[-1]
    weights = jax.nn.initializers.glorot_uniform()(key_out, (features, output_size))
    return Network(params, weights, jnp.zeros(output_size))


def read(cell: Cell, network: Network, xs: Array, **how: Any) -> tuple[Array, Any]:
    """Outputs of all steps (T, B, H) and the final state; see `lstm_jax.unroll`."""
    return unroll(cell, network.cell, xs, gradient=gradient_of(cell), **how)


def answer(network: Network, outputs: Array) -> Array:
    """The read-out: (..., H) to (..., O)."""
    return outputs @ network.weights + network.bias


def gradient_of(cell: Cell) -> str:
    """The hand-derived gradient where a cell has one."""
    return "manual" if cell.derived else "automatic"


def with_shape(given: Any, shape: tuple[int | None, ...], dtype: Any) -> Array:
    """What a scorer is given, as an array of this type.

    Raises:
        ValueError: it has another shape; None stands for any size but 0.
    """
    found = np.asarray(given)
    fits = found.ndim == len(shape) and all(
        size > 0 if wanted is None else size == wanted
        for size, wanted in zip(found.shape, shape, strict=True)
    )
    if not fits:
        told = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"expected an array of shape ({told}), got {found.shape}")
    return jnp.asarray(found, dtype)


# --- which class does a series belong to? -----------------------------------------


def class_scorer(cell: Cell, config: Training, input_size: int, classes: int) -> Scorer:
    """Gives the probability of each class, (N, C), for N series of any lengths."""

    def score(network: Network, given: Any) -> np.ndarray:
        answers = last_answers(cell, network, given, input_size)
        return np.asarray(jax.nn.softmax(answers))

    init = partial(init_network, cell, input_size, config.hidden_size, classes)
    return Scorer(init, score)


def last_answers(cell: Cell, network: Network, given: Any, input_size: int) -> Array:
    """What a network answers after the last step of each series, (N, O).

    Args:
        cell: the network's.
        network: the parameters.
        given: numbers (N, T, D), or N arrays (T, D), each with a T of its own.
        input_size: D.

    Raises:
        ValueError: they have another shape.
    """
    xs, lengths = pad_series(given, input_size)
    steps = np.swapaxes(xs.astype(network.bias.dtype), 0, 1)
    return jax.jit(last_answer, static_argnums=0)(cell, network, steps, lengths)


def last_answer(
    cell: Cell, network: Network, xs: Array, lengths: ArrayLike | None = None
) -> Array:
    """What a network answers after the last step, (B, O), to xs (T, B, D)."""
    _, final = read(cell, network, xs, lengths=lengths)
    return answer(network, final[0])


def classifier(cell: Cell, config: Training, input_size: int, classes: int) -> Task:
    """Names the class of a series after its own last step; `Series` are its data.

    Each step of training takes rows at random, with replacement.
    """

    def logits(network: Network, series: Series) -> Array:
        xs = jnp.swapaxes(series.xs, 0, 1)
        return last_answer(cell, network, xs, series.lengths)

    def cross_entropy(network: Network, series: Series) -> tuple[Array, Array]:
        scores = logits(network, series)
        losses = optax.softmax_cross_entropy_with_integer_labels(scores, series.labels)
        return losses.mean(), jnp.mean(scores.argmax(axis=-1) == series.labels)

    def loss(network: Network, carry: None, key: Array, train: Series) -> Any:
        rows = jax.random.randint(key, (config.batch_size,), 0, len(train.labels))
        return cross_entropy(network, jax.tree.map(lambda a: a[rows], train))[0], carry

    def evaluate(network: Network, split: Series) -> dict[str, Array]:
        value, accuracy = cross_entropy(network, split)
        return {"accuracy": accuracy, "cross_entropy": value}

    return Task(
        init=partial(init_network, cell, input_size, config.hidden_size, classes),
        loss=loss,
        evaluate=evaluate,
    )
