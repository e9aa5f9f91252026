"""A report as a table in the terminal."""

from typing import Any

ORACLES = ("automatic", "graph", "numerical")


def fill(table: Any, report: Any) -> Any:
    """Adds the columns and rows of `report` to an empty `rich.table.Table`."""
    from rich import box

    table.box = box.SIMPLE_HEAD
    table.title_justify = "left"
    table.add_column("check")
    table.add_column("gradient")
    table.add_column("through")
    for oracle in ORACLES:
        table.add_column(oracle, justify="right")
    table.add_column("worst at", justify="right")
    table.add_column("")
    last = None
    for row in report.rows:
        if last not in (None, row.where):
            table.add_section()
        errors = [
            f"{row.errors[oracle]:.1e}" if oracle in row.errors else "–"
            for oracle in ORACLES
        ]
        table.add_row(
            row.where if row.where != last else "",
            row.quantity,
            " ".join(f"({number})" for number in row.through),
            *errors,
            ", ".join(map(str, row.worst)),
            "[green]ok[/]" if row.passed else "[bold red]WRONG[/]",
        )
        last = row.where
    if report.orders:
        orders = ", ".join(f"{where} {o:.2f}" for where, o in report.orders.items())
        table.caption = f"Order of the Taylor remainder (2 if right): {orders}"
        table.caption_justify = "left"
    return table
