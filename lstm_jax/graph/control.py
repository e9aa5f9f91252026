"""Backpropagation through `scan` and `cond`, the nodes that hold a graph of their own.

A `scan` is one graph repeated in time, each step's carry entering the next. Its way
back is the article's backpropagation through time: the same body walked backward once
a step, from the last step to the first, with the gradient of the carry handed on. The
forward pass keeps the carries alone; the way back computes each step's nodes again.
"""

from typing import Any

import jax
from jax import lax
from jax.extend.core import jaxpr_as_fun

from lstm_jax.graph.backprop import (
    Local,
    Named,
    Walked,
    differentiable,
    forward,
    structure,
    zeros,
)
from lstm_jax.identities import fan_out_backward
from lstm_jax.jaxprs import opened


def scan_parts(params: dict[str, Any], items: Any) -> tuple[list, list, list]:
    """A scan's operands by their roles: constants, carry, what it runs over."""
    items = list(items)
    if "ft_in" in params:  # jax 0.12
        constants, carry = (len(tree) for tree in params["ft_in"].unpack()[:2])
    else:
        constants, carry = params["num_consts"], params["num_carry"]
    after = constants + carry
    return items[:constants], items[constants:after], items[after:]


@structure("scan")
def scan(
    params: dict[str, Any], operands: list[Any], moves: list[bool], local: Local
) -> Walked:
    """Walks the body forward over the steps; its pullback walks it back over them.

    Every floating carry counts as active: one step's output is the next one's input.
    """
    body = params["jaxpr"]
    constants, initial, xs = scan_parts(params, operands)
    constants_move, _, xs_move = scan_parts(params, moves)
    carry_moves = [differentiable(jax.typeof(value)) for value in initial]
    inputs_move = [*constants_move, *carry_moves, *xs_move]
    steps = {"length": params["length"], "unroll": params["unroll"]}

    def step(carry: list[Any], x: list[Any]) -> tuple[list[Any], Any]:
        outputs = jaxpr_as_fun(body)(*constants, *carry, *x)
        return outputs[: len(carry)], (carry, outputs[len(carry) :])

    final, (carries, ys) = lax.scan(
        step, initial, xs, reverse=params["reverse"], **steps
    )

    def pullback(arriving: list[Any]) -> tuple[list[Any], Named]:
        dfinal, dys = arriving[: len(initial)], arriving[len(initial) :]

        def step_back(later: tuple[list, list], at: tuple) -> tuple:
            dcarry, dconstants = later
            carry, x, dy = at
            walked = forward(body, [*constants, *carry, *x], inputs_move, local)
            leaving, named = walked.pullback([*dcarry, *dy])
            here, dcarry, dx = scan_parts(params, leaving)
            dconstants = [
                fan_out_backward(total, d) if d is not None else total
                for total, d in zip(dconstants, here, strict=True)
            ]
            return (_filled(dcarry, carry, carry_moves), dconstants), (dx, named)

        nothing = [None] * len(constants)
        start = (
            _filled(dfinal, initial, carry_moves),
            _filled(nothing, constants, constants_move),
        )
        (dinitial, dconstants), (dxs, named) = lax.scan(
            step_back, start, (carries, xs, dys), reverse=not params["reverse"], **steps
        )
        return [*dconstants, *dinitial, *dxs], named

    active = [differentiable(jax.typeof(value)) for value in (*final, *ys)]
    return Walked([*final, *ys], active, pullback)


@structure("cond")
def cond(
    params: dict[str, Any], operands: list[Any], moves: list[bool], local: Local
) -> Walked:
    """Walks back through the branch that was taken, computing its nodes again.

    Names inside a branch are not collected: the other branches don't have them. Of
    `lax.platform_dependent`, the branch for any platform is walked like a function
    that is called: others may hold what is not JAX.
    """
    branches = params["branches"]
    index, *inputs = operands
    inputs_move = moves[1:]
    platforms = params.get("branches_platforms", ())
    if None in platforms:
        walked = forward(branches[platforms.index(None)], inputs, inputs_move, local)

        def walk_back(arriving: list[Any]) -> tuple[list[Any], Named]:
            leaving, named = walked.pullback(arriving)
            return [None, *leaving], named

        return walked._replace(pullback=walk_back)

    def back(branch: Any) -> Any:
        def walk_back(inputs: list[Any], arriving: list[Any]) -> list[Any]:
            walked = forward(branch, inputs, inputs_move, local)
            leaving, _ = walked.pullback(arriving)
            return _filled(leaving, inputs, inputs_move)

        return walk_back

    def pullback(arriving: list[Any]) -> tuple[list[Any], Named]:
        leaving = lax.switch(index, [back(b) for b in branches], inputs, arriving)
        return [None, *leaving], {}

    outputs = lax.switch(index, [jaxpr_as_fun(branch) for branch in branches], *inputs)
    active = [differentiable(v.aval) for v in opened(branches[0])[0].outvars]
    return Walked(list(outputs), active, pullback)


def _filled(gradients: list[Any], values: list[Any], moves: list[bool]) -> list[Any]:
    """The gradients of what moves, zeros for those that lack; None for the rest."""
    return [
        None if not m else zeros(jax.typeof(value)) if d is None else d
        for d, value, m in zip(gradients, values, moves, strict=True)
    ]
