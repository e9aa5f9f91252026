r"""The table of operations: how each is written, and computed.

What an operation's derivative is stands elsewhere, in the table of local rules of
`lstm_jax.graph`. Here stands its name in formulas and in programs, at ``{0}``, ``{1}``
its operands. An operation that is missing is written by the name that its primitive
has; a better one is added with `operation`::

    lstm_jax.derivation.operation("erf_inv", latex=r"\mathrm{{erf}}^{{-1}}({0})")

Some functions of JAX consist of many primitives, but are one operation to a reader.
They are kept whole, and so have their derivative here: `WHOLE`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax


class Operation(NamedTuple):
    """How an operation is written and computed.

    Attributes:
        text: in plain text.
        latex: in LaTeX.
        python: as a program, with `jnp`, `jax` and the functions of
            `lstm_jax.identities`.
        compute: its value, of NumPy's arrays.
    """

    text: str
    latex: str
    python: str
    compute: Callable[..., Any]


OPERATIONS: dict[str, Operation] = {}
"""Primitive name, or name of a function in `WHOLE`, to row."""


def operation(
    primitive: str,
    *,
    text: str = "",
    latex: str = "",
    python: str = "",
    compute: Callable[..., Any] | None = None,
) -> None:
    """Adds a row to `OPERATIONS`, or puts it in an older row's place.

    Args:
        primitive: the name that the jaxpr prints; the primitive is elementwise.
        text: see `Operation`, as for what follows; if left out, the primitive's name
            with its operands.
        latex: the same.
        python: if left out, the function of `jax.lax` with that name.
        compute: if left out, that function.
    """
    operands = "{0}, {1}" if "{1}" in f"{text}{latex}{python}" else "{0}"
    name = primitive.replace("_", r"\_")
    OPERATIONS[primitive] = Operation(
        text or f"{primitive}({operands})",
        latex or rf"\mathrm{{{{{name}}}}}({operands})",
        python or f"jax.lax.{primitive}({operands})",
        compute or getattr(lax, primitive, _no_function(primitive)),
    )


def _no_function(primitive: str) -> Callable[..., Any]:
    def refuse(*operands: Any) -> Any:
        raise NotImplementedError(
            f"the operation {primitive!r} can't be computed; add a row with "
            f"lstm_jax.derivation.operation({primitive!r}, compute=...)"
        )

    return refuse


def _sigmoid(a: Any) -> Any:
    return 0.5 * (1 + np.tanh(0.5 * a))


def _softplus(a: Any) -> Any:
    return np.logaddexp(a, 0)


for _name, _text, _latex, _python, _compute in (
    ("tanh", "tanh({0})", r"\tanh({0})", "tanh({0})", np.tanh),
    ("logistic", "σ({0})", r"\sigma({0})", "sigmoid({0})", _sigmoid),
    ("exp", "exp({0})", r"\exp({0})", "jnp.exp({0})", np.exp),
    ("expm1", "(exp({0}) - 1)", r"(\exp({0}) - 1)", "jnp.expm1({0})", np.expm1),
    ("exp2", "2^({0})", r"2^{{{0}}}", "jnp.exp2({0})", np.exp2),
    ("log", "log({0})", r"\log({0})", "jnp.log({0})", np.log),
    ("log1p", "log(1 + {0})", r"\log(1 + {0})", "jnp.log1p({0})", np.log1p),
    ("abs", "|{0}|", r"|{0}|", "jnp.abs({0})", np.abs),
    ("sign", "sign({0})", r"\mathrm{{sign}}({0})", "jnp.sign({0})", np.sign),
    ("max", "max({0}, {1})", r"\max({0}, {1})", "jnp.maximum({0}, {1})", np.maximum),
    ("min", "min({0}, {1})", r"\min({0}, {1})", "jnp.minimum({0}, {1})", np.minimum),
    ("sin", "sin({0})", r"\sin({0})", "jnp.sin({0})", np.sin),
    ("cos", "cos({0})", r"\cos({0})", "jnp.cos({0})", np.cos),
    ("sinh", "sinh({0})", r"\sinh({0})", "jnp.sinh({0})", np.sinh),
    ("cosh", "cosh({0})", r"\cosh({0})", "jnp.cosh({0})", np.cosh),
    ("atan", "arctan({0})", r"\arctan({0})", "jnp.arctan({0})", np.arctan),
    ("gt", "{0} > {1}", "{0} > {1}", "{0} > {1}", np.greater),
    ("eq", "{0} = {1}", "{0} = {1}", "{0} == {1}", np.equal),
    ("ne", "{0} ≠ {1}", r"{0} \neq {1}", "{0} != {1}", np.not_equal),
    ("and", "({0} and {1})", r"({0} \wedge {1})", "({0}) & ({1})", np.logical_and),
    ("or", "({0} or {1})", r"({0} \vee {1})", "({0}) | ({1})", np.logical_or),
    ("not", "not ({0})", r"\neg ({0})", "~({0})", np.logical_not),
):
    OPERATIONS[_name] = Operation(_text, _latex, _python, _compute)


# --- functions of JAX that are one operation ------------------------------------------

WHOLE: dict[str, Callable[[Array, Array, Array], Array]] = {
    "softplus": lambda dc, c, a: dc * jax.nn.sigmoid(a),
    "log_sigmoid": lambda dc, c, a: dc * jax.nn.sigmoid(-a),
    "relu": lambda dc, c, a: jnp.where(c > 0, dc, 0),
    "silu": lambda dc, c, a: dc * (c + jax.nn.sigmoid(a) * (1 - c)),
}
"""Names of JAX's functions of one operand A, and their rules (dC, C, A) -> dA."""

for _name, _text, _latex, _python, _compute in (
    (
        *("softplus", "log(1 + exp({0}))", r"\log(1 + \exp({0}))"),
        *("jax.nn.softplus({0})", _softplus),
    ),
    (
        *("log_sigmoid", "log σ({0})", r"\log \sigma({0})"),
        *("jax.nn.log_sigmoid({0})", lambda a: -_softplus(-a)),
    ),
    (
        *("relu", "max({0}, 0)", r"\max({0}, 0)"),
        *("jax.nn.relu({0})", lambda a: np.maximum(a, 0)),
    ),
    (
        *("silu", "silu({0})", r"\mathrm{{silu}}({0})"),
        *("jax.nn.silu({0})", lambda a: a * _sigmoid(a)),
    ),
):
    OPERATIONS[_name] = Operation(_text, _latex, _python, _compute)
