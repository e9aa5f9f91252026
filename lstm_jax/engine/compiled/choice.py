"""Compiled where a program is for this machine, scanned wherever else it may run.

Which of the two it will be is known when a program is lowered: for what platform, and
whether to run here or to be exported (`jax.export`), where nobody has what was compiled
on this machine. So both are kept as one operation until then. Whoever reads the program
sees the scan, which is made of the equations.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import tree
from jax.extend.core import Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir

from lstm_jax.engine.custom_vjp import jvp_along


def compiled_on(
    platform: str, compiled: Callable[..., Any], scanned: Callable[..., Any]
) -> Callable[..., Any]:
    """`scanned`, but `compiled` in programs that run on this machine's `platform`.

    Args:
        platform: "cpu" or "cuda".
        compiled: ``(settings, *arguments) -> results``, trees of arrays.
        scanned: says the same. Derivatives are its, and so are the results' types.
    """

    def run(settings: Any, *arguments: Any) -> Any:
        trace = jax.make_jaxpr(partial(scanned, settings), return_shape=True)
        jaxpr, results = trace(*arguments)
        flat = choice_p.bind(
            *tree.leaves(arguments),
            jaxpr=jaxpr,
            compiled=jax.make_jaxpr(partial(compiled, settings))(*arguments),
            platform=platform,
        )
        return tree.unflatten(tree.structure(results), flat)

    return run


choice_p = Primitive("compiled_or_scanned")
"""`jaxpr`, the scan, or `compiled` in a program for this machine's `platform`."""

choice_p.multiple_results = True


@choice_p.def_impl
def _run(*operands: Any, jaxpr: Any, **_: Any) -> list[Any]:
    return jaxpr_as_fun(jaxpr)(*operands)


@choice_p.def_abstract_eval
def _types(*_: Any, jaxpr: Any, **__: Any) -> Any:
    return jaxpr.out_avals


def _lower(
    context: Any, *operands: Any, jaxpr: Any, compiled: Any, platform: str
) -> Any:
    program = context.module_context
    here = tuple(program.platforms) == (platform,)
    if here and not program.lowering_parameters.for_export:
        jaxpr = compiled
    run = mlir.lower_fun(jaxpr_as_fun(jaxpr), multiple_results=True)
    return run(context, *operands)


mlir.register_lowering(choice_p, _lower)


def _derivative(
    primals: Sequence[Any], tangents: Sequence[Any], *, jaxpr: Any, **params: Any
) -> tuple[list[Any], list[Any]]:
    """The scan's; the values stay those of the choice.

    A rule of the operation's own, since in a scan that is differentiated JAX takes away
    what `jax.custom_jvp` puts around one.
    """
    moving = [n for n, t in enumerate(tangents) if type(t) is not ad.Zero]
    along = [tangents[n] for n in moving]
    dresults = jvp_along(jaxpr_as_fun(jaxpr), primals, moving, along)
    return choice_p.bind(*primals, jaxpr=jaxpr, **params), dresults


ad.primitive_jvps[choice_p] = _derivative


def _batched(
    axis: Any,
    operands: Sequence[Any],
    dims: Sequence[int | None],
    *,
    jaxpr: Any,
    compiled: Any,
    platform: str,
) -> tuple[list[Any], list[int | None]]:
    if all(dim is None for dim in dims):  # JAX asks even then
        params = {"jaxpr": jaxpr, "compiled": compiled, "platform": platform}
        results = choice_p.bind(*operands, **params)
        return results, [None] * len(results)
    placed = [
        a if dim is None else jnp.moveaxis(a, dim, 0)
        for a, dim in zip(operands, dims, strict=True)
    ]

    def many(jaxpr: Any) -> Any:
        run = jax.vmap(
            lambda *operands: jaxpr_as_fun(jaxpr)(*operands),
            in_axes=tuple(None if dim is None else 0 for dim in dims),
            axis_size=axis.size,
            spmd_axis_name=axis.spmd_name,
        )
        return jax.make_jaxpr(run)(*placed)

    results = choice_p.bind(
        *placed, jaxpr=many(jaxpr), compiled=many(compiled), platform=platform
    )
    return results, [0] * len(results)


batching.fancy_primitive_batchers[choice_p] = _batched
