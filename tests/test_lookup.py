"""Cells by what a command line calls them."""

import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import lstm_jax as lj
from lstm_jax.cells import file_hash, find_cell
from lstm_jax.engine.compiled.__main__ import main
from lstm_jax.layers import init_layers, unroll_layers

SKELETON = Path(__file__).parent.parent / "docs/skeleton_cell.py"


def find(name):
    return find_cell(name, lj.CELLS)


def test_names_modules_and_files(own_cell):
    assert find("gru") is lj.CELLS["gru"]
    assert find("lstm_jax.cells:GRU") is lj.CELLS["gru"]
    cell = find(f"{own_cell}:NAME")
    assert cell.name == "name"
    assert find(f"{own_cell}:NAME") is cell  # run once: equal to itself
    assert lj.check_gradients(cell, steps=0).ok


def test_the_cells_of_a_file_are_told(own_cell):
    told = f"the cells there: {own_cell}:NAME$"
    for name in (f"{own_cell}:NAMES", str(own_cell)):
        with pytest.raises(ValueError, match=told):
            find(name)


def test_two_files_of_one_name_are_two(own_cell, tmp_path):
    (tmp_path / "other").mkdir()
    other = shutil.copy(own_cell, tmp_path / "other" / "my_cell.py")
    assert find(f"{own_cell}:NAME") is not find(f"{other}:NAME")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("lstn", r"one of 'rnn_tanh', .*, or module:NAME or file.py:NAME; got 'lstn'"),
        ("no.such.module:A", "there is no module no.such.module"),
        ("lstm_jax.cells:LSTN", "expected an lstm_jax.Cell, but there is nothing"),
        ("lstm_jax.cells:CELLS", "expected an lstm_jax.Cell, but it is mappingproxy"),
        ("nowhere/cell.py:A", "there is no file .*nowhere/cell.py"),
    ],
)
def test_what_is_no_cell_is_said(name, told):
    with pytest.raises(ValueError, match=told):
        find(name)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = 1\nimport absent", "line 2: ModuleNotFoundError: No module .*'absent'"),
        ("\n\ndef f(:", "line 3: SyntaxError: invalid syntax"),
        ("'a' + 1", "line 1: TypeError: "),
        ("import re\nre.compile('(')", "line 2: (re.)?(error|PatternError): missing"),
    ],
)
def test_what_a_file_raises_is_told_with_its_line(text, told, tmp_path):
    file = tmp_path / "broken.py"
    file.write_text(text)
    for _ in range(2):  # nothing half run is left behind
        with pytest.raises(ValueError, match=f"broken.py, {told}"):
            find(f"{file}:A")


def test_a_hash_of_the_file(own_cell):
    assert file_hash("lstm") is None
    before = file_hash(f"{own_cell}:NAME")
    assert file_hash(f"{own_cell}:NAME") == before == file_hash(f"{SKELETON}:NAME")
    with open(own_cell, "a") as file:
        file.write("# changed\n")
    assert file_hash(f"{own_cell}:NAME") != before
    assert file_hash("lstm_jax.cells.lstm:LSTM") != file_hash("lstm_jax.cells.gru:GRU")


def test_the_command_that_prints_kernels_takes_it(own_cell, capsys):
    main(["--cell", f"{own_cell}:NAME"])
    assert "tanh" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--cell", f"{own_cell}:NAMES"])
    assert "there is nothing of this name" in capsys.readouterr().err


def test_the_doors_take_a_name():
    gru, key = lj.CELLS["gru"], jax.random.key(0)
    params, xs = gru.init(key, 3, 4, dtype=float), jnp.ones((5, 2, 3))
    layers = init_layers("gru", key, 3, 4, dtype=float)
    pairs = [
        (lj.unroll("gru", params, xs)[0], lj.unroll(gru, params, xs)[0]),
        (
            lj.step("gru", params, None, xs[0]).h,
            lj.step(gru, params, None, xs[0]).h,
        ),
        (unroll_layers("gru", layers, xs)[0], unroll_layers(gru, layers, xs)[0]),
    ]
    for named, given in pairs:
        assert jnp.array_equal(named, given)
    assert lj.runner_of("gru", params) == lj.runner_of(gru, params)
    assert lj.mixed_precision("gru") == lj.mixed_precision(gru)
