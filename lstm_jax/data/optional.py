"""Optional packages, imported where they are used."""

import importlib
from types import ModuleType


def require(module: str, *, extra: str) -> ModuleType:
    """Imports `module`, or says which extra of this package brings it.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"this needs the package {error.name!r}, which is not installed: "
            f"pip install 'lstm_jax[{extra}]'",
            name=error.name,
        ) from error
