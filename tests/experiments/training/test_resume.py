"""Runs that are killed, interrupted or damaged, and go on as if nothing had been."""

import json
import os
import random
import signal
import time

import pytest
from tiny_run import assert_same_run, compilation_cache, programs

from experiments.training import Options, read_metrics

__all__ = ["compilation_cache", "programs"]  # fixtures

OFTEN = Options(checkpoint_every=4)  # every other segment


def changes(file, program):
    """Waits for changes of a file, as long as the program lives; counts them."""
    seen = file.stat().st_mtime_ns if file.exists() else None
    count = 0
    while program.exitcode is None:
        now = file.stat().st_mtime_ns if file.exists() else None
        if now != seen:
            seen, count = now, count + 1
            yield count
        time.sleep(0.002)


def steps_of(folder):
    return [row for row in read_metrics(folder) if row["kind"] == "step"]


def test_killed_ten_times_it_comes_to_the_same_bits(programs):
    whole = programs.run("whole")
    rng = random.Random(0)
    for _ in range(10):
        killed = rng.randint(1, 4), rng.uniform(0, 0.03)
        program = programs.start("killed", OFTEN, killed=killed)
        assert programs.end(program) == -signal.SIGKILL, programs.said("killed")
        assert not (programs.home / "killed" / "result.json").exists()
    assert_same_run(programs.run("killed"), whole)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_complete_record(programs, kind):
    whole = programs.run("whole")
    program = programs.start("signalled")
    folder = programs.home / "signalled"
    for count in changes(folder / "metrics.jsonl", program):
        if count == 3:
            os.kill(program.pid, kind)
    assert programs.end(program) == 128 + kind
    result = json.loads((folder / "result.json").read_text())
    assert result["interrupted"] == kind.name
    # The signal may come while an epoch is evaluated, which is recorded too.
    assert result["steps"] == len(steps_of(folder)) > 0
    assert (folder / "states" / str(result["steps"])).is_dir()
    assert "the same command goes on from here" in programs.said("signalled")
    assert_same_run(programs.run("signalled"), whole)
    assert f"after step {result['steps']}" in " ".join(
        programs.said("signalled").split()
    )
    result = json.loads((folder / "result.json").read_text())
    assert result["interrupted"] is None
