"""What all converters share: the weights of one cell, gate by gate, as numpy arrays.

A foreign library differs from this one in the order of the gates, in how many biases a
gate has, and in which way its matrices lie. `Weights` is the common ground: matrices
for row vectors, the column blocks in an order that is spelled out (``"ifog"``), and
one bias beside each of the two products. A `Kind` says how a cell's parameters become
that, and come from it.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lstm_jax.cell import Cell
from lstm_jax.cells.elman import ElmanParams
from lstm_jax.cells.gru import GRUParams
from lstm_jax.cells.gru_before import GRUBeforeParams
from lstm_jax.cells.lstm import LSTMParams
from lstm_jax.cells.projected import ProjectedParams
from lstm_jax.engine import checks


class Weights(NamedTuple):
    """The weights of one cell in one direction, N columns in blocks, one a gate.

    Attributes:
        Wx: input weights, (D, N).
        Wh: recurrent weights, (R, N); R is the size of the output.
        bx: the bias beside the input product, (N,); None in a cell without biases.
        bh: the bias beside the recurrent product, (N,); None in a cell without biases.
        Wp: the projection of the output, (H, R); None in a cell without.
    """

    Wx: np.ndarray
    Wh: np.ndarray
    bx: np.ndarray | None
    bh: np.ndarray | None
    Wp: np.ndarray | None = None

    def ordered(self, source: str, target: str) -> "Weights":
        """The same with the column blocks `source` in the order `target`."""
        columns = self._replace(Wp=None)
        order = partial(reorder, source=source, target=target)
        return jax.tree.map(order, columns)._replace(Wp=self.Wp)


class Kind(NamedTuple):
    """How the parameters of a cell and `Weights` become each other.

    Attributes:
        params: the parameters' NamedTuple.
        gates: a letter for each of the cell's column blocks, in its own order.
        split: weights from parameters whose fields are numpy arrays.
        join: the fields from weights.
    """

    params: type
    gates: str
    split: Callable[[Any], Weights]
    join: Callable[[Weights], dict[str, Any]]


def reorder(array: np.ndarray, source: str, target: str) -> np.ndarray:
    """Copies `array` with the blocks of its last axis in another order."""
    blocks = dict(zip(source, np.split(array, len(source), axis=-1), strict=True))
    return np.concatenate([blocks[gate] for gate in target], axis=-1)


def sum_biases(bx: np.ndarray | None, bh: np.ndarray | None) -> np.ndarray | None:
    """The sum, which is `bx` to the bit where `bh` is 0; None of none."""
    if bx is None or bh is None:
        return None
    # -0.0 + 0.0 would be 0.0.
    return np.where(bh == 0, bx, bx + bh)


def _split(p: Any) -> Weights:
    return Weights(p.Wx, p.Wh, p.b, None if p.b is None else np.zeros_like(p.b))


def _join(w: Weights) -> dict[str, Any]:
    return {"Wx": w.Wx, "Wh": w.Wh, "b": sum_biases(w.bx, w.bh)}


def _split_projected(p: Any) -> Weights:
    return _split(p)._replace(Wp=p.Wp)


def _join_projected(w: Weights) -> dict[str, Any]:
    if w.Wp is None:
        raise ValueError("a cell with a projection needs its matrix")
    return _join(w) | {"Wp": w.Wp}


def _split_gru(p: Any) -> Weights:
    if p.b is None:
        return _split(p)
    bh = np.concatenate([np.zeros_like(p.b[: -len(p.bh)]), p.bh])
    return Weights(p.Wx, p.Wh, p.b, bh)


def _join_gru(w: Weights) -> dict[str, Any]:
    if w.bx is None or w.bh is None:
        return _join(w) | {"bh": None}
    # The gates' second bias only adds to the first; the candidate's is reset.
    gates = 2 * len(w.Wh)
    b = np.concatenate([sum_biases(w.bx[:gates], w.bh[:gates]), w.bx[gates:]])
    return {"Wx": w.Wx, "Wh": w.Wh, "b": b, "bh": w.bh[gates:]}


def _split_gru_before(p: Any) -> Weights:
    return _split(p)._replace(Wh=np.concatenate([p.Wh, p.Wn], axis=-1))


def _join_gru_before(w: Weights) -> dict[str, Any]:
    Wh, Wn = np.split(w.Wh, [2 * len(w.Wh)], axis=-1)
    return _join(w) | {"Wh": Wh, "Wn": Wn}


KINDS: MappingProxyType[str, Kind] = MappingProxyType(
    {
        "lstm": Kind(LSTMParams, "ifog", _split, _join),
        "projected_lstm": Kind(
            ProjectedParams, "ifog", _split_projected, _join_projected
        ),
        "gru": Kind(GRUParams, "rzn", _split_gru, _join_gru),
        "gru_before": Kind(GRUBeforeParams, "rzn", _split_gru_before, _join_gru_before),
        "rnn_tanh": Kind(ElmanParams, "h", _split, _join),
        "rnn_relu": Kind(ElmanParams, "h", _split, _join),
    }
)
"""The cells that other libraries have too, by name."""


def weights_of(cell: Cell, params: Any, gates: str) -> Weights:
    """The weights of a cell, column blocks in the order `gates`.

    Raises:
        TypeError: the parameters are not the cell's, or in a dtype that numpy has not.
        ValueError: they have a wrong shape, or more than one head.
    """
    checks.check_params(cell, params)
    if params.Wh.dtype == jnp.bfloat16:
        raise TypeError(
            "bfloat16 parameters have no counterpart in numpy: convert them as "
            "float32, jax.tree.map(lambda a: a.astype('float32'), params), and make "
            "the module bfloat16 afterwards; nothing is lost"
        )
    if params.Wh.ndim != 2:
        raise ValueError(
            "only recurrent weights of one head have a counterpart; got Wh of shape "
            f"{params.Wh.shape}"
        )
    kind = KINDS[cell.name]
    arrays = jax.tree.map(np.array, params)
    return kind.split(arrays).ordered(kind.gates, gates)


def params_of(cell: Cell, weights: Weights, gates: str) -> Any:
    """The parameters of a cell from weights with column blocks in the order `gates`.

    Raises:
        TypeError: an array is not floating, two dtypes differ, or JAX is set to 32
            bits and an array has 64.
    """
    kind = KINDS[cell.name]
    fields = kind.join(weights.ordered(gates, kind.gates))
    params = jax.tree.map(as_jax, kind.params(**fields))
    checks.check_params(cell, params)
    return params


# --- checks -----------------------------------------------------------------------


def counterpart(
    library: str, cell: Cell | str, gates: Mapping[str, str]
) -> tuple[Cell, str]:
    """The cell, and the library's order of its gates.

    Raises:
        ValueError: the library has no such cell.
    """
    cell = checks.as_cell(cell)
    if cell.name not in gates:
        raise ValueError(
            f"{library} has counterparts of the cells {', '.join(gates)}; got "
            f'"{cell.name}"'
        )
    return cell, gates[cell.name]


def check_shapes(
    arrays: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Raises ValueError if an array has another shape than that of its name."""
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise ValueError(
                f"{name} must have the shape {shape}; got {arrays[name].shape}"
            )


def check_ranks(arrays: Mapping[str, np.ndarray], matrices: Iterable[str]) -> None:
    """Raises ValueError if an array that sizes are read from is no matrix."""
    for name in matrices:
        if arrays[name].ndim != 2:
            raise ValueError(f"{name} must be a matrix; got {arrays[name].shape}")


def as_numpy(name: str, value: Any) -> np.ndarray:
    """A numpy array, or that of a tensor that can give one.

    Raises:
        TypeError: it can not: a tensor on another device, one that is part of a
            graph, or one in a dtype that numpy does not have.
    """
    try:
        return np.asarray(value)
    except (TypeError, RuntimeError) as error:
        raise TypeError(
            f"{name} cannot be read as a numpy array: {error}. A tensor can be read "
            "after .detach().cpu(), and a bfloat16 one after .float() as well"
        ) from error


def as_jax(array: np.ndarray) -> Array:
    """A copy of `array` in the same dtype.

    Raises:
        TypeError: it has 64 bits, and JAX is set to 32.
    """
    # numpy's memory is copied: a trainer that goes on there changes nothing here.
    converted = jnp.array(array)
    if converted.dtype != array.dtype:
        raise TypeError(
            f"{array.dtype} weights need jax.config.update('jax_enable_x64', True); "
            "cast them if 32 bits are meant"
        )
    return converted
