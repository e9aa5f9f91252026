"""Prints the derivation of a cell's backward pass, from the cell's equations."""

import argparse
import sys

from lstm_jax.cells import CELLS, find_cell
from lstm_jax.derivation.deriving import derive
from lstm_jax.derivation.letters import LETTERS
from lstm_jax.derivation.reading import NotDerivable
from lstm_jax.graph import UnknownPrimitiveError

FORMS = ("text", "markdown", "latex", "python")


def main(arguments: list[str] | None = None) -> None:
    """The command; its arguments are the command line's unless they are given.

    It ends with 1 if a line of the hand-written reverse disagrees.
    """
    parser = argparse.ArgumentParser(
        prog="python -m lstm_jax.derivation", description=__doc__
    )
    parser.add_argument(
        "cell",
        nargs="?",
        default="lstm",
        help="a name of CELLS, module:NAME or file.py:NAME; %(default)s",
    )
    parser.add_argument("--letters", choices=LETTERS, default="own")
    forms = parser.add_mutually_exclusive_group()
    for form in FORMS:
        forms.add_argument(
            f"--{form}", dest="form", action="store_const", const=form, default="text"
        )
    chosen = parser.parse_args(arguments)
    try:
        derivation = derive(find_cell(chosen.cell, CELLS), letters=chosen.letters)
    except (NotDerivable, UnknownPrimitiveError, TypeError, ValueError) as error:
        parser.error(str(error))
    print(getattr(derivation, chosen.form)(), end="")
    if derivation.disagreeing:
        sys.exit(1)


if __name__ == "__main__":
    main()
