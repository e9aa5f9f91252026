"""The documents: every program runs, and prints what stands below it.

`make docs` builds the site, with the notebooks, and warns of more than is tested here.
"""

import ast
import contextlib
import html
import inspect
import io
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from docs.extensions import doors, drawings, gallery, offline
from lstm_jax.cells import CELLS, lstm

DOCS = Path(__file__).parent.parent / "docs"
README = DOCS.parent / "README.md"
BLOCK = re.compile(r"(?ms)^```(python|text)(?: file=(\S+))?\n(.*?)^```")
WALKTHROUGHS = [
    path
    for path in sorted(DOCS.glob("*.md"))
    if "\n```python file=" in path.read_text("utf-8")
]


def blocks(path):
    """The blocks of a document: (kind, file name or None, text)."""
    return [match.groups() for match in BLOCK.finditer(path.read_text("utf-8"))]


def without_rounding(text):
    """The text without what rounding decides, which differs from machine to machine.

    Errors below 1e-9 count as none; where a row passes, its largest deviation is one
    of them, and so is where it stands. The numbers of lines don't count in files of the
    library.
    """
    lines = []
    for line in text.splitlines():
        line = re.sub(r"\d\.\de-(?:09|[1-9]\d)", "0.0e+00", line)
        line = re.sub(r"\b(lstm|gated|identities)\.py:\d+", r"\1.py", line)
        if line.rstrip().endswith(" ok"):
            line = re.sub(r"(?<=0\.0e\+00 )[ \d,]+(?= ok)", " ", line)
            line = re.sub(r" +", " ", line)
        lines.append(line.rstrip())
    return "\n".join(lines).strip()


@pytest.mark.parametrize("path", WALKTHROUGHS, ids=lambda path: path.stem)
def test_a_document_prints_what_it_says(path, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    names, printed, compared = {"__name__": "document"}, "", 0
    before = set(sys.modules)
    try:
        for kind, file, text in blocks(path):
            if file is not None:
                (tmp_path / file).write_text(text, "utf-8")
            elif kind == "python":
                out = io.StringIO()
                with contextlib.redirect_stdout(out):
                    exec(compile(text, path.name, "exec"), names)
                printed = out.getvalue()
            else:
                assert without_rounding(printed) == without_rounding(text)
                compared += 1
    finally:
        for module in set(sys.modules) - before:
            file = getattr(sys.modules[module], "__file__", None) or ""
            if file.startswith(str(tmp_path)):
                del sys.modules[module]
    assert compared


def test_there_is_a_document_to_run():
    assert "finding_a_mistake" in [path.stem for path in WALKTHROUGHS]


def test_what_is_not_rounding_is_compared():
    row = "  one step   da   (7)   0.0e+00   0.0e+00   {}   0, 1   {}"
    right = without_rounding(row.format("7.4e-12", "ok"))
    assert right == without_rounding(
        row.format("3.0e-11", "ok").replace("0, 1", "1, 3")
    )
    assert right != without_rounding(row.format("7.4e-05", "ok"))
    assert right != without_rounding(row.format("7.4e-12", "WRONG"))
    wrong = without_rounding(row.format("7.4e-05", "WRONG"))
    assert wrong != without_rounding(row.format("7.5e-05", "WRONG"))


def test_the_page_in_the_readme_is_the_lstms():
    """Line for line, but for the signatures, which are shown without types."""
    [page] = re.findall(r"(?ms)^```py\n(.*?)^```", README.read_text("utf-8"))
    shown = [line for line in page.splitlines() if line.startswith("    ")]
    functions = inspect.unwrap(lstm.equations), inspect.unwrap(lstm.backward)
    written = [
        line
        for function in functions
        for line in inspect.getsource(function).partition('"""\n')[2].splitlines()
        if line
    ]
    assert shown == written


@pytest.fixture
def run_line(monkeypatch, tmp_path):
    """Runs ``python -m experiments.NAME ...``, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(line):
        python, flag, module, *arguments = shlex.split(line)
        assert (python, flag) == ("python", "-m")
        monkeypatch.setattr(sys, "argv", [module, *arguments])
        file = DOCS.parent / f"{module.replace('.', '/')}.py"
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(file), run_name="__main__")
        return end.value.code

    return run


@pytest.mark.jax_defaults
@pytest.mark.promotes_ranks
def test_every_command_for_data_of_ones_own_runs(run_line, tmp_path, capsys):
    """The commands, and the programs between them, in the document's order."""
    text = (DOCS / "your_own_data.md").read_text("utf-8")
    names, commands = {}, 0
    for kind, block in re.findall(r"(?ms)^```(python|sh)\n(.*?)^```", text):
        if kind == "python":
            exec(compile(block, "your_own_data.md", "exec"), names)
            continue
        for line in block.splitlines():
            assert run_line(line) == 0, line
            commands += 1
    said = capsys.readouterr().out
    assert commands == 7
    assert re.search(r"(?m)^sport  0\.\d+  two three sport four$", said)
    assert re.search(r"(?m)^much \S", said)
    assert re.search(r"(?m)^(up|down)  [01]\.\d+$", said)
    assert re.search(r"\| gru .*\n\| always the mean", said)
    assert "bits a letter" in said
    assert (tmp_path / "runs/imdb/topics/predicted.png").is_file()


# --- the site ------------------------------------------------------------------------

PLACES = doors.places()
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.md"))


def test_every_public_name_has_a_place_in_the_reference():
    assert {f"lstm_jax.{name}" for name in doors.public("lstm_jax")} <= set(PLACES)
    assert {"lstm_jax.graph.render", "lstm_jax.layers.unroll_layers"} <= set(PLACES)
    assert PLACES["lstm_jax.engine.unroll"] == "lstm_jax.unroll"
    assert PLACES["lstm_jax.gated"] == "lstm_jax.gated.gated"


@pytest.mark.parametrize("place", sorted(set(PLACES.values())))
def test_every_public_name_says_something(place):
    assert doors.says_something(place), f"{place} has no docstring"


def test_a_name_without_a_text_is_seen(monkeypatch):
    monkeypatch.setattr(doors, "said_below", lambda module, name: "")
    assert not doors.says_something("lstm_jax.CELLS")
    assert doors.says_something("lstm_jax.LSTM")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_one(path):
    """Its header is jupytext's, and its cells are Python."""
    text = path.read_text("utf-8")
    assert re.match(
        r"(?s)---\njupytext:.*format_name: myst\n.*?name: python3\n---\n", text
    )
    options = r"(?::.*?\n\n|---\n.*?\n---\n)?"
    cells = re.findall(rf"(?ms)^```{{code-cell}} python\n{options}(.*?)^```", text)
    assert len(cells) > 5
    for cell in cells:
        assert ast.parse(cell).body


def test_the_readmes_picture_is_the_lstms():
    """`python -m docs.extensions.drawings` writes it; its words need no graphviz."""
    text = drawings.README_PICTURE.read_text("utf-8")
    shown = [html.unescape(t).strip() for t in re.findall(r"<text[^>]*>([^<]*)<", text)]
    drawn = drawings.lstm_drawing().diagram
    labels = [part.label for part in drawn.edges if part.label]
    assert sorted(shown) == sorted([*(node.text for node in drawn.nodes), *labels])


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_a_cells_page_is_of_its_file(cell):
    module = gallery.module_of(cell)
    assert cell in vars(module).values()
    line = inspect.getsource(module).splitlines()[gallery._after_docstring(module) - 1]
    assert line.startswith(("import ", "from "))


def test_a_cells_page_has_its_rows_of_the_tables():
    row = gallery.table_row(gallery.MUTATIONS, "mutants", "lstm")
    assert row["`check_gradients` catches"] == f"{row['mutants']} (all)"
    assert gallery.table_row(gallery.MUTATIONS, "mutants", "none such") == {}
    small_tasks = gallery.EXPERIMENTS, "adding problem (mean squared error)"
    assert len(gallery.table_row(*small_tasks, "gru")) == 6
    with pytest.raises(LookupError, match="no table of cells with 'speed'"):
        gallery.table_row(gallery.EXPERIMENTS, "speed", "gru")


def test_every_page_is_reached_from_the_first():
    trees = re.findall(
        r"(?ms)^```\{toctree\}\n(.*?)^```", (DOCS / "index.md").read_text("utf-8")
    )
    listed = [line for tree in trees for line in tree.split("\n\n")[1].split()]
    pages = {path.stem for path in DOCS.glob("*.md")} - {"index"}
    pages |= {f"notebooks/{path.stem}" for path in NOTEBOOKS}
    assert sorted(listed) == sorted(pages | {"cells/index", "reference/index"})


def test_what_a_page_would_fetch_is_seen(tmp_path):
    fetching = (
        '<script async src="https://cdn.example/a.js"></script>',
        "<link rel='stylesheet' href='//fonts.example/b.css'>",
        '<img alt="" src="http://example.org/c.png">',
        "@import url(https://example.org/d.css)",
        'src: url("https://example.org/e.woff2")',
    )
    for number, text in enumerate(fetching):
        (tmp_path / f"{number}.html").write_text(text, "utf-8")
    kept = '<a href="https://example.org">there</a><script src="_static/f.js"></script>'
    (tmp_path / "kept.html").write_text(kept, "utf-8")
    found = [line.partition(":")[0] for line in offline.fetched(tmp_path)]
    assert found == [f"{number}.html" for number in range(len(fetching))]
