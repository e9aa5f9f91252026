"""Whole sequences: what the engine hands from step to step, and its sums over time.

What is compared is what runs: outputs and gradients of `lstm_jax.unroll`, by whichever
runner serves the cell, against the cell's equations one step after another
(`reference.py`).

To see inside, an *observed* cell runs as well. It is the cell itself, save that what
reaches its new state in the reverse has a name, so that the rows say at which step
something went wrong.
"""

from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, tree
from jax.ad_checkpoint import checkpoint_name

from lstm_jax import graph
from lstm_jax.cell import Cell, Name
from lstm_jax.engine import trees, unrolling
from lstm_jax.gradcheck.oracles import once, order
from lstm_jax.gradcheck.points import Point, Sizes, forward_only
from lstm_jax.gradcheck.reference import Known, Options, known, options_of, point_of
from lstm_jax.gradcheck.report import Row, compare, relative_errors, scales
from lstm_jax.gradcheck.step import argument_names, field_names


@lru_cache(maxsize=64)
def observed(cell: Cell) -> Cell:
    """The cell with names for what reaches its new state in the reverse, "dc_t".

    It takes one step after another even if it is linear in its state, since names are
    read step by step.
    """

    def backward(params: Any, state: Any, new: Any, kept: Any, dnew: Any) -> Any:
        names = [f"d{name}_t" for name in field_names(state)]
        tagged = map(checkpoint_name, tree.leaves(dnew), names)
        dnew = tree.unflatten(tree.structure(dnew), tagged)
        return cell.backward(params, state, new, kept, dnew)

    return cell._replace(backward=backward, linear=False)


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
    point, options, expected = _posed(cell, sizes, variant)
    args, cotangent = (point.params, point.xs, point.state), (point.dys, point.dstate)
    results, found = once(partial(_pulled, cell, options, memory))(args, cotangent)
    seen = _seen(cell, options, memory, point)

    rows = [_forward_row(variant, results, expected)]
    for name in field_names(point.state):
        rows.append(_state_row(variant, f"{name}_t", seen, expected, options))
    needs = tuple(row.quantity for row in rows)
    gradients = {}
    for name in argument_names(*args):
        gradients[name] = np.asarray(found[name])[None]
        label = "dxs" if name == "x" else f"d{name}"
        row = compare(
            variant, label, (), gradients[name], expected.oracles, name, needs=needs
        )
        rows.append(row)
    return rows, order(expected.oracles.remainders, gradients)


def steps_of(cell: Cell, sizes: Sizes, variant: str) -> Point:
    """The steps of a sequence as points, so that one step can be checked at each."""
    point, options, expected = _posed(cell, sizes, variant)
    gradients = expected.oracles.automatic
    dnew = [gradients[f"{name}_t"][0] for name in field_names(point.state)]
    first, new = tree.map(jnp.asarray, (point.state, expected.new))
    old = trees.shift(first, new, reverse=options.reverse)
    carried = None if options.resets is None else ~options.resets
    params = tree.map(
        lambda p: np.broadcast_to(p, (sizes.steps, *p.shape)), point.params
    )
    return Point(
        params=params,
        xs=np.nan_to_num(point.xs)[:, None],
        state=trees.select_time(carried, old, first),
        dys=point.dys[:, None],
        dstate=tree.unflatten(tree.structure(point.state), dnew),
    )


def _posed(cell: Cell, sizes: Sizes, variant: str) -> tuple[Point, Options, Known]:
    """What a sequence is asked with, and what should come out."""
    forward = forward_only(cell)._replace(linear=False)
    point = point_of(forward, sizes, variant)
    return point, options_of(sizes, variant), known(forward, sizes)[variant]


def _pulled(
    cell: Cell, options: Options, memory: str, args: Any, cotangent: Any
) -> tuple[list[Array], dict[str, Array]]:
    """Outputs and final state by the manual rule, and the gradients by argument."""
    run = partial(unrolling.unroll, cell, memory=memory, **options._asdict())
    results, pull = jax.vjp(run, *args)
    flat = zip(argument_names(*args), tree.leaves(pull(cotangent)), strict=True)
    return tree.leaves(results), dict(flat)


def _seen(cell: Cell, options: Options, memory: str, point: Point) -> dict[str, Array]:
    """What the manual reverse hands from step to step, by name."""
    args, cotangent = (point.params, point.xs, point.state), (point.dys, point.dstate)
    pulled = partial(_pulled, observed(cell), options, memory)
    handed = [f"d{name}_t" for name in field_names(point.state)]

    def ask(args: Any, cotangent: Any) -> dict[str, Array]:
        found = graph.named_values(pulled, args, cotangent).items()
        return {name: d for name, d in found if Name.parse(name).quantity in handed}

    return once(ask)(args, cotangent)


def _in_time(
    named: dict[str, Array], name: str, shape: tuple[int, ...], *, reverse: bool
) -> np.ndarray:
    """A quantity of all steps, (T, *shape), from the chunks that it was named in."""
    keys = [key for key in named if Name.parse(key).quantity == name]
    pieces = [np.asarray(named[key]).reshape(-1, *shape) for key in keys]
    return np.concatenate(pieces[::-1] if reverse else pieces)


def _forward_row(where: str, results: list[Array], expected: Known) -> Row:
    """The row of what comes out of the forward."""
    errors = []
    for found, right in zip(results, expected.results, strict=True):
        found, right = np.asarray(found)[None], right[None]
        errors += [*relative_errors(found, right, scales(right))]
    return Row(where, "forward", (), {"automatic": float(max(errors))}, ())


def _state_row(
    where: str, name: str, seen: dict[str, Array], expected: Known, options: Options
) -> Row:
    """The row of the gradients that reach a state, "c_t", at all steps."""
    oracles = expected.oracles
    [right] = oracles.automatic[name]
    found = _in_time(seen, f"d{name}", right.shape[1:], reverse=not options.reverse)
    row = compare(where, f"d{name}", (), found[None], oracles, name)
    if found.shape != right.shape:
        return row
    added_up = oracles.added_up.get(name)
    scale = np.broadcast_to(scales(right[None], added_up), len(right))
    errors = enumerate(map(float, relative_errors(found, right, scale)))
    steps = list(errors) if options.reverse else list(errors)[::-1]
    return row._replace(steps=tuple(steps))
