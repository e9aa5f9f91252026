"""The config of a run, read back from config.json."""

from collections.abc import Collection
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from experiments.training.records import Records

C = TypeVar("C")


def read_config(folder: Path, kind: type[C], added: Collection[str] = frozenset()) -> C:
    """The config of a run, as an instance of a dataclass.

    Args:
        folder: the run's.
        kind: the dataclass.
        added: fields that older runs don't have; they get their defaults.

    Raises:
        FileNotFoundError: the folder holds no run.
        ValueError: its config.json is broken, or of another version; it is named.
    """
    values = Records(folder).read("config")
    if values is None:
        raise FileNotFoundError(
            f"{folder}: there is no run here; train one first, or choose another with "
            "--name"
        )
    file, kinds = folder / "config.json", get_type_hints(kind)
    for what, names in {
        "does not know": values.keys() - kinds.keys(),
        "misses": kinds.keys() - values.keys() - set(added),
    }.items():
        if names:
            raise ValueError(
                f"{file}: it was edited, or written by another version, and this one "
                f"{what}: {', '.join(sorted(names))}"
            )
    values |= {k: tuple(v) for k, v in values.items() if isinstance(v, list)}
    for name, value in values.items():
        if not _fits(value, kinds[name]):
            raise ValueError(f"{file}: {name} cannot be {value!r}")
    return kind(**values)


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value from JSON is of the type that a field is declared to have."""
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is tuple:
        of, _ = get_args(kind)
        return isinstance(value, tuple) and all(_fits(item, of) for item in value)
    if isinstance(kind, UnionType):
        return any(_fits(value, one) for one in get_args(kind))
    if isinstance(value, bool) or kind is bool:
        return kind is bool and isinstance(value, bool)
    return isinstance(value, (int, float) if kind is float else kind)
