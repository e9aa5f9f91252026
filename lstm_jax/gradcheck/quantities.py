"""A function and its hand-written reverse: every quantity of it against the oracles.

The reverse names its cotangents as the forward names its quantities
(`lstm_jax.named`), which says what each should be:

* "dq", named once, is the gradient of q: the sum over all paths from q to J;
* "dq", named several times with different equation numbers, is each time the part of
  that sum that goes through the equation of this number;
* the gradient that is returned for an argument is the sum over all paths. If a part of
  it was named on the way, the report shows the number and the line of that name.

A name that fits no quantity of the forward is a mistake, and so is a number of an
equation that the quantity does not enter: what they say could not be checked.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, tree
from jax.typing import ArrayLike

from lstm_jax.cell import Name
from lstm_jax.gradcheck.flat_jaxpr import Program, evaluate, evaluate_at_points
from lstm_jax.gradcheck.oracles import (
    Differencing,
    Oracles,
    differentiate,
    once,
    order,
)
from lstm_jax.gradcheck.report import Row, compare

Label = tuple[str, str] | None
"""An output of a reverse: its name, and the target whose gradient it should be."""


class Target(NamedTuple):
    """A value of the forward program whose gradient the oracles compute.

    Attributes:
        value: its number.
        uses: the nodes that see its nudge; None for all.
        through: the equations that use it first.
    """

    value: int
    uses: tuple[int, ...] | None
    through: tuple[int, ...]


class Tracked(NamedTuple):
    """A value of the backward program that has a name.

    Attributes:
        value: its number.
        quantity: its name, "df".
        through: equation numbers that its name carries, if any.
        target: the name of the target whose gradient it should be; None if there is
            none of its name.
        note: what is wrong with the name; empty if nothing is.
    """

    value: int
    quantity: str
    through: tuple[int, ...]
    target: str | None
    note: str = ""


class Forward(NamedTuple):
    """A forward program at a point, and what the oracles know of it.

    Attributes:
        targets: by name.
        oracles: the gradients of the targets.
    """

    targets: dict[str, Target]
    oracles: Oracles


def forward_targets(
    program: Program, labels: Sequence[str | None]
) -> dict[str, Target]:
    """The arguments (by `labels`, None for none) and named quantities of a program."""
    found = {}
    for label, value in zip(labels, program.inputs, strict=True):
        if label is not None:
            found[label] = value
    for name, value in program.names():
        found[_once(Name.parse(name).quantity, found)] = value
    return {
        label: Target(value, None, program.entered(value))
        for label, value in found.items()
    }


def partial_targets(
    program: Program,
    targets: dict[str, Target],
    backward: Program,
    labels: Sequence[Label],
) -> dict[str, Target]:
    """Targets for what the backward names that is a part of a gradient only.

    "q (n)" is q at its uses in equation n, where dq is named more than once;
    "q, elementwise" is q at all uses but matrix products, where an argument's dq is
    named and more is added to it later.
    """
    counts = Counter(Name.parse(name).quantity for name, _ in backward.names())
    outputs = _outputs(backward, labels)
    found = {}
    for name, value in backward.names():
        quantity, number, _ = Name.parse(name)
        q = quantity[1:]
        if q not in targets or number is None:
            continue
        used = targets[q].value
        if counts[quantity] > 1:
            uses = uses_within(program, used, number)
            found[f"{q} ({number})"] = Target(used, uses, (number,))
        elif outputs.get(q, value) != value and _same_shape(
            program, backward, used, value
        ):
            uses = tuple(
                index
                for index, node in enumerate(program.nodes)
                if used in node.inputs and node.equation.primitive.name != "dot_general"
            )
            found[f"{q}, elementwise"] = Target(used, uses, (number,))
    return found


def uses_within(program: Program, value: int, number: int) -> tuple[int, ...]:
    """The nodes of equation `number` that use `value`: those that lead to its names."""
    named = [v for _, v in program.names()]
    ends = [v for name, v in program.names() if Name.parse(name).equation == number]
    region: set[int] = set()
    stack = list(ends)
    while stack:
        current = stack.pop()
        maker = program.maker(current)
        if maker is None or maker in region:
            continue
        region.add(maker)
        inputs = program.nodes[maker].inputs
        stack += [v for v in inputs if v not in named and v != value]
    return tuple(k for k in sorted(region) if value in program.nodes[k].inputs)


def know(
    program: Program,
    targets: dict[str, Target],
    args: tuple,
    cotangents: Sequence[ArrayLike],
    inputs: tuple[str, ...],
    differencing: Differencing,
) -> Oracles:
    """The oracles' gradients of J = Σ cotangents * the program's first outputs.

    Args:
        program: the forward.
        targets: the values of it that are differentiated.
        args: its arguments, with a leading axis of points.
        cotangents: with the same axis.
        inputs: the targets that are its arguments.
        differencing: how differences are taken.
    """

    def loss(nudges: dict[str, Array], given: Any) -> Array:
        args, cotangents = given
        everywhere: dict[Any, Array] = {}
        somewhere: dict[Any, Array] = {}
        for name, (value, uses, _) in targets.items():
            held, places = everywhere, [value]
            if uses is not None:
                held, places = somewhere, [(node, value) for node in uses]
            for place in places:
                held[place] = held.get(place, 0.0) + nudges[name]
        found = evaluate(program, args, everywhere, somewhere)
        outputs = [found[v] for v in program.outputs]
        pairs = zip(cotangents, outputs, strict=False)
        return sum((jnp.sum(ct * out) for ct, out in pairs), jnp.zeros(()))

    points = tree.leaves(args)[0].shape[0]
    at = {
        name: np.zeros((points, *program.shape(target.value)))
        for name, target in targets.items()
    }
    given = args, list(cotangents)
    oracles = differentiate(loss, at, given, differencing, inputs)
    places = (
        f"{oracles.missing}, {node.line}"
        for node in program.nodes
        if repr(node.equation.primitive.name) in oracles.missing and node.line
    )
    return oracles._replace(missing=next(places, oracles.missing))


def judge(
    backward: Program,
    args: tuple,
    labels: Sequence[Label],
    forward: Forward,
    where: str,
    whole: bool = False,
) -> tuple[list[Row], float]:
    """The rows of a backward program, and the order of the Taylor remainder.

    Args:
        backward: the traced reverse.
        args: its arguments, with a leading axis of points.
        labels: for each output (quantity, target), or None.
        forward: what is known.
        where: the name of the check.
        whole: whether the program is compiled whole, which is the quickest for one.
            Else it runs operation by operation, see `evaluate_at_points`.
    """
    tracked = _tracked(backward, labels, forward.targets)
    wanted = {*(t.value for t in tracked), *backward.outputs}

    def run(args: tuple) -> dict[int, Any]:
        found = evaluate(backward, args)
        return {value: found[value] for value in wanted}

    found = once(jax.vmap(run))(args) if whole else evaluate_at_points(backward, args)
    values = {value: np.asarray(found[value]) for value in wanted}
    rows = []
    names = [(Name.parse(name).quantity, v) for name, v in backward.names()]
    for value, quantity, through, target, note in tracked:
        stops = {t.value for t in tracked} - {value}
        sources = backward.sources(value, stops)
        before = backward.sources(value, {v for _, v in names} - {value})
        made = [v for q, v in names if q == quantity and v in before and v not in stops]
        rest: dict[str, Any] = {
            "needs": tuple(t.quantity for t in tracked if t.value in sources),
            "line": backward.line(made[0] if made else value),
            "note": note,
        }
        if target is None:
            rows.append(Row(where, quantity, through, {}, (), **rest))
            continue
        through = through or forward.targets[target].through
        oracles = forward.oracles
        found = values[value]
        rows.append(compare(where, quantity, through, found, oracles, target, **rest))
    gradients = {
        label[1]: values[value]
        for label, value in zip(labels, backward.outputs, strict=True)
        if label is not None
    }
    known = forward.oracles.automatic
    if any(gradients[name].shape != known[name].shape for name in gradients):
        return rows, float("nan")
    return rows, order(forward.oracles.remainders, gradients)


def _tracked(
    backward: Program, labels: Sequence[Label], targets: dict[str, Target]
) -> list[Tracked]:
    """What can be judged, in backward order: named quantities, then outputs."""
    found: list[Tracked] = []
    seen: Counter[str] = Counter()
    counts = Counter(Name.parse(name).quantity for name, _ in backward.names())
    outputs = _outputs(backward, labels)
    whole = {
        Name.parse(name).quantity
        for name, target in targets.items()
        if target.uses is None
    }
    for name, value in backward.names():
        quantity, number, _ = Name.parse(name)
        through = () if number is None else (number,)
        if quantity in whole:
            continue  # a quantity of the forward, computed again
        target = quantity[1:]
        if quantity[:1] != "d" or target not in whole:
            nearest = _nearest(quantity, whole)
            note = f"no quantity of the forward has this name; did you mean {nearest}?"
            found.append(Tracked(value, quantity, through, None, note))
            continue
        note = _contradiction(target, number, targets)
        if counts[quantity] > 1:
            # Repeated in the forward as well: the reverse meets the last one first.
            repeated = sum(Name.parse(t)[:2] == (target, None) for t in targets)
            count = max(repeated - seen[quantity], 1)
            seen[quantity] += 1
            part = str(Name(target, number))
            target = part if part in targets else str(Name(target, count=count))
        elif outputs.get(target, value) != value:
            # Not a target, and so passed over, where a sum over examples is to come.
            target = f"{target}, elementwise"
        if target in targets:
            found.append(Tracked(value, quantity, through, target, note))
    named = {(t.value, t.target) for t in found}
    for label, value in zip(labels, backward.outputs, strict=True):
        if label is not None and (value, label[1]) not in named:
            found.append(Tracked(value, label[0], (), label[1]))
    place = {v: k for k, node in enumerate(backward.nodes) for v in node.outputs}
    found.sort(key=lambda t: place.get(t.value, -1))
    taken: dict[str, Any] = {}
    distinct = []
    for t in found:
        quantity = _once(t.quantity, taken)
        taken[quantity] = t
        distinct.append(t._replace(quantity=quantity))
    return distinct


def _nearest(quantity: str, known: Iterable[str]) -> str:
    """The cotangent that a misspelt one was probably meant to be."""
    likeness = partial(SequenceMatcher, None)
    return max(
        (f"d{name}" for name in sorted(known)),
        key=lambda name: (
            likeness(name.lower(), quantity.lower()).ratio(),
            likeness(name, quantity).ratio(),
        ),
        default="none",
    )


def _contradiction(
    quantity: str, number: int | None, targets: dict[str, Target]
) -> str:
    """What is wrong with going through an equation that a quantity doesn't enter."""
    entered = {
        n
        for name, target in targets.items()
        if Name.parse(name)[:2] == (quantity, None)
        for n in target.through
    }
    if number is None or not entered or number in entered:
        return ""
    listed = ", ".join(f"({n})" for n in sorted(entered))
    return f"{quantity} enters {listed}, not ({number})"


def _outputs(backward: Program, labels: Sequence[Label]) -> dict[str, int]:
    """The outputs of a backward program by the name of their target."""
    pairs = zip(labels, backward.outputs, strict=True)
    return {label[1]: value for label, value in pairs if label is not None}


def _same_shape(program: Program, backward: Program, q: int, dq: int) -> bool:
    """Whether dq has the shape of q; before a sum over examples it has not."""
    return program.shape(q) == backward.shape(dq)


def _once(quantity: str, taken: Any) -> str:
    """`quantity`, or "c [2]", "c [3]", ... if it is taken."""
    name = Name(quantity)
    while str(name) in taken:
        name = name._replace(count=name.count + 1)
    return str(name)


def leaf_names(value: Any, prefix: str) -> list[str | None]:
    """A name for each floating leaf of an argument, None for the other leaves."""
    named = []
    for path, leaf in tree.leaves_with_path(value):
        key = jax.tree_util.keystr(path, simple=True, separator=".")
        floating = jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
        label = ".".join(part for part in (prefix, key) if part)
        named.append(label if floating else None)
    return named
