"""Optional packages, imported where they are used."""

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType


def require(module: str, *, extra: str) -> ModuleType:
    """Imports `module`, or says which extra of this package brings it.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise _absent(error.name, extra) from error


def package_folder(package: str, *, extra: str) -> Path:
    """The folder of a top-level package, which is not imported.

    Raises:
        ModuleNotFoundError: it is not installed, as in `require`.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise _absent(package, extra)
    return Path(spec.origin).parent


def _absent(package: str | None, extra: str) -> ModuleNotFoundError:
    return ModuleNotFoundError(
        f"this needs the package {package!r}, which is not installed; in the folder of "
        f"the checkout: pip install -e '.[{extra}]'",
        name=package,
    )
