"""All experiments, each with several seeds, and the table of what they found.

Every job is a command that can be given by itself. Each has a processor core of its
own, so that times compare; as many run at once as there are cores. What they write is
in runs/, their output in runs/logs, and the tables together in runs/results.md.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from experiments.command import read
from experiments.tasks import state_tracking
from experiments.training import Interrupts
from lstm_jax.files import write_whole


class Job(NamedTuple):
    """A command, and where its table is.

    Attributes:
        title: of the table.
        arguments: after ``python -m experiments.``: the module, and its own.
        folder: under runs/, where it leaves results.md. The table of jobs with the
            same folder is shown once.
    """

    title: str
    arguments: tuple[str, ...]
    folder: str


def _variants(task: str) -> Job:
    arguments = ("cell_variants", "--tasks", task)
    return Job("Which equations matter", arguments, "cell_variants/default")


def _state_tracking(*cells: str) -> Job:
    arguments = ("state_tracking", "--cells", *cells)
    return Job("State tracking", arguments, "state_tracking/default")


JOBS = (
    _state_tracking("mlstm"),
    _state_tracking(*(name for name in state_tracking.CELLS if name != "mlstm")),
    Job("Copy memory, T = 10", ("copy_memory",), "copy_memory/default"),
    Job("Language model of characters", ("characters",), "characters/default"),
    Job("Adding problem, T = 100", ("adding_problem",), "adding_problem/default"),
    *map(_variants, ("characters", "adding_problem", "copy_memory", "digits")),
    *map(_variants, ("vowels", "reviews")),
    Job("Digits, row by row", ("digits",), "digits/default"),
    Job("Digits, pixel by pixel", ("digits", "--preset", "pixels"), "digits/pixels"),
    Job(
        "Digits, pixels in a fixed random order",
        ("digits", "--preset", "permuted"),
        "digits/permuted",
    ),
    Job("Japanese vowels", ("vowels",), "vowels/default"),
    Job(
        "The gradient carried forward",
        ("forward_gradients",),
        "forward_gradients/default",
    ),
)
"""The longest first, so that no core is left with one at the end."""


@dataclass(frozen=True)
class Options:
    """How they are run.

    Attributes:
        runs: where runs are.
        cores: jobs at once; None for one on each core that this process may use.
        resume: keep what is done, and continue what was interrupted.
    """

    runs: Path = Path("runs")
    cores: int | None = None
    resume: bool = True


def main(options: Options, jobs: Sequence[Job] = JOBS) -> int:
    """Runs the jobs, prints the tables; returns the exit status."""
    console = Console(stderr=True)
    failed, interrupted = run_jobs(jobs, options, console)
    text = tables(jobs, options.runs)
    write_whole(options.runs / "results.md", text.encode())
    print(text, end="", flush=True)
    console.print(f"see {options.runs / 'results.md'}", highlight=False)
    if interrupted:
        return {"SIGINT": 130, "SIGTERM": 143}[interrupted]
    return 1 if failed else 0


def run_jobs(
    jobs: Sequence[Job], options: Options, console: Console
) -> tuple[list[Job], str | None]:
    """Runs the jobs, some at a time: those that failed, and the signal that ended it.

    SIGINT and SIGTERM are passed on, and jobs end cleanly; the same command goes on
    from there.
    """
    free = usable_cores()[: options.cores]
    waiting, running, failed = list(jobs), {}, []
    with Interrupts() as interrupts:
        while running or (waiting and not interrupts.received):
            while waiting and free and not interrupts.received:
                core, job = free.pop(0), waiting.pop(0)
                running[start(job, core, options)] = job, core, time.perf_counter()
            time.sleep(0.2)
            if interrupts.received:
                for process in running:
                    process.terminate()
            for process in [p for p in running if p.poll() is not None]:
                job, core, since = running.pop(process)
                free.append(core)
                took = time.perf_counter() - since
                left = f"{len(waiting)} to begin, {len(running)} under way"
                name = " ".join(job.arguments)
                if process.returncode and not interrupts.received:
                    failed.append(job)
                    console.print(f"failed: {name}; see {log_of(job, options.runs)}")
                else:
                    console.print(f"{name}: {took:.0f} s; {left}", highlight=False)
    return failed, interrupts.received


def start(job: Job, core: int, options: Options) -> subprocess.Popen[bytes]:
    """Starts a job on a core of its own; its output goes to a file."""
    log = log_of(job, options.runs)
    log.parent.mkdir(parents=True, exist_ok=True)
    module, *arguments = job.arguments
    resume = "--resume" if options.resume else "--no-resume"
    command = [sys.executable, "-m", f"experiments.{module}", *arguments]
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [*command, "--runs", str(options.runs), resume],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C reaches it through here, once
        )
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(process.pid, {core})
    return process


def usable_cores() -> list[int]:
    """The numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def log_of(job: Job, runs: Path) -> Path:
    """The file with a job's output."""
    name = "_".join(word.strip("-") for word in job.arguments)
    return runs / "logs" / f"{name}.txt"


def tables(jobs: Sequence[Job], runs: Path) -> str:
    """The tables of all jobs, in Markdown, each under its title."""
    titles = {job.folder: job.title for job in jobs}
    found = {
        title: (runs / folder / "results.md").read_text("utf-8")
        for folder, title in titles.items()
        if (runs / folder / "results.md").is_file()
    }
    return "\n".join(f"### {title}\n\n{text}" for title, text in found.items())


if __name__ == "__main__":
    sys.exit(main(read(Options, "everything", __doc__)))
