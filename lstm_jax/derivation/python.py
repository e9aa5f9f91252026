"""The derived reverse as Python, in the form of a cell's file.

For a gated cell that is `backward`, and `elementwise` if it has parameters that act
element by element; for any other, `backward` and `gradients`
(`lstm_jax.gated.gated`, `lstm_jax.Cell`). What the step doesn't keep is computed again,
if the states and what is kept are enough for that.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
from jax import tree

from lstm_jax.derivation import expressions as ex
from lstm_jax.derivation.chain import Step
from lstm_jax.derivation.expressions import Expression, Number
from lstm_jax.derivation.forward import Forward
from lstm_jax.derivation.writing import (
    ATOM,
    POWER,
    Names,
    Piece,
    Writer,
    matrix_product,
)

PRODUCTS = ("Wx", "Wh", "b")
"""The parameters whose gradients a gated cell gets from its products."""


class Python(Writer):
    """Writes expressions as Python.

    Args:
        names: see `Names`.
        known: how a name is written that is no local variable.
    """

    column = "python"
    matrix = " @ "

    def __init__(self, names: Names, known: dict[str, str]) -> None:
        super().__init__(names)
        self.known = known
        self.sized: Expression | None = None

    def as_written(self, e: Expression) -> Expression:
        """An operation in the form in which it is written: here, as it is."""
        return e

    def name(self, name: str) -> str:
        """A local variable, or where the name is found."""
        return self.known.get(name, name)

    def product(self, e: Expression) -> Piece:
        """A product or quotient; one with a condition is a `jnp.where`."""
        conditions = [f for f in e.args if f.op == "where"]
        if e.op == "mul" and conditions:
            rest = self(ex.mul(*(f for f in e.args if f.op != "where")))
            for condition in conditions:
                rest = f"jnp.where({self(condition.args[0])}, {rest}, 0)"
            return Piece(rest)
        whole = [n for f in e.args for n in _names(f) if n.shape[-1:] == e.shape[-1:]]
        self.sized = whole[0] if whole else None
        return super().product(e)

    def sizes(self, count: Number) -> tuple[str, Number]:
        """A number as one over the size of a row, if it is that."""
        if self.sized is None:
            return "", count
        size = self.sized.shape[-1]
        times = count * size
        of_row = size % self.names.unit == 0 and abs(times - round(times)) < 1e-9
        if abs(count) >= 1 or not of_row or not round(times):
            return "", count
        return f"{self.name(self.sized.data[0])}.shape[-1]", round(times)

    def power(self, base: Expression, exponent: Expression) -> Piece:
        """A power, or a root."""
        if ex.is_number(exponent, 0.5):
            return Piece(f"jnp.sqrt({self(base)})")
        return Piece(f"{self.inside(base, ATOM)}**{self.inside(exponent, ATOM)}", POWER)

    def binding(self, e: Expression) -> int:
        """How tightly a factor binds."""
        root = e.op == "power" and ex.is_number(e.args[1], 0.5)
        return ATOM if root else super().binding(e)

    def condition(self, text: str) -> str:
        """A condition as a number."""
        return f"jnp.where({text}, 1, 0)"

    def mean(self, e: Expression) -> str:
        """A mean over the features of a row."""
        return f"jnp.mean({self(e.args[0])}, axis=-1, keepdims=True)"

    def total(self, e: Expression, keep: str = ", keepdims=True") -> str:
        """A sum over the features of a row."""
        inner = e.args[0]
        axes = tuple(axis - len(inner.shape) for axis in e.data)
        axis = axes[0] if len(axes) == 1 else axes
        return f"jnp.sum({self(inner)}, axis={axis}{keep})"

    def concatenation(self, parts: str, axis: int) -> str:
        """Blocks side by side."""
        return f"concatenate({parts})"

    def transposed(self, text: str) -> str:
        """A matrix on its side."""
        return f"{text}.T"

    def block(self, e: Expression) -> str:
        """A part of a quantity along the features."""
        whole, (axis, start, stop) = e.args[0], e.data
        count = whole.shape[axis] // (stop - start)
        return f"jnp.split({self(whole)}, {count}, axis=-1)[{start // (stop - start)}]"

    def piece(self, e: Expression) -> Piece:
        """The text of an expression, and how tightly it binds."""
        if e.op == "reshape":
            return self.reshaped(e.args[0], e.shape)
        if e.op == "concat":
            like = next((self(a) for a in e.args if not ex.is_zero(a)), "")
            zeros = f"jnp.zeros_like({like})"
            parts = [zeros if ex.is_zero(a) else self(a) for a in e.args]
            return Piece(self.concatenation(", ".join(parts), -1))
        return super().piece(e)

    def reshaped(self, e: Expression, shape: tuple[int, ...]) -> Piece:
        """Axes of size 1 that are added, or were kept by a sum."""
        if e.op == "sum" and len(shape) == len(e.shape) - len(e.data):
            return Piece(self.total(e, keep=""))
        added, sizes = [], list(e.shape)
        for size in reversed(shape):
            if sizes and sizes[-1] == size:
                sizes.pop()
                added.append(":")
            else:
                added.append("None")
        while added and added[-1] == ":":
            added.pop()
        index = ", ".join(["...", *reversed(added)])
        return Piece(f"{self.inside(e, ATOM)}[{index}]")

    def dot(self, e: Expression) -> Piece:
        """A product of matrices; over the examples, `weight_gradient`."""
        sides = matrix_product(e)
        if sides is None or not sides[0][1]:
            return super().dot(e)
        (a, _), (b, _) = sides  # over the examples: the weighted-input rule
        return Piece(f"weight_gradient({self(b)}, {self(a)})")


def _names(e: Expression) -> Iterator[Expression]:
    if e.op == "name":
        yield e
    for a in e.args:
        yield from _names(a)


def per_example(e: Expression) -> Expression:
    """What a sum over the examples sums up."""
    e = ex.stripped(e)
    if e.op == "reshape":
        return per_example(e.args[0])
    if e.op == "sum" and 0 in e.data:
        rest = tuple(axis for axis in e.data if axis != 0)
        return ex.total(e.args[0], rest)
    if e.op == "mul":
        return ex.mul(*(per_example(f) if _is_summed(f) else f for f in e.args))
    if e.op == "add":
        return ex.add(*map(per_example, e.args))
    return e


def _is_summed(e: Expression) -> bool:
    if e.op in ("reshape", "broadcast", "mul", "add"):
        return any(map(_is_summed, e.args))
    return e.op == "sum" and 0 in e.data


class Program:
    """The reverse of a cell, to be written as Python.

    Args:
        forward: the step.
        steps: the derivation of its gradients.
        names: see `Names`.
        gated: whether the cell is made by `gated`.
    """

    def __init__(
        self, forward: Forward, steps: Sequence[Step], names: Names, gated: bool
    ) -> None:
        self.forward, self.names, self.gated = forward, names, gated
        self.steps = {step.quantity: step for step in steps}
        self.state = type(forward.program.shapes[0]).__name__
        self.fields = tuple(forward.state)
        self.recurrent = "Wh" in forward.parameters
        self.missing: dict[str, None] = {}

    def text(self) -> str:
        """The functions, after the imports that they need."""
        functions = list(self.of_gated() if self.gated else self.of_four())
        imports = "\n".join(_imports("\n".join(functions)))
        if self.missing:
            names = ", ".join(self.missing)
            imports += f"\n\n# `kept` must have these as well: {names}."
        return "\n\n\n".join([imports, *functions]) + "\n"

    # --- a gated cell

    def of_gated(self) -> Iterator[str]:
        """The functions of a gated cell."""
        own = [
            p for p in self.forward.parameters if p not in PRODUCTS and p in self.steps
        ]
        given = self._products()
        gradients = {p: per_example(self.steps[p].result) for p in own}
        extra = [
            name
            for e in gradients.values()
            for name in e.names()
            if name in self.names.gradients and name not in given
        ]
        yield self.backward(extra)
        if own:
            yield self.elementwise(gradients, given, extra)

    def _products(self) -> dict[str, str]:
        """The gradients that can be had from du and dv, and how."""
        found: dict[str, str] = {}
        for product in ("v", "u"):
            step = self.steps.get(product)
            if step is None:
                continue
            name, result = f"d{product}", step.result
            found[name] = name
            if result.op == "name":
                found[result.data[0]] = name
            elif result.op == "concat":
                count = len(result.args)
                for k, part in enumerate(result.args):
                    if part.op == "name":
                        found[part.data[0]] = (
                            f"jnp.split({name}, {count}, axis=-1)[{k}]"
                        )
        return found

    def backward(self, extra: Iterable[str]) -> str:
        """The function `backward` of a gated cell, or of any other."""
        body = _Body(self, {"state", "new_state", "kept", "dnew"}, self.gated)
        skipped = {*self.forward.parameters, "x"}
        first = f"{self.fields[0]}_prev"
        through_v = self.gated and self.recurrent
        products = ("u", "v") if self.gated else ()
        returned: dict[str, str] = {}
        for quantity, step in self.steps.items():
            if quantity in skipped or quantity in products:
                continue
            result = step.result
            if quantity == first and through_v:
                terms = [u.term for u in step.uses if u.name != "v"]
                result = ex.add(*terms) if terms else ex.ZERO
                if not terms:
                    returned[first] = "THROUGH_V"
                    continue
            if result == step.gradient or self._only_for_x(quantity):
                continue
            if result.op == "name" and quantity.endswith("_prev"):
                returned[quantity] = body.use(result)
                continue
            body.assign(step.gradient.data[0], result, self._number(step))
        fields = []
        for field in self.fields:
            q = f"{field}_prev"
            zeros = f"jnp.zeros_like(state.{field})"
            name = f"d{q}" if q in self.steps else zeros
            fields.append(f"{field}={returned.get(q, name)}")
        state = f"{self.state}({', '.join(fields)})"
        outputs = self._returned_products(body) if self.gated else []
        outputs += list(extra)
        if not self.gated:
            outputs = [self._dz()]
        body.lines.append("")
        body.lines.append(f"return {', '.join([state, *outputs])}")
        return body.function("backward", "params, state, new_state, kept, dnew")

    def _number(self, step: Step) -> tuple[int, ...]:
        """The equation that a line goes through; parts and products are not named."""
        equation = self.forward.equation(step.quantity)
        plain = equation is not None and (equation.owner or equation.number is None)
        return () if plain else step.through

    def _only_for_x(self, quantity: str) -> bool:
        """Whether a gradient belongs to what depends on the input alone."""
        return not self.gated and quantity in self._inputs_alone()

    def _inputs_alone(self) -> set[str]:
        """The quantities that are computed from x and parameters alone."""
        alone = {"x"}
        for e in self.forward.equations:
            names = set(e.right.names()) - set(self.forward.parameters)
            if names and names <= alone:
                alone.add(e.name)
        projected = {n for p in self.forward.projected for n in p.names()}
        return alone - projected - {"x"}

    def _returned_products(self, body: "_Body") -> list[str]:
        """What is returned for du and dv."""
        u, v = self.steps["u"], self.steps.get("v")
        if u.result.op == "name":
            texts = [body.use(u.result)]
        else:
            shared = v is not None and v.result == u.gradient
            name = "dz" if shared and "z" not in self.steps else "du"
            body.assign(name, u.result, ())
            texts = [name]
        if v is not None and v.result != u.gradient and v.result != u.result:
            if v.result.op == "name":
                texts.append(body.use(v.result))
            else:
                body.assign("dv", v.result, ())
                texts.append("dv")
        return texts

    def elementwise(
        self, gradients: dict[str, Expression], given: dict[str, str], extra: list[str]
    ) -> str:
        """The function `elementwise` of a gated cell."""
        dv = "dv" if self.recurrent or not extra else ", ".join(extra)
        if len(extra) > 1 and not self.recurrent:
            given = given | {name: f"dv[{k}]" for k, name in enumerate(extra)}
            dv = "dv"
        given = given | {name: name for name in extra if name not in given}
        body = _Body(self, {"state", "new_state", "kept"}, True, given)
        for parameter, e in gradients.items():
            body.assign(f"d{parameter}", e, self.steps[parameter].through)
        fields = ", ".join(f'"{p}": d{p}' for p in gradients)
        body.lines += ["", f"return {{{fields}}}"]
        return body.function("elementwise", f"params, state, new_state, kept, du, {dv}")

    # --- any other cell

    def of_four(self) -> Iterator[str]:
        """The functions of a cell that is not gated."""
        yield self.backward([])
        yield self.gradients()

    def _needed(self) -> list[str]:
        """The gradients that those of the parameters and of x are computed from."""
        alone = self._inputs_alone()
        found: dict[str, None] = {}
        for q in (*self.forward.parameters, "x", *alone):
            step = self.steps.get(q)
            for name in step.result.names() if step else ():
                quantity = self.names.gradients.get(name, ("", False))[0]
                if quantity and quantity not in alone:
                    found[name] = None
        return list(found)

    def _dz(self) -> str:
        needed = self._needed()
        return (
            f"({', '.join(needed)},)" if len(needed) == 1 else f"({', '.join(needed)})"
        )

    def gradients(self) -> str:
        """The function `gradients`."""
        needed = self._needed()
        known = {name: name for name in needed}
        body = _Body(self, {"state", "new_state", "kept", "x"}, False, known)
        body.lines.append(f"{', '.join(needed)}{',' if len(needed) == 1 else ''} = dz")
        alone = self._inputs_alone()
        for quantity, step in self.steps.items():
            if quantity in alone and step.result != step.gradient:
                body.assign(step.gradient.data[0], step.result, self._number(step))
        for quantity in (*self.forward.parameters, "x"):
            step = self.steps[quantity]
            result = step.result
            summed = _is_summed(result)
            inner = per_example(result) if summed else result
            body.assign(step.gradient.data[0], inner, step.through, summed)
        params = type(self.forward.args[0]).__name__
        fields = ", ".join(f"{p}=d{p}" for p in self.forward.parameters)
        body.lines += ["", f"return {params}({fields}), dx"]
        return body.function("gradients", "params, x, state, new_state, kept, dz")


MODULES = {
    "lstm_jax.gated": ("THROUGH_V",),
    "lstm_jax.identities": (
        *("across", "bias_gradient", "concatenate", "sigmoid", "tanh"),
        "weight_gradient",
    ),
    "lstm_jax.numbered": ("numbered",),
}
"""What a reverse may use, by the module that has it."""


def _imports(text: str) -> Iterator[str]:
    used = set(re.findall(r"\w+", text))
    if "jax" in used:
        yield "import jax"
    if "jnp" in used:
        yield "import jax.numpy as jnp"
    for module, names in MODULES.items():
        if taken := [name for name in names if name in used]:
            yield f"from {module} import {', '.join(taken)}"


class _Body:
    """The lines of a function, and what its names are."""

    def __init__(
        self,
        program: Program,
        arguments: set[str],
        by_unit: bool,
        known: dict[str, str] | None = None,
    ) -> None:
        self.program, self.forward = program, program.forward
        self.lines: list[str] = []
        self.head: list[str] = []
        like = "dnew[0]" if "dnew" in arguments else "x"
        self.known = dict(known or {})
        for name, shape in zip(
            self.forward.parameters, tree.leaves(self.forward.args[0]), strict=True
        ):
            own = not by_unit and len(shape.shape) == 1
            self.known[name] = (
                f"across(params.{name}, {like})" if own else f"params.{name}"
            )
        self.available = self._given(arguments)
        self.opened: dict[str, None] = {}
        self.again: list[str] = []
        self.local = set()
        self.writer = Python(program.names, self.known)

    def _given(self, arguments: set[str]) -> dict[str, str]:
        """Where quantities are found."""
        found: dict[str, str] = {}
        if "kept" in arguments:
            leaves = tree.leaves_with_path(self.forward.kept, is_leaf=_is_expression)
            for path, e in leaves:
                if e.op == "name":
                    found[e.data[0]] = "kept" + jax.tree_util.keystr(path)
        for field, name in self.forward.state.items():
            if "dnew" in arguments:
                step = self.program.steps[name]
                found[step.uses[0].gradient.data[0]] = f"dnew.{field}"
        for field, name in self.forward.state.items():
            found[name] = f"new_state.{field}"
        for field in self.forward.state:
            found[f"{field}_prev"] = f"state.{field}"
        if "x" in arguments:
            found["x"] = "x"
        return found

    def use(self, e: Expression) -> str:
        """The text of an expression, whose names are defined before it."""
        for name in e.names():
            self._define(name)
        return self.writer(e)

    def assign(
        self, name: str, e: Expression, through: Sequence[int], summed: bool = False
    ) -> None:
        """Adds a line."""
        text = self.use(e)
        text = f"bias_gradient({text})" if summed else text
        number = (
            f"  # ({through[-1] if len(through) == 1 else through[0]})"
            if through
            else ""
        )
        self.lines.append(f"{name} = {text}{number}")
        self.local.add(name)

    def _define(self, name: str) -> None:
        if name in self.local or name in self.known or name == "x":
            return
        if name in self.available:
            self.opened[name] = None
            return
        equation = self.forward.equation(name)
        if equation is None:
            return  # a gradient that was computed before
        self.local.add(name)
        if not self._reachable(equation.right):
            self.program.missing[name] = None
            self.available[name] = f"kept.{name}"
            self.opened[name] = None
            return
        for inner in equation.right.names():
            self._define(inner)
        again = f"  # ({equation.number}) again" if equation.number else ""
        self.again.append(f"{name} = {self.writer(equation.right)}{again}")

    def _reachable(self, e: Expression) -> bool:
        """Whether all that an expression is made of can be had."""
        for name in e.names():
            equation = self.forward.equation(name)
            known = name in self.known or name in self.available
            if not known and (equation is None or not self._reachable(equation.right)):
                return False
        return True

    def function(self, name: str, arguments: str) -> str:
        """The function's text."""
        opened = {n: place for n, place in self.available.items() if n in self.opened}
        lines = [*self._unpacked(opened), *self.again, *self.lines]
        body = "\n".join(f"    {line}" if line else "" for line in lines)
        return f"@numbered\ndef {name}({arguments}):\n{body}"

    def _unpacked(self, opened: dict[str, str]) -> Iterator[str]:
        """Assignments that take quantities out of the arguments, one for each."""
        groups: dict[str, dict[str, str]] = {}
        for name, place in self.available.items():
            root = _ROOT.match(place)[0]  # ty: ignore[not-subscriptable]
            groups.setdefault(root, {})[name] = place
        for root, places in groups.items():
            used = {name: place for name, place in places.items() if name in opened}
            used = {name: place for name, place in used.items() if name != place}
            flat = all(
                re.fullmatch(rf"{root}\.\w+", place) for place in places.values()
            )
            if len(used) > 1 and flat and len(places) == self._length(root):
                left = ", ".join(name if name in used else "_" for name in places)
                yield f"{left} = {root}"
            elif used:
                yield f"{', '.join(used)} = {', '.join(used.values())}"

    def _length(self, root: str) -> int:
        """How many fields an argument has."""
        if root == "kept":
            return len(tree.leaves(self.forward.kept, is_leaf=_is_expression))
        return len(self.forward.state)


_ROOT = re.compile(r"\w+")


def _is_expression(e: Any) -> bool:
    return isinstance(e, Expression)
