"""A function and its hand-written reverse: every quantity of it against the oracles.

The reverse names its cotangents as the forward names its quantities
(`lstm_jax.named`), which says what each should be:

* "dq" named once is the gradient of q, over all paths;
* "dq" named several times, with different equation numbers, is each time the
  contribution through that equation, and their sum is nobody's name;
* an argument's gradient is over all paths, whatever it was summed from: what is
  named like it on the way lends it its equation and its line.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, tree

from lstm_jax.cell import Name
from lstm_jax.gradcheck.flat_jaxpr import Program, evaluate
from lstm_jax.gradcheck.oracles import Oracles, differentiate, order
from lstm_jax.gradcheck.report import Row, Tolerances, compare

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
        target: the name of the target whose gradient it should be.
    """

    value: int
    quantity: str
    through: tuple[int, ...]
    target: str


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
        label: Target(value, None, first_equations(program, value))
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
            found[str(Name(q, number))] = Target(used, uses, (number,))
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
    cotangents: Sequence[Array],
    *,
    inputs: tuple[str, ...],
    difference_step: float,
    max_entries: int,
    seed: int,
) -> Oracles:
    """The oracles' gradients of J = Σ cotangents * the program's first outputs."""
    values = evaluate(program, args)
    shapes = {name: values[target.value] for name, target in targets.items()}

    def loss(nudges: dict[str, Array]) -> Array:
        everywhere, somewhere = {}, {}
        for name, (value, uses, _) in targets.items():
            if uses is None:
                held = everywhere.get(value)
                everywhere[value] = (
                    nudges[name] if held is None else held + nudges[name]
                )
            else:
                for node in uses:
                    held = somewhere.get((node, value))
                    total = nudges[name] if held is None else held + nudges[name]
                    somewhere[node, value] = total
        found = evaluate(program, args, everywhere, somewhere)
        outputs = [found[v] for v in program.outputs]
        pairs = zip(cotangents, outputs, strict=False)
        return sum((jnp.sum(ct * out) for ct, out in pairs), jnp.zeros(()))

    return differentiate(
        loss,
        {name: jnp.zeros_like(value) for name, value in shapes.items()},
        difference_step=difference_step,
        max_entries=max_entries,
        inputs=inputs,
        seed=seed,
    )


def judge(
    backward: Program,
    args: tuple,
    labels: Sequence[Label],
    forward: Forward,
    where: str,
    tolerances: Tolerances,
) -> tuple[list[Row], float]:
    """The rows of a backward program, and the order of the Taylor remainder.

    Args:
        backward: the traced reverse.
        args: its arguments.
        labels: for each output (quantity, target), or None.
        forward: what is known.
        where: the name of the check.
        tolerances: what passes.
    """
    # Not compiled: its operations are those of the last run, save for a changed line.
    values = tree.map(np.asarray, evaluate(backward, args))
    tracked = _tracked(backward, labels, forward.targets)
    rows = []
    for value, quantity, through, target in tracked:
        stops = {t.value for t in tracked} - {value}
        sources = backward.sources(value, stops)
        before = backward.sources(value, {v for _, v in backward.names()} - {value})
        part = [v for n, v in backward.names() if Name.parse(n).quantity == quantity]
        made = [v for v in part if v in before and v not in stops]
        row = compare(
            where,
            quantity,
            through or forward.targets[target].through,
            values[value],
            forward.oracles,
            target,
            tolerances,
            needs=tuple(t.quantity for t in tracked if t.value in sources),
            line=backward.line(made[0] if made else value),
        )
        rows.append(row)
    gradients = {
        label[1]: values[value]
        for label, value in zip(labels, backward.outputs, strict=True)
        if label is not None
    }
    if any(row.note for row in rows):  # a wrong shape
        return rows, float("nan")
    return rows, order(forward.oracles.remainders, gradients)


def _tracked(
    backward: Program,
    labels: Sequence[Label],
    targets: dict[str, Target],
) -> list[Tracked]:
    """What can be judged, in backward order: named quantities, then outputs."""
    found: list[Tracked] = []
    seen: Counter[str] = Counter()
    counts = Counter(Name.parse(name).quantity for name, _ in backward.names())
    outputs = _outputs(backward, labels)
    for name, value in backward.names():
        quantity, number, _ = Name.parse(name)
        target = quantity[1:]
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
        if quantity.startswith("d") and target in targets:
            through = () if number is None else (number,)
            found.append(Tracked(value, quantity, through, target))
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


def _outputs(backward: Program, labels: Sequence[Label]) -> dict[str, int]:
    """The outputs of a backward program by the name of their target."""
    pairs = zip(labels, backward.outputs, strict=True)
    return {label[1]: value for label, value in pairs if label is not None}


def _same_shape(program: Program, backward: Program, q: int, dq: int) -> bool:
    """Whether dq has the shape of q; before a sum over examples it has not."""
    return program.shape(q) == backward.shape(dq)


def first_equations(program: Program, value: int) -> tuple[int, ...]:
    """The numbers of the first equations that a value enters."""
    named = {v: name for name, v in program.names()}
    own = program.maker(value)
    reached, found = {value}, set()
    for index, node in enumerate(program.nodes):
        if index != own and reached & set(node.inputs):
            output = node.outputs[0]
            number = Name.parse(named[output]).equation if output in named else None
            if number is None:
                reached |= set(node.outputs)
            else:
                found.add(number)
    return tuple(sorted(found))


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
