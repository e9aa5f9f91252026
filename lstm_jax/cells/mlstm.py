"""The mLSTM of xLSTM: a matrix for a memory, written by keys and read by queries.

Source: Beck et al. (2024), "xLSTM: extended long short-term memory", section 2.3,
equations 19 to 27, one head of size H, with the logistic one of its two forget gates
and the stabilizer of section 2.2. C and n are the paper's divided by exp(m), and so is
the 1 in its equation 21. `p` is the key before it is scaled::

    (1)   q, p, v, z_o, z_i, z_f = the blocks of  x Wx + b
    (2)   k             = p / √H
    (3)   l             = log σ(z_f) + m_prev
    (4)   m             = max(l, z_i, 0)
    (5)   i, f          = exp(z_i - m), exp(l - m)
    (6)   o             = σ(z_o)
    (7)   C             = f * C_prev + i * v kᵀ
    (8)   n             = f * n_prev + i * k
    (9)   s             = n · q
    (10)  a             = C q
    (11)  d             = max(abs(s), exp(-m))
    (12)  r             = a / d
    (13)  h             = o * r

z_i, z_f and all that follows from them are one number a step; the others are vectors.
The 0 in (4) is not the paper's: there m may fall, and exp(-m), which (11) needs, grow
beyond all numbers. Since the 1 that it stands for has a scale of its own, smaller C and
n are next to nothing, and m has no reason to fall below 0. So all of the state starts
at 0. h and r are the same for any m.

A step costs H² numbers for each example, and the state takes as many: more than the
H of other cells.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from lstm_jax.cell import Cell
from lstm_jax.gated import input_gradients, input_product
from lstm_jax.identities import concatenate, sigmoid
from lstm_jax.initializers import (
    Initializer,
    glorot_uniform,
    init_blocks,
    init_inputs,
)
from lstm_jax.numbered import numbered


class MLSTMParams(NamedTuple):
    """Weights of four column blocks, query, key, value, output gate, and of two gates.

    Attributes:
        Wx: input weights, (D, 4H + 2); the last two columns are the input gate's and
            the forget gate's.
        b: biases, (4H + 2,).
    """

    Wx: Array
    b: Array


class MLSTMState(NamedTuple):
    """The state between two steps.

    Attributes:
        h: the output, (..., H).
        C: the memory, from keys (the last axis) to values, (..., H, H).
        n: the normalizer, the sum of the keys with the weights that C has them by,
            (..., H).
        m: the stabilizer, the logarithm of the scale of C and n, (..., 1).
    """

    h: Array
    C: Array
    n: Array
    m: Array


class MLSTMKept(NamedTuple):
    """What the reverse needs beside the states.

    Attributes:
        q, k, v, o, r: (1), (2), (6) and (12), each (..., H).
        z_f, i, f, s: (1), (5) and (9), each (..., 1).
    """

    q: Array
    k: Array
    v: Array
    o: Array
    r: Array
    z_f: Array
    i: Array
    f: Array
    s: Array


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    dtype: DTypeLike = jnp.float32,
    forget_bias: float = 3.0,
    input_init: Initializer = glorot_uniform,
    bias: bool = True,
) -> MLSTMParams:
    """Draws parameters; see `lstm_jax.initializers.init_inputs`.

    One forget gate is there for the whole memory, so its bias is larger than that of
    the LSTM's many: 3 is the least that the authors' code gives a head.
    """
    key_x, key_gates = jax.random.split(key)
    zeros = (0.0, 0.0, 0.0, 0.0)
    blocks = init_inputs(
        *(key_x, input_size, hidden_size, zeros, dtype),
        input_init=input_init,
        bias=bias,
    )
    gates = init_blocks(input_init, key_gates, input_size, 1, 2, dtype)
    biases = jnp.asarray([0.0, forget_bias], dtype)
    return MLSTMParams(
        Wx=concatenate(blocks["Wx"], gates),
        b=concatenate(blocks["b"], biases) if bias else blocks["b"],
    )


def sizes(params: MLSTMParams) -> dict[str, int]:
    """The size arguments of `init` that made the parameters."""
    input_size, columns = params.Wx.shape
    sizes = {"input_size": input_size, "hidden_size": (columns - 2) // 4}
    return sizes | ({"bias": False} if params.b is None else {})


def initial_state(params: MLSTMParams, batch_shape: tuple[int, ...]) -> MLSTMState:
    """Zeros: h and n (*batch_shape, H), C (*batch_shape, H, H), m (*batch_shape, 1)."""
    H = sizes(params)["hidden_size"]
    shapes = (H,), (H, H), (H,), (1,)
    zeros = (jnp.zeros((*batch_shape, *own), params.Wx.dtype) for own in shapes)
    return MLSTMState(*zeros)


@numbered
def step(
    params: MLSTMParams, state: MLSTMState, u: Array
) -> tuple[MLSTMState, MLSTMKept]:
    """Equations (1) to (13), from u = x Wx + b (..., 4H + 2)."""
    _, C_prev, n_prev, m_prev = state
    H = n_prev.shape[-1]
    ends = H, 2 * H, 3 * H, 4 * H, 4 * H + 1
    q, p, v, z_o, z_i, z_f = jnp.split(u, ends, axis=-1)  # (1)
    k = p / H**0.5  # (2)
    l = jax.nn.log_sigmoid(z_f) + m_prev  # (3)
    m = jnp.maximum(jnp.maximum(l, z_i), 0)  # (4)
    i, f = jnp.exp(z_i - m), jnp.exp(l - m)  # (5)
    o = sigmoid(z_o)  # (6)
    C = f[..., None] * C_prev + outer(i * v, k)  # (7)
    n = f * n_prev + i * k  # (8)
    s = jnp.sum(n * q, axis=-1, keepdims=True)  # (9)
    a = along_keys(C, q)  # (10)
    d = jnp.maximum(jnp.abs(s), jnp.exp(-m))  # (11)
    r = a / _nonzero(d)  # (12)
    h = o * r  # (13)
    return MLSTMState(h, C, n, m), MLSTMKept(q, k, v, o, r, z_f, i, f, s)


@numbered
def backward(
    params: MLSTMParams,
    state: MLSTMState,
    new_state: MLSTMState,
    kept: MLSTMKept,
    dnew: MLSTMState,
) -> tuple[MLSTMState, Array]:
    """The reverse of `step`, from (13) to (1)."""
    q, k, v, o, r, z_f, i, f, s = kept
    _, C_prev, n_prev, _ = state
    _, C, n, m = new_state
    dh, dC_next, dn_next, dm_next = dnew
    scale = jnp.exp(-m)
    d = _nonzero(jnp.maximum(jnp.abs(s), scale))  # (11) again: cheaper than keeping it

    do = dh * r  # (13)
    dr = dh * o  # (13)
    da = dr / d  # (12)
    dd = -jnp.sum(da * r, axis=-1, keepdims=True)  # (12)
    # (11) passes dd to the larger one.
    ds = jnp.where(jnp.abs(s) > scale, dd * jnp.sign(s), 0)  # (11)
    dC = dC_next + outer(da, q)  # (10)
    dn = dn_next + ds * q  # (9)
    # q goes to (9) and to (10).
    dq = ds * n + along_values(C, da)  # (9)
    # k, v and the two gates go to (7), and all but v to (8).
    write = along_keys(dC, k)
    dn_prev = f * dn  # (8)
    dC_prev = f[..., None] * dC  # (7)
    dv = i * write  # (7)
    dk = i * dn + along_values(dC, i * v)  # (8)
    di = jnp.sum(v * write + k * dn, axis=-1, keepdims=True)  # (8)
    through_C = jnp.sum(dC * C_prev, axis=(-2, -1))[..., None]
    df = through_C + jnp.sum(dn * n_prev, axis=-1, keepdims=True)  # (8)
    dz_o = do * o * (1 - o)  # (6)
    # m goes to (11), to both exponents of (5) and to the next step; (4) passes it to
    # the largest, which is l where f is larger than i, and 0 where m is 0.
    dscale = jnp.where(jnp.abs(s) > scale, 0, dd)
    dm = dm_next - dscale * scale - di * i - df * f  # (5)
    passed = jnp.where(m > 0, dm, 0)
    dl = df * f + jnp.where(f > i, passed, 0)  # (4)
    dz_i = di * i + jnp.where(f > i, 0, passed)  # (4)
    # dl is dm_prev as well; the derivative of log σ is 1 - σ.
    dz_f = dl * sigmoid(-z_f)  # (3)
    dp = dk / n.shape[-1] ** 0.5  # (2)

    du = concatenate(dq, dp, dv, dz_o, dz_i, dz_f)
    return MLSTMState(jnp.zeros_like(dh), dC_prev, dn_prev, dl), du


def gradients(
    params: MLSTMParams,
    x: Array,
    state: MLSTMState,
    new_state: MLSTMState,
    kept: MLSTMKept,
    du: Array,
) -> tuple[MLSTMParams, Array]:
    """The weighted-input rule for (1), all steps at once."""
    dweights, dx = input_gradients(params, x, du)
    return MLSTMParams(**dweights), dx


def outer(rows: Array, columns: Array) -> Array:
    """The matrix of all products, (..., H, H)."""
    return rows[..., None] * columns[..., None, :]


def along_keys(C: Array, k: Array) -> Array:
    """C k: what a matrix has for a key, (..., H)."""
    return jnp.sum(C * k[..., None, :], axis=-1)


def along_values(C: Array, v: Array) -> Array:
    """Cᵀ v, (..., H)."""
    return jnp.sum(C * v[..., None], axis=-2)


def _nonzero(d: Array) -> Array:
    # Where m is so large that exp(-m) is 0, s may be 0 too, and then a is.
    return jnp.where(d == 0, jnp.ones_like(d), d)


MLSTM = Cell(
    name="mlstm",
    init=init,
    sizes=sizes,
    initial_state=initial_state,
    project=input_product,
    step=step,
    backward=backward,
    gradients=gradients,
)
