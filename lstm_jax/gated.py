"""`gated`: a cell from its elementwise equations, with the products around them.

The input's product and its gradients, and the sizes, are also for the cells that write
their four functions themselves.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import Array

from lstm_jax.cell import Cell, Init, InitialState, Sizes
from lstm_jax.identities import (
    accumulator_dtype,
    across,
    bias_gradient,
    weight_gradient,
    weighted_input,
    weighted_input_backward,
)

THROUGH_V: Any = None
"""In the place of dh in what a gated `backward` returns: h_prev is in v alone."""


def no_elementwise(*_: Any) -> dict[str, Array]:
    """Stands for the elementwise parameters of a cell that has none."""
    return {}


def weight_sizes(params: Any) -> dict[str, int]:
    """`Cell.sizes` for parameters with the fields Wx (D, N) and Wh.

    Wh is (H, N), or (G, K, H/K, H/K) in a cell of K heads; b may be absent, None.
    """
    sizes = {"input_size": params.Wx.shape[0]} | _without_bias(params)
    if params.Wh.ndim == 4:
        _, heads, size, _ = params.Wh.shape
        return sizes | {"hidden_size": heads * size, "heads": heads}
    return sizes | {"hidden_size": params.Wh.shape[0]}


@dataclass(frozen=True)
class BlockSizes:
    """`Cell.sizes` for parameters without Wh, whose Wx is (D, blocks * H).

    Attributes:
        blocks: the number of column blocks.
    """

    blocks: int

    def __call__(self, params: Any) -> dict[str, int]:
        """As `lstm_jax.cell.Sizes`."""
        input_size, columns = params.Wx.shape
        sizes = {"input_size": input_size, "hidden_size": columns // self.blocks}
        return sizes | _without_bias(params)


def _without_bias(params: Any) -> dict[str, int]:
    """What made parameters without a bias, beside their sizes."""
    return {"bias": False} if getattr(params, "b", params) is None else {}


def gated(
    name: str,
    *,
    init: Init,
    initial_state: InitialState,
    equations: Callable[..., tuple[Any, Any]],
    backward: Callable[..., tuple[Any, ...]] | None = None,
    elementwise: Callable[..., dict[str, Array]] = no_elementwise,
    sizes: Sizes = weight_sizes,
    linear: bool = False,
) -> Cell:
    """A cell with one product ``u = x Wx + b`` and at most one ``v = h Wh`` a step.

    Its parameters have the fields ``Wx (D, N)``, ``Wh`` and ``b (N,)``. With one head
    ``Wh`` is (H, N); with K heads, (G, K, H/K, H/K): every gate of a head sees that
    head's part of h alone, and v is laid out as with one head. Parameters without a
    field ``Wh`` mean a cell whose state acts on itself element by element: v is None,
    and dv is left out, or is whatever `elementwise` needs beside du. Biases may be
    absent, None in the place of arrays; the equations then see zeros.

    Args:
        name: its key in `lstm_jax.CELLS`.
        init: as in `Cell`; `init_weights` draws the three fields.
        initial_state: as in `Cell`; `ZeroState` is one.
        equations: ``(params, state, u, v) -> (new_state, kept)``, elementwise.
        backward: ``(params, state, new_state, kept, dnew) -> (dstate, du, dv)``,
            elementwise: the gradients of the old state, without the path through
            ``v``, which is added here, and of the two products. Where the equations
            see ``u + v`` alone, both have the same gradient: ``(dstate, dz)``. Where
            they see the output of the old state in no other way than through ``v``,
            that field of `dstate` is `THROUGH_V`. Left out, the cell has automatic
            gradients only.
        elementwise: ``(params, state, new_state, kept, du, dv) -> dict``, for
            parameters beside these three that act element by element, (H,), such as
            peepholes: by field, the gradient at every step and example, (..., H). It
            runs for many steps at once, outside the sequential part, and the sum over
            time and batch is taken here.
        sizes: as in `Cell`; `BlockSizes` where there is no Wh.
        linear: as in `Cell`.

    Returns:
        The cell, with the weighted-input rule around its equations. Two calls with the
        same arguments make equal cells; what was given stands in the fields of
        `GatedStep`, `GatedBackward` and `GatedGradients`.
    """
    cell = Cell(
        name=name,
        init=init,
        sizes=sizes,
        initial_state=initial_state,
        project=input_product,
        step=GatedStep(equations),
        linear=linear,
    )
    if backward is None:
        return cell
    return cell._replace(
        backward=GatedBackward(backward), gradients=GatedGradients(elementwise)
    )


@dataclass(frozen=True)
class GatedStep:
    """`Cell.step` of a gated cell: the recurrent product, then the equations."""

    equations: Callable[..., tuple[Any, Any]]

    def __call__(self, params: Any, state: Any, u: Array) -> tuple[Any, Any]:
        """As `lstm_jax.cell.Step`."""
        v = _recurrent_input(state[0], params.Wh) if _recurrent(params) else None
        return self.equations(by_unit(params, u), state, u, v)


@dataclass(frozen=True)
class GatedBackward:
    """`Cell.backward` of a gated cell: the equations' reverse, then the product's."""

    backward: Callable[..., tuple[Any, ...]]

    def __call__(
        self, params: Any, state: Any, new_state: Any, kept: Any, dnew: Any
    ) -> tuple[Any, tuple[Array, Array | None]]:
        """As `lstm_jax.cell.Backward`."""
        given = by_unit(params, dnew[0]), state, new_state, kept, dnew
        dstate, du, *rest = self.backward(*given)
        dv = rest[0] if rest else None
        if _recurrent(params):
            dh = _recurrent_input_backward(du if dv is None else dv, params.Wh)
            beside_v = dstate[0]
            dh = dh if beside_v is None else beside_v + dh
            dstate = dstate._replace(**{dstate._fields[0]: dh})
        return dstate, (du, None if dv is du else dv)


@dataclass(frozen=True)
class GatedGradients:
    """`Cell.gradients` of a gated cell: the weighted-input rule, and `elementwise`."""

    elementwise: Callable[..., dict[str, Array]]

    def __call__(
        self, params: Any, x: Array, state: Any, new_state: Any, kept: Any, dz: Any
    ) -> tuple[Any, Array]:
        """As `lstm_jax.cell.Gradients`."""
        du, dv = dz[:2]
        found, dx = input_gradients(params, x, du)
        if _recurrent(params):
            through = du if dv is None else dv  # that of u + v
            found["Wh"] = _recurrent_gradient(through, state[0], params.Wh)
        for known in dz[2:]:  # the gradients that a runner has, by field
            found |= known
        absent = [name for name in params._fields if getattr(params, name) is None]
        found |= dict.fromkeys(absent)
        if any(name not in found for name in params._fields):
            own = self.own_gradients(params, state, new_state, kept, du, dv)
            found |= {field: bias_gradient(d) for field, d in own.items()}
        return type(params)(**found), dx

    def own_gradients(
        self,
        params: Any,
        state: Any,
        new_state: Any,
        kept: Any,
        du: Array,
        dv: Array | None,
    ) -> dict[str, Array]:
        """The gradients of the elementwise parameters at every step, (..., H) each."""
        if dv is None and _recurrent(params):  # that of u + v
            dv = du
        given = by_unit(params, du), state, new_state, kept, du, dv
        return self.elementwise(*given)


def by_unit(params: Any, like: Array) -> Any:
    """The parameters, those of single units as rows to combine with each row of `like`.

    So nothing is broadcast from fewer axes to more, which JAX can be told to refuse.
    """
    params = with_zeros(params)
    rows = {
        field: across(value, like)
        for field, value in zip(params._fields, params, strict=True)
        if field not in ("Wx", "Wh", "b") and value.ndim < like.ndim
    }
    return params._replace(**rows) if rows else params


def with_zeros(params: Any) -> Any:
    """The parameters, with zeros in the place of biases that are absent."""
    absent = [name for name in params._fields if getattr(params, name) is None]
    zeros = {}
    for name in absent:
        size = params.Wx.shape[-1]
        if name != "b":  # one for each hidden unit, of one head or of several
            size = math.prod(params.Wh.shape[-3:-1])
        zeros[name] = jnp.zeros(size, params.Wx.dtype)
    return params._replace(**zeros) if absent else params


def input_product(params: Any, x: Array) -> Array:
    """`Cell.project` for parameters with the fields Wx and b: u = x Wx + b."""
    return weighted_input(x, params.Wx, params.b)


def input_gradients(params: Any, x: Array, du: Array) -> tuple[dict[str, Any], Array]:
    """The weighted-input rule for ``u = x Wx + b``.

    Args:
        params: parameters with the fields Wx (D, N) and b (N,) or None.
        x: (..., D).
        du: ∂J/∂u, (..., N).

    Returns:
        The gradients of Wx and b by field, summed over all leading axes, and dx.
    """
    dx, dWx, db = weighted_input_backward(du, x, params.Wx)
    return {"Wx": dWx, "b": None if params.b is None else db}, dx


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
