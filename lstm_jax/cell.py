"""The protocol of a recurrent cell, and `gated`, which builds one from its equations.

A recurrent network splits into what is sequential (the state: elementwise equations
and a recurrent product, step after step) and what is not (input products, weight
gradients: large matrix products over many steps at once). A `Cell` is that split
written as pure functions, two for each direction:

==============  ==========  =====================================================
function        runs        computes
==============  ==========  =====================================================
``project``     over time,  whatever depends on the input alone
                at once
``step``        per step    the equations: the new state, and what to keep
``backward``    per step,   their reverse: the gradients of the old state and of
                reversed    the pre-activations
``gradients``   over time,  the weighted-input rule: the gradients of the
                at once     parameters and the input
==============  ==========  =====================================================

A cell with at most one product of its state a step is made by `gated` from its
elementwise equations and their reverse alone. Any other (two products a step, a
projection, a norm) writes the four functions itself, with `input_gradients` and the
pairs of `lstm_jax.identities`, or around those of another cell. A cell may leave out
``backward`` and ``gradients``; it then has automatic gradients only.
"""

from collections.abc import Callable, Sequence
from operator import index
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.ad_checkpoint import checkpoint_name
from jax.nn import initializers
from jax.typing import DTypeLike

from lstm_jax.identities import (
    accumulator_dtype,
    bias_gradient,
    concatenate,
    weight_gradient,
    weighted_input,
)

Initializer = Callable[..., Array]


class OutputState(NamedTuple):
    """The state of a cell that remembers its output alone.

    Attributes:
        h: the output, (..., H).
    """

    h: Array


def not_derived(*_: Any) -> Any:
    """Stands for the backward of a cell that has none."""
    raise NotImplementedError("this cell has no hand-derived backward")


class Cell(NamedTuple):
    """A recurrent cell: pure functions, hashable, usable as a static argument.

    Parameters and states are NamedTuples of arrays. **The first field of a state is
    the cell's output** (``h``). ``...`` stands for any leading axes: none or the
    batch's in ``step`` and ``backward``, time before them in the other two.

    Attributes:
        name: its key in `lstm_jax.CELLS`.
        init: ``(key, input_size, hidden_size, *, dtype, ...) -> params``.
        sizes: ``params -> dict``, the size arguments of `init` that made them.
        initial_state: ``(params, batch_shape) -> state``, zeros if not stated
            otherwise.
        project: ``(params, x (..., D)) -> u``, any pytree.
        step: ``(params, state, u) -> (new_state, kept)``; `kept` is any pytree that
            `backward` needs beside the two states.
        backward: ``(params, state, new_state, kept, dnew) -> (dstate, dz)``: from the
            gradient `dnew` of the new state those of the old state and of the
            pre-activations (any pytree). No weight gradient is computed here.
        gradients: ``(params, x, state, new_state, kept, dz) -> (dparams, dx)``, for
            all steps of a stretch of time at once, summed over time and batch.
        linear: whether ``step`` is linear in the state, element by element: every
            number of the new state is ``a * h_prev + b`` of the same number of the
            old one, with a and b of ``u`` alone. `lstm_jax.unroll` then takes all
            steps at once; see `lstm_jax.engine.associative_scan`.
    """

    name: str
    init: Callable[..., Any]
    sizes: Callable[[Any], dict[str, int]]
    initial_state: Callable[[Any, tuple[int, ...]], Any]
    project: Callable[[Any, Array], Any]
    step: Callable[[Any, Any, Any], tuple[Any, Any]]
    backward: Callable[[Any, Any, Any, Any, Any], tuple[Any, Any]] = not_derived
    gradients: Callable[[Any, Array, Any, Any, Any, Any], tuple[Any, Array]] = (
        not_derived
    )
    linear: bool = False


def named(value: Array, quantity: str, equation: int) -> Array:
    """`value`, known as `quantity` of equation number `equation`.

    In a forward function ``c = named(i * g + f * c_prev, "c", 5)`` is the left-hand
    side of equation (5). In a backward function ``df = named(dc * c_prev, "df", 5)``
    is ∂J/∂f, found by going through equation (5). The name is visible to whoever
    reads the jaxpr (the gradient checker, the graph drawing, `jax.checkpoint`
    policies) and compiles to nothing.
    """
    return checkpoint_name(value, f"{quantity} ({equation})")


def no_elementwise(*_: Any) -> dict[str, Array]:
    """Stands for the elementwise parameters of a cell that has none."""
    return {}


def weight_sizes(params: Any) -> dict[str, int]:
    """`Cell.sizes` for parameters with the fields Wx (D, N) and Wh.

    Wh is (H, N), or (G, K, H/K, H/K) in a cell of K heads.
    """
    sizes = {"input_size": params.Wx.shape[0]}
    if params.Wh.ndim == 4:
        _, heads, size, _ = params.Wh.shape
        return sizes | {"hidden_size": heads * size, "heads": heads}
    return sizes | {"hidden_size": params.Wh.shape[0]}


def block_sizes(blocks: int) -> Callable[[Any], dict[str, int]]:
    """`Cell.sizes` for parameters without Wh, whose Wx is (D, blocks * H)."""

    def sizes(params: Any) -> dict[str, int]:
        return {
            "input_size": params.Wx.shape[0],
            "hidden_size": params.Wx.shape[-1] // blocks,
        }

    return sizes


def gated(
    name: str,
    *,
    init: Callable[..., Any],
    initial_state: Callable[[Any, tuple[int, ...]], Any],
    equations: Callable[..., tuple[Any, Any]],
    backward: Callable[..., tuple[Any, Array, Any]] = not_derived,
    elementwise: Callable[..., dict[str, Array]] = no_elementwise,
    sizes: Callable[[Any], dict[str, int]] = weight_sizes,
    linear: bool = False,
) -> Cell:
    """A cell with one product ``u = x Wx + b`` and at most one ``v = h Wh`` a step.

    Its parameters have the fields ``Wx (D, N)``, ``Wh`` and ``b (N,)``. With one head
    ``Wh`` is (H, N); with K heads, (G, K, H/K, H/K): every gate of a head sees that
    head's part of h alone, and v is laid out as with one head. Parameters without a
    field ``Wh`` mean a cell whose state acts on itself element by element: v is None,
    and dv is None too, or whatever `elementwise` needs beside du.

    Args:
        name: its key in `lstm_jax.CELLS`.
        init: as in `Cell`; `init_weights` draws the three fields.
        initial_state: as in `Cell`; `zero_state` makes one.
        equations: ``(params, state, u, v) -> (new_state, kept)``, elementwise.
        backward: ``(params, state, new_state, kept, dnew) -> (dstate, du, dv)``,
            elementwise: the gradients of the two products and of the old state,
            this one without the path through ``v``, which is added here. Left out,
            the cell has automatic gradients only.
        elementwise: ``(params, state, new_state, kept, du, dv) -> dict``, for
            parameters beside these three that act element by element, (H,), such as
            peepholes: by field, the gradient at every step and example, (..., H). It
            runs for many steps at once, outside the sequential part, and the sum over
            time and batch is taken here.
        sizes: as in `Cell`; `block_sizes` where there is no Wh.
        linear: as in `Cell`.

    Returns:
        The cell, with the weighted-input rule around its equations.
    """

    def step(params: Any, state: Any, u: Array) -> tuple[Any, Any]:
        v = _recurrent_input(state[0], params.Wh) if _recurrent(params) else None
        return equations(params, state, u, v)

    def step_backward(
        params: Any, state: Any, new_state: Any, kept: Any, dnew: Any
    ) -> tuple[Any, tuple[Array, Array | None]]:
        dstate, du, dv = backward(params, state, new_state, kept, dnew)
        if _recurrent(params):
            dh = dstate[0] + _recurrent_input_backward(dv, params.Wh)
            dstate = dstate._replace(**{dstate._fields[0]: dh})
        # Where z = u + v, both have the same gradient: it is kept once.
        return dstate, (du, None if dv is du else dv)

    def gradients(
        params: Any, x: Array, state: Any, new_state: Any, kept: Any, dz: Any
    ) -> tuple[Any, Array]:
        du, dv = dz
        if dv is None and _recurrent(params):
            dv = du
        dweights, dx = input_gradients(params, x, du)
        if _recurrent(params):
            dweights["Wh"] = _recurrent_gradient(dv, state[0], params.Wh)
        own = elementwise(params, state, new_state, kept, du, dv)
        summed = {field: bias_gradient(d) for field, d in own.items()}
        return type(params)(**dweights, **summed), dx

    return Cell(
        name=name,
        init=init,
        sizes=sizes,
        initial_state=initial_state,
        project=input_product,
        step=step,
        backward=not_derived if backward is not_derived else step_backward,
        gradients=not_derived if backward is not_derived else gradients,
        linear=linear,
    )


def input_product(params: Any, x: Array) -> Array:
    """`Cell.project` for parameters with the fields Wx and b: u = x Wx + b."""
    return weighted_input(x, params.Wx, params.b)


def input_gradients(params: Any, x: Array, du: Array) -> tuple[dict[str, Array], Array]:
    """The weighted-input rule for ``u = x Wx + b``.

    Args:
        params: parameters with the fields Wx (D, N) and b (N,).
        x: (..., D).
        du: ∂J/∂u, (..., N).

    Returns:
        The gradients of Wx and b by field, summed over all leading axes, and dx.
    """
    return {"Wx": weight_gradient(du, x), "b": bias_gradient(du)}, du @ params.Wx.T


def _recurrent(params: Any) -> bool:
    return "Wh" in params._fields


def _recurrent_input(h: Array, Wh: Array) -> Array:
    """The product v = h Wh, gate blocks side by side; by head if Wh has 4 axes."""
    if Wh.ndim == 2:
        return weighted_input(h, Wh)
    gates, heads, size, _ = Wh.shape
    parts = h.reshape(*h.shape[:-1], heads, size)
    v = jnp.einsum("...kd,gkdn->...gkn", parts, Wh)
    return v.reshape(*h.shape[:-1], gates * heads * size)


def _recurrent_input_backward(dv: Array, Wh: Array) -> Array:
    """∂J/∂h = dv Whᵀ."""
    if Wh.ndim == 2:
        return dv @ Wh.T
    dh = jnp.einsum("...gkn,gkdn->...kd", _by_head(dv, Wh), Wh)
    return dh.reshape(*dv.shape[:-1], -1)


def _recurrent_gradient(dv: Array, h: Array, Wh: Array) -> Array:
    """∂J/∂Wh = hᵀ dv, summed over all leading axes; at least float32."""
    if Wh.ndim == 2:
        return weight_gradient(dv, h)
    _, heads, size, _ = Wh.shape
    return jnp.einsum(
        "...kd,...gkn->gkdn",
        h.reshape(*h.shape[:-1], heads, size),
        _by_head(dv, Wh),
        preferred_element_type=accumulator_dtype(dv.dtype),
    )


def _by_head(v: Array, Wh: Array) -> Array:
    return v.reshape(*v.shape[:-1], *Wh.shape[:2], Wh.shape[3])


# --- initial values ---------------------------------------------------------------


def zero_state(
    state: Any, sizes: Callable[[Any], dict[str, int]] = weight_sizes
) -> Callable[[Any, tuple[int, ...]], Any]:
    """`Cell.initial_state` for a state whose fields are all zeros, (..., H).

    Args:
        state: the state's NamedTuple.
        sizes: the cell's `Cell.sizes`.
    """

    def initial_state(params: Any, batch_shape: tuple[int, ...]) -> Any:
        shape = (*batch_shape, sizes(params)["hidden_size"])
        return state(*(jnp.zeros(shape, params.Wx.dtype) for _ in state._fields))

    return initial_state


def init_weights(
    key: Array,
    input_size: int,
    hidden_size: int,
    biases: Sequence[float],
    dtype: DTypeLike = jnp.float32,
    *,
    input_init: Initializer | None = None,
    recurrent_init: Initializer | None = None,
    heads: int = 1,
) -> dict[str, Array]:
    """Draws the fields Wx, Wh and b of a `gated` cell.

    Args:
        key: a PRNG key.
        input_size: D, at least 1.
        hidden_size: H, at least 1.
        biases: the initial bias of each column block; their number is G.
        dtype: a floating dtype.
        input_init: a `jax.nn.initializers` function, called for each (D, H) block;
            None for `glorot_uniform`.
        recurrent_init: the same for each block of recurrent weights; None for
            `orthogonal`.
        heads: K, how many parts the recurrence falls into.

    Returns:
        Wx (D, G·H), b (G·H,), and Wh (H, G·H), or (G, K, H/K, H/K) if K > 1.

    Raises:
        TypeError: a size is no integer, or a dtype not floating.
        ValueError: a size is less than 1, or `heads` does not divide `hidden_size`.
    """
    key_x, key_h = jax.random.split(key)
    weights = init_inputs(key_x, input_size, hidden_size, biases, dtype, input_init)
    recurrent_init = recurrent_init or orthogonal
    blocks = len(biases)
    check_size("heads", heads)
    if hidden_size % heads:
        raise ValueError(
            f"heads must divide hidden_size = {hidden_size}; got heads = {heads}"
        )
    if heads == 1:
        Wh = init_blocks(recurrent_init, key_h, hidden_size, hidden_size, blocks, dtype)
    else:
        size = hidden_size // heads
        keys = jax.random.split(key_h, (blocks, heads))
        draw = jax.vmap(jax.vmap(lambda k: recurrent_init(k, (size, size), dtype)))
        Wh = draw(keys)
    return weights | {"Wh": Wh}


def init_inputs(
    key: Array,
    input_size: int,
    hidden_size: int,
    biases: Sequence[float],
    dtype: DTypeLike = jnp.float32,
    input_init: Initializer | None = None,
) -> dict[str, Array]:
    """Draws the fields Wx and b alone; arguments and errors as in `init_weights`."""
    check_size("input_size", input_size)
    check_size("hidden_size", hidden_size)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"dtype must be floating; got {jnp.dtype(dtype)}")
    input_init = input_init or glorot_uniform
    return {
        "Wx": init_blocks(input_init, key, input_size, hidden_size, len(biases), dtype),
        "b": jnp.repeat(jnp.asarray(biases, dtype), hidden_size),
    }


def init_blocks(
    initializer: Initializer,
    key: Array,
    rows: int,
    columns: int,
    blocks: int,
    dtype: DTypeLike,
) -> Array:
    """Draws a (rows, blocks * columns) matrix block by block.

    Each gate has a matrix of its own, so each column block is drawn by itself:
    orthogonal recurrent weights are orthogonal gate by gate, and the fan-out that
    Glorot's bound depends on is one gate's.
    """
    keys = jax.random.split(key, blocks)
    drawn = [initializer(k, (rows, columns), dtype) for k in keys]
    return concatenate(*drawn)


def check_size(name: str, size: Any) -> None:
    """Raises if `size` is no integer (TypeError), or less than 1 (ValueError)."""
    try:
        whole = index(size)
    except TypeError:
        raise TypeError(f"{name} must be an integer; got {size!r}") from None
    if whole < 1:
        raise ValueError(f"{name} must be at least 1; got {size}")


glorot_uniform: Initializer = initializers.glorot_uniform()
"""Input weights: Glorot & Bengio (2010), equation 16."""


def orthogonal(key: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """Recurrent weights: Saxe et al. (2014), section 3.

    Drawn in float32 at least, since a QR decomposition has no 16 bits.
    """
    draw = initializers.orthogonal()
    return draw(key, shape, accumulator_dtype(dtype)).astype(dtype)
