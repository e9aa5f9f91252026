"""What each ingredient of the IMDB classifier gives: the preset less one thing."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from experiments.command import read
from experiments.sentiment import ingredients
from experiments.training import Options, launch


@dataclass(frozen=True)
class Arguments:
    """What is compared.

    Attributes:
        options: how runs are carried out.
        preset: what is changed.
        seeds: train with the seeds 0, 1, ..., so many, at least 2.
        runs: where runs are.
    """

    options: Annotated[Options, tyro.conf.arg(name="")]
    preset: Literal["quick", "default", "words", "best"] = "default"
    seeds: int = 3
    runs: Path = Path("runs/imdb_ingredients")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    told, default = ingredients.__doc__, Arguments(Options())
    given = read(Arguments, "imdb_ingredients", told, arguments, default)
    home = given.runs / given.preset
    return launch(
        lambda console: ingredients.compare(
            given.preset, given.seeds, home, given.options, console
        ),
        given.options,
    )


if __name__ == "__main__":
    sys.exit(main())
