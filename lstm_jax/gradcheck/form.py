"""The form of a cell's functions: what each takes, and what it must return.

Before anything is differentiated, every function of a cell is called once, for shapes
alone. Where one fails, or returns something else than the engine will take, the error
names the function, says what it must return and shows what it returned.

The reverse is traced meanwhile, since that is what the check of a step starts from.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import tree

from lstm_jax.cell import Cell
from lstm_jax.engine import checks
from lstm_jax.gated import GatedBackward, GatedStep, by_unit
from lstm_jax.gradcheck.flat_jaxpr import Program, trace
from lstm_jax.gradcheck.points import forward_only


def check_form(cell: Cell, input_size: int, hidden_size: int, batch: int) -> Program:
    """Raises a TypeError for the first function that returns what it must not.

    Returns:
        The reverse of one step as a program: from params, x, state, new state, what is
        kept and the gradient of the new state to (dparams, dx), dstate and dz.
    """
    of_forward = _check_forward(forward_only(cell), input_size, hidden_size, batch)
    params, x, state, u, new, kept = of_forward
    reverse = partial(Form(cell.name).reverse, cell, u)
    return trace(reverse, params, x, state, new, kept, state)


@lru_cache(maxsize=64)
def _check_forward(
    cell: Cell, input_size: int, hidden_size: int, batch: int
) -> tuple[Any, ...]:
    """The shapes of params, x, state, u, new state and what is kept.

    Kept, since a reverse that is being mended is checked again and again.
    """
    form = Form(cell.name)
    sizes = {"input_size": input_size, "hidden_size": hidden_size}
    checks.check_init(cell, sizes)
    init = partial(cell.init, **sizes, dtype=jnp.float64)
    params = form.shapes_of("init", init, jax.random.key(0))
    form.named_tuple("init", "params", params)
    told = form.shapes_of("sizes", lambda: tree.map(jnp.asarray, cell.sizes(params)))
    if not isinstance(told, dict):
        form.wrong("sizes", "a dictionary of sizes", told)
    state = form.shapes_of(
        "initial_state", lambda p: cell.initial_state(p, (batch,)), params
    )
    form.named_tuple("initial_state", "state", state)
    x = jax.ShapeDtypeStruct((batch, input_size), jnp.float64)
    u = form.shapes_of("project", cell.project, params, x)
    return params, x, state, u, *form.step(cell, params, state, u)


class Form:
    """Calls the functions of a cell for their shapes, and says what is wrong.

    Args:
        name: the cell's.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def called(self, function: str, call: Callable[..., Any], *args: Any) -> Any:
        """What a function returns, arrays; an error that it raises is told."""
        try:
            found = call(*args)
            tree.map(jax.typeof, found)  # raises if that is no array
        except Exception as error:
            given = ", ".join(map(described, args))
            raise TypeError(
                f"{function} of cell {self._name!r} failed when called with {given}: "
                f"{error}"
            ) from error
        return found

    def shapes_of(self, function: str, call: Callable[..., Any], *args: Any) -> Any:
        """The shapes of what it returns, from shapes."""
        return self.called(function, partial(jax.eval_shape, call), *args)

    def wrong(self, function: str, expected: str, found: Any) -> None:
        """Raises: a function returned something else than what is expected."""
        raise TypeError(
            f"{function} of cell {self._name!r} must return {expected}; it returned "
            f"{described(found)}"
        )

    def named_tuple(self, function: str, what: str, found: Any) -> None:
        """Raises unless a function returned a NamedTuple of arrays."""
        if not hasattr(found, "_fields"):
            self.wrong(function, f"{what}, a NamedTuple of arrays", found)

    def parts(self, function: str, wanted: dict[str, Any], found: Any) -> None:
        """Raises unless a function returned a tuple of certain parts.

        Args:
            function: its name.
            wanted: what each part is called, and what it must be like: a tree of
                shapes, or None where anything goes.
            found: what it returned.
        """
        expected = ", ".join(
            name if like is None else f"{name} {described(like)}"
            for name, like in wanted.items()
        )
        plain = isinstance(found, tuple) and not hasattr(found, "_fields")
        if not plain or len(found) != len(wanted):
            self.wrong(function, f"({expected})", found)
        for part, like in zip(found, wanted.values(), strict=True):
            if like is not None and shapes(part) != shapes(like):
                self.wrong(function, f"({expected})", found)

    def step(self, cell: Cell, params: Any, state: Any, u: Any) -> tuple[Any, Any]:
        """The new state and what is kept."""
        wanted = {"new_state": state, "kept": None}
        if isinstance(cell.step, GatedStep):
            v = u if "Wh" in params._fields else None
            equations = cell.step.equations
            rows = jax.eval_shape(by_unit, params, u)
            found = self.shapes_of("equations", equations, rows, state, u, v)
            self.parts("equations", wanted, found)
        found = self.shapes_of("step", cell.step, params, state, u)
        self.parts("step", wanted, found)
        return found

    def reverse(
        self, cell: Cell, u: Any, params: Any, x: Any, state: Any, *rest: Any
    ) -> tuple[Any, Any, Any]:
        """What `gradients` and `backward` return, looked at on the way."""
        new, kept, dnew = rest
        backward = partial(self.called, "backward", cell.backward)
        if isinstance(cell.backward, GatedBackward):
            backward = GatedBackward(partial(self.gated_backward, cell, u))
        found = backward(params, state, new, kept, dnew)
        self.parts("backward", {"dstate": state, "dz": None}, found)
        dstate, dz = found
        found = self.called(
            "gradients", cell.gradients, params, x, state, new, kept, dz
        )
        if tree.structure(found) != tree.structure((params, x)):
            self.parts("gradients", {"dparams": params, "dx": x}, found)
        return found, dstate, dz

    def gated_backward(self, cell: Cell, u: Any, params: Any, *rest: Any) -> Any:
        """What the `backward` of a gated cell returns, looked at."""
        assert isinstance(cell.backward, GatedBackward)
        found = self.called("backward", cell.backward.backward, params, *rest)
        state: Any = rest[0]
        dstate: Any = found[0] if isinstance(found, tuple) and found else ()
        if getattr(dstate, "_fields", ()) == state._fields and dstate[0] is None:
            state = state._replace(**{state._fields[0]: None})  # seen through v alone
        wanted = {"dstate": state, "du": u}
        if isinstance(found, tuple) and len(found) != 2:
            wanted["dv"] = u if "Wh" in params._fields else None
        self.parts("backward", wanted, found)
        return found


def shapes(value: Any) -> Any:
    """The structure and the shapes of a tree, to be compared."""
    return tree.structure(value), [jnp.shape(leaf) for leaf in tree.leaves(value)]


def described(value: Any) -> str:
    """A tree of arrays as one writes it: "LSTMState(h (2, 4), c (2, 4))"."""
    fields = getattr(value, "_fields", None)
    if fields is not None:
        parts = (f"{n} {described(v)}" for n, v in zip(fields, value, strict=True))
        return f"{type(value).__name__}({', '.join(parts)})"
    if isinstance(value, tuple):
        return f"({', '.join(map(described, value))})"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{k}: {described(v)}' for k, v in value.items())}}}"
    if hasattr(value, "shape"):
        return str(tuple(value.shape))
    return repr(value)
