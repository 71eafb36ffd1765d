"""Results that take long, kept on disk as arrays: whatever is wrong with a file, it counts as absent."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

VARIABLE = "HACONTROL_CACHE"
"""The environment variable that names the folder."""
LABEL = "parameters"
"""The entry that says what a file is about."""

Arrays = Mapping[str, NDArray[Any]]


def folder() -> Path:
    """Where results are kept: $HACONTROL_CACHE, or "hacontrol" in the user's folder of caches."""
    if given := os.environ.get(VARIABLE):
        return Path(given)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "hacontrol"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "hacontrol"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hacontrol"


def place(name: str, about: Mapping[str, Any]) -> Path:
    """The file of a result: its name, and a hash of all that it depends on."""
    return folder() / f"{name}-{hashlib.sha256(_label(about).encode()).hexdigest()[:20]}.npz"


def read(name: str, about: Mapping[str, Any]) -> dict[str, NDArray[Any]] | None:
    """The arrays kept under this name about this, or None: absent, torn, unreadable, or about something else."""
    try:
        with place(name, about).open("rb") as file, np.load(file, allow_pickle=False) as found:
            arrays = {key: found[key] for key in found.files}
        return arrays if str(arrays.pop(LABEL)) == _label(about) else None
    except (OSError, ValueError, KeyError, EOFError, AttributeError, RuntimeError, zipfile.BadZipFile):
        return None


def write(name: str, about: Mapping[str, Any], arrays: Arrays) -> None:
    """Keep arrays, all at once or not at all; who cannot write there does without."""
    path = place(name, about)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".part")
    except (OSError, RuntimeError):
        return
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **{LABEL: np.array(_label(about)), **arrays})  # type: ignore[arg-type]
        os.replace(temporary, path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)


def _label(about: Mapping[str, Any]) -> str:
    return json.dumps(about, sort_keys=True)
