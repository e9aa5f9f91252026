"""Whole sequences: what the engine hands from step to step, and its sums over time.

What is compared is what runs: outputs and gradients of `lstm_jax.unroll`, by whichever
runner serves the cell, against the cell's equations one step after another.

To see inside, an *observed* cell runs as well. It is the cell itself, save that its
new state has names in the forward, and the gradient that reaches it in the reverse, so
that the rows say at which step something went wrong.
"""

from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, tree
from jax.ad_checkpoint import checkpoint_name

from lstm_jax import graph, rtrl
from lstm_jax.cell import Cell, Name
from lstm_jax.engine import trees, unrolling
from lstm_jax.gradcheck.oracles import (
    Differencing,
    Oracles,
    differentiate,
    once,
    order,
)
from lstm_jax.gradcheck.points import Point, Sizes, draw, forward_only
from lstm_jax.gradcheck.report import Row, compare, relative_errors, scales
from lstm_jax.gradcheck.step import argument_names, field_names

VARIANTS = ("plain", "reverse", "lengths", "resets")

MOST_COLUMNS = 512
"""Numbers to differentiate by, up to which real-time recurrent learning is quick."""


class Known(NamedTuple):
    """What is known of a sequence.

    Attributes:
        oracles: the gradients of the arguments.
        results: the outputs and the final state, as a flat list.
        dstates: the gradients of every step's new state, by field, (T, B, ...).
        added_up: how large the terms were that these are the sums of.
        new: the states after the steps, by field.
    """

    oracles: Oracles
    results: list[np.ndarray]
    dstates: dict[str, np.ndarray]
    added_up: dict[str, np.ndarray]
    new: dict[str, np.ndarray]


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
    found = _seen(cell, plain, "store", Point(params, xs, state, dys, dfinal))
    fields = zip(field_names(state), tree.leaves(state), strict=True)
    return {
        name: _in_time(found, f"d{name}_t", field.shape, reverse=True)
        for name, field in fields
    }


def check_sequence(
    cell: Cell, sizes: Sizes, variant: str, memory: str
) -> tuple[list[Row], float]:
    """The rows of a sequence, and the order of its remainder."""
    forward = forward_only(cell)._replace(linear=False)
    options = _options(sizes, variant)
    point = _point(forward, sizes, variant)
    known = _known(forward, sizes, variant)
    args, cotangent = (point.params, point.xs, point.state), (point.dys, point.dstate)
    served = once(partial(_pulled, cell, options, memory))(args, cotangent)
    seen = _seen(cell, options, memory, point)

    results, found = served
    rows = [_forward_row(variant, results, known)]
    for name, expected in known.dstates.items():
        manual = _in_time(
            seen, f"d{name}", expected.shape[1:], reverse=not options.reverse
        )
        rows.append(_state_row(variant, name, manual, known, options))
    needs = tuple(row.quantity for row in rows)
    gradients = {}
    for name in argument_names(point.params, point.xs, point.state):
        gradients[name] = np.asarray(found[name])[None]
        label = "dxs" if name == "x" else f"d{name}"
        row = compare(
            variant, label, (), gradients[name], known.oracles, name, needs=needs
        )
        rows.append(row)
    return rows, order(known.oracles.remainders, gradients)


def steps_of(cell: Cell, sizes: Sizes, variant: str) -> Point:
    """The steps of a sequence as points, so that one step can be checked at each."""
    forward = forward_only(cell)._replace(linear=False)
    options = _options(sizes, variant)
    point = _point(forward, sizes, variant)
    known = _known(forward, sizes, variant)

    def like_state(fields: dict[str, np.ndarray]) -> Any:
        leaves = [jnp.asarray(a) for a in fields.values()]
        return tree.unflatten(tree.structure(point.state), leaves)

    new = like_state(known.new)
    old = trees.shift(point.state, new, reverse=options.reverse)
    carried = None if options.resets is None else ~options.resets
    params = tree.map(
        lambda p: jnp.broadcast_to(p, (sizes.steps, *p.shape)), point.params
    )
    return Point(
        params=params,
        xs=jnp.nan_to_num(point.xs)[:, None],
        state=trees.select_time(carried, old, point.state),
        dys=point.dys[:, None],
        dstate=like_state(known.dstates),
    )


def _pulled(
    cell: Cell, options: Options, memory: str, args: Any, cotangent: Any
) -> tuple[list[Array], dict[str, Array]]:
    """Outputs and final state by the manual rule, and the gradients by argument."""
    results, pull = jax.vjp(partial(_run, cell, options, "manual", memory), *args)
    flat = zip(argument_names(*args), tree.leaves(pull(cotangent)), strict=True)
    return tree.leaves(results), dict(flat)


def _seen(cell: Cell, options: Options, memory: str, point: Point) -> dict[str, Array]:
    """What the manual reverse hands from step to step, by name."""
    args, cotangent = (point.params, point.xs, point.state), (point.dys, point.dstate)
    pulled = partial(_pulled, observed(cell), options, memory)
    return once(partial(graph.named_values, pulled))(args, cotangent)


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
def _known(cell: Cell, sizes: Sizes, variant: str) -> Known:
    """What the oracles say of the arguments, and the graph of every step's state."""
    point, options = _point(cell, sizes, variant), _options(sizes, variant)
    args = point.params, point.xs, point.state
    cotangent = point.dys, point.dstate
    names = argument_names(*args)
    run = partial(_run, cell, options, "automatic", "store")

    def loss(at: dict[str, Array], _: Any) -> Array:
        outputs = run(*tree.unflatten(tree.structure(args), [at[n] for n in names]))
        pairs = zip(tree.leaves(cotangent), tree.leaves(outputs), strict=True)
        return sum((jnp.sum(d * out) for d, out in pairs), jnp.zeros(()))

    oracles = differentiate(
        loss,
        dict(zip(names, [leaf[None] for leaf in tree.leaves(args)], strict=True)),
        (),
        Differencing(sizes.difference_step, sizes.max_entries, sizes.seed),
        tuple(names),
    )
    found = _forward_gradients(cell, options, point)
    oracles = oracles._replace(forward=found)
    watched = partial(_run, observed(cell), options, "automatic", "store")

    def watch(args: Any, cotangent: Any) -> Any:
        dnew = added_up = {}
        if not oracles.missing:
            dnew = graph.named_cotangents(watched, *args, cotangent=cotangent)
            added_up = graph.named_added_up(watched, *args, cotangent=cotangent)
        return run(*args), graph.named_values(watched, *args), dnew, added_up

    results, *named = once(watch)(args, cotangent)
    fields = dict(zip(field_names(point.state), tree.leaves(point.state), strict=True))
    new, dnew, added_up = (
        {
            f"{name}_t": _in_time(
                found, f"{name}_t", field.shape, reverse=options.reverse
            )
            for name, field in fields.items()
            if found
        }
        for found in named
    )
    return Known(
        oracles, list(map(np.asarray, tree.leaves(results))), dnew, added_up, new
    )


def _forward_gradients(
    cell: Cell, options: Options, point: Point
) -> dict[str, np.ndarray] | None:
    """By real-time recurrent learning: of parameters and first state, as oracles are.

    Masks are equations of the transition here; None if there are too many columns.
    """
    theta = point.params, point.state
    if sum(leaf.size for leaf in tree.leaves(theta)) > MOST_COLUMNS:
        return None

    def transition(theta: Any, state: Any, inputs: Any) -> Any:
        (params, first), (x, valid, carried) = theta, inputs
        old = trees.select(carried, state, first)
        new, _ = cell.step(params, old, cell.project(params, x))
        return trees.select(valid, new, state)

    @once
    def ask(theta: Any, inputs: Any, dys: Array, dfinal: Any) -> Any:
        dstates = tree.map(
            lambda d: jnp.zeros((len(dys), *d.shape)).at[-1].set(d), dfinal
        )
        dstates = trees.add_output(dstates, trees.masked(inputs[1], dys))
        begun = rtrl.begin(theta, lambda theta: theta[1])
        return rtrl.learn(transition, theta, begun, inputs, dstates)[0]

    valid = carried = None
    if options.lengths is not None:
        valid = jnp.arange(len(point.xs))[:, None] < options.lengths
    if options.resets is not None:
        carried = ~options.resets
    inputs = point.xs, valid, carried
    dys = point.dys
    if options.reverse:
        inputs, dys = tree.map(lambda a: a[::-1], (inputs, dys))
    found = ask(theta, inputs, dys, point.dstate)
    names = [
        *field_names(point.params),
        *(f"{n}_prev" for n in field_names(point.state)),
    ]
    flat = zip(names, tree.leaves(found), strict=True)
    return {name: np.asarray(leaf)[None] for name, leaf in flat}


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


def _forward_row(where: str, results: list[Array], known: Known) -> Row:
    """The row of what comes out of the forward."""
    errors = []
    for found, expected in zip(results, known.results, strict=True):
        expected = expected[None]
        errors += [
            *relative_errors(np.asarray(found)[None], expected, scales(expected))
        ]
    return Row(where, "forward", (), {"automatic": float(max(errors))}, ())


def _state_row(
    where: str, name: str, manual: np.ndarray, known: Known, options: Options
) -> Row:
    """The row of a state's gradient over all steps."""
    expected, added_up = known.dstates[name][None], known.added_up[name][None]
    oracles = known.oracles._replace(
        automatic={}, graph={name: expected}, added_up={name: added_up}, numerical={}
    )
    row = compare(where, f"d{name}", (), manual[None], oracles, name)
    if manual[None].shape != expected.shape:
        return row
    scale = np.broadcast_to(scales(expected, added_up), len(manual))
    errors = enumerate(map(float, relative_errors(manual, expected[0], scale)))
    steps = list(errors) if options.reverse else list(errors)[::-1]
    return row._replace(steps=tuple(steps))
