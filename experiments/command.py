"""The command lines: presets, a run's name and folder, errors in a line."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

import tyro
from rich.console import Console

from experiments.tasks import Experiment, draw, run
from experiments.training import Options, launch

C = TypeVar("C")
A = TypeVar("A")

CHECKPOINT_EVERY = 500
"""Steps: what a kill may cost is some seconds."""


@dataclass(frozen=True)
class Arguments(Generic[C]):
    """The command line of an experiment.

    Attributes:
        config: the run.
        preset: where the values not given come from.
        name: the run's folder; the preset's name if not given.
        runs: where runs are.
        resume: keep what is done, and continue what was interrupted.
    """

    config: Annotated[C, tyro.conf.arg(name="")]
    preset: str = "default"
    name: str | None = None
    runs: Path = Path("runs")
    resume: bool = True


class Program(NamedTuple):
    """A command line with presets.

    Attributes:
        name: the module's, and the folder's under runs/.
        description: what it is, for ``--help``.
        presets: configs by name, "default" among them.
        run: ``(config, folder, options, console) -> signal or None``; it writes
            results.md.
        draw: ``(config, folder) -> None``; pictures, when all else is written and told.
    """

    name: str
    description: str | None
    presets: Mapping[str, Any]
    run: Callable[[Any, Path, Options, Console], str | None]
    draw: Callable[[Any, Path], None]


def command(experiment: Experiment, arguments: Sequence[str] | None = None) -> int:
    """Runs an experiment's command line; returns the exit status."""
    return execute(program(experiment), arguments)


def program(experiment: Experiment) -> Program:
    """The command line of an experiment."""
    name, description, presets, *_ = experiment
    work = partial(run, experiment), partial(draw, experiment)
    return Program(name, description, presets, *work)


def execute(program: Program, arguments: Sequence[str] | None = None) -> int:
    """Runs a command line, prints the results; returns the exit status."""
    given = parse(program, arguments)
    folder = given.runs / program.name / (given.name or given.preset)
    options = Options(resume=given.resume, checkpoint_every=CHECKPOINT_EVERY)

    def work(console: Console) -> str | None:
        interrupted = program.run(given.config, folder, options, console)
        if (written := folder / "results.md").is_file():
            print(written.read_text("utf-8"), end="", flush=True)
        console.print(f"see {folder}", highlight=False)
        program.draw(given.config, folder)
        return interrupted

    return launch(work)


def parse(program: Program, arguments: Sequence[str] | None = None) -> Arguments[Any]:
    """Reads a program's command line: a preset, and what is given beside it."""
    preset = chosen_preset(program.presets, arguments)
    config = program.presets[preset]
    form: Any = Arguments[type(config)]  # ty: ignore[invalid-type-form]
    told = f"{program.description}\n\nPresets: {', '.join(program.presets)}."
    default = Arguments(config=config, preset=preset)
    return read(form, program.name, told, arguments, default)


def chosen_preset(
    presets: Mapping[str, Any], arguments: Sequence[str] | None = None
) -> Any:
    """The preset that a command line names, read before all else: it sets defaults."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", choices=tuple(presets), default="default")
    return first.parse_known_args(arguments)[0].preset


def read(
    form: type[A],
    name: str,
    description: str | None = None,
    arguments: Sequence[str] | None = None,
    default: A | None = None,
) -> A:
    """Reads the command line of ``python -m experiments.NAME`` into a dataclass."""
    return tyro.cli(
        form,
        args=arguments,
        prog=f"python -m experiments.{name}",
        description=description,
        default=tyro.MISSING_NONPROP if default is None else default,
    )
