"""Sentiment of IMDB reviews: an LSTM trained through its hand-derived backward."""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from experiments.command import chosen_preset, read
from experiments.sentiment import PRESETS, Config, precision, print_scores, train
from experiments.training import Options, launch

OPTION = re.compile(r"--[a-z][a-z-]+(=.*)?|-h")
"""What is taken for an option, and not for a text, behind --predict."""


@dataclass(frozen=True)
class Arguments:
    """Trains a sentiment classifier, or scores text with a trained one.

    Attributes:
        config: the run.
        options: how it is carried out.
        preset: where the values not given come from.
        name: the run's folder under --runs; the preset's name if not given.
        runs: where runs are.
        predict: name the class of this text with the run of that name instead of
            training, and draw how the score changes in it; "-" takes each line of
            standard input.
    """

    config: Annotated[Config, tyro.conf.arg(name="")]
    options: Annotated[Options, tyro.conf.arg(name="")]
    preset: Literal["quick", "default", "best"] = "default"
    name: str | None = None
    runs: Path = Path("runs/imdb")
    predict: str | None = None

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.runs / (self.name or self.preset)


def parse(arguments: Sequence[str] | None = None) -> Arguments:
    """Reads the command line: a preset, and what is given beside it."""
    arguments = _joined(sys.argv[1:] if arguments is None else arguments)
    preset = chosen_preset(PRESETS, arguments)
    default = Arguments(PRESETS[preset], Options(), preset)
    return read(Arguments, "imdb", None, arguments, default)


def _joined(arguments: Sequence[str]) -> list[str]:
    """Joins --predict and its text, which may begin with "-" as options do."""
    given = list(arguments)
    if "--predict" in given[:-1]:
        place = given.index("--predict")
        if not OPTION.fullmatch(text := given[place + 1]):
            given[place : place + 2] = [f"--predict={text}"]
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    given = parse(arguments)

    def command(console: Console) -> str | None:
        if given.predict is not None:
            return print_scores(given.folder, given.predict)
        with precision(given.config.dtype):
            result = train(given.config, given.folder, given.options, console)
        return result["interrupted"]

    return launch(command, given.options)


if __name__ == "__main__":
    sys.exit(main())
