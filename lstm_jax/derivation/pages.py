"""A derivation put down for a reader: in plain text, in Markdown, in LaTeX."""

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lstm_jax.derivation import expressions as ex
from lstm_jax.derivation.chain import Use
from lstm_jax.derivation.comparison import Line
from lstm_jax.derivation.expressions import Expression
from lstm_jax.derivation.forward import Equation
from lstm_jax.derivation.writing import Latex, Writer

if TYPE_CHECKING:
    from lstm_jax.derivation.result import Derivation, Row

WIDTH = 88
SHARED = "the weighted-input rule"

OWN_LETTERS = "dq is ∂J/∂q, and examples are rows."
ARTICLES_LETTERS = "Examples are columns, and J is their mean, hence 1/m."
READING = (
    "A product of matrices is written A · B, one of single elements A * B; Σₙ is over "
    "the examples, Σⱼ over the features, and [c > 0] is 1 where that holds and 0 "
    "elsewhere."
)


def text(derivation: "Derivation") -> str:
    """See `Derivation.text`."""
    write = Writer(derivation.names, derivation.letters)
    parts = [f"The backward pass of {derivation.cell.name!r}, from its equations"]
    listed = equations(derivation)
    width = max(len(label) for label, _ in listed)
    parts.append("\n".join(f"  {label:{width}}  {line}" for label, line in listed))
    parts.append(textwrap.fill(_reading(write), WIDTH))
    for title, rows in _sections(derivation):
        parts.append(title)
        parts += ["\n".join(_row_as_text(derivation, row)) for row in rows]
    for title, lines in _remarks(derivation, write):
        parts.append("\n".join([title, "", *(f"  {line}" for line in lines)]))
    return "\n\n".join([*parts, verdict(derivation)]) + "\n"


def equations(derivation: "Derivation") -> tuple[tuple[str, str], ...]:
    """See `Derivation.equations`."""
    write = Writer(derivation.names, derivation.letters)
    return tuple(
        (_label(e), f"{write.letter(e.name)} = {write(e.right)}")
        for e in derivation.forward.equations
    )


def written(derivation: "Derivation", row: "Row") -> tuple[str, ...]:
    """See `Derivation.written`."""
    write = Writer(derivation.names, derivation.letters)
    (left, right), *rest = equalities(derivation, write, row)
    more = (f"{' ' * len(left)} = {right}" for _, right in rest)
    return _goes(write, row), f"{left} = {right}", *more


def markdown(derivation: "Derivation") -> str:
    """See `Derivation.markdown`."""
    write = Latex(derivation.names, derivation.letters)
    plain = Writer(derivation.names, derivation.letters)
    table = ["| | equation | goes to |", "|---|---|---|"]
    goes = {row.quantity: _listed_uses(write, row) for row in derivation.rows}
    for e in derivation.forward.equations:
        formula = f"${write.letter(e.name)} = {write(e.right)}$".replace("|", r"\vert ")
        table.append(f"| {_label(e)} | {formula} | {goes.get(e.name, '')} |")
    parts = ["**The equations**", "\n".join(table), _reading(write)]
    for title, rows in _sections(derivation):
        parts.append(f"**{title}**")
        parts += [_row_as_markdown(derivation, write, row) for row in rows]
    for title, lines in _remarks(derivation, plain):
        parts.append(f"**{title}**")
        parts.append("\n".join(["```text", *lines, "```"]))
    said, *wrong = verdict(derivation).splitlines()
    parts.append("\n".join([said, "", "```text", *wrong, "```"]) if wrong else said)
    return "\n\n".join(parts) + "\n"


def latex(derivation: "Derivation") -> str:
    """See `Derivation.latex`."""
    write = Latex(derivation.names, derivation.letters)
    lines = []
    for e in derivation.forward.equations:
        number = "" if e.number is None else rf" && {_label(e)}"
        lines.append(f"{write.letter(e.name)} &= {write(e.right)}{number}")
    for _, rows in _sections(derivation):
        lines += [line for row in rows for line in _aligned(derivation, write, row)]
    return _environment(lines)


def verdict(derivation: "Derivation") -> str:
    """How many lines of the hand-written reverse agree; those that don't, in full."""
    if not derivation.cell.derived:
        return "There is no hand-written reverse; python() gives the one to write."
    lines = [(row, line) for row in derivation.rows for line in row.lines]
    wrong = [(row, line) for row, line in lines if not line.agrees]
    if not wrong:
        same = sum(line.same for _, line in lines)
        rest = len(lines) - same
        numbers = f", {rest} have the same numbers" if rest else ""
        return (
            f"All {len(lines)} gradients of the hand-written reverse agree: {same} are "
            f"the same expression{numbers}."
        )
    write = Writer(derivation.names)
    said = ["Wrong in the hand-written reverse:"]
    for row, line in wrong:
        gradient = write(row.gradient)
        said += [
            f"  {line.place}  {line.text or SHARED}",
            f"    computes  {gradient} = {write(line.written)}",
            f"    derived   {gradient} = {write(line.derived)}",
        ]
    return "\n".join(said)


# --- one row --------------------------------------------------------------------------


def _label(equation: Equation) -> str:
    return "" if equation.number is None else f"({equation.number})"


def _reading(write: Writer) -> str:
    first = ARTICLES_LETTERS if write.letters.columns else OWN_LETTERS
    return f"{first} {READING}"


def _row_as_text(derivation: "Derivation", row: "Row") -> Iterator[str]:
    goes, *forms = written(derivation, row)
    yield f"  {goes}"
    yield from (f"    {form}" for form in forms)
    for line in row.lines:
        yield f"    {line.place}  {line.text or SHARED}  {_judged(line)}"


def _row_as_markdown(derivation: "Derivation", write: Latex, row: "Row") -> str:
    lines = _environment(_aligned(derivation, write, row))
    parts = [_goes(write, row), f"$$\n{lines}\n$$"]
    for line in row.lines:
        said = f"`{line.text}`" if line.text else SHARED
        parts.append(f"`{line.place}`: {said} {_judged(line)}")
    return "\n\n".join(parts)


def _aligned(derivation: "Derivation", write: Latex, row: "Row") -> list[str]:
    """The equalities of a row, aligned at their signs."""
    pairs = equalities(derivation, write, row)
    return [f"{left} &= {right}".lstrip() for left, right in pairs]


def _environment(lines: Sequence[str]) -> str:
    return "\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}"


def equalities(
    derivation: "Derivation", write: Writer, row: "Row"
) -> list[tuple[str, str]]:
    """The chain rule, the local derivatives put in, the result; the left side once."""
    texts = []
    if all(use.local is not None for use in row.uses):
        texts.append(" + ".join(_chain_term(write, use, row) for use in row.uses))
    terms = [
        term
        for use in row.uses
        for e in (ex.stripped(use.term),)
        for term in (e.args if e.op == "add" else (e,))
    ]
    # One part of a concatenation and zeros says less than all parts together.
    if len(terms) > 1 and not any(ex.contains(term, "concat") for term in terms):
        texts.append(write(Expression("add", tuple(terms), shape=row.gradient.shape)))
    texts.append(write(row.result))
    if write.letters.columns and row.quantity in derivation.parameters:
        texts = [write.per_example(text) for text in texts]
    left = write.partial(row.quantity)
    return [("" if k else left, t) for k, t in enumerate(dict.fromkeys(texts))]


def _chain_term(write: Writer, use: Use, row: "Row") -> str:
    """∂J/∂output * ∂output/∂quantity."""
    if not use.name:
        return write(use.gradient)
    return write.times.join(
        (write.partial(use.name), write.local(use.name, row.quantity))
    )


def _goes(write: Writer, row: "Row") -> str:
    """Where a quantity goes: its immediate outputs."""
    letter = write.math(write.letter(row.quantity))
    return f"{letter} goes to {_listed_uses(write, row)}"


def _listed_uses(write: Writer, row: "Row") -> str:
    places = []
    for use in reversed(row.uses):  # in the order of the equations, the next step last
        if use.name:
            number = "" if use.number is None else f" ({use.number})"
            places.append(write.math(write.letter(use.name)) + number)
        elif len(row.uses) == 1:
            places += ["the output", "the next step"]
        else:
            places.append("the next step")
    return _listed(places)


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _judged(line: Line) -> str:
    if not line.agrees:
        return f"✗ WRONG: off by {line.error:.0e}"
    return "✓ the same expression" if line.same else "✓ the same numbers"


# --- all rows -------------------------------------------------------------------------


def _sections(derivation: "Derivation") -> Iterator[tuple[str, list["Row"]]]:
    """The rows of the step, then those of the parameters and the input."""
    rows = [row for row in derivation.rows if not row.given]
    last = [row for row in rows if row.quantity in (*derivation.parameters, "x")]
    yield "From the last equation to the first", [r for r in rows if r not in last]
    yield "Parameters and input", last


def _remarks(
    derivation: "Derivation", write: Writer
) -> Iterator[tuple[str, list[str]]]:
    """What holds beside the single gradients."""
    yield "Through time", list(_through_time(derivation, write))
    yield "Element by element", list(_by_element(derivation, write))


def _through_time(derivation: "Derivation", write: Writer) -> Iterator[str]:
    """What one step's gradients have to do with the next one's."""
    for field, quantity in derivation.forward.state.items():
        given = write(derivation.row(quantity).uses[0].gradient)
        before = next(
            (r for r in derivation.rows if r.quantity == f"{field}_prev"), None
        )
        back = "" if before is None else f"{write(before.gradient)} of step t + 1, and "
        yield f"{given} of step t: {back}what the loss sends there."
    names = [
        write(row.gradient)
        for row in derivation.rows
        if row.quantity in derivation.parameters
    ]
    if names:
        yield f"{_listed(names)}: the sum over all steps, which share them."


def _by_element(derivation: "Derivation", write: Writer) -> Iterator[str]:
    """The weighted-input rule, one element at a time."""
    for equation in derivation.forward.equations:
        terms = equation.right.args if equation.right.op == "add" else (equation.right,)
        for term in terms:
            if term.op == "dot" and all(a.op == "name" for a in term.args):
                yield from _product(derivation, write, equation, term, terms)
    yield "C_ij = Σ_k A_ik B_kj is C = A · B: an index that is repeated is summed over."


def _product(
    derivation: "Derivation",
    write: Writer,
    equation: Equation,
    term: Expression,
    terms: Sequence[Expression],
) -> Iterator[str]:
    """Z = X · W + b and its gradients; n is the example, k and j are the features."""
    x, w = term.args
    z = ex.name(equation.name, equation.right.shape)
    names = {r.quantity: r.gradient for r in derivation.rows}
    dz, dx, dw = (names.get(q.data[0]) for q in (z, x, w))
    biases = [t for t in terms if t.op == "name" and len(t.shape) == 1]

    def at(e: Expression, index: str) -> str:
        index = index[::-1] if write.letters.columns else index
        text = write(e)
        return f"({text})_{index}" if "∂" in text else f"{text}_{index}"

    left = at(z, "nj")
    more = "".join(f" + {at(b, 'j')}" for b in biases)
    more += " + ..." if len(terms) > 1 + len(biases) else ""
    yield f"{left} = Σ_k {at(x, 'nk')} {at(w, 'kj')}{more}"
    if dz is None:
        return
    for of, d, index, times, over in (
        (w, dw, "kj", at(x, "nk"), "n"),
        (x, dx, "nk", at(w, "kj"), "j"),
        *((b, names.get(b.data[0]), "j", "", "n") for b in biases),
    ):
        if d is not None:
            moved = f"∂{left}/∂{at(of, index)} = {times or 1}"
            factors = f"{at(dz, 'nj')} {times}".rstrip()
            yield f"  {moved}:  {at(d, index)} = Σ_{over} {factors}"
