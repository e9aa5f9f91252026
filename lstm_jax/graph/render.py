"""`render`: a drawing of a function's computation graph, as text or as a picture."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from lstm_jax.files import write_whole
from lstm_jax.graph.diagram import Diagram, Edge, Node, diagram_of
from lstm_jax.jaxprs import jaxpr_of

PICTURES = (".svg", ".png", ".pdf")
TEXTS = (".mmd", ".dot")
GRAPHVIZ = ("graphviz-pure", "dot")
"""Programs that make a picture. The first comes with the package of that name, draws
the same everywhere, and writes no PDF."""

SHAPES = {
    "input": "box",
    "named": "ellipse",
    "expression": "plaintext",
    "symbol": "circle",
}
BRACKETS = {
    "input": ("[", "]"),
    "named": ("([", "])"),
    "expression": ("(", ")"),
    "symbol": ("((", "))"),
}


class Drawing(NamedTuple):
    """A computation graph, drawn.

    Inputs are boxes, named quantities ovals, the expressions between them bare, and
    those too long to be written out are circles with the operation. What the function
    returns has a thick outline. An edge carries the local derivative that
    a gradient is multiplied by, or put through, on its way back along it; no gradient
    comes back along a dashed one. The body of a `scan` is drawn once, in a frame.

    Attributes:
        diagram: its nodes and edges.
        down: whether it is laid out from top to bottom; else from left to right.
    """

    diagram: Diagram
    down: bool = False

    def downward(self) -> "Drawing":
        """The same from top to bottom, which fits a page better where it is long."""
        return self._replace(down=True)

    @property
    def mermaid(self) -> str:
        """The drawing as Mermaid text, which GitHub and many notebooks display."""
        return _mermaid(self)

    @property
    def dot(self) -> str:
        """The drawing in graphviz's language."""
        return _dot(self)

    @property
    def svg(self) -> str:
        """The drawing as SVG.

        Raises:
            RuntimeError: if graphviz is not installed or fails.
        """
        return _picture(self.dot, "svg").decode()

    def __repr__(self) -> str:
        nodes, edges = len(self.diagram.nodes), len(self.diagram.edges)
        return f"Drawing({nodes} nodes, {edges} edges)"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        """What a notebook shows: the picture, or Mermaid where there is no graphviz."""
        try:
            shown = {"image/svg+xml": self.svg}
        except RuntimeError:
            shown = {"text/markdown": f"```mermaid\n{self.mermaid}```"}
        return {"text/plain": repr(self), **shown}

    def save(self, path: str | Path) -> None:
        """Writes the drawing to a file, in the format that its suffix names.

        Args:
            path: ends in .mmd (Mermaid) or .dot (graphviz), or, as a picture, in
                .svg, .png or .pdf.

        Raises:
            ValueError: for another suffix.
            RuntimeError: for a picture, if graphviz is not installed or fails.
            OSError: if the file can't be written; it is written whole or not at all.
        """
        path = Path(path)
        if path.suffix not in (*TEXTS, *PICTURES):
            raise ValueError(
                f"a drawing is saved as {', '.join((*TEXTS, *PICTURES))}; got {path}"
            )
        if path.suffix in TEXTS:
            text = self.mermaid if path.suffix == ".mmd" else self.dot
            write_whole(path, text.encode())
        else:
            write_whole(path, _picture(self.dot, path.suffix.removeprefix(".")))


def render(fn: Callable[..., Any], *args: Any) -> Drawing:
    """Draws the computation graph of ``fn(*args)``: quantities and local derivatives.

    Args:
        fn: any JAX function. The quantities that it names (`lstm_jax.named`) appear
            under their names and equation numbers, its arguments under theirs.
        *args: arguments, or `jax.ShapeDtypeStruct` in their places: nothing is run.

    Returns:
        A `Drawing`: notebooks show it; `.mermaid`, `.dot` and `.svg` are texts, and
        `.save(path)` writes a file.
    """
    jaxpr, _ = jaxpr_of(fn, *args)
    return Drawing(diagram_of(jaxpr))


# --- Mermaid -------------------------------------------------------------------------


def _mermaid(drawing: Drawing) -> str:
    diagram = drawing.diagram

    def node_line(k: int, node: Node, indent: str) -> str:
        left, right = BRACKETS[node.kind]
        output = ":::output" if node.output else ""
        return f'{indent}n{k}{left}"{_escaped(node.text)}"{right}{output}'

    def frame(loop: int, indent: str) -> tuple[str, str]:
        label = _escaped(diagram.loops[loop])
        return f'{indent}subgraph loop{loop}["{label}"]', f"{indent}end"

    def edge_line(edge: Edge) -> str:
        arrow = "-->" if edge.gradient and not edge.back else "-.->"
        label = f'|"{_escaped(edge.label)}"|' if edge.label else ""
        return f"    n{edge.source} {arrow}{label} n{edge.target}"

    lines = [
        f"flowchart {'TB' if drawing.down else 'LR'}",
        *_framed(diagram, node_line, frame),
        *map(edge_line, diagram.edges),
        "    classDef output stroke-width:3px",
    ]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    """`text` between quotes in Mermaid, where entities stand for what has a meaning."""
    return text.replace("#", "#35;").replace('"', "#quot;").replace("<", "#lt;")


# --- graphviz ------------------------------------------------------------------------


def _dot(drawing: Drawing) -> str:
    diagram = drawing.diagram
    layout = (
        "TB; nodesep=0.2; ranksep=0.35"
        if drawing.down
        else "LR; nodesep=0.3; ranksep=0.3"
    )

    def node_line(k: int, node: Node, indent: str) -> str:
        width = ", penwidth=3" if node.output else ""
        shape = SHAPES[node.kind]
        if node.output and node.kind == "expression":
            shape = "ellipse"
        return f"{indent}n{k} [label={_quoted(node.text)}, shape={shape}{width}];"

    def frame(loop: int, indent: str) -> tuple[str, str]:
        label = _quoted(diagram.loops[loop])
        opening = f"{indent}subgraph cluster_{loop} {{ label={label}; style=rounded;"
        return opening, f"{indent}}}"

    def edge_line(edge: Edge) -> str:
        looks = "" if edge.gradient and not edge.back else ", style=dashed"
        looks += ", constraint=false" if edge.back else ""
        label = _quoted(f" {edge.label} ")
        return f"    n{edge.source} -> n{edge.target} [label={label}{looks}];"

    lines = [
        "digraph {",
        f"    rankdir={layout};",
        '    node [fontname="Helvetica", fontsize=13, margin="0.12,0.05", height=0.3];',
        '    edge [fontname="Helvetica", fontsize=11, fontcolor="#0072B2"];',
        *_framed(diagram, node_line, frame),
        *map(edge_line, diagram.edges),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _picture(dot: str, format: str) -> bytes:
    programs = GRAPHVIZ if format != "pdf" else ("dot",)
    program = next(filter(None, map(shutil.which, programs)), None)
    if program is None:
        raise RuntimeError(
            f"a .{format} needs graphviz, whose program `dot` is not on the path; "
            f"install it or the package graphviz-pure, or save as "
            f"{' or '.join(TEXTS)}"
        )
    command = [program, f"-T{format}", "-Gdpi=110" if format == "png" else "-Gdpi=72"]
    done = subprocess.run(command, input=dot.encode(), capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"`dot` could not draw the graph: {done.stderr.decode()}")
    return done.stdout


def _framed(
    diagram: Diagram,
    node_line: Callable[[int, Node, str], str],
    frame: Callable[[int, str], tuple[str, str]],
    inside: tuple[int, ...] = (),
) -> Iterator[str]:
    """The nodes that lie in the loops `inside`, then the loops within, framed."""
    depth = len(inside)
    indent = "    " * (depth + 1)
    for k, node in enumerate(diagram.nodes):
        if node.loops == inside:
            yield node_line(k, node, indent)
    within = {n.loops[: depth + 1] for n in diagram.nodes if n.loops[:depth] == inside}
    for loops in sorted(loops for loops in within if len(loops) > depth):
        opening, closing = frame(loops[-1], indent)
        yield opening
        yield from _framed(diagram, node_line, frame, loops)
        yield closing
