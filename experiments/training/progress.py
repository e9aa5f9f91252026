"""A progress bar: steps done, their speed, the time left, and what else is told."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)


@contextmanager
def progress_bar(
    console: Console, label: str, steps: int
) -> Generator[Callable[..., None]]:
    """A bar, as long as it is entered; gives ``show(step, told="")`` to move it."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[told]}"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(label, total=steps, told="compiling")

        def show(step: int, told: str = "") -> None:
            bar.update(task, completed=step)
            speed = bar.tasks[0].speed  # known from the second time on
            speed_told = "" if speed is None else f"{speed:.1f} steps/s  "
            bar.update(task, told=speed_told + told)

        yield show
