"""Drawings of computation graphs: nodes, labels, loops, files."""

import shutil
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from lstm_jax import graph, named
from lstm_jax.cells import CELLS
from lstm_jax.graph.render import GRAPHVIZ

SCALAR = jax.ShapeDtypeStruct((), jnp.float64)
pytestmark = pytest.mark.promotes_ranks

ROWS = jax.ShapeDtypeStruct((2, 3), jnp.float64)
SQUARE = jax.ShapeDtypeStruct((3, 3), jnp.float64)


def edges(fn: Any, *args: Any) -> dict[tuple[str, str], str]:
    """Labels by the texts of both ends; dashed ones in square brackets."""
    drawn = graph.render(fn, *args).diagram
    return {
        (drawn.nodes[e.source].text, drawn.nodes[e.target].text): (
            e.label if e.gradient and not e.back else f"[{e.label}]"
        )
        for e in drawn.edges
    }


def neuron(params: dict, x: Any) -> jax.Array:
    z = named(x @ params["W"] + params["b"], "z", 1)
    return named(jnp.tanh(z) * 0.5, "y", 2)


NEURON = ({"W": SQUARE, "b": jax.ShapeDtypeStruct((3,), jnp.float64)}, ROWS)

MERMAID = """\
flowchart LR
    n0["W"]
    n1["b"]
    n2["x"]
    n3("x · W")
    n4(["z (1)"])
    n5("tanh(z)")
    n6(["y (2)"]):::output
    n2 -->|"· Wᵀ"| n3
    n0 -->|"xᵀ ·"| n3
    n3 -->|"1"| n4
    n1 -->|"Σ"| n4
    n4 -->|"1 - tanh(z)²"| n5
    n5 -->|"0.5"| n6
    classDef output stroke-width:3px
"""


def test_mermaid():
    assert graph.render(neuron, *NEURON).mermaid == MERMAID


def test_from_top_to_bottom():
    drawing = graph.render(neuron, *NEURON)
    assert drawing.downward().mermaid == MERMAID.replace("LR", "TB", 1)
    assert "rankdir=TB" in drawing.downward().dot
    assert "rankdir=LR" in drawing.dot


def test_dot():
    dot = graph.render(neuron, *NEURON).dot
    assert 'n0 [label="W", shape=box];' in dot
    assert 'n3 [label="x · W", shape=plaintext];' in dot
    assert 'n6 [label="y (2)", shape=ellipse, penwidth=3];' in dot
    assert 'n4 -> n5 [label=" 1 - tanh(z)² "];' in dot


def test_the_lstms_graph_is_the_articles():
    cell = CELLS["lstm"]
    params = cell.init(jax.random.key(0), 3, 2, dtype=jnp.dtype("float64"))
    state = cell.initial_state(params, (4,))

    def step(params: Any, state: Any, x: Any) -> Any:
        return cell.step(params, state, cell.project(params, x))[0]

    drawn = edges(step, params, state, jnp.zeros((4, 3)))
    expected = {
        ("x", "x · Wx"): "· Wxᵀ",
        ("Wx", "x · Wx"): "xᵀ ·",
        ("z_i (1)", "i (3)"): "i (1 - i)",
        ("z_f (1)", "f (3)"): "f (1 - f)",
        ("z_o (1)", "o (3)"): "o (1 - o)",
        ("z_g (2)", "g (4)"): "1 - g²",
        ("i (3)", "i * g"): "g",
        ("g (4)", "i * g"): "i",
        ("f (3)", "f * state.c"): "state.c",
        ("state.c", "f * state.c"): "f",
        ("i * g", "c (5)"): "1",
        ("f * state.c", "c (5)"): "1",
        ("c (5)", "a (6)"): "1 - a²",
        ("a (6)", "h (7)"): "o",
        ("o (3)", "h (7)"): "a",
    }
    assert {ends: drawn.get(ends) for ends in expected} == expected


LABELS = {
    "constants are no nodes": (
        lambda x: (2 * x) / jnp.full((), 4.0),
        (SCALAR,),
        {("x", "2 * x"): "2", ("2 * x", "(2 * x) / 4"): "1/4"},
    ),
    "what only moves elements goes to the next edge": (
        lambda x: jnp.exp(x.T.reshape(6)[1:3]).sum(),
        (ROWS,),
        {("x", "exp(x)"): "exp(x), pad, transpose", ("exp(x)", "Σ(exp(x))"): "1"},
    ),
    "brackets where they are needed": (
        lambda a, b: (a + b) * a - (a - b),
        (SCALAR, SCALAR),
        {
            ("a", "a + b"): "1",
            ("b", "a + b"): "1",
            ("a", "a - b"): "1",
            ("b", "a - b"): "-1",
            ("a + b", "(a + b) * a"): "a",
            ("a", "(a + b) * a"): "a + b",
            ("(a + b) * a", "(a + b) * a - (a - b)"): "1",
            ("a - b", "(a + b) * a - (a - b)"): "-1",
        },
    ),
    "powers": (
        lambda a: (a * 2) ** 2 + a**-3,
        (SCALAR,),
        {
            ("a", "a * 2"): "2",
            ("a * 2", "(a * 2) ^ 2"): "2 (a * 2)",
            ("a", "a ^ -3"): "-3 a^(-3 - 1)",
            ("(a * 2) ^ 2", "(a * 2) ^ 2 + a ^ -3"): "1",
            ("a ^ -3", "(a * 2) ^ 2 + a ^ -3"): "1",
        },
    ),
    "no gradient": (
        lambda a, k: lax.stop_gradient(a) * jnp.asarray(k, float),
        (SCALAR, jax.ShapeDtypeStruct((), jnp.int64)),
        {
            ("a", "stop_gradient(a)"): "[0]",
            ("stop_gradient(a)", "stop_gradient(a) * k"): "k",
            ("k", "stop_gradient(a) * k"): "[]",
        },
    ),
    "a name around a call, and of what only moved": (
        lambda a: named(jax.nn.relu(a), "r", 1) * named(a.T, "t", 2),
        (SQUARE,),
        {
            ("a", "r (1)"): "[a > 0]",
            ("a", "t (2)"): "transpose",
            ("r (1)", "r * t"): "t",
            ("t (2)", "r * t"): "r",
        },
    ),
    "unknown primitives have no label": (
        lambda a: lax.sort(a),
        (ROWS,),
        {("a", "sort(a)"): ""},
    ),
    "what no output needs is left out": (
        lambda a, b: (jnp.sin(b), -a)[1],
        (SCALAR, SCALAR),
        {("a", "-(a)"): "-1"},
    ),
    "an argument is told from the quantity of its name": (
        lambda old: named(jnp.sin(old["c"]), "c", 1),
        ({"c": SCALAR},),
        {("old['c']", "c (1)"): "cos old['c']"},
    ),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels(name):
    fn, args, expected = LABELS[name]
    assert edges(fn, *args) == expected


def test_what_is_too_long_is_a_symbol():
    def fn(first: Any, second: Any) -> jax.Array:
        return jnp.tanh(jnp.sin(first) * second + jnp.cos(first) * second) * 2

    drawn = graph.render(fn, SCALAR, SCALAR)
    texts = [node.text for node in drawn.diagram.nodes]
    assert texts[-3:] == ["+", "tanh", "*"]
    assert edges(fn, SCALAR, SCALAR)[("+", "tanh")] == "1 - C²"
    assert '(("+"))' in drawn.mermaid
    assert '[label="+", shape=circle]' in drawn.dot


@pytest.mark.parametrize("reverse", [False, True])
def test_a_loop_is_drawn_once_in_a_frame(reverse):
    def fn(w: Any, start: Any, xs: Any) -> Any:
        def step(h: Any, x: Any) -> Any:
            h = named(jnp.tanh(w * h + x), "h", 1)
            return h, h

        return lax.scan(step, start, xs, reverse=reverse)[1].sum()

    args = (SCALAR, SCALAR, jax.ShapeDtypeStruct((5,), jnp.float64))
    before = "h⟨t+1⟩" if reverse else "h⟨t-1⟩"
    drawn = edges(fn, *args)
    assert drawn[("start", before)] == "first step"
    assert drawn[("h (1)", before)] == "[next step]"
    assert drawn[("xs", "x⟨t⟩")] == "one step"
    assert drawn[(before, f"w * {before}")] == "w"
    assert drawn[("h (1)", "Σ(h)")] == "1"

    drawing = graph.render(fn, *args)
    inside = [node.text for node in drawing.diagram.nodes if node.loops == (0,)]
    assert inside[:2] == [before, "x⟨t⟩"]
    assert "w" not in inside
    assert "Σ(h)" not in inside
    assert 'subgraph loop0["5 steps"]' in drawing.mermaid
    assert 'subgraph cluster_0 { label="5 steps"' in drawing.dot


def test_loops_in_loops_are_frames_in_frames():
    def fn(a: Any) -> Any:
        def outer(h: Any, _: Any) -> Any:
            return lax.scan(lambda d, _: (jnp.sin(d), None), h, None, 3)[0], None

        return lax.scan(outer, a, None, 2)[0]

    lines = graph.render(fn, SCALAR).mermaid.splitlines()
    first = lines.index('    subgraph loop0["2 steps"]')
    assert lines[first + 2] == '        subgraph loop1["3 steps"]'
    assert lines.count("        end") == 1


def test_texts_are_escaped():
    drawing = graph.render(lambda q: -q['a"<#\\'], {'a"<#\\': SCALAR})
    assert '["a#quot;#lt;#35;' in drawing.mermaid
    assert r'label="a\"<#\\' in drawing.dot


# --- files ---------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["mmd", "dot"])
def test_texts_are_saved(tmp_path, suffix):
    drawing = graph.render(neuron, *NEURON)
    drawing.save(str(tmp_path / f"neuron.{suffix}"))
    text = (tmp_path / f"neuron.{suffix}").read_text("utf-8")
    assert text == (drawing.mermaid if suffix == "mmd" else drawing.dot)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(
    not any(map(shutil.which, GRAPHVIZ)), reason="graphviz is not installed"
)
@pytest.mark.parametrize(
    ("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")]
)
def test_pictures_are_saved(tmp_path, suffix, start):
    if suffix == "pdf" and shutil.which("dot") is None:
        pytest.skip("only graphviz itself writes PDF")
    path = tmp_path / f"neuron.{suffix}"
    graph.render(neuron, *NEURON).save(path)
    assert path.read_bytes().startswith(start)
    if suffix == "svg":
        assert ">tanh(z)<" in path.read_text("utf-8")


def test_pictures_need_graphviz(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(RuntimeError, match=r"needs graphviz.*save as \.mmd or \.dot"):
        graph.render(neuron, *NEURON).save(tmp_path / "neuron.png")
    assert not list(tmp_path.iterdir())


def test_a_failure_of_graphviz_is_told(tmp_path, monkeypatch):
    failing = tmp_path / "dot"
    failing.write_text("#!/bin/sh\necho no room >&2\nexit 1\n")
    failing.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(failing))
    with pytest.raises(RuntimeError, match="could not draw the graph: no room"):
        graph.render(neuron, *NEURON).save(tmp_path / "neuron.svg")
    assert [path.name for path in tmp_path.iterdir()] == ["dot"]


def test_a_notebook_shows_the_picture_or_mermaid(tmp_path, monkeypatch):
    program = tmp_path / "graphviz-pure"
    program.write_text("#!/bin/sh\necho '<svg>σ</svg>'\n", "utf-8")
    program.chmod(0o755)
    drawing = graph.render(neuron, *NEURON)
    found = {"graphviz-pure": str(program)}
    monkeypatch.setattr(shutil, "which", found.get)
    assert drawing._repr_mimebundle_() == {
        "text/plain": "Drawing(7 nodes, 6 edges)",
        "image/svg+xml": "<svg>σ</svg>\n",
    }
    found.clear()
    assert drawing._repr_mimebundle_()["text/markdown"] == f"```mermaid\n{MERMAID}```"


def test_other_suffixes_are_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"\.mmd, \.dot, \.svg, \.png, \.pdf; got .*gif"
    ):
        graph.render(neuron, *NEURON).save(tmp_path / "neuron.gif")


def test_a_gradients_drawing_names_what_comes_back():
    def loss(params: dict, x: Any) -> jax.Array:
        return jnp.sum(neuron(params, x))

    drawn = edges(graph.grad(loss), *NEURON)
    assert drawn["dz", "x · dz"] == "xᵀ ·"
    assert ("dy", "dy * 0.5") in drawn
    assert ("z (1)", "tanh(z)") in drawn
