"""A marker for functions whose hand-written rule exists in reverse mode alone.

JAX refuses forward mode through a `jax.custom_vjp` with a message that knows nothing
of this library. Passing a function's differentiable inputs through `reverse_only`
makes the refusal say what to do. The marker is the identity: its transpose is the
identity as well, so that reverse mode never meets its tangent, while forward mode
has to evaluate it and is told.
"""

from typing import Any

import jax
from jax import Array
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

_MESSAGE = (
    "forward-mode differentiation (jax.jvp, jax.jacfwd, jax.linearize's product, "
    "jax.hessian) cannot go through a backward pass written by hand; pass "
    'gradient="automatic" to differentiate the same equations in any mode'
)


@jax.custom_jvp
def _identity(x: Array) -> Array:
    return x


@_identity.defjvp
def _identity_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    return x, _tangent_p.bind(dx)


def reverse_only(tree: Any) -> Any:
    """`tree` itself; forward-mode differentiation of it raises a TypeError.

    Args:
        tree: a pytree of arrays of floating dtypes.
    """
    return jax.tree.map(_identity, tree)


def _refuse(*_: Any, **__: Any) -> Any:
    raise TypeError(_MESSAGE)


_tangent_p = Primitive("reverse_only_tangent")
_tangent_p.def_abstract_eval(lambda aval: aval)
_tangent_p.def_impl(_refuse)
mlir.register_lowering(_tangent_p, _refuse)
batching.defvectorized(_tangent_p)
ad.deflinear2(_tangent_p, lambda dx, _: [dx])
