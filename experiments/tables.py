"""Tables in Markdown."""

from collections.abc import Sequence

from experiments.legible import one_line


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, its columns aligned for whoever reads the text."""
    head, *rows = ([_cell(text) for text in row] for row in (head, *rows))
    widths = [max(len(row[n]) for row in (head, *rows)) for n in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        return f"| {' | '.join(padded)} |\n"

    rule = "|".join("-" * (width + 2) for width in widths)
    return line(head) + f"|{rule}|\n" + "".join(line(row) for row in rows)


def _cell(text: str) -> str:
    return one_line(text, 200).replace("|", r"\|")
