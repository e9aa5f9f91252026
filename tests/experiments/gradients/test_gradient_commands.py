"""The commands that look at gradients: what they write, say and refuse."""

import json
import re

import jax
import pytest

from experiments import compare_gradients, forward_gradients, gradient_flow
from experiments.command import execute
from experiments.gradients import comparison
from lstm_jax.cells import CELLS

pytestmark = pytest.mark.jax_defaults

COMMANDS = {"compare_gradients": compare_gradients, "gradient_flow": gradient_flow}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--cells", "lstn"), "cell must be one of .*'lstm'.*:NAME; got 'lstn'"),
        (
            ("--cells", "gru", "--seed", f"1{20 * '0'}"),
            "seed must be at most 429",
        ),
        (("--cells", "gru", "--seed", "-1"), "seed must be at least 0"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(name, arguments, told, tmp_path, capsys):
    given = [*arguments, "--out", str(tmp_path)]
    assert COMMANDS[name].main(given) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(f"^error: {told}", said)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", COMMANDS)
def test_usage_is_the_command(name, capsys):
    with pytest.raises(SystemExit):
        COMMANDS[name].main(["--help"])
    said = capsys.readouterr().out
    assert said.startswith(f"usage: python -m experiments.{name} ")
    assert "--cells" in said


def test_the_flow_is_written_drawn_and_its_place_told(own_cell, tmp_path, capsys):
    given = ["--cells", f"{own_cell}:NAME", "--steps", "4", "--batch", "2"]
    given += ["--input-size", "2", "--hidden-size", "3", "--forget-biases", "1"]
    assert gradient_flow.main([*given, "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "result.json").read_text())
    assert set(found["cells"]) == {"name"}
    assert found["cells"]["name"]["h"][0] == pytest.approx(1)
    assert (tmp_path / "gradient_flow.png").read_bytes().startswith(b"\x89PNG")
    assert f"see {tmp_path}" in "".join(capsys.readouterr().err.splitlines())


def test_a_gradient_that_is_rounding_alone_is_no_error():
    """The sLSTM's stabilizer has no gradient: what is left of its terms is 1e-17."""
    config = comparison.ComparisonConfig(lengths=(1, 5))
    with jax.enable_x64(True):
        errors = comparison.errors_at_lengths(CELLS["slstm"], config)
    assert all(error < 1e-12 for at_length in errors for error in at_length.values())


def test_the_comparison_is_written_drawn_and_its_place_told(own_cell, tmp_path, capsys):
    given = ["--cells", f"{own_cell}:NAME", "--lengths", "1", "2", "--repeats", "1"]
    given += ["--cost-shape", "3", "2", "2", "3", "--out", str(tmp_path)]
    assert compare_gradients.main(given) == 0
    found = json.loads((tmp_path / "name" / "result.json").read_text())
    assert found["ok"]
    for errors in found["lengths"]["errors"]:
        assert set(errors) == {"automatic", "graph", "forward"}
        assert max(errors.values()) < 1e-12
    for picture in ("name/gradients.png", "overview.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
    said = "".join(capsys.readouterr().err.splitlines())
    assert f"see {tmp_path / 'name'}" in said
    assert f"see {tmp_path / 'overview.png'}" in said


def test_the_gradient_carried_forward_is_whole_and_kept(tmp_path, capsys):
    given = ["--preset", "quick", "--seeds", "1", "--runs", str(tmp_path)]
    given += ["--steps", "10", "--hidden-size", "3"]  # as some of what is compared
    assert execute(forward_gradients.PROGRAM, given) == 0
    folder = tmp_path / "forward_gradients" / "quick"
    found = json.loads((folder / "result.json").read_text())
    one, four = found["windows"].values()
    assert found["carried"] < 1e-12 < four < one
    assert (folder / "forward_gradients.png").read_bytes().startswith(b"\x89PNG")
    assert "carried forward" in capsys.readouterr().out
    before = (folder / "result.json").stat().st_mtime_ns
    assert execute(forward_gradients.PROGRAM, given) == 0
    assert (folder / "result.json").stat().st_mtime_ns == before
    assert execute(forward_gradients.PROGRAM, [*given, "--cell", "lstn"]) == 1
    assert "cell must be one of" in capsys.readouterr().err
