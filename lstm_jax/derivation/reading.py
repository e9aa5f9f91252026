"""From JAX's equations to expressions: what each primitive makes of its operands."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import JaxprEqn

from lstm_jax.derivation import expressions as ex
from lstm_jax.derivation.expressions import Expression
from lstm_jax.derivation.operations import OPERATIONS, WHOLE, operation
from lstm_jax.gradcheck.flat_jaxpr import of_jax
from lstm_jax.graph.backprop import local_rule
from lstm_jax.jaxprs import ALL_CALLS, evaluate


class NotDerivable(Exception):
    """A cell whose derivation can't be written; the message says why."""


def constant(value: Any, aval: Any = None) -> Expression:
    """A constant of a jaxpr: a number, or an array of different ones."""
    array = np.asarray(value, getattr(aval, "dtype", None))
    if array.size and np.all(array == array.flat[0]):
        return ex.spread(ex.number(float(array.flat[0])), array.shape)
    return Expression("array", data=tuple(array.ravel().tolist()), shape=array.shape)


def read(equation: JaxprEqn, operands: list[Expression]) -> list[Expression]:
    """The outputs of an equation, from its operands.

    Raises:
        NotDerivable: there is no way to write its primitive.
    """
    primitive = equation.primitive.name
    shapes = [a.shape for a in _like(equation.outvars)]
    if primitive in ALL_CALLS:  # a function that was kept whole
        return [ex.call(of_jax(equation) or primitive, *operands)]
    row = ROWS.get(primitive)
    if row is not None:
        found = row(equation.params, shapes, *operands)
        return found if isinstance(found, list) else [found]
    elementwise = len(shapes) == 1 and shapes[0] == ex.broadcast_shape(operands)
    if primitive not in OPERATIONS:
        if not elementwise or _has_choices(equation):
            raise NotDerivable(_no_way_to_write(primitive))
        operation(primitive)
    return [ex.spread(ex.call(primitive, *operands), shapes[0])]


def _has_choices(equation: JaxprEqn) -> bool:
    """Whether a primitive has parameters that change what it computes."""
    plain = ("accuracy", "sharding")
    return any(v is not None for k, v in equation.params.items() if k not in plain)


def _no_way_to_write(primitive: str) -> str:
    return (
        f"there is no way to write the primitive {primitive!r}; add a row with\n\n"
        f"    @lstm_jax.derivation.reading.row({primitive!r})\n"
        "    def _(params, shapes, *operands):\n"
        "        return ...  # an expression of the operands, of shape shapes[0]"
    )


# --- one row for each primitive that is not simply an operation of the table ----------

ROWS: dict[str, Callable[..., Any]] = {}
"""Primitive name to ``(params, shapes of the outputs, *operands) -> expressions``."""


def row(*primitives: str) -> Callable[[Callable], Callable]:
    """Adds the decorated function to `ROWS`."""

    def declare(function: Callable) -> Callable:
        ROWS.update(dict.fromkeys(primitives, function))
        return function

    return declare


for _primitives, _made in {
    ("add", "add_any"): lambda a, b: ex.add(a, b),
    ("sub",): lambda a, b: ex.add(a, ex.negative(b)),
    ("mul",): lambda a, b: ex.mul(a, b),
    ("div",): lambda a, b: ex.mul(a, ex.power(b, -1)),
    ("neg",): lambda a: ex.negative(a),
    ("square",): lambda a: ex.power(a, 2),
    ("sqrt",): lambda a: ex.power(a, 0.5),
    ("rsqrt",): lambda a: ex.power(a, -0.5),
    ("pow",): lambda a, b: ex.power(a, b),
    ("clamp",): lambda low, a, high: ex.call("max", low, ex.call("min", a, high)),
}.items():
    row(*_primitives)(
        lambda params, shapes, *a, made=_made: ex.spread(made(*a), shapes[0])
    )


@row("copy", "copy_p", "name", "stop_gradient", "reduce_precision")
def _unchanged(params, shapes, a):
    return a


@row("optimization_barrier")
def _all_unchanged(params, shapes, *operands):
    return list(operands)


@row("integer_pow")
def _integer_power(params, shapes, a):
    return ex.spread(ex.power(a, params["y"]), shapes[0])


@row("convert_element_type")
def _convert(params, shapes, a):
    condition = ex.stripped(a).op in ("gt", "eq", "ne", "and", "or", "not")
    return ex.spread(ex.where(a), shapes[0]) if condition else a


@row("eq")
def _equal(params, shapes, a, b):
    one, other = ex.stripped(a), ex.stripped(b)
    if one.op == "where" and other.op == "number":
        holds = one.args[0]
        return holds if other.value else ex.opposite(holds)
    return ex.call("eq", a, b)


@row("select_n")
def _select(params, shapes, which, *cases):
    if len(cases) != 2:
        raise NotDerivable("a choice between more than two cases can't be written")
    return ex.spread(ex.select(which, cases[1], cases[0]), shapes[0])


@row("dot_general")
def _product(params, shapes, a, b):
    (a_summed, b_summed), (a_batch, b_batch) = params["dimension_numbers"]
    a_axes, b_axes = list(range(len(a.shape))), []
    shared = dict(zip((*b_summed, *b_batch), (*a_summed, *a_batch), strict=True))
    for k in range(len(b.shape)):
        b_axes.append(shared.get(k, len(a.shape) + k))
    out = [*a_batch]
    out += [k for k in a_axes if k not in (*a_summed, *a_batch)]
    out += [k for k in b_axes if k >= len(a.shape)]
    return ex.dot(a, b, (tuple(a_axes), tuple(b_axes), tuple(out)), shapes[0])


@row("reduce_sum")
def _sum(params, shapes, a):
    return ex.reshape(ex.total(a, params["axes"]), shapes[0])


@row("broadcast_in_dim")
def _broadcast(params, shapes, a):
    [shape], axes = shapes, params["broadcast_dimensions"]
    if tuple(axes) != tuple(range(len(shape) - len(axes), len(shape))):
        sizes = dict(zip(axes, a.shape, strict=True))
        a = ex.reshape(a, tuple(sizes.get(k, 1) for k in range(len(shape))))
    return ex.spread(a, shape)


@row("reshape", "squeeze", "expand_dims")
def _reshape(params, shapes, a):
    return ex.reshape(a, shapes[0])


@row("transpose")
def _transpose(params, shapes, a):
    return ex.transpose(a, tuple(params["permutation"]))


@row("concatenate")
def _concatenate(params, shapes, *parts):
    return ex.concat(parts, params["dimension"], shapes[0])


@row("split")
def _split(params, shapes, a):
    ends = np.cumsum(params["sizes"]).tolist()
    starts = (0, *ends[:-1])
    pairs = zip(starts, ends, strict=True)
    return [ex.block(a, params["axis"], start, end) for start, end in pairs]


@row("slice")
def _slice(params, shapes, a):
    if any(stride != 1 for stride in params["strides"] or ()):
        raise NotDerivable("a slice with strides can't be written")
    limits = zip(params["start_indices"], params["limit_indices"], strict=True)
    for axis, (start, limit) in enumerate(limits):
        a = ex.block(a, axis, start, limit)
    return a


@row("pad")
def _pad(params, shapes, a, value):
    if not ex.is_zero(value) or any(
        p[2] or min(p) < 0 for p in params["padding_config"]
    ):
        raise NotDerivable("what is padded with other numbers than 0 can't be written")
    for axis, (low, high, _) in enumerate(params["padding_config"]):
        parts, sizes = [], list(a.shape)
        for size in (low, None, high):
            if size != 0:
                sizes[axis] = a.shape[axis] if size is None else size
                part = a if size is None else ex.spread(ex.ZERO, tuple(sizes))
                parts.append(part)
        sizes[axis] = a.shape[axis] + low + high
        a = ex.concat(parts, axis, tuple(sizes))
    return a


# --- the table of local rules, read ---------------------------------------------------


def pulled_back(
    equation: JaxprEqn,
    operands: Sequence[Expression],
    outputs: Sequence[Expression],
    arriving: Sequence[Expression | None],
) -> list[Expression | None]:
    """What comes back through one operation, by the local rules of `lstm_jax.graph`.

    The rule is a function of arrays. It is written down as any other is, and read with
    expressions in the place of its arguments.

    Args:
        equation: the operation.
        operands: what it is applied to.
        outputs: what it makes of them.
        arriving: the gradient of each output; None for zero.
    """
    whole = WHOLE.get(of_jax(equation) or "") if _is_call(equation) else None

    def rule(arriving: Any, outputs: Any, operands: Any) -> Any:
        if whole is not None:
            return [whole(arriving[0], outputs[0], operands[0])]
        return local_rule(equation, operands, outputs, arriving)

    ins, outs = _like(equation.invars), _like(equation.outvars)
    come = [None if d is None else o for d, o in zip(arriving, outs, strict=True)]
    jaxpr, tree = jax.make_jaxpr(rule, return_shape=True)(come, outs, ins)
    given = [*(d for d in arriving if d is not None), *outputs, *operands]
    spread = [
        ex.spread(e, v.aval.shape) if v.aval.shape != e.shape else e
        for e, v in zip(given, jaxpr.jaxpr.invars, strict=True)
    ]
    found = iter(evaluate(jaxpr, spread, read, calls=ALL_CALLS, constant=constant))
    return [None if leaf is None else next(found) for leaf in tree]


def _like(variables: Sequence[Any]) -> list[jax.ShapeDtypeStruct]:
    return [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in variables]


def _is_call(equation: JaxprEqn) -> bool:
    return equation.primitive.name in ALL_CALLS
