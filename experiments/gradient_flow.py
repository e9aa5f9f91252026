"""How gradients travel back through time, for each cell and forget bias."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from experiments import plots
from experiments.command import read
from experiments.gradients import FlowConfig, flow, flow_of
from experiments.tasks import find_cells
from experiments.training import launch
from lstm_jax.cells import CELLS
from lstm_jax.files import write_whole


def run(config: FlowConfig, console: Console) -> dict[str, Any]:
    """Measures, prints, draws, and writes result.json."""
    chosen = find_cells(config.cells or CELLS, CELLS)
    biases = {
        f"{bias:g}": flow_of(CELLS["lstm"], config, forget_bias=bias)
        for bias in config.forget_biases
    }
    cells = {cell.name: flow_of(cell, config) for cell in chosen}
    result = {
        "config": {**dataclasses.asdict(config), "out": str(config.out)},
        "forget_biases": biases,
        "cells": cells,
    }
    write_whole(config.out / "result.json", json.dumps(result, indent=1).encode())
    Console(width=100).print(_table(biases, cells))
    console.print(f"see {config.out}", highlight=False)
    plots.gradient_flow(config.out / "gradient_flow.png", biases, cells)
    return result


def _table(biases: dict[str, Any], cells: dict[str, Any]) -> Table:
    steps = len(next(iter(cells.values()))["h"])
    places = sorted({min(k, steps - 1) for k in (1, 10, 30, 99)})
    table = Table(title="‖dq_t‖ / ‖dh_T‖, so many steps before the last")
    table.add_column("cell")
    table.add_column("gradient")
    for place in places:
        table.add_column(f"{place}", justify="right")
    rows = {f"lstm, forget bias {bias}": flow for bias, flow in biases.items()} | cells
    for name, norms in rows.items():
        for field, values in norms.items():
            shown = [f"{values[place]:.1e}" for place in places]
            table.add_row(name if field == "h" else "", f"d{field}", *shown)
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    config = read(FlowConfig, "gradient_flow", flow.__doc__, arguments)

    def command(console: Console) -> None:
        run(config, console)

    return launch(command)


if __name__ == "__main__":
    sys.exit(main())
