"""Checks annotations at every call: an import hook that puts beartype on functions.

Functions inside functions are left alone, since they'd be decorated at every call of
the outer one, and so are classes: the types of a NamedTuple's fields are what they are
most of the time, not when it holds axes, shapes or other things for JAX's tree
functions.
"""

import ast
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType
from typing import Any

from beartype import BeartypeConf, FrozenDict, beartype
from jax import export
from jax.extend import source_info_util

(size,) = export.symbolic_shape("t")
checked = beartype(
    conf=BeartypeConf(
        violation_type=TypeError,
        # A size that is not known yet is used as an int, and as annotations have it.
        hint_overrides=FrozenDict({int: int | type(size)}),
    )
)
source_info_util.register_exclusion("<@beartype(")  # no line that a user wrote


def check_annotations_of(packages: Sequence[str]) -> None:
    """Of all modules of `packages` that are imported from now on."""
    sys.meta_path.insert(0, _Finder(packages))


class _Finder(MetaPathFinder):
    def __init__(self, packages: Sequence[str]) -> None:
        self._packages = tuple(packages)

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if not any(f"{fullname}.".startswith(f"{name}.") for name in self._packages):
            return None
        spec: ModuleSpec | None = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def path_stats(self, path: Any) -> Any:
        raise OSError  # of a file without a date, Python keeps no bytecode: as is meant

    def source_to_code(self, data: Any, path: Any, *args: Any, **options: Any) -> Any:
        tree = _Decorate().visit(ast.parse(data, path))
        code: CodeType = compile(tree, path, "exec", dont_inherit=True)
        return code


class _Decorate(ast.NodeTransformer):
    def visit_If(self, node: ast.If) -> ast.If:
        # What is imported for type checkers alone is anything here.
        if ast.unparse(node.test) == "TYPE_CHECKING":
            imports = [part for part in node.body if isinstance(part, ast.ImportFrom)]
            names = [a.asname or a.name for part in imports for a in part.names]
            node.orelse = ast.parse(" = ".join([*names, "object"])).body
        self.generic_visit(node)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        # Nearest to the function: what other decorators return is not for beartype.
        decorator = ast.parse(f"__import__({__name__!r}).checked", mode="eval").body
        for part in ast.walk(decorator):
            ast.copy_location(part, node)
        node.decorator_list.append(decorator)
        return node
