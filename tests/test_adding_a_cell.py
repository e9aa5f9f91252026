"""The guide's cell and the skeleton: built from their own text, and checked."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import lstm_jax as lj
from lstm_jax.gradcheck import check_gradients

DOCS = Path(__file__).parents[1] / "docs"


def _guide_code():
    text = (DOCS / "adding_a_cell.md").read_text(encoding="utf-8")
    return "\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL))


def _run(code):
    names = {"__name__": "guide"}
    exec(compile(code, "adding_a_cell.md", "exec"), names)
    return names


@pytest.fixture(scope="module", params=["guide", "skeleton"])
def cell(request):
    if request.param == "guide":
        return _run(_guide_code())["UGRNN"]
    return _run((DOCS / "skeleton_cell.py").read_text(encoding="utf-8"))["NAME"]


def test_gradients_are_right(cell):
    report = check_gradients(cell, steps=3, variants=("lengths",))
    assert report.ok, report.table()


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


def test_the_guide_is_short():
    """Its backward, imports and all."""
    written = [line for line in _guide_code().splitlines() if line.strip()]
    assert len(written) < 40


def test_the_guide_points_at_what_is_there():
    text = (DOCS / "adding_a_cell.md").read_text(encoding="utf-8")
    cells = DOCS.parent / "lstm_jax" / "cells"
    for name in re.findall(r"`(\w+\.py)`", text):
        assert (cells / name).exists() or (DOCS / name).exists(), name
