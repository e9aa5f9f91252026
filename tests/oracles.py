"""What the tests compare with: a plain loop, differences, and drawn arrays.

Nothing here knows about scans, chunks, masks or hand-written rules.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import tree
from jax.flatten_util import ravel_pytree
from numpy.testing import assert_allclose

import lstm_jax as lj

EACH_CELL = pytest.mark.parametrize("cell", lj.CELLS.values(), ids=lj.CELLS)

# Products of variants compile for minutes, so by default they run for a cell of each
# kind: no product of the state, one, two. `make test-all` runs them for every cell.
KINDS = ("min_gru", "gru_before", "lstm")
EACH_KIND = pytest.mark.parametrize(
    "cell",
    [
        pytest.param(cell, id=name, marks=() if name in KINDS else pytest.mark.slow)
        for name, cell in lj.CELLS.items()
    ],
)
EACH_GRADIENT = pytest.mark.parametrize("gradient", ["manual", "automatic"])
EACH_MEMORY = pytest.mark.parametrize("memory", ["store", "states", "recompute"])

Step = Callable[[Any, Any, Any], Any]
"""The new state from params, a state and x, of one example."""


def assert_close(found: Any, expected: Any, tolerance: float = 1e-12) -> None:
    """Equal trees, shapes and dtypes; values relative to the largest of each array."""
    assert tree.structure(found) == tree.structure(expected)
    pairs = zip(tree.leaves_with_path(found), tree.leaves(expected), strict=True)
    for (path, f), e in pairs:
        name = jax.tree_util.keystr(path)
        assert (f.shape, f.dtype) == (e.shape, e.dtype), name
        f, e = np.asarray(f, np.float64), np.asarray(e, np.float64)
        largest = np.max(np.abs(e), initial=1e-3)
        assert_allclose(f, e, rtol=0, atol=tolerance * largest, err_msg=name)


def drawn_like(like: Any, seed: int = 0, scale: float = 0.5) -> Any:
    """Normal numbers in the shapes and dtypes of `like`."""
    rng = np.random.default_rng(seed)
    return on_device(
        tree.map(lambda a: np.asarray(scale * rng.normal(size=a.shape), a.dtype), like)
    )


def on_device(values: Any) -> Any:
    """Of NumPy arrays JAX's; `jnp.asarray` would compile a program for each shape."""
    return tree.map(jax.device_put, values)


@cache
def drawn_params(
    cell: lj.Cell, input_size: int = 3, hidden_size: int = 4, dtype: Any = jnp.float64
) -> Any:
    """Parameters of which none is 0, 1 or orthogonal.

    Biases are about 1: most rectified units are alive, and so have gradients.
    """
    init = partial(cell.init, jax.random.key(0), input_size, hidden_size, dtype=dtype)
    params = drawn_like(jax.eval_shape(init))
    return params._replace(b=on_device((np.asarray(params.b) + 1).astype(dtype)))


@cache
def drawn_inputs(
    cell: lj.Cell, steps: int, batch_shape: tuple[int, ...] = (), **sizes: Any
) -> tuple[Any, jax.Array, Any]:
    """Parameters, xs and an initial state.

    The state is one that can occur: the sLSTM's normalizer n is at least 1.
    """
    params = drawn_params(cell, **sizes)
    dtype = tree.leaves(params)[0].dtype
    xs = np.empty((steps, *batch_shape, cell.sizes(params)["input_size"]), dtype)
    first = partial(cell.initial_state, batch_shape=batch_shape)
    state = drawn_like(jax.eval_shape(first, params), 5)
    if "n" in state._fields:
        normalizer = 1 + np.abs(np.asarray(state.n))
        state = state._replace(n=on_device(normalizer.astype(dtype)))
    return params, drawn_like(xs, 1), state


def pulled(
    cell: lj.Cell, params: Any, xs: jax.Array, state: Any, dout: Any, **options: Any
) -> tuple[Any, Any]:
    """The results of `unroll`, and the gradients of its arguments from those of `dout`.

    `dout` are the gradients of the outputs and of the final state.
    """
    # Said or not, a default is the same compiled program.
    options = {"gradient": "manual", "reverse": False, "memory": "store"} | options
    return _pulled(cell, params, xs, state, dout, **options)


@partial(jax.jit, static_argnums=0, static_argnames=("gradient", "reverse", "memory"))
def _pulled(
    cell: lj.Cell, params: Any, xs: jax.Array, state: Any, dout: Any, **options: Any
) -> tuple[Any, Any]:
    run = partial(lj.unroll, cell, **options)
    results, pull = jax.vjp(run, params, xs, state)
    return results, pull(dout)


def results_like(params: Any, xs: jax.Array, state: Any) -> tuple[jax.Array, Any]:
    """Gradients, drawn, of the results of an unrolling."""
    del params
    ys = np.empty((*xs.shape[:-1], state[0].shape[-1]), xs.dtype)
    return drawn_like((ys, state), 3)


def plain_pulled(
    step: Step,
    arguments: tuple[Any, Any, Any],
    dout: tuple[Any, Any],
    *,
    mask: np.ndarray,
    resets: np.ndarray,
    reverse: bool,
    masked_outputs: str = "zero",
) -> tuple[Any, Any]:
    """`unroll` as its docstring says it: one sequence, one step after another.

    Then the gradients, from the last step to the first. JAX differentiates each step.

    Args:
        step: see `Step`.
        arguments: params, xs (T, B, ...) and the first states (B, ...).
        dout: the gradients of the states of all steps, (T, B, ...), and of the last.
        mask: (T, B), which steps are made.
        resets: (T, B).
        reverse: whether the last x comes first.
        masked_outputs: as of `unroll`.

    Returns:
        The states of all steps, and the last; the gradients of `arguments`.
    """
    arguments, dout = tree.map(np.asarray, (arguments, dout))
    (params, xs, first), (dstates, dlast) = arguments, dout
    dparams, dxs, dfirst = tree.map(np.zeros_like, arguments)
    states, last = tree.map(np.zeros_like, dout)
    times = range(len(mask))[::-1] if reverse else range(len(mask))
    for b in range(mask.shape[1]):
        shown = mask[:, b] | (masked_outputs == "last")
        now, olds = at(first, b), {}
        for t in times:
            if mask[t, b]:
                olds[t] = at(first, b) if resets[t, b] else now
                now, _ = pulled_step(step, (params, olds[t], at(xs, (t, b))), now)
            if shown[t]:
                add(states, (t, b), now)
        add(last, b, now)
        dnow = at(dlast, b)
        for t in reversed(times):
            if shown[t]:
                add(dnow, ..., at(dstates, (t, b)))
            if mask[t, b]:
                _, gradients = pulled_step(
                    step, (params, olds[t], at(xs, (t, b))), dnow
                )
                add(dparams, ..., gradients[0])
                add(dxs, (t, b), gradients[2])
                dnow = gradients[1]
                if resets[t, b]:
                    add(dfirst, b, dnow)
                    dnow = tree.map(np.zeros_like, dnow)
        add(dfirst, b, dnow)
    return (states, last), (dparams, dxs, dfirst)


def plain_outputs(
    step: Step, arguments: Any, dout: tuple[Any, Any], **options: Any
) -> tuple[Any, Any]:
    """`plain_pulled` with the outputs alone, which are the states' first field."""
    dys, dlast = dout
    zeros = tree.map(lambda d: np.zeros((len(dys), *d.shape)), dlast)
    dstates = zeros._replace(**{zeros._fields[0]: dys})
    (states, last), gradients = plain_pulled(
        step, arguments, (dstates, dlast), **options
    )
    return (states[0], last), gradients


def pulled_step(step: Step, arguments: tuple[Any, Any, Any], dnew: Any) -> Any:
    """The new state, and the gradients of `arguments` from that of the new state."""
    return tree.map(np.array, _pulled_step(step, arguments, dnew))


@partial(jax.jit, static_argnums=0)  # one program, where every operation would be
def _pulled_step(step: Step, arguments: tuple[Any, Any, Any], dnew: Any) -> Any:
    new, pull = jax.vjp(step, *arguments)
    return new, pull(dnew)


@cache
def step_of(cell: lj.Cell) -> Step:
    """A step of a cell, for `plain_pulled`; the same function at every call."""
    return lambda params, state, x: cell.step(params, state, cell.project(params, x))[0]


def at(arrays: Any, index: Any) -> Any:
    """Each array's part, copied."""
    return tree.map(lambda a: np.array(a[index]), arrays)


def add(arrays: Any, index: Any, parts: Any) -> None:
    """Adds to each array's part."""
    for array, part in zip(tree.leaves(arrays), tree.leaves(parts), strict=True):
        array[index] += part


def differences(fn: Any, argument: Any, step: float = 1e-5) -> Any:
    """The gradient of the scalar `fn` by central differences, each number in turn."""

    @jax.jit
    def each(argument: Any) -> Any:
        flat, unravel = ravel_pytree(argument)

        def along(direction: jax.Array) -> jax.Array:
            ahead, behind = (fn(unravel(flat + s * direction)) for s in (step, -step))
            return (ahead - behind) / (2 * step)

        return unravel(jax.lax.map(along, jnp.eye(flat.size, dtype=flat.dtype)))

    return each(argument)
