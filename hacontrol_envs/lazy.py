"""Public names of a package: imported when they are first asked for (PEP 562), and those of earlier versions."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

RENAMED = {"KrusellSmithCloud": "KrusellSmithPlanner", "population": "others"}
"""Names of classes and parameters in code, files and specs of 0.1, and the present ones."""


def warn_renamed(old: str, new: str) -> None:
    """Warn the caller of the calling function that a name is another since 0.2."""
    warnings.warn(f"{old} is deprecated: since 0.2 use {new}", DeprecationWarning, stacklevel=3)


def on_demand(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` of a package that imports its public names when they are first asked for.

    Names that the package had in earlier versions are the present ones, with a DeprecationWarning.

    Args:
        package: name of the package.
        homes: by module, as seen from the package, the names that are taken from it, with spaces between.
    """
    home = {name: f"{package}.{module}" for module, names in homes.items() for name in names.split()}

    def get(name: str) -> Any:
        present = vars(sys.modules[package])
        if (new := RENAMED.get(name, "")) in present:
            warn_renamed(name, new)
            return present[new]
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(importlib.import_module(home[name]), name)
        setattr(sys.modules[package], name, found)  # from now on it is found without asking here
        return found

    return get, lambda: sorted({*vars(sys.modules[package]), *home})
