"""All experiments as jobs: what runs, what fails, what is told."""

import signal
from pathlib import Path

import pytest

from experiments import (
    cell_variants,
    command,
    everything,
    forward_gradients,
    state_tracking,
)
from experiments.tasks import EXPERIMENTS
from experiments.tasks.state_tracking import CELLS
from experiments.tasks.variants import TASKS

PROGRAMS = {name: command.program(own) for name, own in EXPERIMENTS.items()}
PROGRAMS["cell_variants"] = cell_variants.PROGRAM
PROGRAMS["forward_gradients"] = forward_gradients.PROGRAM
PROGRAMS["state_tracking"] = state_tracking.PROGRAM


@pytest.mark.parametrize(
    "job", everything.JOBS, ids=lambda job: "_".join(job.arguments)
)
def test_jobs_are_commands(job):
    module, *arguments = job.arguments
    given = command.parse(PROGRAMS[module], arguments)
    assert job.folder == f"{module}/{given.name or given.preset}"
    assert given.config.seeds >= 3


def test_jobs_are_all_experiments_and_all_tasks():
    assert {job.arguments[0] for job in everything.JOBS} >= {
        *(set(EXPERIMENTS) - {"reviews", "regression", "series"}),
        "cell_variants",
    }
    compared = [j.arguments[2] for j in everything.JOBS if "--tasks" in j.arguments]
    assert sorted(compared) == sorted(TASKS)
    tracking = [j for j in everything.JOBS if j.arguments[0] == "state_tracking"]
    assert sorted(cell for j in tracking for cell in j.arguments[2:]) == sorted(CELLS)


JOBS = (
    everything.Job("One", ("one",), "one/default"),
    everything.Job("Bad", ("bad",), "bad/default"),
    everything.Job("Two", ("two", "--preset", "x"), "two/x"),
)
STAND_IN = """#!/bin/sh
# Called as: -m experiments.NAME ... --runs FOLDER --resume
name=${2#experiments.}
for last; do case $before in --runs) runs=$last;; esac; before=$last; done
folder=$runs/$name/default
[ "$3" = --preset ] && folder=$runs/$name/$4
mkdir -p "$folder"
case $name in
  bad) echo 'it broke' >&2; exit 1;;
  slow) trap 'echo ended > "$folder/results.md"; exit 143' TERM
        touch "$runs/begun"; while :; do sleep 0.05; done;;
  *) echo "| table of $name $before |" > "$folder/results.md";;
esac
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A program in the place of Python, which trains nothing."""
    program = tmp_path / "python"
    program.write_text(STAND_IN)
    program.chmod(0o755)
    monkeypatch.setattr(everything.sys, "executable", str(program))


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("cores", [1, None])
def test_all_run_and_a_failure_is_told(tmp_path, capsys, cores):
    options = everything.Options(runs=tmp_path / "runs", cores=cores)
    assert everything.main(options, JOBS) == 1
    said = capsys.readouterr()
    expected = (
        "### One\n\n| table of one --resume |\n\n### Two\n\n| table of two --resume |\n"
    )
    assert said.out == expected
    assert (options.runs / "results.md").read_text() == expected
    assert "failed: bad" in said.err
    assert "it broke" in (options.runs / "logs" / "bad.txt").read_text()
    good = everything.Options(runs=tmp_path / "runs", resume=False)
    assert everything.main(good, JOBS[:1]) == 0
    assert "--no-resume" in capsys.readouterr().out


@pytest.mark.usefixtures("stand_in")
def test_a_signal_ends_what_runs_and_begins_nothing(tmp_path, capsys, monkeypatch):
    options = everything.Options(runs=tmp_path / "runs", cores=1)
    jobs = (everything.Job("Slow", ("slow",), "slow/default"), *JOBS)

    def sleep(seconds):
        if (options.runs / "begun").exists():
            signal.raise_signal(signal.SIGTERM)
            monkeypatch.undo()

    monkeypatch.setattr(everything.time, "sleep", sleep)
    assert everything.main(options, jobs) == 143
    assert (options.runs / "slow/default/results.md").read_text() == "ended\n"
    assert not (options.runs / "one").exists()


@pytest.mark.usefixtures("stand_in")
def test_a_job_has_a_core_of_its_own(tmp_path, monkeypatch):
    pinned = []
    monkeypatch.setattr(
        everything.os, "sched_setaffinity", lambda *a: pinned.append(a), raising=False
    )
    process = everything.start(JOBS[0], 3, everything.Options(runs=tmp_path))
    assert process.wait() == 0
    assert pinned == [(process.pid, {3})]


def test_the_readme_shows_every_table():
    text = (Path(everything.__file__).parent / "README.md").read_text("utf-8")
    for job in everything.JOBS:
        assert f"### {job.title}\n" in text
