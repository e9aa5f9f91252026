"""What each ingredient of the IMDB classifier gives: the preset with one thing changed.

Every change is trained with several seeds, and compared with the preset itself seed by
seed: the mean of the differences in validation accuracy, and the interval in which it
lies with 95% confidence, by Student's t. It takes as long as so many runs of
`experiments.imdb`; interrupted, it goes on where it was.
"""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
from rich.console import Console

from experiments.checks import at_least
from experiments.confidence import half_width
from experiments.sentiment import training
from experiments.sentiment.config import PRESETS, Config
from experiments.tables import markdown
from experiments.training import Options
from lstm_jax.files import write_whole

CHANGES: MappingProxyType[str, dict[str, Any]] = MappingProxyType(
    {
        "words alone": {"ngrams": 0},
        "ratios of single words": {"ngrams": 1},
        "ratios of words and pairs": {"ngrams": 2},
        "four networks": {"networks": 4},
        "no word dropout": {"word_dropout": 0.0},
        "no embedding dropout": {"embedding_dropout": 0.0},
        "no head dropout": {"head_dropout": 0.0},
        "no weight averaging": {"average_decay": 0.0},
        "pooling: last state only": {"pooling": ("last",)},
        "both directions": {"bidirectional": True},
        "the last 400 words": {"max_length": 400},
        "GRU": {"cell": "gru"},
    }
)
"""What is changed, one thing at a time; what a preset has anyway is left out."""


def variants(base: Config) -> dict[str, Config]:
    """The preset, and by what is changed, all that differ from it."""
    changed = {
        name: dataclasses.replace(base, **change) for name, change in CHANGES.items()
    }
    differing = {name: config for name, config in changed.items() if config != base}
    return {"as it is": base, **differing}


def compare(
    preset: str, seeds: int, home: Path, options: Options, console: Console
) -> str | None:
    """Trains what is not trained yet, and writes results.md after every variant.

    Returns:
        The signal that ended it early, or None.

    Raises:
        ValueError: fewer than 2 seeds.
    """
    at_least(2, seeds=seeds)
    accuracies: dict[str, list[float]] = {}
    for name, config in variants(PRESETS[preset]).items():
        of_seeds = []
        for seed in range(seeds):
            folder = home / name.replace(": ", " ").replace(" ", "_") / str(seed)
            console.print(f"{name}, seed {seed}", highlight=False)
            own = dataclasses.replace(config, seed=seed)
            result = training.train(own, folder, options, console)
            jax.clear_caches()  # dozens of runs would exhaust a process's mappings
            if result["interrupted"]:
                return result["interrupted"]
            of_seeds.append(result["accuracy"])
        accuracies[name] = of_seeds
        write_whole(home / "results.md", table(accuracies).encode())
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
