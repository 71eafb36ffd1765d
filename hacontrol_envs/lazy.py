"""Public names of a package, imported when they are first asked for, so that it starts at once (PEP 562)."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def on_demand(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` of a package that imports its public names when they are first asked for.

    Args:
        package: name of the package.
        homes: by module, as seen from the package, the names that are taken from it, with spaces between.
    """
    home = {name: f"{package}.{module}" for module, names in homes.items() for name in names.split()}

    def get(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(importlib.import_module(home[name]), name)
        setattr(sys.modules[package], name, found)  # from now on it is found without asking here
        return found

    return get, lambda: sorted({*vars(sys.modules[package]), *home})
