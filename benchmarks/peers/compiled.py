"""What the peers on JAX share: compiling a layer, and asking the compiler about it."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from benchmarks.peers import Built
from benchmarks.problem import Outcome

Weights = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Wx, Wh and b, or their gradients, in the neutral order."""


def compiled(
    apply: Callable[[Any, Array], Array],
    params: Any,
    xs: ArrayLike,
    *,
    to_weights: Callable[[Any], Weights],
    time_axis: int = 0,
) -> Built:
    """A layer on JAX, compiled ahead.

    Args:
        apply: ``(params, xs) -> ys``, in the library's own layout.
        params: a pytree of arrays.
        xs: the inputs in that layout.
        to_weights: converts gradients, a pytree like `params`.
        time_axis: where that layout has time; the batch is in the other of the first
            two axes.
    """

    def loss(params: Any, xs: Array) -> Array:
        ys = apply(params, xs)
        return jnp.sum(ys.astype(jnp.promote_types(ys.dtype, jnp.float32)) ** 2) / 2

    arguments = jax.device_put((params, xs))
    start = time.perf_counter()
    gradient_program = jax.jit(jax.value_and_grad(loss, (0, 1)))
    gradient_program = gradient_program.lower(*arguments).compile()
    compile_seconds = time.perf_counter() - start
    forward_program = jax.jit(apply).lower(*arguments).compile()
    memory = gradient_program.memory_analysis()

    def outcome() -> Outcome:
        ys = forward_program(*arguments)
        _, (dparams, dxs) = gradient_program(*arguments)
        ys, dxs = (np.moveaxis(np.asarray(a), time_axis, 0) for a in (ys, dxs))
        weights = to_weights(jax.tree.map(np.asarray, dparams))
        return Outcome(ys, *weights, dxs)

    return Built(
        forward=lambda: jax.block_until_ready(forward_program(*arguments)),
        value_and_gradient=lambda: jax.block_until_ready(gradient_program(*arguments)),
        outcome=outcome,
        compile_seconds=compile_seconds,
        temporary_bytes=None if memory is None else memory.temp_size_in_bytes,
    )
