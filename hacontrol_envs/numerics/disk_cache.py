"""Results that take long, kept on disk as arrays: whatever is wrong with a file, it counts as absent.

A digest tells a file that was torn or altered by accident. It does not tell one that was forged, by whoever can write
it: what arrays are used for is to be checked by who uses them.
"""

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
"""Name of the environment variable that names the folder."""
LABEL, SEAL = "parameters", "sha256"
"""Names of the entries that say what a file is about, and that hold the digest of the others."""

WRONG = (
    *(OSError, ValueError, LookupError, EOFError, AttributeError, TypeError, RuntimeError, MemoryError),
    *(ArithmeticError, zipfile.BadZipFile),
)
"""Errors that reading a torn, foreign or forged file raises."""

Arrays = Mapping[str, NDArray[Any]]


def folder() -> Path:
    """Return the folder of results: $HACONTROL_CACHE, or "hacontrol" in the user's folder of caches."""
    if given := os.environ.get(VARIABLE):
        return Path(given)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "hacontrol"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "hacontrol"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hacontrol"


def place(name: str, about: Mapping[str, Any]) -> Path:
    """Return the file of a result, named by `name` and a hash of all that the result depends on."""
    return folder() / f"{name}-{hashlib.sha256(_label(about).encode()).hexdigest()[:20]}.npz"


def read(name: str, about: Mapping[str, Any]) -> dict[str, NDArray[Any]] | None:
    """Read the arrays kept under this name about this; None if absent, torn, unreadable or about something else."""
    try:
        with place(name, about).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            members = zipfile.ZipFile(file).infolist()
            if any(one.compress_type != zipfile.ZIP_STORED or one.file_size > size for one in members):
                return None  # `write` compresses nothing: no small file asks for much memory
            file.seek(0)
            with np.load(file, allow_pickle=False) as found:
                arrays = {key: found[key] for key in found.files}
        seal = str(arrays.pop(SEAL))
        return arrays if seal == _seal(arrays) and str(arrays.pop(LABEL)) == _label(about) else None
    except WRONG:
        return None


def write(name: str, about: Mapping[str, Any], arrays: Arrays) -> None:
    """Keep arrays on disk, all at once or not at all; where that is not possible do nothing.

    Args:
        name: name of the result, with which the file's name begins.
        about: all that the result depends on, JSON-serialisable.
        arrays: the result, arrays by name.
    """
    path = place(name, about)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".part")
    except (OSError, RuntimeError):
        return
    try:
        entries = {LABEL: np.array(_label(about)), **arrays}
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **entries, **{SEAL: np.array(_seal(entries))})  # type: ignore[arg-type]
        os.replace(temporary, path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)


def _label(about: Mapping[str, Any]) -> str:
    return json.dumps(about, sort_keys=True)


def _seal(arrays: Arrays) -> str:
    """The digest of all names, kinds, shapes and numbers."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
