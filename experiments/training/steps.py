"""The training state, the optimizer, and the compiled scans over many batches."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from experiments.data import Bucket, evaluation_segments
from experiments.training.devices import split_columns, split_rows, whole

Loss = Callable[[Any, Array, Any], tuple[Array, dict[str, Array]]]
"""``(params, key, batch) -> (loss, measures)``, both means over the batch."""


@dataclass(frozen=True)
class Given:
    """A function whose first arguments are given, as by `functools.partial`.

    Two of the same function and arguments are equal, so what is compiled for the one
    serves the other: a second run with the same config in one process.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]

    def __call__(self, *more: Any) -> Any:
        """What the function returns for these arguments and `more`."""
        return self.function(*self.arguments, *more)


class TrainState(NamedTuple):
    """All that training changes. It and the schedule say how training goes on.

    Attributes:
        params: the parameters that gradients move.
        average: their exponential moving average, which is evaluated and kept.
        opt_state: the optimizer's.
        step: () int32, the updates done.
        key: a typed PRNG key, the same all along; step n draws from ``fold_in(key,
            n)``, so that nothing depends on how steps are grouped.
    """

    params: Any
    average: Any
    opt_state: Any
    step: Array
    key: Array


def init_state(
    params: Any, optimizer: optax.GradientTransformation, key: Array
) -> TrainState:
    """The state before the first step.

    `train_segment` takes over the memory of its state: use `params` and `key` no
    more, or pass copies.
    """
    average, opt_state = _beginning(optimizer, params)
    return TrainState(params, average, opt_state, jnp.zeros((), jnp.int32), key)


@partial(jax.jit, static_argnums=0)
def _beginning(optimizer: optax.GradientTransformation, params: Any) -> tuple[Any, Any]:
    """The average and the optimizer's state, by one program."""
    return jax.tree.map(jnp.copy, params), optimizer.init(params)


@lru_cache(maxsize=64)  # the same object for the same numbers; see `Given`
def make_optimizer(
    learning_rate: float,
    total_steps: int,
    *,
    warmup_steps: int = 0,
    weight_decay: float = 0.0,
    clip_norm: float = 1.0,
) -> optax.GradientTransformation:
    """AdamW with clipping, a linear warm-up and a cosine that ends at 0.

    Clipping by the global norm is Pascanu et al. (2013), algorithm 1; decay is
    decoupled (Loshchilov & Hutter, 2019, algorithm 2) and leaves out biases, that is,
    whatever has fewer than two axes.

    Args:
        learning_rate: at the end of the warm-up.
        total_steps: updates until the learning rate is 0, more than `warmup_steps`.
        warmup_steps: updates from 0 to `learning_rate`.
        weight_decay: times the learning rate, taken from each weight in each update.
        clip_norm: the largest norm of all gradients together.

    Raises:
        ValueError: a number is out of range.
    """
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(
            "warmup_steps must be from 0 to total_steps, the latter excluded; got "
            f"warmup_steps={warmup_steps}, total_steps={total_steps}"
        )
    for name, number in (("learning_rate", learning_rate), ("clip_norm", clip_norm)):
        if not number > 0:
            raise ValueError(f"{name} must be above 0; got {number}")
    if not weight_decay >= 0:
        raise ValueError(f"weight_decay must be at least 0; got {weight_decay}")
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0 if warmup_steps else learning_rate,
        peak_value=learning_rate,
        warmup_steps=warmup_steps,
        decay_steps=total_steps,
    )
    return optax.chain(
        optax.clip_by_global_norm(clip_norm),
        optax.adamw(schedule, weight_decay=weight_decay, mask=_decayed),
    )


def descend(
    loss: Callable[..., tuple[Array, Any]],
    optimizer: optax.GradientTransformation,
    params: Any,
    opt_state: Any,
    *given: Any,
) -> tuple[Any, Any, tuple[Array, Any], Any]:
    """One update of the parameters.

    Args:
        loss: ``(params, *given) -> (loss, more)``.
        optimizer: as from `make_optimizer`.
        params: the parameters before.
        opt_state: the optimizer's state before.
        given: what else the loss is of.

    Returns:
        Parameters and optimizer's state after, what `loss` gave, and the gradients.
    """
    found, gradients = jax.value_and_grad(loss, has_aux=True)(params, *given)
    updates, opt_state = optimizer.update(gradients, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, found, gradients


@partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=3)
def train_segment(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    average_decay: float,
    state: TrainState,
    data: Any,
    indices: Array,
) -> tuple[TrainState, dict[str, Array]]:
    """Many training steps in one compiled scan; takes over the memory of `state`.

    Args:
        loss: what to minimise; differentiated by its first argument.
        optimizer: as from `make_optimizer`.
        average_decay: what the average keeps of itself in a step, below 1; 0 makes it
            the parameters. It starts lower, ``min(decay, (1 + n) / (10 + n))`` in step
            n, so that the initial parameters are soon forgotten.
        state: the state before.
        data: a pytree of arrays with one row an example, on the device.
        indices: (steps, batch_size) rows of `data`.

    Returns:
        The state after, and for each step, (steps,): `loss`, `gradient_norm` before
        clipping, and the measures of `loss`.
    """

    def step(state: TrainState, rows: Array) -> tuple[TrainState, dict[str, Array]]:
        batch = split_rows(jax.tree.map(lambda a: a[rows], data))
        key = jax.random.fold_in(state.key, state.step)
        down = descend(loss, optimizer, state.params, state.opt_state, key, batch)
        params, opt_state, (value, measures), gradients = down
        average = _averaged(state, params, average_decay)
        learned = split_columns((params, average, opt_state))
        new = TrainState(*learned, state.step + 1, state.key)
        norm = optax.tree.norm(gradients)
        return new, {"loss": value, "gradient_norm": norm, **measures}

    state, found = lax.scan(step, state, indices)
    return state, whole(found)


def predict_rows(
    predict: Callable[[Any, Any], Array],
    params: Any,
    buckets: Sequence[Bucket],
    batch_size: int,
) -> np.ndarray:
    """What a model says of every example, each exactly once, in the data's order.

    Args:
        predict: ``(params, batch) -> (B, ...)``, for a batch of rows of a bucket.
        params: its parameters.
        buckets: the data, arrays on the device; `rows` of all together are 0 to N - 1.
        batch_size: examples at a time.

    Returns:
        (N, ...) float64, what is said of each.
    """
    parts, places = [], []
    for number, indices, weights in evaluation_segments(
        [len(bucket.labels) for bucket in buckets], batch_size
    ):
        real = weights.ravel() > 0
        found = _predict_segment(predict, params, buckets[number], indices)
        flat = np.asarray(found, np.float64).reshape(real.size, *found.shape[2:])
        parts.append(flat[real])
        places.append(np.asarray(buckets[number].rows)[indices.ravel()[real]])
    return np.concatenate(parts)[np.argsort(np.concatenate(places))]


@partial(jax.jit, static_argnums=0)
def _predict_segment(
    predict: Callable[[Any, Any], Array], params: Any, data: Any, indices: Array
) -> Array:
    def one(rows: Array) -> Array:
        return predict(params, split_rows(jax.tree.map(lambda a: a[rows], data)))

    return whole(lax.map(one, indices))


def _decayed(params: Any) -> Any:
    return jax.tree.map(lambda p: p.ndim > 1, params)


def _averaged(state: TrainState, params: Any, average_decay: float) -> Any:
    n = state.step.astype(jnp.float32)
    change = 1 - jnp.minimum(average_decay, (1 + n) / (10 + n))
    return jax.tree.map(
        lambda a, p: a + change.astype(a.dtype) * (p - a), state.average, params
    )
