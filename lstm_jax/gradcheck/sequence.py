"""Whole sequences: what the engine hands from step to step, and its sums over time.

The engine is looked at through an *observed* cell, which is the cell itself save that
its new state has names in the forward, and the gradient that reaches it in the
reverse. So the rows say at which step something went wrong.
"""

from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, tree
from jax.ad_checkpoint import checkpoint_name

from lstm_jax import graph
from lstm_jax.cell import Cell, Name
from lstm_jax.engine import unrolling
from lstm_jax.gradcheck.oracles import Oracles, differentiate, once, order
from lstm_jax.gradcheck.report import Row, Tolerances, compare
from lstm_jax.gradcheck.step import (
    Point,
    Sizes,
    argument_names,
    draw,
    field_names,
    forward_only,
)

VARIANTS = ("plain", "reverse", "lengths", "resets")


class Options(NamedTuple):
    """The arguments of `unroll` that make a variant."""

    lengths: Array | None
    resets: Array | None
    reverse: bool


@lru_cache(maxsize=64)
def observed(cell: Cell) -> Cell:
    """The cell with names for its new state, "c_t", and for what reaches it, "dc_t".

    It takes one step after another even if it is linear in its state, since names are
    read step by step.
    """

    def step(params: Any, state: Any, u: Any) -> tuple[Any, Any]:
        new, kept = cell.step(params, state, u)
        return _tagged(new, ""), kept

    def backward(params: Any, state: Any, new: Any, kept: Any, dnew: Any) -> Any:
        return cell.backward(params, state, new, kept, _tagged(dnew, "d"))

    return cell._replace(step=step, backward=backward, linear=False)


def state_gradients(
    cell: Cell, params: Any, xs: Array, state: Any, dys: Array, dfinal: Any
) -> dict[str, np.ndarray]:
    """The gradient of every step's new state, by the cell's own reverse.

    Args:
        cell: a cell with a backward.
        params: its parameters.
        xs: inputs, (T, B, D).
        state: the initial state.
        dys: gradients of the outputs, (T, B, H).
        dfinal: gradients of the final state.

    Returns:
        For every field of the state, "h" for instance, (T, B, H): all that reaches
        the state after step t, from its output and from the steps that follow.
    """
    plain = Options(lengths=None, resets=None, reverse=False)
    found = _manual(cell, plain, "store", Point(params, xs, state, dys, dfinal))
    fields = zip(field_names(state), tree.leaves(state), strict=True)
    return {
        name: _in_time(found, f"d{name}_t", field.shape, reverse=True)
        for name, field in fields
    }


def check_sequence(
    cell: Cell, sizes: Sizes, variant: str, memory: str, tolerances: Tolerances
) -> tuple[list[Row], float]:
    """The rows of a sequence, and the order of its remainder."""
    forward = forward_only(cell)._replace(linear=False)
    options = _options(sizes, variant)
    point = _point(forward, sizes, variant)
    oracles, dstates = _known(forward, sizes, variant)
    found = _manual(cell, options, memory, point)
    backward = not options.reverse

    rows = []
    for name, expected in dstates.items():
        manual = _in_time(found, f"d{name}", expected.shape[1:], reverse=backward)
        row = _state_row(
            variant, name, manual, expected, oracles, tolerances, backward=backward
        )
        rows.append(row)
    needs = tuple(row.quantity for row in rows)
    gradients = {}
    for name in argument_names(point.params, point.xs, point.state):
        gradients[name] = np.asarray(found[f"gradient {name}"])
        label = "dxs" if name == "x" else f"d{name}"
        row = compare(
            variant, label, (), gradients[name], oracles, name, tolerances, needs=needs
        )
        rows.append(row)
    return rows, order(oracles.remainders, gradients)


def _manual(
    cell: Cell, options: Options, memory: str, point: Point
) -> dict[str, Array]:
    """The named quantities of the manual reverse, its results among them."""
    args = point.params, point.xs, point.state
    names = argument_names(*args)
    run = partial(_run, observed(cell), options, "manual", memory)

    def reverse(args: Any, cotangent: Any) -> Any:
        gradients = jax.vjp(run, *args)[1](cotangent)
        flat = zip(names, tree.leaves(gradients), strict=True)
        return [checkpoint_name(g, f"gradient {name}") for name, g in flat]

    named = once(partial(graph.named_values, reverse))
    return named(args, (point.dys, point.dstate))


def _run(
    cell: Cell,
    options: Options,
    gradient: str,
    memory: str,
    params: Any,
    xs: Array,
    state: Any,
) -> tuple[Array, Any]:
    return unrolling.unroll(
        cell, params, xs, state, gradient=gradient, memory=memory, **options._asdict()
    )


@lru_cache(maxsize=64)
def _options(sizes: Sizes, variant: str) -> Options:
    """Lengths with T - 1, 0, T and 1 among them; resets at about every third step."""
    rng = np.random.default_rng(sizes.seed)
    steps, batch = sizes.steps, sizes.batch
    lengths = np.resize([steps - 1, 0, steps, 1], batch)
    resets = rng.random((steps, batch)) < 0.3
    resets[steps // 2, 0] = True
    return Options(
        lengths=jnp.asarray(lengths) if variant == "lengths" else None,
        resets=jnp.asarray(resets) if variant == "resets" else None,
        reverse=variant == "reverse",
    )


def _point(cell: Cell, sizes: Sizes, variant: str) -> Point:
    """The random point; past a sequence's length the inputs are NaN, as they may be."""
    point, options = draw(cell, sizes), _options(sizes, variant)
    if options.lengths is None:
        return point
    valid = jnp.arange(sizes.steps)[:, None] < options.lengths
    return point._replace(xs=jnp.where(valid[..., None], point.xs, jnp.nan))


@lru_cache(maxsize=64)
def _known(
    cell: Cell, sizes: Sizes, variant: str
) -> tuple[Oracles, dict[str, np.ndarray]]:
    """What the oracles say of the arguments, and the graph of every step's state."""
    point, options = _point(cell, sizes, variant), _options(sizes, variant)
    args = point.params, point.xs, point.state
    cotangent = point.dys, point.dstate
    names = argument_names(*args)
    run = partial(_run, cell, options, "automatic", "store")

    def loss(at: dict[str, Array]) -> Array:
        outputs = run(*tree.unflatten(tree.structure(args), [at[n] for n in names]))
        pairs = zip(tree.leaves(cotangent), tree.leaves(outputs), strict=True)
        return sum((jnp.sum(d * out) for d, out in pairs), jnp.zeros(()))

    oracles = differentiate(
        loss,
        dict(zip(names, tree.leaves(args), strict=True)),
        difference_step=sizes.difference_step,
        max_entries=sizes.max_entries,
        inputs=tuple(names),
        seed=sizes.seed,
    )
    watched = partial(_run, observed(cell), options, "automatic", "store")
    by_graph = partial(graph.named_cotangents, watched)
    named = once(lambda args, ct: by_graph(*args, cotangent=ct))(args, cotangent)
    fields = zip(field_names(point.state), tree.leaves(point.state), strict=True)
    return oracles, {
        f"{name}_t": _in_time(named, f"{name}_t", field.shape, reverse=options.reverse)
        for name, field in fields
    }


def _tagged(state: Any, prefix: str) -> Any:
    """The state with a name for every field: "h_t", or "dh_t" with the prefix "d"."""
    names = [f"{prefix}{name}_t" for name in field_names(state)]
    leaves = [
        checkpoint_name(s, n) for s, n in zip(tree.leaves(state), names, strict=True)
    ]
    return tree.unflatten(tree.structure(state), leaves)


def _in_time(
    named: dict[str, Array], name: str, shape: tuple[int, ...], *, reverse: bool
) -> np.ndarray:
    """A quantity of all steps, (T, *shape), from the chunks that it was named in."""
    keys = [key for key in named if Name.parse(key).quantity == name]
    pieces = [np.asarray(named[key]).reshape(-1, *shape) for key in keys]
    return np.concatenate(pieces[::-1] if reverse else pieces)


def _state_row(
    where: str,
    name: str,
    manual: np.ndarray,
    expected: np.ndarray,
    oracles: Oracles,
    tolerances: Tolerances,
    *,
    backward: bool,
) -> Row:
    """The row of a state's gradient over all steps; its note says where it starts."""
    known = oracles._replace(automatic={}, graph={name: expected}, numerical={})
    row = compare(where, f"d{name}", (), manual, known, name, tolerances)
    if row.passed or manual.shape != expected.shape:
        return row
    step = _first_wrong_step(manual, expected, tolerances, backward=backward)
    scale = np.max(np.abs(expected))
    error = np.max(np.abs(manual[step] - expected[step])) / scale
    note = f"relative error {error:.1e} at step {step} of {len(manual)}"
    return row._replace(note=f"{note}, the first that is wrong on the way back")


def _first_wrong_step(
    manual: np.ndarray, expected: np.ndarray, tolerances: Tolerances, *, backward: bool
) -> int:
    bound = tolerances.exact * np.max(np.abs(expected))
    axes = tuple(range(1, manual.ndim))
    wrong = ~(np.max(np.abs(manual - expected), axis=axes) <= bound)
    steps = np.flatnonzero(wrong)
    return int(steps[-1] if backward else steps[0])
