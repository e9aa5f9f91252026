"""A report as a table in the terminal."""

from typing import Any

ORACLES = ("automatic", "graph", "forward", "numerical")


def fill(table: Any, report: Any) -> Any:
    """Adds the columns and rows of `report` to an empty `rich.table.Table`."""
    from rich import box

    table.box = box.SIMPLE_HEAD
    table.title_justify = "left"
    for left in ("check", "gradient", "through"):
        table.add_column(left, no_wrap=True)
    asked = {oracle for row in report.rows for oracle in row.errors}
    oracles = [o for o in ORACLES if o != "forward" or o in asked]
    for right in (*oracles, "worst at"):
        table.add_column(right, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    last = None
    for row in report.rows:
        if last not in (None, row.where):
            table.add_section()
        errors = [
            f"{row.errors[oracle]:.1e}" if oracle in row.errors else "–"
            for oracle in oracles
        ]
        table.add_row(
            row.where if row.where != last else "",
            row.quantity,
            _through(row.through),
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


def _through(equations: tuple[int, ...]) -> str:
    """Their numbers; of many, the first and the last."""
    numbers = [str(number) for number in equations]
    if len(numbers) > 3:
        numbers = [numbers[0], "…", numbers[-1]]
    return f"({', '.join(numbers)})" if numbers else ""
