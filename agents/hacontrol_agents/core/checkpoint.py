"""One file for a trained agent: safetensors with a JSON header, sealed by SHA-256, replaced atomically. No pickle.

The file is an ordinary safetensors file. Its metadata hold "agent" (JSON) and "sha256", the digest of the whole file
with the digest's own 64 characters read as zeros: every byte is covered, and any change or truncation is noticed.

Environments and agents can be pickled, to be sent to another process. A pickle is code: whoever unpickles one runs what
its author wrote. None of our own files is one or holds one, and nothing here ever unpickles: load your own only, and
give others the file that `save` writes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.numpy
from safetensors import SafetensorError

from hacontrol_agents.core.files import content_of, publish
from hacontrol_agents.core.plain import shown
from hacontrol_envs.errors import CheckpointError
from hacontrol_envs.lazy import RENAMED

if TYPE_CHECKING:
    from torch import Tensor

MOST_BYTES = 4 * 2**30
"""Largest size in bytes of a file that is read."""
RECORD: dict[str, type | tuple[type, ...]] = {
    "agent": str,
    "problem": str,
    "parameters": dict,
    "hyperparameters": dict,
    "seed": int,
    "env": dict,
    "evaluations": int,
    "seconds": (int, float),
    "history": list,
    "state": dict,
}
"""Entries of a file's JSON record, each with its type or types."""
ENDINGS = ("", "certified", "not certified", "failed")
"""Ways in which `learn` ends."""

_BLANK = b"0" * 64
_MARK = b'"sha256":"'


def write(path: str | os.PathLike[str], tensors: dict[str, Tensor], record: dict[str, Any]) -> Path:
    """Write tensors and a JSON-serialisable record to `path`, atomically: readers see the old file or the new one.

    Args:
        path: the file to write; an existing one is replaced.
        tensors: tensors by name, of any shape.
        record: what JSON can hold.

    Raises:
        ValueError: the record holds NaN or infinity, or something JSON cannot hold.
        CheckpointError: the file cannot be written.
    """
    metadata = {"agent": json.dumps(record, allow_nan=False), "sha256": _BLANK.decode()}
    packed = _packed(tensors, metadata)
    start = packed.index(_MARK) + len(_MARK)
    sealed = packed[:start] + hashlib.sha256(packed).hexdigest().encode() + packed[start + 64 :]
    target = Path(path)
    try:
        publish(target, sealed)
    except OSError as error:
        raise CheckpointError(f"cannot write {shown(os.fspath(path))}: {error.strerror or error}") from error
    return target


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the record in `path`.

    Raises:
        CheckpointError: there is no such file, or it is not one of ours, or it is torn or altered.
    """
    from safetensors.torch import load

    content = content_of(path, "a saved agent", MOST_BYTES)
    start = content.find(_MARK) + len(_MARK)
    digest = content[start : start + 64]
    blank = content[:start] + _BLANK + content[start + 64 :]
    if start < len(_MARK) or hashlib.sha256(blank).hexdigest().encode() != digest:
        raise CheckpointError(f"{os.fspath(path)!r} is not a whole, unaltered agent file: its SHA-256 does not match")
    try:
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        record = json.loads(header["__metadata__"]["agent"], parse_constant=_refuse_constant)
        return load(content), record
    except (SafetensorError, ValueError, LookupError, TypeError, RecursionError, AttributeError) as error:
        raise CheckpointError(f"{os.fspath(path)!r} is not an agent file: {shown(error)}") from error


def read_agent(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the record of a learner; every entry has the type that `RECORD` states.

    Raises:
        CheckpointError: there is no such file, or it is not one of a learner, or it is torn or altered.
    """
    tensors, record = read(path)
    where = f"{os.fspath(path)!r} is not an agent file"
    if not isinstance(record, dict) or record.keys() - {"converged", "ending"} != RECORD.keys():
        raise CheckpointError(f"{where}: its record must have {', '.join(RECORD)}")
    for name, kind in RECORD.items():
        if not isinstance(record[name], kind) or isinstance(record[name], bool):
            raise CheckpointError(f"{where}: {name} = {shown(record[name])}")
    if not isinstance(record.get("converged"), (bool, type(None))):  # which older files lack
        raise CheckpointError(f"{where}: converged = {shown(record['converged'])}")
    ending = record.get("ending", ["", ""])
    if not isinstance(ending, list) or len(ending) != 2 or ending[0] not in ENDINGS or not isinstance(ending[1], str):
        raise CheckpointError(f"{where}: ending = {shown(ending)}")
    if record["evaluations"] < 0 or not 0 <= record["seconds"] < float("inf"):
        raise CheckpointError(f"{where}: evaluations and seconds must not be negative")
    record["problem"] = RENAMED.get(record["problem"], record["problem"])
    record["parameters"] = {RENAMED.get(name, name): given for name, given in record["parameters"].items()}
    if not all(isinstance(row, dict) and all(_is_figure(one) for one in row.values()) for row in record["history"]):
        raise CheckpointError(f"{where}: its history must be rows of numbers")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise CheckpointError(f"{where}: {shown(name)} is not finite")
    return tensors, record


def refuse_unlike(
    path: str | os.PathLike[str],
    own_tensors: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    own_state: Any,
    state: Any,
) -> None:
    """Raise CheckpointError unless a file's tensors and state have the form of those of a fresh learner.

    Every own tensor must be there, with its type and number of axes, and its shape unless it is empty, which says that
    it grows as learning goes on. The state must have the own keys, with values of the own kinds; null may be a number.

    Args:
        path: the file, for the error.
        own_tensors, own_state: tensors by name and JSON state of a fresh learner.
        tensors, state: tensors by name and JSON state in the file.
    """
    for name, own in own_tensors.items():
        found = tensors.get(name)
        if found is None or found.dtype != own.dtype or found.ndim != own.ndim:
            raise CheckpointError(f"{os.fspath(path)!r} lacks {name!r}, of type {own.dtype} and {own.ndim} axes")
        if own.numel() and found.shape != own.shape:
            raise CheckpointError(
                f"{os.fspath(path)!r} has {name!r} of shape {tuple(found.shape)}, not {tuple(own.shape)}"
            )
    if (place := _unlike(own_state, state)) is not None:
        raise CheckpointError(f"{os.fspath(path)!r} is not a whole agent file: its state is not as it should be{place}")


def _unlike(own: Any, given: Any) -> str | None:
    """Return the place where two JSON values differ in kind; None where they do not."""
    if isinstance(own, dict):
        if not isinstance(given, dict) or own.keys() != given.keys():
            return f": it must have {', '.join(own)}"
        places = ((name, _unlike(own[name], given[name])) for name in own)
        return next((f" in {name}{place}" for name, place in places if place is not None), None)
    if own is None or (isinstance(own, float) and not isinstance(given, bool)):
        alike = _is_figure(given)
    elif isinstance(own, (list, tuple)):
        alike = isinstance(given, list)
    else:
        alike = type(given) is type(own)
    return None if alike else f": {shown(given)}"


def _packed(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    """Return the content of a safetensors file; torch is imported where there are tensors."""
    if not tensors:
        return safetensors.numpy.save({}, metadata)
    from safetensors.torch import save

    return save({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, metadata)


def _is_figure(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
