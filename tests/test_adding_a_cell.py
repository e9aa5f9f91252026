"""The guide's two cells and the skeleton: built from their own text, and checked."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from sources import execute

import lstm_jax as lj
from lstm_jax.engine import runner_of
from lstm_jax.gradcheck import check_gradients

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
TESTS = Path(__file__).parent
# The tests that go through the table and say most of a single cell.
TABLE_DRIVEN = (
    "test_cells.py",
    "test_unroll.py",
    "test_linear.py",
    "test_gradcheck.py",
    "benchmarks/test_mutations.py",
)


def _guide_blocks(kind, example=0):
    """Those of the gated cell, or of the one that writes the four functions."""
    text = (DOCS / "adding_a_cell.md").read_text(encoding="utf-8")
    own = text.split("\n## Four functions")[example]
    return re.findall(rf"```{kind}\n(.*?)```", own, flags=re.DOTALL)


def _guide_code(example=0):
    return "\n".join(_guide_blocks("python", example))


def _run(code):
    return execute(code, "adding_a_cell.py", {"__name__": "guide"})


@pytest.fixture(scope="module", params=["guide", "four functions", "skeleton"])
def cell(request):
    if request.param == "guide":
        return _run(_guide_code())["UGRNN"]
    if request.param == "four functions":
        return _run(_guide_code(1))["DELTA"]
    return _run((DOCS / "skeleton_cell.py").read_text(encoding="utf-8"))["NAME"]


def test_gradients_are_right(cell):
    report = check_gradients(cell, steps=3, variants=("lengths",))
    assert report.ok, report.table()


def test_its_steps_are_compiled(cell):
    """Unchanged, where those of the library's are; not those of four functions."""

    def runner(cell):
        return runner_of(cell, cell.init(jax.random.key(0), 2, 3)).runner

    assert runner(cell) == ("scan" if cell.name == "delta" else runner(lj.LSTM))


def test_every_line_of_the_reverse_is_derived(cell):
    found = lj.derive(cell)
    assert found.rows
    assert not found.disagreeing, found.verdict()


def test_runs_with_automatic_gradients_before_it_has_a_backward():
    code = _guide_code().replace("    backward=backward,\n", "")
    cell = _run(code)["UGRNN"]
    params = cell.init(jax.random.key(0), 2, 3)
    xs = jnp.ones((4, 1, 2), jnp.float32)
    ys, _ = lj.unroll(cell, params, xs, gradient="automatic")
    assert ys.shape == (4, 1, 3)
    with pytest.raises(ValueError, match="no hand-derived backward"):
        lj.unroll(cell, params, xs)


def test_a_wrong_line_is_named():
    code = _guide_code().replace("dc * (1 - c**2)", "dc * (1 + c**2)")
    report = check_gradients(_run(code)["UGRNN"], steps=0)
    assert not report.ok
    assert "(3)" in str(report.first_wrong)


def test_nothing_outside_the_folder_of_cells_changes(tmp_path):
    """In a copy with two cells more in the table, all their tests are there too.

    The guide's, and one that is unlike those of the table (`fast_weights.py`).
    """
    for folder in ("benchmarks", "experiments", "lstm_jax", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    equations = re.sub("(?m)^", "    ", _guide_blocks("text")[0])
    source = "Source: Collins et al. (2017)"
    docstring = f'"""The UGRNN.\n\n{source}::\n\n{equations}\n"""\n\n'
    cells = tmp_path / "lstm_jax" / "cells"
    (cells / "ugrnn.py").write_text(docstring + _guide_code(), encoding="utf-8")
    shutil.copy(TESTS / "fast_weights.py", cells)
    table = (cells / "__init__.py").read_text(encoding="utf-8")
    table = table.replace("for cell in (", "for cell in (UGRNN, FAST_WEIGHTS,", 1)
    imports = (
        "from lstm_jax.cells.fast_weights import FAST_WEIGHTS\n"
        "from lstm_jax.cells.ugrnn import UGRNN\n\nCELLS:"
    )
    table = table.replace("\nCELLS:", imports, 1)
    (cells / "__init__.py").write_text(table, encoding="utf-8")

    chosen = "ugrnn or fast_weights"
    options = ("-q", "-k", chosen, "-p", "no:cacheprovider", "-p", "no:xdist")
    tests = [tmp_path / "tests" / name for name in TABLE_DRIVEN]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert int(passed[1]) >= 60, done.stdout


def test_the_guide_is_short():
    """Its backward, imports and all."""
    written = [line for line in _guide_code().splitlines() if line.strip()]
    assert len(written) <= 42
    written = [line for line in _guide_code(1).splitlines() if line.strip()]
    assert len(written) <= 80


def test_the_guide_points_at_what_is_there():
    text = (DOCS / "adding_a_cell.md").read_text(encoding="utf-8")
    cells = DOCS.parent / "lstm_jax" / "cells"
    for name in re.findall(r"`(\w+\.py)`", text):
        assert (cells / name).exists() or (DOCS / name).exists(), name
