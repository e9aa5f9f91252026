"""Zoneout: now and then, a unit keeps its old state.

Source: Krueger et al. (2017), section 3. With a mask d that is 1 where a unit is zoned
out, drawn anew for every step, sequence and unit, and for h and c each by itself::

    (1)  h = d * h_prev + (1 - d) * h'     h' = the cell's own new state
    (2)  at evaluation, d is its expectation, the rate

An engine for any cell needs no more than another cell around it: its step is (1), its
backward the two lines of (1)'s reverse around the cell's own.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import jax
from jax import Array

from lstm_jax.cell import Cell
from lstm_jax.engine import trees
from lstm_jax.engine.checks import check_rate


class Zoneout(NamedTuple):
    """The `zoneout` argument of `lstm_jax.unroll`.

    Attributes:
        rates: the probability to be zoned out by field of the state, for instance
            ``{"h": 0.05, "c": 0.5}``; each from 0 to 1, 1 excluded. In a state of
            more fields than h and c, such as the sLSTM's, only the output h can be
            zoned out: the others have a meaning together alone.
        key: a PRNG key, for training; None for the expectation, for evaluation.

    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> params = lj.LSTM.init(jax.random.key(0), 3, 4)
        >>> zoneout = Zoneout({"h": 0.05, "c": 0.5}, jax.random.key(1))
        >>> ys, _ = lj.unroll(lj.LSTM, params, jnp.ones((5, 2, 3)), zoneout=zoneout)
    """

    rates: Mapping[str, float]
    key: Array | None = None


def check_zoneout(zoneout: Any, state: Any) -> Zoneout:
    """`zoneout` with rates that are floats.

    Raises:
        TypeError: it is no `Zoneout`, or a rate is no number.
        ValueError: a rate is out of range, or of a field that `state` does not have.
    """
    if not isinstance(zoneout, Zoneout):
        raise TypeError(
            f"zoneout must be an lstm_jax.Zoneout; got {type(zoneout).__name__}"
        )
    if not isinstance(zoneout.rates, Mapping):
        raise TypeError(
            "zoneout's rates must be by field of the state, such as {'h': 0.1}; got "
            f"{type(zoneout.rates).__name__}"
        )
    fields = state._fields if len(state) <= 2 else state._fields[:1]
    for field in zoneout.rates:
        if field not in fields:
            raise ValueError(
                f"zoneout must have rates for {', '.join(fields)} of "
                f"{type(state).__name__}; got one for {field!r}"
            )
    rates = {
        field: check_rate(f"zoneout's rate for {field}", rate)
        for field, rate in zoneout.rates.items()
    }
    return zoneout._replace(rates=rates)


def draw_masks(zoneout: Zoneout, steps: int, state: Any) -> dict[str, Array] | None:
    """Where units are zoned out in all steps; None for the expectation.

    Args:
        zoneout: the rates and the key.
        steps: T.
        state: a state, whose fields are (*batch, ...).

    Returns:
        Booleans (T, *batch, ...) by field.
    """
    if zoneout.key is None:
        return None
    rates = sorted(zoneout.rates.items())
    keys = jax.random.split(zoneout.key, max(len(rates), 1))
    return {
        field: jax.random.bernoulli(key, rate, (steps, *getattr(state, field).shape))
        for key, (field, rate) in zip(keys, rates, strict=False)
    }


@lru_cache(maxsize=256)
def zoned(cell: Cell, rates: tuple[tuple[str, float], ...]) -> Cell:
    """The cell with zoneout; its input is (x, masks), as `draw_masks` draws them."""

    def project(params: Any, inputs: Any) -> Any:
        x, masks = inputs
        return cell.project(params, x), masks

    def step(params: Any, state: Any, u: Any) -> tuple[Any, Any]:
        u, masks = u
        new, kept = cell.step(params, state, u)
        mixed = {
            field: _old_share(masks, field, rate, getattr(state, field))
            + _new_share(masks, field, rate, getattr(new, field))
            for field, rate in rates
        }
        return new._replace(**mixed), (new, kept, masks)

    def backward(
        params: Any, state: Any, new_state: Any, kept: Any, dnew: Any
    ) -> tuple[Any, Any]:
        del new_state
        new, kept, masks = kept
        through = {
            field: _new_share(masks, field, rate, getattr(dnew, field))
            for field, rate in rates
        }
        dstate, dz = cell.backward(params, state, new, kept, dnew._replace(**through))
        past = {
            field: getattr(dstate, field)
            + _old_share(masks, field, rate, getattr(dnew, field))
            for field, rate in rates
        }
        return dstate._replace(**past), dz

    def gradients(
        params: Any, inputs: Any, state: Any, new_state: Any, kept: Any, dz: Any
    ) -> tuple[Any, Any]:
        del new_state
        x, _ = inputs
        new, kept, _ = kept
        dparams, dx = cell.gradients(params, x, state, new, kept, dz)
        return dparams, (dx, None)

    zoned = cell._replace(project=project, step=step)
    if not cell.derived:
        return zoned
    return zoned._replace(backward=backward, gradients=gradients)


def _old_share(masks: Any, field: str, rate: float, value: Array) -> Array:
    """What (1) takes of the old state, or leads back to it."""
    return rate * value if masks is None else trees.masked(masks[field], value)


def _new_share(masks: Any, field: str, rate: float, value: Array) -> Array:
    """What (1) takes of the cell's new state, or leads back to it."""
    return (1 - rate) * value if masks is None else trees.masked(~masks[field], value)
