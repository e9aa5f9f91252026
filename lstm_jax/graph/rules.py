"""The table of local derivative rules: one row for every primitive operation.

A row turns dC, the gradient of the loss with respect to the output of ``C = f(A, B)``,
into the gradients dA and dB of the operands. The first rows are the article's
identities (Mukul Rathi, "Demystifying Deep Learning: Part 11", 2018); the rest follow
from the same question, "how much does each output move if I nudge this element?".

Elementwise operations have the plainest rows, dA = dC * ∂C/∂A, and are written as
the factor ∂C/∂A alone. An operation that only moves elements around is undone: a slice
by padding, a concatenation by splitting, a look-up by scatter-adding. What is copied
to many places (a broadcast) has its gradients summed, and what is summed has its
gradient copied.

A primitive that is missing is added with `rule`::

    @lstm_jax.graph.rule("erf_inv", "√π/2 exp({c}²)")
    def _(dc, c, a):
        return dc * (jnp.sqrt(jnp.pi) / 2 * jnp.exp(c**2))
"""

import functools
import inspect
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from lstm_jax.identities import (
    add_backward,
    multiply_backward,
    sigmoid_backward,
    tanh_backward,
)

Backward = Callable[..., Any]
LOG_2 = math.log(2)


class Rule(NamedTuple):
    """A row of the table.

    Attributes:
        backward: ``(dc, c, *operands, **params) -> gradients``, one for each operand
            in its shape and dtype, None for zero; for a single operand the tuple may
            be left out. A primitive with several outputs gets lists dc and c.
        labels: ∂C/∂operand as `lstm_jax.graph.render` draws it, with the names of the
            operands at ``{a}``, ``{b}`` and of the output at ``{c}``; the last label
            serves all further operands.
        reads: the primitive's parameters that `backward` names as keyword-only
            arguments; the others are not passed.
        elementwise: whether it is dA = dC * ∂C/∂A, element by element.
    """

    backward: Backward
    labels: tuple[str, ...]
    reads: tuple[str, ...]
    elementwise: bool = False


RULES: dict[str, Rule] = {}
"""Primitive name to row."""


def rule(primitive: str, *labels: str) -> Callable[[Backward], Backward]:
    """Adds the decorated function to `RULES`, or puts it in an older row's place.

    Args:
        primitive: the name that the jaxpr prints.
        *labels: see `Rule`.
    """

    def declare(backward: Backward) -> Backward:
        reads = tuple(
            p.name
            for p in inspect.signature(backward).parameters.values()
            if p.kind is p.KEYWORD_ONLY
        )
        RULES[primitive] = Rule(backward, labels, reads)
        return backward

    return declare


def elementwise(primitive: str, *labels: str) -> Callable[[Backward], Backward]:
    """`rule` for an elementwise primitive, whose operands may have been broadcast."""

    def declare(backward: Backward) -> Backward:
        @functools.wraps(backward)
        def summed(dc: Array, c: Array, *operands: Array, **params: Any) -> tuple:
            leaving = backward(dc, c, *operands, **params)
            leaving = leaving if isinstance(leaving, tuple) else (leaving,)
            return tuple(
                None if d is None else _sum_to(d, a.shape)
                for d, a in zip(leaving, operands, strict=True)
            )

        rule(primitive, *labels)(summed)
        RULES[primitive] = RULES[primitive]._replace(elementwise=True)
        return backward

    return declare


def local(primitive: str, *derivatives: tuple[str, Callable[..., Any]]) -> None:
    """Adds an elementwise row: for each operand a label and its ∂C/∂operand."""

    def backward(dc: Array, c: Array, *operands: Array) -> tuple[Array, ...]:
        return tuple(dc * derivative(c, *operands) for _, derivative in derivatives)

    elementwise(primitive, *(label for label, _ in derivatives))(backward)


# --- The article's identities --------------------------------------------------------


@elementwise("add", "1")
@elementwise("add_any", "1")
def _add(dc, c, a, b):
    """C = A + B: ∂C/∂A = ∂C/∂B = 1."""
    return add_backward(dc)


@elementwise("mul", "{b}", "{a}")
def _multiply(dc, c, a, b):
    """C = A * B: ∂C/∂A = B, ∂C/∂B = A."""
    return multiply_backward(dc, a, b)


@elementwise("tanh", "1 - {c}²")
def _tanh(dc, c, a):
    """C = tanh A: ∂C/∂A = 1 - C²."""
    return tanh_backward(dc, c)


@elementwise("logistic", "{c} (1 - {c})")
def _sigmoid(dc, c, a):
    """C = σ(A): ∂C/∂A = C (1 - C)."""
    return sigmoid_backward(dc, c)


@rule("dot_general", "· {b}ᵀ", "{a}ᵀ ·")
def _weighted_input(dz, z, x, w, *, dimension_numbers, precision):
    """Z = X·W: dX = dZ·Wᵀ and dW = Xᵀ·dZ, summing over the axes that are left.

    The axes are numbered as in Einstein's notation: those of x, then those of w, where
    a contracted or batched axis of w shares the number of its partner in x. Z has the
    batched axes first, then the free ones of x, then those of w.
    """
    (x_contracted, w_contracted), (x_batched, w_batched) = dimension_numbers
    x_axes = list(range(x.ndim))
    w_axes = list(range(x.ndim, x.ndim + w.ndim))
    x_shared, w_shared = (*x_contracted, *x_batched), (*w_contracted, *w_batched)
    for i, j in zip(x_shared, w_shared, strict=True):
        w_axes[j] = x_axes[i]
    z_axes = [
        *x_batched,
        *(i for i in x_axes if i not in x_shared),
        *(j for j in w_axes if j >= x.ndim),
    ]

    def product(p, p_axes, q, q_axes, like, axes):
        q = q.astype(p.dtype)
        d = jnp.einsum(p, p_axes, q, q_axes, axes, precision=precision)
        return d.astype(like.dtype)

    return (
        product(dz, z_axes, w, w_axes, x, x_axes),
        product(dz, z_axes, x, x_axes, w, w_axes),
    )


@rule("concatenate", "slice")
def _concatenate(dc, c, *parts, dimension):
    """C = [A, B, ...]: each part's gradient is its slice of dC."""
    return tuple(lax.split(dc, [part.shape[dimension] for part in parts], dimension))


@rule("split", "concatenate")
def _split(dparts, parts, c, *, axis):
    """A, B, ... = split(C): dC is the gradients put together again."""
    return lax.concatenate(dparts, axis)


# --- Elementwise, by the factor ∂C/∂A ------------------------------------------------


def _share(chosen: Array, other: Array) -> Array:
    """1 where `chosen` is the larger one, 1/2 on a tie, 0 elsewhere."""
    larger = (chosen > other).astype(chosen.dtype)
    return larger + 0.5 * (chosen == other).astype(chosen.dtype)


def _power_slope(a: Array, b: Array) -> Array:
    """B Aᵇ⁻¹, and 0 where B = 0; B may be an integer."""
    return b.astype(a.dtype) * jnp.where(b == 0, 0, lax.pow(a, b - 1))


def _bell(a: Array) -> Array:
    return 2 / math.sqrt(math.pi) * jnp.exp(-(a**2))


def _log_or_zero(a: Array) -> Array:
    """Log A, and 0 where A = 0, so that 0ᵇ doesn't move with b."""
    return jnp.log(jnp.where(a == 0, 1, a))


local("neg", ("-1", lambda c, a: -1))
local("sub", ("1", lambda c, a, b: 1), ("-1", lambda c, a, b: -1))
local("div", ("1/{b}", lambda c, a, b: 1 / b), ("-{c}/{b}", lambda c, a, b: -c / b))
local(
    "max",
    ("[{a} > {b}]", lambda c, a, b: _share(a, b)),
    ("[{b} > {a}]", lambda c, a, b: _share(b, a)),
)
local(
    "min",
    ("[{a} < {b}]", lambda c, a, b: _share(b, a)),
    ("[{b} < {a}]", lambda c, a, b: _share(a, b)),
)
local(
    "pow",
    ("{b} {a}^({b} - 1)", lambda c, a, b: _power_slope(a, b)),
    ("{c} log {a}", lambda c, a, b: c * _log_or_zero(a)),
)
local(
    "atan2",
    ("{b}/({a}² + {b}²)", lambda c, a, b: b / (a**2 + b**2)),
    ("-{a}/({a}² + {b}²)", lambda c, a, b: -a / (a**2 + b**2)),
)
local("abs", ("sign {a}", lambda c, a: jnp.sign(a)))
local("square", ("2 {a}", lambda c, a: 2 * a))
local("one_minus_square", ("-2 {a}", lambda c, a: -2 * a))
local("sqrt", ("1/(2 {c})", lambda c, a: 0.5 / c))
local("rsqrt", ("-{c}/(2 {a})", lambda c, a: -0.5 * c / a))
local("cbrt", ("{c}/(3 {a})", lambda c, a: c / (3 * a)))
local("exp", ("{c}", lambda c, a: c))
local("exp2", ("{c} log 2", lambda c, a: c * LOG_2))
local("expm1", ("{c} + 1", lambda c, a: c + 1))
local("log", ("1/{a}", lambda c, a: 1 / a))
local("log2", ("1/({a} log 2)", lambda c, a: 1 / (a * LOG_2)))
local("log1p", ("1/(1 + {a})", lambda c, a: 1 / (1 + a)))
local("sin", ("cos {a}", lambda c, a: jnp.cos(a)))
local("cos", ("-sin {a}", lambda c, a: -jnp.sin(a)))
local("tan", ("1 + {c}²", lambda c, a: 1 + c**2))
local("sinh", ("cosh {a}", lambda c, a: jnp.cosh(a)))
local("cosh", ("sinh {a}", lambda c, a: jnp.sinh(a)))
local("asin", ("1/√(1 - {a}²)", lambda c, a: 1 / jnp.sqrt(1 - a**2)))
local("acos", ("-1/√(1 - {a}²)", lambda c, a: -1 / jnp.sqrt(1 - a**2)))
local("atan", ("1/(1 + {a}²)", lambda c, a: 1 / (1 + a**2)))
local("asinh", ("1/√({a}² + 1)", lambda c, a: 1 / jnp.sqrt(a**2 + 1)))
local("acosh", ("1/√({a}² - 1)", lambda c, a: 1 / jnp.sqrt(a**2 - 1)))
local("atanh", ("1/(1 - {a}²)", lambda c, a: 1 / (1 - a**2)))
local("erf", ("2/√π exp(-{a}²)", lambda c, a: _bell(a)))
local("erfc", ("-2/√π exp(-{a}²)", lambda c, a: -_bell(a)))


@elementwise("integer_pow", "{y} {a}^({y} - 1)")
def _integer_pow(dc, c, a, *, y):
    """C = Aʸ for a fixed integer y: ∂C/∂A = y Aʸ⁻¹."""
    return dc * (y * lax.integer_pow(a, y - 1)) if y else None


@elementwise("clamp", "[{b} < {a}]", "[{a} < {b} < {d}]", "[{d} < {b}]")
def _clamp(dc, c, low, a, high):
    """C = A between two bounds; the gradient goes to whichever one was taken."""
    within = (low < a) & (a < high)
    return tuple(jnp.where(taken, dc, 0) for taken in (a < low, within, a > high))


@elementwise("select_n", "", "where chosen")
def _select(dc, c, which, *cases):
    """C = the case that `which` names; the gradient goes to that one alone."""
    which = which.astype(jnp.int32)
    return None, *(jnp.where(which == k, dc, 0) for k in range(len(cases)))


@rule("convert_element_type", "1")
def _convert(dc, c, a):
    """C = A in another dtype: the gradient comes back in A's."""
    return dc.astype(a.dtype)


@rule("reduce_precision", "1")
def _reduce_precision(dc, c, a, *, exponent_bits, mantissa_bits):
    """C = A with fewer bits, as if it were converted and back."""
    return lax.reduce_precision(dc, exponent_bits, mantissa_bits)


for _identity in ("copy", "sharding_constraint"):
    rule(_identity, "1")(lambda dc, c, a: dc)

for _identities in ("device_put", "optimization_barrier"):
    rule(_identities, "1")(lambda dcs, cs, *operands: dcs)

# Constant almost everywhere, or declared to be.
for _constant in ("stop_gradient", "sign", "floor", "ceil", "round"):
    rule(_constant, "0")(lambda dc, c, a: None)


# --- Sums, and what is copied to many places -----------------------------------------


@rule("reduce_sum", "1")
def _reduce_sum(dc, c, a, *, axes):
    """C = Σ A: every summand gets a copy of dC."""
    return _copied(dc, a.shape, axes)


@rule("broadcast_in_dim", "Σ")
def _broadcast(dc, c, a, *, broadcast_dimensions):
    """C = copies of A: their gradients are summed."""
    copies = [axis for axis in range(c.ndim) if axis not in broadcast_dimensions]
    return _sum_to(dc.sum(copies), a.shape)


@rule("tile", "Σ")
def _tile(dc, c, a, *, reps):
    """C = A repeated along each axis: the repetitions' gradients are summed."""
    pairs = list(itertools.chain(*zip(reps, a.shape, strict=True)))
    return dc.reshape(pairs).sum(range(0, len(pairs), 2))


@rule("reduce_max", "where largest")
@rule("reduce_min", "where smallest")
def _reduce_extreme(dc, c, a, *, axes):
    """C = max A: dC goes to the maximum, in equal shares if there are several."""
    here = (a == _copied(c, a.shape, axes)).astype(a.dtype)
    return here * _copied(dc / here.sum(axes), a.shape, axes)


@rule("reduce_prod", "product of the others")
def _reduce_prod(dc, c, a, *, axes):
    """C = Π A: ∂C/∂Aᵢ is the product of the other factors, those before and after."""
    kept = [axis for axis in range(a.ndim) if axis not in axes]
    order = (*kept, *axes)
    factors = a.transpose(order).reshape(*c.shape, -1)
    ones = jnp.ones_like(factors[..., :1])
    before = jnp.concatenate([ones, factors[..., :-1]], -1)
    after = jnp.concatenate([factors[..., 1:], ones], -1)
    others = lax.cumprod(before, c.ndim) * lax.cumprod(after, c.ndim, reverse=True)
    da = (dc[..., None] * others).reshape([a.shape[axis] for axis in order])
    return da.transpose(np.argsort(order))


@rule("cumsum", "Σ of the later")
def _cumsum(dc, c, a, *, axis, reverse):
    """C_t = A_0 + ... + A_t: A_t is in every later sum."""
    return lax.cumsum(dc, axis, reverse=not reverse)


def cumulative(primitive: str, to_previous: Callable, to_current: Callable) -> None:
    """Adds a row for C_t = f(C_{t-1}, A_t) with C_0 = A_0.

    This is backpropagation through time, G being the gradient that comes back to C
    over all its uses::

        G_t  = dC_t + G_{t+1} * ∂C_{t+1}/∂C_t
        dA_t = G_t * ∂C_t/∂A_t

    Args:
        primitive: its name.
        to_previous: ∂C_t/∂C_{t-1} of (C_t, C_{t-1}, A_t).
        to_current: ∂C_t/∂A_t of the same.
    """

    def backward(dc: Array, c: Array, a: Array, *, axis: int, reverse: bool) -> Array:
        dc, c, a = (_in_time(q, axis, reverse) for q in (dc, c, a))
        steps = c[1:], c[:-1], a[1:]
        decay = jnp.concatenate([to_previous(*steps), jnp.zeros_like(c[:1])])
        own = jnp.concatenate([jnp.ones_like(c[:1]), to_current(*steps)])

        def step(g_next: Array, at: tuple[Array, Array]) -> tuple[Array, Array]:
            d, k = at
            return d + k * g_next, d + k * g_next

        nothing = jnp.zeros(c.shape[1:], c.dtype)
        _, g = lax.scan(step, nothing, (dc, decay), reverse=True)
        da = g * own
        return jnp.moveaxis(da[::-1] if reverse else da, 0, axis)

    rule(primitive, "later outputs")(backward)


def _in_time(q: Array, axis: int, reverse: bool) -> Array:
    q = jnp.moveaxis(q, axis, 0)
    return q[::-1] if reverse else q


def _exp_ratio(log_part: Array, log_whole: Array) -> Array:
    """The share of a part in its whole, from logarithms; 0 of an empty whole."""
    return jnp.exp(log_part - jnp.where(log_whole == -jnp.inf, 0, log_whole))


cumulative("cumprod", lambda c, before, a: a, lambda c, before, a: before)
cumulative(
    "cummax",
    lambda c, before, a: _share(before, a),
    lambda c, before, a: _share(a, before),
)
cumulative(
    "cummin",
    lambda c, before, a: _share(a, before),
    lambda c, before, a: _share(before, a),
)
cumulative(
    "cumlogsumexp",
    lambda c, before, a: _exp_ratio(before, c),
    lambda c, before, a: _exp_ratio(a, c),
)


# --- What only moves elements around is undone ---------------------------------------


@rule("reshape", "reshape")
@rule("squeeze", "reshape")
def _reshape(dc, c, a):
    return dc.reshape(a.shape)


@rule("transpose", "transpose")
def _transpose(dc, c, a, *, permutation):
    return dc.transpose(np.argsort(permutation))


@rule("rev", "reverse")
def _rev(dc, c, a, *, dimensions):
    return lax.rev(dc, dimensions)


@rule("stack", "slice")
def _stack(dc, c, *parts, axis):
    return tuple(jnp.moveaxis(dc, axis, 0))


@rule("unstack", "stack")
def _unstack(dparts, parts, c, *, axis):
    return jnp.stack(dparts, axis)


@rule("slice", "pad")
def _slice(dc, c, a, *, start_indices, strides):
    """C = A[start::stride]: dC, with zeros at what was left out."""
    gaps = []
    axes = zip(start_indices, strides or (1,) * a.ndim, a.shape, c.shape, strict=True)
    for start, stride, size, kept in axes:
        stop = start + (kept - 1) * stride + 1 if kept else start
        gaps.append((start, size - stop, stride - 1))
    return lax.pad(dc, jnp.zeros((), dc.dtype), gaps)


@rule("pad", "slice", "Σ of the padding")
def _pad(dc, c, a, value, *, padding_config):
    """C = A among copies of a value: A's gradient is sliced out, the rest summed."""
    zero = jnp.zeros((), dc.dtype)
    trimmed = lax.pad(dc, zero, [(-low, -high, 0) for low, high, _ in padding_config])
    da = trimmed[tuple(slice(None, None, gap + 1) for _, _, gap in padding_config)]
    return da, dc.sum() - da.sum()


@rule("dynamic_slice", "pad", "")
def _dynamic_slice(dc, c, a, *starts):
    """C = A[start : start + size]: dC, with zeros at what was left out."""
    da = lax.dynamic_update_slice(jnp.zeros_like(a), dc, starts)
    return da, *(None for _ in starts)


@rule("dynamic_update_slice", "outside", "slice", "")
def _dynamic_update_slice(dc, c, a, update, *starts):
    """C = A with a part replaced: the part's gradient is the update's, not A's."""
    da = lax.dynamic_update_slice(dc, jnp.zeros_like(update), starts)
    return da, lax.dynamic_slice(dc, starts, update.shape), *(None for _ in starts)


@rule("gather", "scatter-add", "")
def _gather(
    dc, c, a, indices, *, dimension_numbers, indices_are_sorted, unique_indices, mode
):
    """C = rows of A (an embedding): a row's gradients are summed over its look-ups."""
    numbers = lax.ScatterDimensionNumbers(
        update_window_dims=dimension_numbers.offset_dims,
        inserted_window_dims=dimension_numbers.collapsed_slice_dims,
        scatter_dims_to_operand_dims=dimension_numbers.start_index_map,
        operand_batching_dims=dimension_numbers.operand_batching_dims,
        scatter_indices_batching_dims=dimension_numbers.start_indices_batching_dims,
    )
    da = lax.scatter_add(
        jnp.zeros_like(a),
        indices,
        dc,
        numbers,
        indices_are_sorted=indices_are_sorted,
        unique_indices=unique_indices,
        mode=mode,
    )
    return da, None


@rule("scatter-add", "1", "", "gather")
def _scatter_add(dc, c, a, indices, updates, *, dimension_numbers, mode):
    """C = A with updates added to its rows: each update's gradient is looked up."""
    return dc, None, _look_up(dc, indices, updates, dimension_numbers, mode)


@rule("scatter", "elsewhere", "", "gather")
def _scatter(dc, c, a, indices, updates, *, dimension_numbers, mode):
    """C = A with rows replaced: what was written last has the gradient, not A.

    Which of several updates of one place comes last is not defined, so it is found
    out by scattering the updates' numbers in the same way.
    """
    zeros = jnp.zeros_like(updates)
    numbers = jnp.arange(1, updates.size + 1).reshape(updates.shape)
    nobody = jnp.zeros(a.shape, numbers.dtype)
    written = lax.scatter(nobody, indices, numbers, dimension_numbers, mode=mode)
    winner = _look_up(written, indices, updates, dimension_numbers, mode)
    dupdates = _look_up(dc, indices, updates, dimension_numbers, mode)
    return (
        lax.scatter(dc, indices, zeros, dimension_numbers, mode=mode),
        None,
        jnp.where(winner == numbers, dupdates, 0),
    )


def _look_up(
    c: Array, indices: Array, updates: Array, numbers: Any, mode: Any
) -> Array:
    """What stands in `c` where a scatter of `updates` writes; 0 if it is dropped."""
    single = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
    window = iter(updates.shape[axis] for axis in numbers.update_window_dims)
    sizes = [1 if axis in single else next(window) for axis in range(c.ndim)]
    gather_numbers = lax.GatherDimensionNumbers(
        offset_dims=numbers.update_window_dims,
        collapsed_slice_dims=numbers.inserted_window_dims,
        start_index_map=numbers.scatter_dims_to_operand_dims,
        operand_batching_dims=numbers.operand_batching_dims,
        start_indices_batching_dims=numbers.scatter_indices_batching_dims,
    )
    return lax.gather(c, indices, gather_numbers, sizes, mode=mode, fill_value=0)


def _sum_to(d: Array, shape: tuple[int, ...]) -> Array:
    """`d`, summed over the axes along which an operand of `shape` was broadcast."""
    if d.shape == shape:
        return d
    if shape == ():
        return d.sum()
    spread = [axis for axis, size in enumerate(shape) if size != d.shape[axis]]
    return d.sum(spread, keepdims=True)


def _copied(d: Array, shape: tuple[int, ...], axes: Sequence[int]) -> Array:
    """Copies of `d` along `axes`, which a reduction took away from `shape`."""
    kept = [axis for axis in range(len(shape)) if axis not in axes]
    return lax.broadcast_in_dim(d, shape, kept)
