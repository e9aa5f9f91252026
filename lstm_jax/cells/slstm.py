"""The sLSTM of xLSTM: exponential gates, a normalizer and a stabilizer.

Source: Beck et al. (2024), "xLSTM: extended long short-term memory", section 2.2, with
the logistic one of its two forget gates, as in the authors' own code. With K heads
the recurrence is block diagonal. c and n are the paper's divided by exp(m), which
leaves c / n as it is and keeps the exponentials at 1 and below. The paper's candidate
z is `g` here::

    (1)   z_i, z_f, z_o = the gates' blocks of  x Wx + b + h_prev Wh
    (2)   z_g           = the candidate's block of the same
    (3)   l             = log σ(z_f) + m_prev
    (4)   m             = max(l, z_i)
    (5)   i, f          = exp(z_i - m), exp(l - m)
    (6)   o             = σ(z_o)
    (7)   g             = tanh(z_g)
    (8)   c             = i * g + f * c_prev
    (9)   n             = i + f * n_prev
    (10)  a             = c / n
    (11)  h             = o * a

h, c and n start at 0, and m at the lowest number there is, since nothing has been read:
the first step then has m = z_i, i = 1 and f = 0, as in the authors' code. Were m to
start at 0, an input gate that is nearly closed at first would leave c and n too small
for their numbers, or 0. From here on n is at least 1.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from lstm_jax.gated import THROUGH_V, gated
from lstm_jax.identities import concatenate, sigmoid, tanh
from lstm_jax.initializers import ZeroState, init_weights
from lstm_jax.numbered import numbered


class SLSTMParams(NamedTuple):
    """Weights of the four column blocks: input, forget, output gate, candidate.

    Attributes:
        Wx: input weights, (D, 4H).
        Wh: recurrent weights, (H, 4H); by head, (4, K, H/K, H/K), if K > 1.
        b: biases, (4H,).
    """

    Wx: Array
    Wh: Array
    b: Array


class SLSTMState(NamedTuple):
    """The state between two steps.

    Attributes:
        h: the output, (..., H).
        c: the memory cell, (..., H).
        n: the normalizer, the gates' sum beside the memory cell's, (..., H).
        m: the stabilizer, the logarithm of the scale of c and n, (..., H).
    """

    h: Array
    c: Array
    n: Array
    m: Array


class SLSTMGates(NamedTuple):
    """What the reverse needs beside the states: (1) and (5) to (7), each (..., H)."""

    z_f: Array
    i: Array
    f: Array
    o: Array
    g: Array


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    dtype: DTypeLike = jnp.float32,
    forget_bias: float = 1.0,
    **options: Any,
) -> SLSTMParams:
    """Draws parameters; arguments and errors as in `lstm_jax.cells.lstm.init`."""
    biases = (0.0, forget_bias, 0.0, 0.0)
    weights = init_weights(key, input_size, hidden_size, biases, dtype, **options)
    return SLSTMParams(**weights)


@numbered
def equations(
    params: SLSTMParams, state: SLSTMState, u: Array, v: Array
) -> tuple[SLSTMState, SLSTMGates]:
    """Equations (1) to (11), from u = x Wx + b and v = h_prev Wh, each (..., 4H)."""
    _, c_prev, n_prev, m_prev = state
    z = jnp.split(u + v, 4, axis=-1)
    z_i, z_f, z_o = z[:3]  # (1)
    z_g = z[3]  # (2)
    l = jax.nn.log_sigmoid(z_f) + m_prev  # (3)
    m = jnp.maximum(l, z_i)  # (4)
    i, f = jnp.exp(z_i - m), jnp.exp(l - m)  # (5)
    o = sigmoid(z_o)  # (6)
    g = tanh(z_g)  # (7)
    c = i * g + f * c_prev  # (8)
    n = i + f * n_prev  # (9)
    a = c / _nonzero(n)  # (10)
    h = o * a  # (11)
    return SLSTMState(h=h, c=c, n=n, m=m), SLSTMGates(z_f, i, f, o, g)


@numbered
def backward(
    params: SLSTMParams,
    state: SLSTMState,
    new_state: SLSTMState,
    gates: SLSTMGates,
    dnew: SLSTMState,
) -> tuple[SLSTMState, Array]:
    """The reverse of `equations`, from (11) to (1)."""
    z_f, i, f, o, g = gates
    c_prev, n_prev = state.c, state.n
    dh, dc_next, dn_next, dm_next = dnew
    n = _nonzero(new_state.n)
    a = new_state.c / n  # (10) again: cheaper than keeping it

    da = dh * o  # (11)
    do = dh * a  # (11)
    dc = dc_next + da / n  # (10)
    dn = dn_next - da * a / n  # (10)
    dn_prev = dn * f  # (9)
    dc_prev = dc * f  # (8)
    dg = dc * i  # (8)
    # The two gates go to (8) and to (9).
    di = dc * g + dn  # (9)
    df = dc * c_prev + dn * n_prev  # (9)
    dz_g = dg * (1 - g**2)  # (7)
    dz_o = do * o * (1 - o)  # (6)
    # m goes to both exponents of (5) and to the next step; (4) passes it to the larger,
    # which is l where f is larger than i.
    dm = dm_next - di * i - df * f  # (5)
    dl = df * f + jnp.where(f > i, dm, 0)  # (4)
    dz_i = di * i + jnp.where(f > i, 0, dm)  # (4)
    # dl is dm_prev as well; the derivative of log σ is 1 - σ.
    dz_f = dl * sigmoid(-z_f)  # (3)

    dz = concatenate(dz_i, dz_f, dz_o, dz_g)
    return SLSTMState(h=THROUGH_V, c=dc_prev, n=dn_prev, m=dl), dz


def _nonzero(n: Array) -> Array:
    # A state that is given may have n = 0, where c is 0, and so a.
    return jnp.where(n == 0, jnp.ones_like(n), n)


def initial_state(params: SLSTMParams, batch_shape: tuple[int, ...]) -> SLSTMState:
    """The state before anything is read: m is the lowest number, all else is 0."""
    zeros = ZeroState(SLSTMState)(params, batch_shape)
    return zeros._replace(m=jnp.full_like(zeros.m, jnp.finfo(zeros.m.dtype).min))


SLSTM = gated(
    "slstm",
    init=init,
    initial_state=initial_state,
    equations=equations,
    backward=backward,
)
