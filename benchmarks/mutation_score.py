"""How many planted mistakes are caught, by `lstm_jax.check_gradients` and by JAX.

Every cell's reverse is corrupted in every small way that `benchmarks.mutations` knows,
and each mutant is given to the checker here and to `jax.test_util.check_grads` at its
defaults, in float32 and in float64. Prints a table in Markdown.

    python -m benchmarks.mutation_score
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import tyro

from benchmarks.command import told
from benchmarks.mutations import Mutant, is_equivalent, mutants, passes_check_grads
from experiments.checks import check_seed
from experiments.tasks import find_cells
from lstm_jax.cell import Cell
from lstm_jax.cells import CELLS
from lstm_jax.gradcheck import check_gradients
from lstm_jax.gradcheck.points import Sizes


@dataclass(frozen=True)
class Config:
    """What is compared.

    Attributes:
        cells: names, or your own as module:NAME or file.py:NAME; none for all.
        seed: of the point where gradients are compared.
    """

    cells: tuple[str, ...] = ()
    seed: int = 0


def main(config: Config) -> None:
    """Prints one row a kind of mistake and one a cell.

    Raises:
        ValueError: a cell is not known.
    """
    check_seed(config.seed)
    cells = find_cells(config.cells or CELLS, CELLS)
    sizes = Sizes(3, 4, 2, 0, config.seed, 1e-5, 128)
    by_kind: Counter[tuple[str, str]] = Counter()
    by_cell: Counter[tuple[str, str]] = Counter()
    for cell in cells:
        for mutant, outcome in outcomes(cell, sizes):
            by_kind.update((mutant.kind, counted) for counted in outcome)
            by_cell.update((cell.name, counted) for counted in outcome)
    for title, counts in (("mistake", by_kind), ("cell", by_cell)):
        print_table(title, counts)


def outcomes(cell: Cell, sizes: Sizes) -> Iterator[tuple[Mutant, list[str]]]:
    """What each mutant that is no equivalent of the cell counts as."""
    for mutant in mutants(cell):
        outcome = ["mutants"]
        try:
            report = check_gradients(mutant.cell, steps=0, seed=sizes.seed)
        except (AttributeError, TypeError, ValueError):  # a wrong shape or tree
            outcome.append("caught")
        else:
            if report.ok:
                with jax.enable_x64(True):
                    if is_equivalent(cell, mutant.cell, sizes):
                        continue
            else:
                outcome += ["caught", *_named(mutant, report.first_wrong)]
        for label, dtype in (("float32", jnp.float32), ("float64", jnp.float64)):
            if not passes_check_grads(mutant.cell, sizes, dtype):
                outcome.append(label)
        yield mutant, outcome


def _named(mutant: Mutant, found: Any) -> list[str]:
    """Whether the report names the equation of a mutant that touches only one."""
    if not mutant.quantities:
        return []
    return ["single", "named"] if mutant.is_named_by(found) else ["single"]


def print_table(title: str, counts: Counter[tuple[str, str]]) -> None:
    """A table in Markdown: the counts of every row, and their sum."""
    print(
        f"| {title} | mutants | `check_gradients` catches | and names the equation "
        "| `check_grads` float32 | `check_grads` float64 |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: |"
    )
    rows = sorted({row for row, _ in counts})
    total: Counter[str] = Counter()
    for row in rows:
        of_row = Counter({c: n for (r, c), n in counts.items() if r == row})
        total.update(of_row)
        print(_line(row, of_row))
    print(_line("**all**", total) + "\n", flush=True)


def _line(row: str, of_row: Counter[str]) -> str:
    caught, mutants = of_row["caught"], of_row["mutants"]
    return (
        f"| {row} | {mutants} | {_share(caught, mutants)} "
        f"| {of_row['named']} of {of_row['single']} "
        f"| {_share(of_row['float32'], mutants)} "
        f"| {_share(of_row['float64'], mutants)} |"
    )


def _share(part: int, whole: int) -> str:
    return f"{part} ({part / whole:.0%})" if part < whole else f"{part} (all)"


if __name__ == "__main__":
    prog = "python -m benchmarks.mutation_score"
    given = tyro.cli(Config, prog=prog, description=__doc__)
    with told():
        main(given)
