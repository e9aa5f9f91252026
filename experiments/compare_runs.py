"""Any set of runs side by side: a table in Markdown, and a picture of their curves."""

import json
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import tyro
from rich.console import Console

from experiments import plots
from experiments.command import read
from experiments.tables import markdown
from experiments.training import Records, launch, read_metrics
from lstm_jax.files import write_whole


@dataclass(frozen=True)
class Arguments:
    """What to compare.

    Attributes:
        runs: folders of runs, finished or not, and folders of such folders.
        out: the table and the picture go there.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    out: Path = Path("runs/compared")


class RunRecord(NamedTuple):
    """What a run's folder tells.

    Attributes:
        name: the folder's, told apart from all others.
        config: what the run follows from.
        evaluations: the rows of metrics.jsonl that measure.
        result: what result.json says; empty before the end.
    """

    name: str
    config: dict[str, Any]
    evaluations: list[dict[str, Any]]
    result: dict[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        """The config, and the beginning of each checksum of its data."""
        sums = {k: v[:8] for k, v in self.result.items() if k.endswith("_sha256")}
        return {**self.config, **sums}

    @property
    def state(self) -> str:
        """Whether it came to its end."""
        if not self.result:
            return "unfinished"
        return self.result.get("interrupted") or "finished"


def read_runs(
    folders: Sequence[Path], left_out: Callable[[str], None] = warnings.warn
) -> list[RunRecord]:
    """The runs in these folders, and in folders inside of them.

    Args:
        folders: where to look.
        left_out: told of each run whose records are broken.

    Raises:
        FileNotFoundError: there is none in one of them.
        ValueError: all are broken.
    """
    found = []
    for folder in folders:
        inside = sorted(file.parent for file in folder.rglob("metrics.jsonl"))
        if not inside:
            raise FileNotFoundError(f"{folder}: there is no run here")
        found += inside
    found = list(dict.fromkeys(path.resolve() for path in found))
    shared, sound = _shared_parts(found), []
    for path in found:
        try:
            sound.append(_read(path, "/".join(path.parts[shared:])))
        except ValueError as error:
            left_out(f"left out: {error}")
    if not sound:
        raise ValueError("no run here can be read")
    return sound


def _shared_parts(folders: Sequence[Path]) -> int:
    """How many parts of their paths all folders have in common, the last kept."""
    parents = [folder.parent.parts for folder in folders]
    columns = zip(*parents, strict=False)
    same = [len(set(column)) == 1 for column in columns]
    return (*same, False).index(False)


def _read(folder: Path, name: str) -> RunRecord:
    records, file = Records(folder), folder / "metrics.jsonl"
    rows = [row for row in read_metrics(folder) if row.get("kind") == "evaluation"]
    for row in rows:
        if not isinstance(row.get("step"), int):
            raise ValueError(f"{file}: an evaluation without its step: {row}")
        for measure, value in row.items():
            if measure != "kind" and not _is_number(value):
                raise ValueError(f"{file}: {measure} cannot be {value!r}")
    config, result = records.read("config") or {}, records.read_result() or {}
    shown = {"steps", "seconds"}.union(*rows) - {"kind"}
    for key in shown & result.keys():
        if not _is_number(result[key]):
            raise ValueError(f"{folder}/result.json: {key} cannot be {result[key]!r}")
    return RunRecord(name, config, rows, result)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | None)


# --- the table --------------------------------------------------------------------


def measures_of(runs: Sequence[RunRecord]) -> list[str]:
    """The names of all measures, in the order they come in."""
    names = dict.fromkeys(
        name for run in runs for row in run.evaluations for name in row
    )
    return [name for name in names if name not in ("kind", "epoch", "step", "seed")]


def table(runs: Sequence[RunRecord]) -> str:
    """A row for each run: where its config or its data differ, its measures, its cost.

    A measure is that of result.json, or else of the last evaluation.
    """
    measures = measures_of(runs)
    settings = [run.settings for run in runs]
    fields = [
        field
        for field in dict.fromkeys(field for known in settings for field in known)
        if field != "steps"
        and len({json.dumps(known.get(field)) for known in settings}) > 1
    ]
    head = ("run", *fields, *measures, "steps", "time", "state")
    rows = [
        (
            run.name,
            *(_setting(known.get(field)) for field in fields),
            *(_measure(run, name) for name in measures),
            str(run.result.get("steps", _last_step(run))),
            f"{run.result['seconds']:.0f} s" if "seconds" in run.result else "",
            run.state,
        )
        for run, known in zip(runs, settings, strict=True)
    ]
    return markdown([name.replace("_", " ") for name in head], rows)


def _setting(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _measure(run: RunRecord, name: str) -> str:
    """The value; the mean ± standard deviation where there are several seeds."""
    mean, spread = run.result.get(name), run.result.get(f"{name}_std")
    if mean is None:
        last = [row for row in run.evaluations if row["step"] == _last_step(run)]
        values = [row[name] for row in last if row.get(name) is not None]
        mean = float(np.mean(values)) if values else None
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    if mean is None:
        return ""
    return f"{mean:.4f}" if spread is None else f"{mean:.4f} ± {spread:.4f}"


def _last_step(run: RunRecord) -> int:
    return max((row["step"] for row in run.evaluations), default=0)


# --- the picture ------------------------------------------------------------------


def curves(
    runs: Sequence[RunRecord], measure: str
) -> dict[str, tuple[list[int], list[float]]]:
    """For each run that has the measure: steps, and the mean over seeds at each."""
    found = {}
    for run in runs:
        values: dict[int, list[float]] = {}
        for row in run.evaluations:
            if row.get(measure) is not None:
                values.setdefault(row["step"], []).append(row[measure])
        if values:
            steps = sorted(values)
            found[run.name] = steps, [float(np.mean(values[step])) for step in steps]
    return found


def compare(given: Arguments, console: Console) -> None:
    """Prints the table, and writes it and the picture."""
    runs = read_runs(given.runs, partial(console.print, highlight=False))
    text = table(runs)
    print(text, end="", flush=True)
    write_whole(given.out / "table.md", text.encode())
    console.print(f"see {given.out}", highlight=False)
    panels = {name: curves(runs, name) for name in measures_of(runs)}
    if panels:
        plots.run_curves(given.out / "curves.png", panels)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    given = read(Arguments, "compare_runs", __doc__, arguments)
    return launch(lambda console: compare(given, console))


if __name__ == "__main__":
    sys.exit(main())
