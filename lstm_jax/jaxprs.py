"""Functions as JAX writes them down: the calls to look through, and one interpreter.

`jax.make_jaxpr` turns a function into a list of equations. Some of them are an
operation; others only call a jaxpr of their own, and what reads a function (the
gradient check, the graph, mixed precision, whoever generates code) looks through them.
`CALLS` and `RULED_CALLS` are all that there are, and `evaluate` opens them::

    def node(equation, operands):  # every operation, in order, calls opened
        return computed(equation, operands)


    outputs = evaluate(jax.make_jaxpr(fn)(*args), jax.tree.leaves(args), node)

What takes the place of a value is for the caller to say: arrays, numbers of values,
names of variables in generated code. With other things than arrays, `constant` makes
them of the constants too.

Which calls are looked through depends on what becomes of the result. Where it is
differentiated by JAX later, `CALLS` alone: a function with a derivative rule of its own
has it for a reason, such as `jax.nn.softplus`, whose equations give NaN if they are
differentiated. Where it isn't, or where rules are not to be used, pass `ALL_CALLS`.

`jaxpr_of` is for whoever asks about equations: the engine has faster ways to run a cell
than its equations one step after another, and none of their names is in those.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend.core import JaxprEqn, Literal

CALLS: Mapping[str, str] = {
    "jit": "jaxpr",
    "remat2": "jaxpr",
    "closed_call": "call_jaxpr",
    "eval_jaxpr": "call_jaxpr",
    "compiled_or_scanned": "jaxpr",
}
"""Primitives that only call a jaxpr, and the parameter that holds it."""

RULED_CALLS: Mapping[str, str] = {
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vmap_call": "call",
}
"""Those that call one which has a rule of its own: for derivatives, for batching."""

ALL_CALLS: Mapping[str, str] = {**CALLS, **RULED_CALLS}

Node = Callable[[JaxprEqn, list[Any]], Sequence[Any]]
"""From an equation and what its operands are to what its outputs are."""


_ASKED = ContextVar("equations are asked about", default=False)


def jaxpr_of(fn: Callable[..., Any], *args: Any) -> tuple[Any, Any]:
    """The jaxpr of ``fn(*args)`` in which cells are their equations, step after step.

    Returns:
        The jaxpr, and the tree of the shapes of its outputs.
    """
    with _asking():
        return jax.make_jaxpr(fn, return_shape=True)(*args)


def equations_are_asked() -> bool:
    """Whether `jaxpr_of` is at work, so that cells are to be run by their equations."""
    return _ASKED.get()


@contextmanager
def _asking() -> Generator[None]:
    token = _ASKED.set(True)
    try:
        # JAX keeps what it has traced, for each metadata by itself: functions that
        # were compiled before are traced again.
        with set_xla_metadata(lstm_jax="equations"):
            yield
    finally:
        _ASKED.reset(token)


def opened(jaxpr: Any) -> tuple[Any, Sequence[Any]]:
    """A jaxpr and the values of its constants, whether or not they are attached."""
    return getattr(jaxpr, "jaxpr", jaxpr), getattr(jaxpr, "consts", ())


def called(equation: JaxprEqn, calls: Mapping[str, str] = CALLS) -> Any | None:
    """The jaxpr that an equation only calls; None for every other equation."""
    parameter = calls.get(equation.primitive.name)
    return None if parameter is None else equation.params[parameter]


def as_array(value: Any, aval: Any) -> jax.Array:
    """A constant of a jaxpr as the array that it stands for."""
    if isinstance(value, jax.Array):
        return value
    return jnp.asarray(np.asarray(value, aval.dtype))


def computed(equation: JaxprEqn, operands: Sequence[Any]) -> list[Any]:
    """The outputs of one equation, from the arrays that are its operands."""
    params = equation.primitive.get_bind_params(equation.params)
    with equation.ctx.manager:
        outputs = equation.primitive.bind(*operands, **params)
    return list(outputs) if equation.primitive.multiple_results else [outputs]


class Values:
    """What the variables of one jaxpr stand for while it is gone through.

    Args:
        jaxpr: with or without its constants attached.
        inputs: one an input variable.
        constant: makes one of a constant and its type.
    """

    def __init__(
        self,
        jaxpr: Any,
        inputs: Sequence[Any],
        constant: Callable[[Any, Any], Any] = as_array,
    ) -> None:
        graph, constants = opened(jaxpr)
        self._constant = constant
        self._known = dict(zip(graph.invars, inputs, strict=True))
        for variable, value in zip(graph.constvars, constants, strict=True):
            self._known[variable] = constant(value, variable.aval)

    def __getitem__(self, atom: Any) -> Any:
        """What a variable stands for, or a constant that is written in an equation."""
        if isinstance(atom, Literal):
            return self._constant(atom.val, atom.aval)
        return self._known[atom]

    def put(self, equation: JaxprEqn, outputs: Sequence[Any]) -> None:
        """Says what the outputs of an equation are."""
        self._known.update(zip(equation.outvars, outputs, strict=True))


def evaluate(
    jaxpr: Any,
    inputs: Sequence[Any],
    node: Node = computed,
    *,
    calls: Mapping[str, str] = CALLS,
    constant: Callable[[Any, Any], Any] = as_array,
) -> list[Any]:
    """Goes through a jaxpr in order, and through what it calls.

    Args:
        jaxpr: with or without its constants attached.
        inputs: one an input variable.
        node: says what the outputs of an equation are that is no call.
        calls: the calls that are looked through; see above.
        constant: makes a value of a constant and its type.

    Returns:
        What the outputs are.
    """
    graph, _ = opened(jaxpr)
    values = Values(jaxpr, inputs, constant)
    for equation in graph.eqns:
        operands = [values[atom] for atom in equation.invars]
        inner = called(equation, calls)
        if inner is None:
            outputs = node(equation, operands)
        else:
            outputs = evaluate(inner, operands, node, calls=calls, constant=constant)
        values.put(equation, outputs)
    return [values[atom] for atom in graph.outvars]
