"""The same training on four devices, in one process and in two, to rounding."""

import json
import re
import signal
import socket
import time

import numpy as np
import pytest
from tiny_run import Config, compilation_cache, final, programs, programs_in

from experiments.training import Options, on_devices, read_metrics

__all__ = ["compilation_cache", "programs"]  # fixtures

SHORT = Config(epochs=1)


@pytest.fixture(scope="module")
def single(tmp_path_factory, compilation_cache):
    """The run that nothing disturbs, on one device."""
    with programs_in(tmp_path_factory.mktemp("home"), compilation_cache) as programs:
        return programs.run("single", config=SHORT)


def assert_close_runs(one, other):
    """The same lines and the same last state, to rounding."""
    for mine, theirs in zip(read_metrics(one), read_metrics(other), strict=True):
        assert mine.pop("kind") == theirs.pop("kind")
        assert mine == pytest.approx(theirs, rel=1e-4, abs=1e-6)
    for mine, theirs in zip(final(one), final(other), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("mesh", ["data=4", "data=2,hidden=2"])
def test_four_devices_of_a_process(programs, single, mesh):
    many = programs.run("many", Options(mesh=mesh), SHORT, devices=4)
    assert json.loads((many / "result.json").read_text())["mesh"] == mesh
    assert_close_runs(many, single)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data"], r"mesh must be like data=4 .* got 'data'"),
        (["model=2"], "got 'model=2'"),
        (["data=2,data=2"], "got 'data=2,data=2'"),
        (["data=0"], "got 'data=0'"),
        (["data=-1"], "got 'data=-1'"),
        (["data=512"], r"mesh \{'data': 512\} is of 512 devices, and there are \d+"),
        (["data=1", 0], "processes must be at least 1; got 0"),
    ],
)
def test_a_mesh_that_cannot_be(arguments, message):
    processes = arguments[1:] or [1]
    with (
        pytest.raises(ValueError, match=message),
        on_devices(arguments[0], processes=processes[0]),
    ):
        pytest.fail("it was entered")


def test_a_batch_that_cannot_be_split(programs):
    program = programs.start("odd", Options(mesh="data=3"), SHORT, devices=4)
    assert programs.end(program) == 1
    said = "error: a batch of 4 rows cannot be split evenly over 3 devices"
    assert said in programs.said("odd")


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def start_two(programs, checkpoint_every):
    """Two processes of two devices, on this machine."""
    given = {"coordinator": f"localhost:{free_port()}", "processes": 2}
    given |= {"mesh": "data=4", "checkpoint_every": checkpoint_every}
    options = [Options(process_id=n, **given) for n in (0, 1)]
    return [programs.start("two", o, SHORT, devices=2) for o in options]


@pytest.mark.parametrize("dies", [0, 1], ids=["the first", "the second"])
def test_two_processes(programs, single, dies):
    """One dies and the other ends with an error; together they go on from there.

    The first is the one that both ask who is alive, and that writes the records.
    """
    pair = start_two(programs, 4)
    while not (programs.home / "two" / "states" / "4").is_dir():
        assert [p.exitcode for p in pair] == [None, None], programs.said("two")
        time.sleep(0.01)
    pair[dies].kill()
    assert programs.end(pair[1 - dies], 90) not in (0, None)  # 100 is JAX's own
    assert programs.end(pair[dies]) == -signal.SIGKILL
    assert re.search("another (task|of the processes|process)", programs.said("two"))
    assert not (programs.home / "two" / "result.json").exists()
    pair = start_two(programs, 100)
    assert [programs.end(p) for p in pair] == [0, 0], programs.said("two")
    assert "continuing the run" in programs.said("two")
    assert_close_runs(programs.home / "two", single)
