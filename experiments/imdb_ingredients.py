"""What each ingredient of the IMDB classifier gives: the preset with one thing changed.

Every change is trained with several seeds, and compared with the preset itself seed by
seed: the mean of the differences in validation accuracy, and the interval in which it
lies with 95% confidence, by Student's t. It takes as long as so many runs of
`experiments.imdb`; interrupted, it goes on where it was.
"""

import dataclasses
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

import jax
import tyro
from rich.console import Console

from experiments import imdb
from experiments.command import markdown
from experiments.confidence import half_width
from experiments.training import Options, Records, launch
from lstm_jax.files import write_whole

CHANGES: MappingProxyType[str, dict[str, Any]] = MappingProxyType(
    {
        "no word dropout": {"word_dropout": 0.0},
        "no embedding dropout": {"embedding_dropout": 0.0},
        "no head dropout": {"head_dropout": 0.0},
        "no weight decay": {"weight_decay": 0.0},
        "no weight averaging": {"average_decay": 0.0},
        "label smoothing of 0.1": {"label_smoothing": 0.1},
        "pooling: last state only": {"pooling": ("last",)},
        "pooling: mean only": {"pooling": ("mean",)},
        "both directions": {"bidirectional": True},
        "word vectors of 128": {"embedding_size": 128},
        "the last 400 words": {"max_length": 400},
        "GRU": {"cell": "gru"},
    }
)
"""What is changed, one thing at a time; what a preset has anyway is left out."""


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
    preset: Literal["quick", "default", "best"] = "default"
    seeds: int = 3
    runs: Path = Path("runs/imdb_ingredients")

    @property
    def folder(self) -> Path:
        """The folder of this comparison."""
        return self.runs / self.preset


def variants(base: imdb.Config) -> dict[str, imdb.Config]:
    """The preset, and by what is changed, all that differ from it."""
    changed = {
        name: dataclasses.replace(base, **change) for name, change in CHANGES.items()
    }
    differing = {name: config for name, config in changed.items() if config != base}
    return {"as it is": base, **differing}


def compare(given: Arguments, console: Console) -> str | None:
    """Trains what is not trained yet, and writes results.md after every variant.

    Returns:
        The signal that ended it early, or None.

    Raises:
        ValueError: fewer than 2 seeds.
    """
    if given.seeds < 2:
        raise ValueError(f"seeds must be at least 2; got {given.seeds}")
    accuracies: dict[str, list[float]] = {}
    for name, config in variants(imdb.PRESETS[given.preset]).items():
        of_seeds = []
        for seed in range(given.seeds):
            folder = (
                given.folder / name.replace(": ", " ").replace(" ", "_") / str(seed)
            )
            console.print(f"{name}, seed {seed}", highlight=False)
            result = Records(folder).read("result") if given.options.resume else None
            if result is None or result["interrupted"]:
                config = dataclasses.replace(config, seed=seed)
                result = imdb.train(config, folder, given.options, console)
                jax.clear_caches()  # dozens of runs would exhaust a process's mappings
            if result["interrupted"]:
                return result["interrupted"]
            of_seeds.append(result["accuracy"])
        accuracies[name] = of_seeds
        write_whole(given.folder / "results.md", table(accuracies).encode())
    print(table(accuracies), end="")
    return None


def table(accuracies: Mapping[str, Sequence[float]]) -> str:
    """The accuracies in Markdown, and their differences from the first row's."""
    base = next(iter(accuracies.values()))
    rows = []
    for name, own in accuracies.items():
        mean, spread = statistics.mean(own), statistics.stdev(own)
        row = [name, f"{mean:.4f} ± {spread:.4f}", ""]
        if own is not base:
            gained = [a - b for a, b in zip(own, base, strict=True)]
            half = half_width(statistics.stdev(gained), len(gained))
            row[-1] = f"{100 * statistics.mean(gained):+.2f} ± {100 * half:.2f}"
        rows.append(row)
    return markdown(("", "validation accuracy", "difference, percent points"), rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    given = tyro.cli(
        Arguments,
        default=Arguments(Options()),
        args=arguments,
        prog="python -m experiments.imdb_ingredients",
        description=__doc__,
    )
    return launch(lambda console: compare(given, console), given.options)


if __name__ == "__main__":
    sys.exit(main())
