"""One file for a trained agent: safetensors with a JSON header, sealed by SHA-256, replaced atomically. No pickle.

The file is an ordinary safetensors file. Its metadata hold "agent" (JSON) and "sha256", the digest of the whole file
with the digest's own 64 characters read as zeros: every byte is covered, and any change or truncation is noticed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from hacontrol_envs.errors import CheckpointError

_BLANK = b"0" * 64
_MARK = b'"sha256":"'


def write(path: str | os.PathLike[str], tensors: dict[str, Tensor], record: dict[str, Any]) -> Path:
    """Write tensors and a JSON-serialisable record to `path`, atomically: readers see the old file or the new one.

    Raises:
        ValueError: the record holds NaN or infinity, or something JSON cannot hold.
    """
    metadata = {"agent": json.dumps(record, allow_nan=False), "sha256": _BLANK.decode()}
    packed = safetensors.torch.save({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, metadata)
    start = packed.index(_MARK) + len(_MARK)
    sealed = packed[:start] + hashlib.sha256(packed).hexdigest().encode() + packed[start + 64 :]
    target = Path(path)
    publish(target, sealed)
    return target


def publish(target: Path, content: bytes) -> None:
    """Replace `target` by `content` so that a crash at any moment leaves the old file or the new one."""
    with written(target.parent, content) as temporary:
        os.replace(temporary, target)


@contextlib.contextmanager
def written(folder: Path, content: bytes) -> Iterator[str]:
    """A temporary file in the folder whose content is on disk; what has not been moved away by the end is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the record in `path`.

    Raises:
        CheckpointError: there is no such file, or it is not one of ours, or it is torn or altered.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        reason = error.strerror or error
        raise CheckpointError(f"cannot read a saved agent from {os.fspath(path)!r}: {reason}") from error
    start = content.find(_MARK) + len(_MARK)
    digest = content[start : start + 64]
    blank = content[:start] + _BLANK + content[start + 64 :]
    if start < len(_MARK) or hashlib.sha256(blank).hexdigest().encode() != digest:
        raise CheckpointError(f"{os.fspath(path)!r} is not a whole, unaltered agent file: its SHA-256 does not match")
    try:
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return safetensors.torch.load(content), json.loads(header["__metadata__"]["agent"])
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{os.fspath(path)!r} is not an agent file: {error}") from error
