"""What a drawing of a computation graph shows: nodes, edges and their texts.

A node is a quantity, as in the article's equations: an input, whatever the function
names ("c (5)"), or an operation between them ("i * g"). An edge is labelled with the
local derivative, what the gradient meets on its way back along it. Operations that only
move elements around (reshapes, slices, broadcasts) are no nodes of their own: their
labels go to the edge that leaves them.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from jax.extend.core import JaxprEqn, Literal

from lstm_jax.cell import Name
from lstm_jax.graph.backprop import differentiable
from lstm_jax.graph.control import scan_parts
from lstm_jax.graph.intermediates import names_in
from lstm_jax.graph.rules import RULES
from lstm_jax.jaxprs import ALL_CALLS, called, opened

LONGEST_TEXT = 24

SYMBOLS = {
    "add": "+",
    "add_any": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "dot_general": "·",
    "logistic": "σ",
    "neg": "-",
    "reduce_sum": "Σ",
    "reduce_max": "max",
    "reduce_min": "min",
    "reduce_prod": "Π",
    "select_n": "select",
    "integer_pow": "^",
    "pow": "^",
}
INFIX = ("+", "-", "*", "/", "·", "^")

MOVES = {
    *("broadcast_in_dim", "convert_element_type", "copy", "reshape", "squeeze"),
    *("sharding_constraint", "slice", "split", "transpose", "unstack"),
}
"""Primitives of one operand that are not drawn as nodes."""

PLAIN = ("", "1", "reshape")
"""Labels that are left out beside another one."""


class Node(NamedTuple):
    """A quantity.

    Attributes:
        text: its label.
        kind: "input", "named", "expression" or, where that is too long, "symbol".
        output: whether the function returns it.
        loops: the loops that it is in, from the outside, as indices of `Diagram.loops`.
    """

    text: str
    kind: str
    output: bool = False
    loops: tuple[int, ...] = ()


class Edge(NamedTuple):
    """The use of a quantity.

    Attributes:
        source: the operand's node, an index of `Diagram.nodes`.
        target: the node that uses it.
        label: the local derivative.
        gradient: whether a gradient can come back along it.
        back: whether it leads from one step of a loop to the next.
    """

    source: int
    target: int
    label: str
    gradient: bool = True
    back: bool = False


class Term(NamedTuple):
    """How a variable appears in texts, and where its edges start.

    Attributes:
        text: its name or expression; empty if that is too long to be repeated.
        node: its node, None for constants.
        moved: the labels of the operations since the node that only moved elements.
        gradient: whether it is floating.
    """

    text: str
    node: int | None = None
    moved: tuple[str, ...] = ()
    gradient: bool = True


@dataclass
class Diagram:
    """A graph to be drawn.

    Attributes:
        nodes: the quantities.
        edges: their uses.
        loops: the labels of the loops that nodes lie in.
    """

    nodes: list[Node] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    loops: list[str] = field(default_factory=list)

    def add(self, text: str, kind: str, loops: tuple[int, ...]) -> int:
        """Adds a node; returns its index."""
        self.nodes.append(Node(text, kind, loops=loops))
        return len(self.nodes) - 1

    def connect(self, term: Term, target: int, label: str, gradient: bool) -> None:
        """Adds the edge from a term to the node that uses it; constants have none."""
        if term.node is None:
            return
        gradient = gradient and term.gradient
        passed = (label, *reversed(term.moved)) if gradient else (label,)
        shown = ", ".join(text for text in passed if text not in PLAIN) or label
        if not gradient and label != "0":
            shown = ""
        self.edges.append(Edge(term.node, target, shown, gradient))


def diagram_of(jaxpr: Any) -> Diagram:
    """The drawing of a function's graph: all that its outputs depend on."""
    drawing = Diagram()
    graph, _ = opened(jaxpr)
    inputs = [
        Term(name, drawing.add(name, "input", ()), gradient=differentiable(v.aval))
        for name, v in zip(_input_names(graph), graph.invars, strict=True)
    ]
    for term in _draw(drawing, jaxpr, inputs, (), [None] * len(graph.outvars)):
        if term.node is not None:
            drawing.nodes[term.node] = drawing.nodes[term.node]._replace(output=True)
    return _pruned(drawing)


def _draw(
    drawing: Diagram,
    jaxpr: Any,
    inputs: Sequence[Term],
    loops: tuple[int, ...],
    wanted: Sequence[str | None],
) -> list[Term]:
    """Draws a graph, given its inputs and the names that its outputs are to have."""
    graph, _ = opened(jaxpr)
    terms = {v: Term("constant") for v in graph.constvars}
    terms |= dict(zip(graph.invars, inputs, strict=True))
    named = [
        *zip(graph.outvars, wanted, strict=True),
        *((e.invars[0], e.params["name"]) for e in graph.eqns if _is_name(e)),
    ]
    names = {v: name for v, name in named if name and not isinstance(v, Literal)}

    for equation in graph.eqns:
        operands = [_term(atom, terms) for atom in equation.invars]
        its_names = [names.get(v) for v in equation.outvars]
        drawn = _draw_equation(drawing, equation, operands, loops, its_names)
        terms.update(zip(equation.outvars, drawn, strict=True))
    return [_term(atom, terms) for atom in graph.outvars]


def _draw_equation(
    drawing: Diagram,
    equation: JaxprEqn,
    operands: list[Term],
    loops: tuple[int, ...],
    names: list[str | None],
) -> list[Term]:
    primitive, params = equation.primitive.name, equation.params
    inner = called(equation, ALL_CALLS)
    if inner is not None:
        return _draw(drawing, inner, operands, loops, names)
    if primitive == "scan":
        return _draw_scan(drawing, params, operands, loops)
    if _is_name(equation):
        return [_draw_name(drawing, params["name"], operands[0], loops)]
    if all(term.node is None for term in operands):
        text = operands[0].text if primitive in MOVES else "constant"
        return [Term(text) for _ in equation.outvars]
    if primitive in MOVES:
        moved = (*operands[0].moved, _label(equation, 0, operands, ""))
        return [operands[0]._replace(moved=moved) for _ in equation.outvars]
    return _draw_operation(drawing, equation, operands, loops, names)


def _draw_operation(
    drawing: Diagram,
    equation: JaxprEqn,
    operands: list[Term],
    loops: tuple[int, ...],
    names: list[str | None],
) -> list[Term]:
    primitive = equation.primitive.name
    name = names[0] if len(names) == 1 else None
    exponent = [Term(str(equation.params["y"]))] if primitive == "integer_pow" else []
    expression = _expression(primitive, [*operands, *exponent])
    text = Name.parse(name).quantity if name else expression
    shown = name or expression or SYMBOLS.get(primitive, primitive)
    kind = "named" if name else "symbol" if len(shown) == 1 else "expression"
    node = drawing.add(shown, kind, loops)
    gradient = any(differentiable(v.aval) for v in equation.outvars)
    for k, term in enumerate(operands):
        label = _label(equation, k, operands, text)
        drawing.connect(term, node, label, gradient and label != "0")
    return [Term(text, node, (), differentiable(v.aval)) for v in equation.outvars]


def _draw_name(
    drawing: Diagram, name: str, operand: Term, loops: tuple[int, ...]
) -> Term:
    """A named quantity: the operation's own node, or one after what only moved it."""
    own = operand.node is not None and not operand.moved
    if own and drawing.nodes[operand.node].text == name:
        return operand
    node = drawing.add(name, "named", loops)
    drawing.connect(operand, node, "1", operand.gradient)
    return Term(Name.parse(name).quantity, node, (), operand.gradient)


def _draw_scan(
    drawing: Diagram,
    params: dict[str, Any],
    operands: list[Term],
    loops: tuple[int, ...],
) -> list[Term]:
    """One step of the loop, in a frame; a back edge hands each carry on."""
    graph, _ = opened(params["jaxpr"])
    drawing.loops.append(f"{params['length']} steps")
    inside = (*loops, len(drawing.loops) - 1)
    constants, initial, xs = scan_parts(params, operands)
    _, carry_names, x_names = scan_parts(params, _input_names(graph))
    before = "⟨t+1⟩" if params["reverse"] else "⟨t-1⟩"

    def enter(term: Term, name: str, label: str) -> Term:
        node = drawing.add(name, "input", inside)
        drawing.connect(term, node, label, gradient=True)
        return Term(name, node, (), term.gradient)

    entering = [
        enter(term, name + before, "first step")
        for term, name in zip(initial, carry_names, strict=True)
    ]
    slices = [
        enter(term, name + "⟨t⟩", "one step")
        for term, name in zip(xs, x_names, strict=True)
    ]
    inputs = [*constants, *entering, *slices]
    outputs = _draw(drawing, graph, inputs, inside, [None] * len(graph.outvars))
    for start, end in zip(entering, outputs[: len(entering)], strict=True):
        if start.node is not None and end.node not in (None, start.node):
            edge = Edge(end.node, start.node, "next step", end.gradient, back=True)
            drawing.edges.append(edge)
    return outputs


# --- texts ---------------------------------------------------------------------------


def _expression(primitive: str, operands: list[Term]) -> str:
    """The operation in terms of its operands; empty if that would be too long."""
    symbol = SYMBOLS.get(primitive, primitive)
    texts = [term.text for term in operands]
    if not all(texts):
        return ""
    if symbol in INFIX and len(texts) == 2:
        texts = [texts[0] if symbol in "+-" else _group(texts[0], symbol), texts[1]]
        texts[1] = texts[1] if symbol == "+" else _group(texts[1], symbol)
        expression = f" {symbol} ".join(texts)
    else:
        expression = f"{symbol}({', '.join(texts)})"
    return expression if len(expression) <= LONGEST_TEXT else ""


def _group(text: str, symbol: str) -> str:
    """In brackets, if it would be read otherwise next to the symbol."""
    loose = " + " in text or " - " in text or (symbol in "/^" and " " in text)
    return f"({text})" if loose else text


def _label(equation: JaxprEqn, k: int, operands: list[Term], output: str) -> str:
    """The local derivative by operand `k`, in the operands' and the output's names."""
    rule = RULES.get(equation.primitive.name)
    if rule is None or not rule.labels:
        return ""
    template = rule.labels[min(k, len(rule.labels) - 1)]
    letters = dict(zip("abd", (term.text for term in operands), strict=False))
    texts = letters | {"c": output}
    alone = template in ("{a}", "{b}", "{c}")
    shown = {
        letter: f"({text})" if " " in text and not alone else text or letter.upper()
        for letter, text in texts.items()
    }
    shown |= {key: equation.params[key] for key in rule.reads}
    return template.format_map(shown).replace("^(2 - 1)", "")  # 2 a, not 2 a^(2 - 1)


def _is_name(equation: JaxprEqn) -> bool:
    return equation.primitive.name == "name"


def _term(atom: Any, terms: dict[Any, Term]) -> Term:
    if not isinstance(atom, Literal):
        return terms[atom]
    return Term(f"{atom.val:g}" if np.ndim(atom.val) == 0 else "constant")


def _input_names(graph: Any) -> list[str]:
    """The arguments' names: the last part alone ("Wx") where that is one thing only."""
    full = graph.debug_info.arg_names
    if len(full) != len(graph.invars):
        full = [None] * len(graph.invars)
    full = [name or f"input {k}" for k, name in enumerate(full)]
    last = [re.split(r"[.\[\]']+", name.rstrip("]'"))[-1] for name in full]
    others = [Name.parse(name).quantity for name in set(names_in(graph))]
    return [
        short if [*last, *others].count(short) == 1 else long
        for short, long in zip(last, full, strict=True)
    ]


def _pruned(drawing: Diagram) -> Diagram:
    """Without the nodes that no output depends on."""
    operands = defaultdict(list)
    for edge in drawing.edges:
        operands[edge.target].append(edge.source)
    kept: set[int] = set()
    waiting = [k for k, node in enumerate(drawing.nodes) if node.output]
    while waiting:
        node = waiting.pop()
        if node not in kept:
            kept.add(node)
            waiting.extend(operands[node])
    number = {old: new for new, old in enumerate(sorted(kept))}
    edges = [
        edge._replace(source=number[edge.source], target=number[edge.target])
        for edge in drawing.edges
        if edge.target in kept
    ]
    return Diagram([drawing.nodes[k] for k in sorted(kept)], edges, drawing.loops)
