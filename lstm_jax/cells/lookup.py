"""Cells by what a command line calls them: a name, `module:NAME`, or `file.py:NAME`."""

import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from lstm_jax.cell import Cell


def find_cell(name: str, known: Mapping[str, Cell]) -> Cell:
    """The cell that is called so.

    Args:
        name: a name of `known`; ``package.module:NAME`` for one that can be imported;
            or ``path/to/file.py:NAME``, which runs the file, once in a process.
        known: cells by name, `lstm_jax.CELLS` for one.

    Raises:
        ValueError: there is none, or what is called so is no cell, or the file cannot
            be run; the message has the line.
    """
    if name in known:
        return known[name]
    place, separator, attribute = name.rpartition(":")
    if name.endswith(".py"):  # a file, and no name
        place, attribute = name, ""
    elif not separator:
        raise ValueError(
            f"cell must be one of {', '.join(map(repr, known))}, or module:NAME or "
            f"file.py:NAME; got {name!r}"
        )
    module = _module(place)
    cell = getattr(module, attribute, None)
    if not isinstance(cell, Cell):
        found = "there is nothing of this name" if cell is None else f"it is {cell!r}"
        there = [n for n, value in vars(module).items() if isinstance(value, Cell)]
        raise ValueError(
            f"{name}: expected an lstm_jax.Cell, but {found}; the cells there: "
            f"{', '.join(f'{place}:{n}' for n in there) or 'none'}"
        )
    return cell


def file_hash(name: str) -> str | None:
    """A hash of the file that a cell comes from; None for a name without a place.

    Results of a cell are out of date as soon as its file is another.

    Args:
        name: as `find_cell` takes it.

    Raises:
        ValueError: as `find_cell`.
    """
    place, separator, _ = name.rpartition(":")
    if not separator:
        return None
    file = inspect.getsourcefile(_module(place))
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else None


def _module(place: str) -> ModuleType:
    if place.endswith(".py"):
        return _module_of(Path(place).expanduser().resolve())
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{place}.".startswith(f"{error.name}."):
            raise ValueError(f"there is no module {place}") from None
        raise  # something that the module itself asks for


def _module_of(file: Path) -> ModuleType:
    """The module in a file, which keeps a name of its own among the others."""
    name = f"{file.stem} in {file.parent}"
    if name in sys.modules:
        return sys.modules[name]
    if not file.is_file():
        raise ValueError(f"there is no file {file}")
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None, file
    assert spec.loader is not None, file
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, Exception):
            raise ValueError(f"{file}, {_said(error, file)}") from error
        raise
    return module


def _said(error: Exception, file: Path) -> str:
    """The line of the file that an error comes from, and what it says."""
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return f"line {error.lineno}: {type(error).__name__}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    (*_, line) = (frame.lineno for frame in frames if frame.filename == str(file))
    return f"line {line}: {type(error).__name__}: {error}"
