"""The local derivative rules of a computation graph, each as a forward/backward pair.

The rules are the table of identities of the article this project grew from (Mukul
Rathi, "Demystifying Deep Learning: Part 11. Backpropagation through, well,
anything!", 2018). A backward function receives the gradient of the loss J with
respect to the operation's output and returns the gradient with respect to each of
its inputs, in their order: `dq` stands for ∂J/∂q, for any quantity q. `square_root`
and `normalize`, which some cells need beside them, are not the article's.

Layout. The article keeps examples in columns, ``Z = W·X + b`` with ``X`` of shape
(n_x, m); here they are rows, ``z = x @ w + b`` with ``x`` of shape (..., D), so its
``Wᵀ·dZ`` reads ``dz @ w.T``. The article's gradients of W and b carry a factor 1/m
because its dZ is per example; here J contains its own mean and sums stay sums.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike


def add(a: Array, b: Array) -> Array:
    """C = A + B.

    Args:
        a: any shape.
        b: the shape and dtype of `a`; nothing is broadcast.

    Raises:
        ValueError: if the shapes differ, since the derivative of a broadcast is a sum.
    """
    _same_shape("add", a, b)
    return a + b


def add_backward(dc: Array) -> tuple[Array, Array]:
    """∂C/∂A = 1 and ∂C/∂B = 1: the gradient passes unchanged to both terms."""
    return dc, dc


def multiply(a: Array, b: Array) -> Array:
    """C = A * B, element by element.

    Args:
        a: any shape.
        b: the shape and dtype of `a`; nothing is broadcast.

    Raises:
        ValueError: if the shapes differ, since the derivative of a broadcast is a sum.
    """
    _same_shape("multiply", a, b)
    return a * b


def multiply_backward(dc: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """∂C/∂A = B and ∂C/∂B = A: each factor is weighted by the other."""
    return dc * b, dc * a


def tanh(a: Array) -> Array:
    """C = tanh A, element by element."""
    return jnp.tanh(a)


def tanh_backward(dc: Array, c: Array) -> Array:
    """∂C/∂A = 1 - tanh² A = 1 - C².

    Args:
        dc: ∂J/∂C.
        c: the *output* of `tanh`, from which the derivative costs no tanh.

    Returns:
        ∂J/∂A, of the shape and dtype of `c`.
    """
    return dc * (1 - c**2)


def sigmoid(a: Array) -> Array:
    """C = σ(A) = 1 / (1 + exp(-A)), element by element."""
    return jax.nn.sigmoid(a)


def sigmoid_backward(dc: Array, c: Array) -> Array:
    """∂C/∂A = σ(A) - σ²(A) = C * (1 - C).

    Args:
        dc: ∂J/∂C.
        c: the *output* of `sigmoid`.

    Returns:
        ∂J/∂A, of the shape and dtype of `c`.
    """
    return dc * c * (1 - c)


def square_root(a: Array) -> Array:
    """C = √A, element by element; 0, and constant, where A is not positive."""
    # There, a root of 1 keeps automatic gradients finite.
    return jnp.where(a > 0, jnp.sqrt(jnp.where(a > 0, a, 1)), 0)


def square_root_backward(dc: Array, c: Array) -> Array:
    """∂C/∂A = 1 / (2 √A) = 1 / (2 C), and 0 where C is 0.

    Args:
        dc: ∂J/∂C.
        c: the *output* of `square_root`.

    Returns:
        ∂J/∂A, of the shape and dtype of `c`.
    """
    return jnp.where(c > 0, dc / jnp.where(c > 0, 2 * c, 1), 0)


EPSILON = 1e-5
"""ε of `normalize`, added to the variance.

The variance of a row of equal numbers is 0: without ε its rate would be infinite."""


def normalize(a: Array, epsilon: float = EPSILON) -> tuple[Array, Array]:
    """C = (A - mean A) * rate, with rate = 1 / √(var A + ε), along the features.

    Returns:
        C, of the shape of `a`, and the rate, (..., 1).
    """
    centred = a - jnp.mean(a, axis=-1, keepdims=True)
    variance = jnp.mean(centred**2, axis=-1, keepdims=True)
    rate = lax.rsqrt(variance + epsilon)
    return centred * rate, rate


def normalize_backward(dc: Array, c: Array, rate: Array) -> Array:
    """∂J/∂A = rate * (dC less its parts along the mean and along C).

    A shift of A changes nothing, and a stretch of A little (nothing but for ε), so
    the gradient has no part in the first direction and nearly none in the second.

    Args:
        dc: ∂J/∂C.
        c: the *output* of `normalize`.
        rate: its other output.

    Returns:
        ∂J/∂A, of the shape and dtype of `c`.
    """
    along_mean = jnp.mean(dc, axis=-1, keepdims=True)
    along_c = jnp.mean(dc * c, axis=-1, keepdims=True)
    return rate * (dc - along_mean - along_c * c)


def weighted_input(x: Array, w: Array, b: Array | None = None) -> Array:
    """Z = X·W + b, the layer of a feedforward network (row vectors).

    Args:
        x: (..., D).
        w: (D, N), the dtype of `x`.
        b: (N,), the dtype of `x`; None for no bias.

    Returns:
        (..., N).

    Raises:
        ValueError: if the sizes do not chain.
    """
    if w.ndim != 2 or x.ndim < 1 or x.shape[-1] != w.shape[0]:
        raise ValueError(
            f"weighted_input needs x (..., D) and w (D, N); got x {x.shape}, "
            f"w {w.shape}"
        )
    if b is None:
        return x @ w
    if b.shape != w.shape[1:]:
        raise ValueError(f"weighted_input needs b ({w.shape[1]},); got {b.shape}")
    return x @ w + jnp.broadcast_to(b, (*x.shape[:-1], w.shape[1]))


def weighted_input_backward(
    dz: Array, x: Array, w: Array
) -> tuple[Array, Array, Array]:
    """∂J/∂X = dZ·Wᵀ, ∂J/∂W = Xᵀ·dZ, ∂J/∂b = Σ dZ.

    With ``z_kn = Σ_d x_kd w_dn + b_n``, a nudge of ``w_dn`` moves ``z_kn`` by ``x_kd``
    in every row k, so the rows' contributions are summed: over the batch, and, for a
    weight that is shared by all time steps, over time as well, in one product.

    Args:
        dz: ∂J/∂Z, (..., N).
        x: (..., D), the forward's input.
        w: (D, N), the forward's weights.

    Returns:
        dx (..., D) in the dtype of `x`; dw (D, N) and db (N,), which sum over all
        leading axes and so accumulate 16-bit inputs in float32.
    """
    dw, db = weight_gradient(dz, x), bias_gradient(dz)
    dx = jnp.matmul(dz, w.T, preferred_element_type=accumulator_dtype(dz.dtype))
    return dx.astype(dz.dtype), dw, db


def accumulator_dtype(dtype: DTypeLike) -> jnp.dtype:
    """The dtype for sums over time and batch: float32 for 16-bit floats."""
    dtype = jnp.dtype(dtype)
    return jnp.dtype(jnp.float32) if dtype.itemsize < 4 else dtype


def weight_gradient(dz: Array, x: Array) -> Array:
    """∂J/∂W = Xᵀ·dZ, summed over all leading axes; at least float32."""
    dtype = accumulator_dtype(dz.dtype)
    if dz.shape[-1] > x.shape[-1]:
        return jnp.einsum("...d,...n->dn", x, dz, preferred_element_type=dtype)
    # (dZᵀ·X)ᵀ: XLA copies the first factor, so this is the narrower, or the one that
    # several gradients share. It would swap them back if nothing stood between the
    # product and its transpose; this rounds to the precision that it has.
    transposed = jnp.einsum("...n,...d->nd", dz, x, preferred_element_type=dtype)
    bits = jnp.finfo(dtype)
    return lax.reduce_precision(transposed, bits.nexp, bits.nmant).T


def bias_gradient(dz: Array) -> Array:
    """∂J/∂b = Σ dZ over all leading axes; at least float32."""
    return jnp.sum(
        dz, axis=tuple(range(dz.ndim - 1)), dtype=accumulator_dtype(dz.dtype)
    )


def across(w: Array, x: Array) -> Array:
    """W, one number a feature, as a row to be combined with each row of X.

    Args:
        w: (N,).
        x: (..., N).

    Returns:
        W with leading axes of 1, as many as `x` has axes: what JAX broadcasts without
        adding axes, which it can be told to refuse.
    """
    return jnp.expand_dims(w, tuple(range(x.ndim - w.ndim)))


def concatenate(*parts: Array) -> Array:
    """C = [A, B, ...] along the features, the last axis."""
    return jnp.concatenate(parts, axis=-1)


def concatenate_backward(dc: Array, sizes: tuple[int, ...]) -> tuple[Array, ...]:
    """Each part's gradient is its own slice of dC: concatenation is undone by a split.

    Args:
        dc: ∂J/∂C, (..., Σ sizes).
        sizes: the parts' sizes along the last axis, in order.

    Raises:
        ValueError: if the sizes do not add up to the last axis of `dc`.
    """
    return split(dc, sizes)


def split(c: Array, sizes: tuple[int, ...]) -> tuple[Array, ...]:
    """A, B, ... = the slices of C along the features, of the given sizes.

    Raises:
        ValueError: if the sizes do not add up to the last axis of `c`.
    """
    if sum(sizes) != c.shape[-1]:
        raise ValueError(f"sizes {sizes} do not add up to the last axis of {c.shape}")
    bounds = [sum(sizes[: k + 1]) for k in range(len(sizes) - 1)]
    return tuple(jnp.split(c, bounds, axis=-1))


def split_backward(*dparts: Array) -> Array:
    """∂J/∂C is the concatenation of the parts' gradients: a split is undone by it."""
    return concatenate(*dparts)


def fan_out(a: Array, uses: int) -> tuple[Array, ...]:
    """A is used `uses` times: B = f(A), C = g(A), ..."""
    return (a,) * uses


def fan_out_backward(*duses: Array) -> Array:
    """∂J/∂A = ∂J/∂B ∂B/∂A + ∂J/∂C ∂C/∂A + ...: the uses' gradients are summed.

    Args:
        *duses: the gradient with respect to A through each of its uses.

    Raises:
        ValueError: if there are none, or their shapes differ.
    """
    if not duses:
        raise ValueError("fan_out_backward needs the gradient of at least one use")
    total = duses[0]
    for d in duses[1:]:
        total = add(total, d)
    return total


def _same_shape(rule: str, a: Array, b: Array) -> None:
    if a.shape != b.shape:
        raise ValueError(f"{rule} needs equal shapes; got {a.shape} and {b.shape}")
