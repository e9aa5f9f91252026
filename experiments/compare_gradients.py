"""Every gradient five ways: manual, automatic, by the graph, numerical, forward."""

import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from experiments import plots
from experiments.checks import at_least, check_seed
from experiments.command import read
from experiments.gradients import ComparisonConfig, compare, comparison
from experiments.tasks import find_cells
from experiments.training import launch
from lstm_jax.cells import CELLS
from lstm_jax.files import write_whole
from lstm_jax.gradcheck import check_gradients


def run(config: ComparisonConfig, console: Console) -> dict[str, Any]:
    """Compares each cell; prints, draws, and writes result.json."""
    check_seed(config.seed)
    at_least(1, repeats=config.repeats, lengths=min(config.lengths, default=0))
    results = {}
    shown = Console(width=100)
    for cell in find_cells(config.cells or CELLS, CELLS):
        report = check_gradients(cell, steps=0, seed=config.seed)
        result = compare(cell, report, config)
        results[cell.name] = result
        shown.print(report.table(), _table(result))
        folder = config.out / cell.name
        write_whole(folder / "result.json", json.dumps(result, indent=1).encode())
        plots.gradient_comparison(folder / "gradients.png", cell.name, result)
        console.print(f"see {folder}", highlight=False)
    plots.gradient_overview(config.out / "overview.png", results)
    console.print(f"see {config.out / 'overview.png'}", highlight=False)
    return results


def _table(result: dict[str, Any]) -> Table:
    table = Table(title=f"{result['cell']}: by length, and what it costs")
    for column in ("", "manual = automatic", "manual = graph", "manual = forward"):
        table.add_column(column, justify="right")
    lengths = result["lengths"]
    for steps, errors in zip(lengths["steps"], lengths["errors"], strict=True):
        shown = (f"{errors[name]:.1e}" for name in ("automatic", "graph", "forward"))
        table.add_row(f"{steps} steps", *shown)
    table.add_section()
    best = min(result["differences"]["central"])
    table.add_row("central differences, at best", f"{best:.1e}", "")
    table.add_section()
    table.add_row("", "manual", "automatic")
    for unit, label in (("milliseconds", "time, ms"), ("temporary_mib", "MiB")):
        shown = (f"{result['cost'][g][unit]:.2f}" for g in ("manual", "automatic"))
        table.add_row(label, *shown)
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    told = comparison.__doc__
    config = read(ComparisonConfig, "compare_gradients", told, arguments)

    def command(console: Console) -> None:
        run(config, console)

    return launch(command)


if __name__ == "__main__":
    sys.exit(main())
