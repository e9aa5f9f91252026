"""Prints the way from a cell's equations to the C++ and the CUDA that run."""

import argparse
import importlib
import runpy
from contextlib import nullcontext

import jax
import jax.numpy as jnp

from lstm_jax.cell import Cell
from lstm_jax.cells import CELLS
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
            print(explain(_cell(chosen.cell), dtype), end="")
    except (NotUnitByUnit, TypeError, ValueError) as error:
        parser.error(str(error))


def _cell(name: str) -> Cell:
    """The cell that is called so.

    Raises:
        ValueError: there is none.
    """
    if name in CELLS:
        return CELLS[name]
    place, separator, attribute = name.rpartition(":")
    if not separator:
        raise ValueError(f"--cell must be one of {', '.join(CELLS)}; got {name}")
    try:
        if place.endswith(".py"):
            return runpy.run_path(place)[attribute]
        return getattr(importlib.import_module(place), attribute)
    except (OSError, ImportError, AttributeError, KeyError) as error:
        raise ValueError(f"there is no {attribute} in {place}: {error}") from None


if __name__ == "__main__":
    main()
