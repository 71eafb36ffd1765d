"""Names of earlier versions, and what they are called now."""

from __future__ import annotations

import warnings

RENAMED = {"KrusellSmithCloud": "KrusellSmithPlanner", "population": "others"}
"""Names of classes and parameters in files and specs of 0.1, and the present ones."""


def warn(old: str, new: str) -> None:
    """Warn the caller of the calling function that since 0.2 a name is another."""
    warnings.warn(f"{old} is deprecated: since 0.2 use {new}", DeprecationWarning, stacklevel=3)
