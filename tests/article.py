"""The article's LSTM in NumPy, in the article's own layout: the specification.

Mukul Rathi, "Demystifying Deep Learning: Part 11. Backpropagation through, well,
anything!" (2018), equations 1 to 7 and the backward pass through them. Examples are
columns: a and c are (n_a, m), x is (n_x, m), and the weights multiply [a, x], a over
x, (n_a + n_x, m). Wg (3 n_a, n_a + n_x) has the rows of the input, forget and output
gates, Wc (n_a, n_a + n_x) the candidate's.

Gradients of a, c and x are those of each example's own loss; the loss of all is their
mean, and it is this mean that the gradients of weights and biases are of: hence 1/m.
"""

from typing import NamedTuple

import numpy as np
from numpy import ndarray


class Parameters(NamedTuple):
    Wg: ndarray
    bg: ndarray
    Wc: ndarray
    bc: ndarray


class Cache(NamedTuple):
    """The nodes of the computation graph that the backward pass looks at."""

    concatenated: ndarray
    gates: ndarray
    candidate: ndarray
    c_prev: ndarray
    c: ndarray


class StepGradients(NamedTuple):
    da_prev: ndarray
    dc_prev: ndarray
    dx: ndarray
    parameters: Parameters


def sigmoid(z: ndarray) -> ndarray:
    return 1 / (1 + np.exp(-z))


def forward_step(
    a_prev: ndarray, c_prev: ndarray, x: ndarray, parameters: Parameters
) -> tuple[ndarray, ndarray, Cache]:
    """Equations 1 to 7: a, c and the cache."""
    Wg, bg, Wc, bc = parameters
    concatenated = np.concatenate([a_prev, x], axis=0)
    Zg = Wg @ concatenated + bg  # (1)
    Zc = Wc @ concatenated + bc  # (2)
    gates = sigmoid(Zg)  # (3)
    candidate = np.tanh(Zc)  # (4)
    gate_i, gate_f, gate_o = np.split(gates, 3, axis=0)
    c = gate_i * candidate + gate_f * c_prev  # (5)
    a_tilde = np.tanh(c)  # (6)
    a = gate_o * a_tilde  # (7)
    return a, c, Cache(concatenated, gates, candidate, c_prev, c)


def backward_step(
    da: ndarray, dc_next: ndarray, cache: Cache, parameters: Parameters
) -> StepGradients:
    """From (7) to (1); `dc_next` is what (5) of the next step gives c of this one."""
    concatenated, gates, candidate, c_prev, c = cache
    gate_i, gate_f, gate_o = np.split(gates, 3, axis=0)
    n_a, m = c.shape
    a_tilde = np.tanh(c)

    da_tilde = da * gate_o  # (7)
    dgate_o = da * a_tilde  # (7)
    dc = dc_next + da_tilde * (1 - a_tilde**2)  # (6)
    dcandidate = dc * gate_i  # (5)
    dgate_i = dc * candidate  # (5)
    dgate_f = dc * c_prev  # (5)
    dc_prev = dc * gate_f  # (5)
    dZc = dcandidate * (1 - candidate**2)  # (4)
    dgates = np.concatenate([dgate_i, dgate_f, dgate_o], axis=0)
    dZg = dgates * gates * (1 - gates)  # (3)
    dconcatenated = parameters.Wg.T @ dZg + parameters.Wc.T @ dZc  # (1), (2)
    return StepGradients(
        da_prev=dconcatenated[:n_a],
        dc_prev=dc_prev,
        dx=dconcatenated[n_a:],  # the article's code leaves it out
        parameters=Parameters(
            Wg=dZg @ concatenated.T / m,
            bg=np.sum(dZg, axis=1, keepdims=True) / m,
            Wc=dZc @ concatenated.T / m,
            bc=np.sum(dZc, axis=1, keepdims=True) / m,
        ),
    )


def forward(
    a: ndarray, c: ndarray, xs: ndarray, parameters: Parameters
) -> tuple[list[ndarray], ndarray, list[Cache]]:
    """All steps of xs (T, n_x, m): every a, the last c, and the caches."""
    outputs, caches = [], []
    for x in xs:
        a, c, cache = forward_step(a, c, x, parameters)
        outputs.append(a)
        caches.append(cache)
    return outputs, c, caches


def backward(
    das: ndarray, dc: ndarray, caches: list[Cache], parameters: Parameters
) -> tuple[ndarray, ndarray, ndarray, Parameters]:
    """Through time: das (T, n_a, m) and the last step's dc to da_0, dc_0, dxs, sums."""
    da_next = np.zeros_like(das[0])
    dxs = []
    total = Parameters(*(np.zeros_like(p) for p in parameters))
    for da, cache in zip(das[::-1], caches[::-1], strict=True):
        step = backward_step(da + da_next, dc, cache, parameters)
        da_next, dc = step.da_prev, step.dc_prev
        dxs.append(step.dx)
        total = Parameters(*map(np.add, total, step.parameters))
    return da_next, dc, np.stack(dxs[::-1]), total
