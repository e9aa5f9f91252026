"""What expressions are worth, in NumPy's arrays."""

from typing import Any

import numpy as np

from lstm_jax.derivation.expressions import Expression
from lstm_jax.derivation.operations import OPERATIONS

Values = dict[str, Any]
"""Arrays by the name of the quantity."""


def evaluated(e: Expression, known: Values) -> Any:
    """The value of an expression, given those of the names in it.

    Raises:
        KeyError: a name has no value.
    """
    with np.errstate(all="ignore"):  # where a condition doesn't hold, anything goes
        return _evaluated(e, known)


def _evaluated(e: Expression, known: Values) -> Any:
    match e.op:
        case "name":
            return known[e.data[0]]
        case "number":
            return np.float64(e.data[0])
        case "array":
            return np.reshape(e.data, e.shape)
        case "mul":
            return _product([(a.op, _evaluated(a, known)) for a in e.args])
    args = [_evaluated(a, known) for a in e.args]
    match e.op:
        case "add":
            total = args[0]
            for other in args[1:]:
                total = total + other
            return total
        case "power":
            return np.power(args[0], args[1], dtype=float)
        case "dot":
            a, b, out = e.data
            return np.einsum(args[0], list(a), args[1], list(b), list(out))
        case "sum":
            return _full(args[0], e.args[0]).sum(axis=e.data, keepdims=True)
        case "concat":
            parts = [_full(v, a) for v, a in zip(args, e.args, strict=True)]
            return np.concatenate(parts, axis=e.data[0])
        case "block":
            axis, start, stop = e.data
            index = [slice(None)] * len(e.args[0].shape)
            index[axis] = slice(start, stop)
            return _full(args[0], e.args[0])[tuple(index)]
        case "reshape":
            return np.reshape(_full(args[0], e.args[0]), e.shape)
        case "transpose":
            return np.transpose(args[0], e.data)
        case "broadcast":
            return np.broadcast_to(args[0], e.shape)
        case "where":
            return np.asarray(args[0])
    return np.asarray(OPERATIONS[e.op].compute(*args))


def _full(value: Any, e: Expression) -> Any:
    return np.broadcast_to(value, e.shape)


def _product(factors: list[tuple[str, Any]]) -> Any:
    """A product, which is 0 where a condition among the factors doesn't hold."""
    total, holds = np.float64(1), None
    for op, value in factors:
        if op == "where":
            holds = value if holds is None else holds & value
        else:
            total = total * value
    return total if holds is None else np.where(holds, total, 0)
