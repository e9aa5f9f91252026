"""The derived reverse as Python, in the form of a cell's file.

For a gated cell that is `backward`, and `elementwise` if it has parameters that act
element by element; for any other, `backward` and `gradients` (see
`lstm_jax.gated.gated` and `lstm_jax.Cell`). What the step doesn't keep is computed
again, if the states and what is kept are enough for that.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from lstm_jax.derivation import expressions as ex
from lstm_jax.derivation.body import Body
from lstm_jax.derivation.chain import Step
from lstm_jax.derivation.expressions import Expression
from lstm_jax.derivation.forward import Forward
from lstm_jax.derivation.writing import Names

PRODUCTS = ("Wx", "Wh", "b")
"""The parameters whose gradients a gated cell gets from its products."""

MODULES = {
    "lstm_jax.gated": ("THROUGH_V",),
    "lstm_jax.identities": (
        *("across", "bias_gradient", "concatenate", "sigmoid", "tanh"),
        "weight_gradient",
    ),
    "lstm_jax.numbered": ("numbered",),
}
"""What a reverse may use, by the module that has it."""


def program(
    forward: Forward, steps: Sequence[Step], names: Names, *, gated: bool
) -> str:
    """The functions of a cell's reverse, after the imports that they need.

    Args:
        forward: the step.
        steps: the derivation of its gradients.
        names: see `Names`.
        gated: whether the cell is made by `lstm_jax.gated.gated`.
    """
    by_quantity = {step.quantity: step for step in steps}
    kind = _Gated if gated else _FourFunctions
    cell = kind(forward, by_quantity, names)
    functions = list(cell.functions())
    head = "\n".join(_imports("\n".join(functions)))
    if cell.missing:
        head += f"\n\n# `kept` must have these as well: {', '.join(cell.missing)}."
    return "\n\n\n".join([head, *functions]) + "\n"


def _imports(text: str) -> Iterator[str]:
    used = set(re.findall(r"\w+", text))
    if "jax" in used:
        yield "import jax"
    if "jnp" in used:
        yield "import jax.numpy as jnp"
    for module, names in MODULES.items():
        if taken := [name for name in names if name in used]:
            yield f"from {module} import {', '.join(taken)}"


class _Functions:
    """What the functions of both kinds of cells have in common."""

    def __init__(
        self, forward: Forward, steps: Mapping[str, Step], names: Names
    ) -> None:
        self.forward, self.steps, self.names = forward, steps, names
        self.missing: dict[str, None] = {}

    def body(
        self,
        arguments: str,
        *,
        by_unit: bool = False,
        known: Mapping[str, str] | None = None,
    ) -> Body:
        """An empty body of a function with these arguments."""
        taken = arguments.split(", ")
        return Body(self.forward, self.steps, self.names, taken, by_unit, known or {})

    def written(self, name: str, body: Body) -> str:
        """A function's text."""
        self.missing |= body.missing
        return body.function(name)

    def assign(self, body: Body, step: Step, result: Expression | None = None) -> None:
        """Adds a gradient's line; products and parts have no name, so no number."""
        equation = self.forward.equation(step.quantity)
        plain = equation is not None and (equation.owner or equation.number is None)
        right = step.result if result is None else result
        body.assign(step.gradient.data[0], right, () if plain else step.through)

    def state(self, body: Body, given: Mapping[str, str]) -> str:
        """The old state's gradients, as they are returned."""
        fields = []
        for field in self.forward.state:
            step = self.steps.get(f"{field}_prev")
            text = f"jnp.zeros_like(state.{field})"
            if step is not None and step.result.op == "name":
                text = body.use(step.result)
            elif step is not None:
                text = step.gradient.data[0]
            fields.append(f"{field}={given.get(field, text)}")
        kind = type(self.forward.program.shapes[0]).__name__
        return f"{kind}({', '.join(fields)})"

    def is_returned_alone(self, step: Step) -> bool:
        """Whether an old state's gradient is another one, and needs no line."""
        old = step.quantity in [f"{field}_prev" for field in self.forward.state]
        return step.result == step.gradient or (old and step.result.op == "name")


# --- a gated cell ---------------------------------------------------------------------


class _Gated(_Functions):
    """`backward` and `elementwise`."""

    def functions(self) -> Iterator[str]:
        """Their texts."""
        own = {
            parameter: per_example(self.steps[parameter].result)
            for parameter in self.forward.parameters
            if parameter not in PRODUCTS and parameter in self.steps
        }
        known = self._of_products()
        names = {name: None for e in own.values() for name in e.names()}
        more = [n for n in names if n in self.names.gradients and n not in known]
        yield self._backward(more)
        if own:
            yield self._elementwise(own, known, more)

    def _backward(self, more: Sequence[str]) -> str:
        """The gradients of the old state, of the products, and what else is needed."""
        body = self.body("params, state, new_state, kept, dnew", by_unit=True)
        first, *_ = self.forward.state
        given: dict[str, str] = {}
        for quantity, step in self.steps.items():
            if quantity in (*self.forward.parameters, "x", "u", "v"):
                continue
            beside_v = [use.term for use in step.uses if use.name != "v"]
            if quantity == f"{first}_prev" and len(beside_v) < len(step.uses):
                if beside_v:
                    self.assign(body, step, ex.add(*beside_v))
                else:
                    given[first] = "THROUGH_V"
            elif not self.is_returned_alone(step):
                self.assign(body, step)
        state = self.state(body, given)
        outputs = [state, *self._products(body), *more]
        body.lines += ["", f"return {', '.join(outputs)}"]
        return self.written("backward", body)

    def _products(self, body: Body) -> Iterator[str]:
        """What is returned for du, and for dv, if that is another one."""
        u, v = self.steps["u"], self.steps.get("v")
        shared = v is not None and v.result in (u.gradient, u.result)
        free = "z" not in self.steps
        yield self._product(body, u, "dz" if shared and free else "du")
        if v is not None and not shared:
            yield self._product(body, v, "dv")

    def _product(self, body: Body, step: Step, name: str) -> str:
        if step.result.op == "name":
            return body.use(step.result)
        body.assign(name, step.result)
        return name

    def _of_products(self) -> dict[str, str]:
        """The gradients that can be taken out of du and dv, and how."""
        found: dict[str, str] = {}
        for product in ("v", "u"):
            result = self.steps[product].result if product in self.steps else ex.ZERO
            name = f"d{product}"
            if result.op == "name":
                found[result.data[0]] = name
            count = len(result.args)
            for k, part in enumerate(result.args if result.op == "concat" else ()):
                if part.op == "name":
                    found[part.data[0]] = f"jnp.split({name}, {count}, axis=-1)[{k}]"
        return found

    def _elementwise(
        self, own: dict[str, Expression], known: dict[str, str], more: Sequence[str]
    ) -> str:
        """The gradients of the parameters that act element by element."""
        last = more[0] if len(more) == 1 else "dv"
        arguments = f"params, state, new_state, kept, du, {last}"
        several = {n: f"dv[{k}]" for k, n in enumerate(more) if len(more) > 1}
        known = {**known, **{name: name for name in more}, **several}
        body = self.body(arguments, by_unit=True, known=known)
        for parameter, e in own.items():
            self.assign(body, self.steps[parameter], e)
        fields = ", ".join(f'"{parameter}": d{parameter}' for parameter in own)
        body.lines += ["", f"return {{{fields}}}"]
        return self.written("elementwise", body)


# --- any other cell -------------------------------------------------------------------


class _FourFunctions(_Functions):
    """`backward` and `gradients`."""

    def functions(self) -> Iterator[str]:
        """Their texts."""
        needed = ", ".join(self._needed())
        needed = f"({needed},)" if "," not in needed else f"({needed})"
        yield self._backward(needed)
        yield self._gradients(needed)

    def _backward(self, needed: str) -> str:
        """The gradients of the old state, and those that the others are made of."""
        body = self.body("params, state, new_state, kept, dnew")
        skipped = {*self.forward.parameters, "x", *self._of_input()}
        for quantity, step in self.steps.items():
            if quantity not in skipped and not self.is_returned_alone(step):
                self.assign(body, step)
        body.lines += ["", f"return {self.state(body, {})}, {needed}"]
        return self.written("backward", body)

    def _gradients(self, needed: str) -> str:
        """The gradients of the parameters and of the input."""
        known = {name: name for name in self._needed()}
        body = self.body("params, x, state, new_state, kept, dz", known=known)
        body.lines.append(f"{needed[1:-1]} = dz")
        of_input = self._of_input()
        for quantity, step in self.steps.items():
            if quantity in of_input and step.result != step.gradient:
                self.assign(body, step)
        for quantity in (*self.forward.parameters, "x"):
            step = self.steps[quantity]
            summed = is_summed(step.result)
            e = per_example(step.result) if summed else step.result
            call = "bias_gradient({})" if summed else "{}"
            body.assign(step.gradient.data[0], e, step.through, call)
        params = type(self.forward.args[0]).__name__
        fields = ", ".join(f"{p}=d{p}" for p in self.forward.parameters)
        body.lines += ["", f"return {params}({fields}), dx"]
        return self.written("gradients", body)

    def _of_input(self) -> set[str]:
        """The quantities that `project` computes, but for those that it returns.

        Their gradients are computed for many steps at once.
        """
        returned = {name for e in self.forward.projected for name in e.names()}
        found, open_ = set(), set(returned)
        while open_:
            equation = self.forward.equation(open_.pop())
            names = set(equation.right.names()) if equation else set()
            more = {n for n in names if self.forward.equation(n)} - found
            found |= more
            open_ |= more
        return found - returned

    def _needed(self) -> list[str]:
        """The gradients that those of parameters and input are computed from."""
        of_input = self._of_input()
        found: dict[str, None] = {}
        for quantity in (*self.forward.parameters, "x", *of_input):
            step = self.steps.get(quantity)
            for name in step.result.names() if step else ():
                source, _ = self.names.gradients.get(name, ("", False))
                if source and source not in of_input:
                    found[name] = None
        return list(found)


# --- sums over the examples -----------------------------------------------------------


def per_example(e: Expression) -> Expression:
    """What a sum over the examples sums up."""
    e = ex.stripped(e)
    match e.op:
        case "reshape":
            return per_example(e.args[0])
        case "sum" if 0 in e.data:
            return ex.total(e.args[0], [axis for axis in e.data if axis != 0])
        case "mul":
            return ex.mul(*(per_example(f) if is_summed(f) else f for f in e.args))
        case "add":
            return ex.add(*map(per_example, e.args))
    return e


def is_summed(e: Expression) -> bool:
    """Whether an expression is a sum over the examples, or a multiple of one."""
    if e.op in ("reshape", "broadcast", "mul", "add"):
        return any(map(is_summed, e.args))
    return e.op == "sum" and 0 in e.data
