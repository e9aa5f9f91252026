"""What is public: the doors of the library, their names, and what these say.

A door is `lstm_jax` and every module directly in it.
"""

import ast
import importlib
import inspect
import pkgutil
import sys
from functools import cache
from types import ModuleType
from typing import Any

import lstm_jax
from lstm_jax import Cell

INTERNAL = ("files", "jaxprs")


def doors() -> list[str]:
    """The library itself, then its modules."""
    inside = sorted(module.name for module in pkgutil.iter_modules(lstm_jax.__path__))
    return ["lstm_jax", *(f"lstm_jax.{m}" for m in inside if m not in INTERNAL)]


def public(door: str) -> list[str]:
    """The names that a door exports."""
    module = importlib.import_module(door)
    if hasattr(module, "__all__"):
        return list(module.__all__)
    own = (name for name in vars(module) if not name.startswith("_"))
    return [name for name in own if _defined_in(module, name)]


def _defined_in(module: ModuleType, name: str) -> bool:
    """Whether a module that lists no exports defines a name, and does not import it."""
    value = getattr(module, name)
    if inspect.ismodule(value):
        return False
    if inspect.isclass(value) or inspect.isfunction(value):
        return value.__module__ == module.__name__
    return name.isupper() and name in _assigned(module)


@cache
def places() -> dict[str, str]:
    """By "door.name", for all exports: the "door.name" where it is described."""
    where: dict[str, str] = {}
    described: dict[tuple[str, int], str] = {}
    for door in doors():
        module = importlib.import_module(door)
        for name in public(door):
            value = getattr(module, name)
            if inspect.ismodule(value):
                where[f"{door}.{name}"] = value.__name__
                continue
            full = f"{door}.{name}"
            if full in doors():  # `gated` of the module `gated`
                full = f"{value.__module__}.{name}"
            own = described.setdefault((name, id(value)), full)
            where[f"{door}.{name}"] = own
    return where


def says_something(place: str) -> bool:
    """Whether the name described at a place has a text."""
    door, _, name = place.rpartition(".")
    module = sys.modules[door]
    value: Any = getattr(module, name)
    if isinstance(value, Cell):  # its own page
        return True
    if inspect.isroutine(value) or inspect.isclass(value) or inspect.ismodule(value):
        return bool(inspect.getdoc(value))
    return bool(said_below(module, name))


def said_below(module: ModuleType, name: str) -> str:
    """The text under the assignment of a name, in the module that assigns it."""
    assigned = _assigned(module)
    if name in assigned:
        return assigned[name]
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        imported = isinstance(node, ast.ImportFrom) and node.module in sys.modules
        if imported and name in [alias.name for alias in node.names]:
            return said_below(sys.modules[node.module], name)
    return ""


def _assigned(module: ModuleType) -> dict[str, str]:
    """The names that a module assigns, with the texts below them."""
    body = ast.parse(inspect.getsource(module)).body
    said = {}
    for node, after in zip(body, [*body[1:], None], strict=True):
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        text = getattr(getattr(after, "value", None), "value", None)
        for target in targets:
            if isinstance(target, ast.Name):
                below = isinstance(after, ast.Expr) and isinstance(text, str)
                said[target.id] = inspect.cleandoc(text) if below else ""
    return said
