"""Prints the way from a cell's equations to the C++ and the CUDA that run."""

import argparse
from contextlib import nullcontext

import jax
import jax.numpy as jnp

from lstm_jax.cells import CELLS, find_cell
from lstm_jax.engine.compiled.explain import explain
from lstm_jax.engine.compiled.unit import NotUnitByUnit


def main(arguments: list[str] | None = None) -> None:
    """The command; its arguments are the command line's unless they are given."""
    parser = argparse.ArgumentParser(
        prog="python -m lstm_jax.engine.compiled", description=__doc__
    )
    parser.add_argument(
        "--cell",
        default="lstm",
        help="a name of CELLS, module:NAME or file.py:NAME; %(default)s",
    )
    parser.add_argument("--dtype", default="float32", help="%(default)s")
    chosen = parser.parse_args(arguments)
    try:
        dtype = jnp.dtype(chosen.dtype)
        with jax.enable_x64(True) if dtype == jnp.float64 else nullcontext():
            print(explain(find_cell(chosen.cell, CELLS), dtype), end="")
    except (NotUnitByUnit, TypeError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
