"""How gradients travel back through time, for each cell and forget bias.

J depends on the output after the last step alone. The picture shows how much of its
gradient is left at the state of every earlier step: what the memory cell was invented
for (Hochreiter & Schmidhuber, 1997), and why the forget bias starts at 1 or more
(Gers et al., 2000; Jozefowicz et al., 2015).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from experiments.checks import at_least, check_seed
from lstm_jax.cell import Cell
from lstm_jax.gradcheck import state_gradients


@dataclass(frozen=True)
class FlowConfig:
    """What a picture follows from.

    Attributes:
        cells: names, ``module:NAME`` or ``file.py:NAME``; none for all.
        forget_biases: those that the LSTM is drawn with.
        steps: T.
        batch: B; norms are means over it.
        input_size: D.
        hidden_size: H.
        seed: of parameters and inputs.
        out: the folder for result.json and the picture.
    """

    cells: tuple[str, ...] = ()
    forget_biases: tuple[float, ...] = (-1.0, 0.0, 1.0, 2.0, 4.0)
    steps: int = 100
    batch: int = 16
    input_size: int = 32
    hidden_size: int = 32
    seed: int = 0
    out: Path = Path("runs/gradient_flow")


def flow_of(cell: Cell, config: FlowConfig, **init: Any) -> dict[str, list[float]]:
    """The norm of dh_t, dc_t, ... of every step t, as a share of ‖dh_T‖.

    Returns:
        For every field of the state its norms, from the last step to the first.
    """
    at_least(1, steps=config.steps, batch=config.batch)
    check_seed(config.seed)
    key_params, key_x, key_d = jax.random.split(jax.random.key(config.seed), 3)
    params = cell.init(key_params, config.input_size, config.hidden_size, **init)
    shape = config.steps, config.batch, config.input_size
    xs = jax.random.normal(key_x, shape)
    state = cell.initial_state(params, (config.batch,))
    last = jax.random.normal(key_d, state[0].shape)
    dys = jnp.zeros((config.steps, *state[0].shape)).at[-1].set(last)
    nothing = jax.tree.map(jnp.zeros_like, state)
    if cell.derived:
        found = state_gradients(cell, params, xs, state, dys, nothing)
    else:
        found = _automatic(cell, params, xs, state, last)
    whole = np.mean(np.linalg.norm(last, axis=-1))
    return {name: (_norms(d)[::-1] / whole).tolist() for name, d in found.items()}


def _norms(gradient: ArrayLike) -> np.ndarray:
    """The norm at each step, the mean over the batch; (T, B, ...) to (T,)."""
    flat = np.asarray(gradient)
    flat = flat.reshape(*flat.shape[:2], -1)
    return np.mean(np.linalg.norm(flat, axis=-1), axis=-1)


def _automatic(
    cell: Cell, params: Any, xs: Array, state: Any, last: Array
) -> dict[str, Array]:
    """What `state_gradients` finds, of a cell without a backward.

    The gradient of a step's new state is that of a nudge, 0, which is added to it.
    """

    def loss(nudges: Any) -> Array:
        def step(state: Any, at: tuple[Array, Any]) -> tuple[Any, None]:
            x, nudge = at
            new, _ = cell.step(params, state, cell.project(params, x))
            return jax.tree.map(jnp.add, new, nudge), None

        final, _ = jax.lax.scan(step, state, (xs, nudges))
        return jnp.sum(final[0] * last)

    nudges = jax.tree.map(lambda s: jnp.zeros((len(xs), *s.shape), s.dtype), state)
    return jax.grad(loss)(nudges)._asdict()
