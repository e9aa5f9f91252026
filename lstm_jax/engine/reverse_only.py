"""A marker for functions whose hand-written rule exists in reverse mode alone.

JAX refuses forward mode through a `jax.custom_vjp` with a message that knows nothing
of this library. Passing a function's differentiable inputs through `reverse_only`
makes the refusal say what to do. The marker is the identity, and its tangent another
primitive whose transpose is the identity: reverse mode transposes it before anything
is computed, while forward mode has to compute, or batch, it and is told. Forward mode
over reverse mode is well: once differentiated, a value is no longer marked.
"""

from typing import Any

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

_MESSAGE = (
    "forward-mode differentiation (jax.jvp, jax.jacfwd, jax.linearize's product) "
    "cannot go through a backward pass written by hand; pass "
    'gradient="automatic" to differentiate the same equations in any mode'
)


def reverse_only(tree: Any) -> Any:
    """`tree` itself; forward-mode differentiation of it raises a TypeError.

    Args:
        tree: a pytree of arrays of floating dtypes.
    """
    return jax.tree.map(_marker_p.bind, tree)


def _refuse(*_: Any, **__: Any) -> Any:
    raise TypeError(_MESSAGE)


_marker_p = Primitive("reverse_only")
_marker_p.def_abstract_eval(lambda aval: aval)
_marker_p.def_impl(lambda x: x)
mlir.register_lowering(_marker_p, lambda _, x: [x])
batching.defvectorized(_marker_p)

_tangent_p = Primitive("reverse_only_tangent")
_tangent_p.def_abstract_eval(lambda aval: aval)
_tangent_p.def_impl(_refuse)
mlir.register_lowering(_tangent_p, _refuse)
batching.primitive_batchers[_tangent_p] = _refuse

ad.deflinear2(_tangent_p, lambda dx, _: [dx])


def _marker_jvp(primals: tuple[Any], tangents: tuple[Any]) -> tuple[Any, Any]:
    (x,), (dx,) = primals, tangents
    return x, dx if type(dx) is ad.Zero else _tangent_p.bind(dx)


ad.primitive_jvps[_marker_p] = _marker_jvp
