"""docs/interop.md: its examples run, and its table is what the converters do."""

import re
from pathlib import Path

import pytest

from lstm_jax.interop import keras_weights, nnx_weights, torch_weights, weights

TEXT = (Path(__file__).parents[2] / "docs/interop.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"(?ms)^## ([^\n]*)\n(.*?)(?=^## |\Z)", TEXT))
EXAMPLE = re.compile(r"(?ms)^```python\n(.*?)^```")
NEEDS = {"torch": "torch", "Keras": "keras"}


def examples():
    for title, section in SECTIONS.items():
        needs = NEEDS.get(title)
        marks = [pytest.mark.interop(needs)] if needs else []
        for block in EXAMPLE.findall(section):
            yield pytest.param(block, marks=marks, id=title)


def test_every_library_has_an_example():
    assert len(list(examples())) == 4


@pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)
@pytest.mark.jax_defaults
@pytest.mark.parametrize("block", list(examples()))
def test_the_example_runs(block, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")  # and takes back what the example sets
    exec(compile(block, "docs/interop.md", "exec"), {"__name__": "example"})


def test_the_table_of_gates():
    rows = re.findall(r"(?m)^\| (`.*) \|$", SECTIONS["The order of the gates"])
    ours = {name: kind.gates for name, kind in weights.KINDS.items()}
    libraries = (ours, torch_weights.GATES, keras_weights.GATES, nnx_weights.GATES)
    told = set()
    for row in rows:
        names, *columns = row.split("|")
        for name in re.findall(r"`(\w+)`", names):
            told.add(name)
            for column, gates in zip(columns, libraries, strict=True):
                order = re.sub(r"\(.*\)|[ ,]", "", column).replace("oneblock", "h")
                assert order == gates.get(name, ""), (name, column)
    assert told == set(ours)
