"""Plain values, which a file can hold: numbers, words, truth values, and lists and dictionaries of them."""

from __future__ import annotations

from typing import Any

from hacontrol_envs.core.parameters import number, short
from hacontrol_envs.errors import ParameterError

NESTED = 4
"""Most levels of lists and dictionaries in a value without a type of its own."""
ENTRIES = 10_000
"""Most entries of a list or dictionary."""


def refuse_unplain(name: str, value: Any, depth: int = 0) -> int:
    """Return the size of a value that JSON can hold; raise ParameterError for any other, or one not finite, too deeply
    nested or too long.

    Python's tuples count as lists.

    Args:
        name: the value's name, for the error.
        value: what a file or a caller gives.
        depth: levels of lists and dictionaries around the value.
    """
    if value is None or isinstance(value, (bool, str)):
        return 1 + len(value or "") // 100 if isinstance(value, str) else 1
    if isinstance(value, (int, float)):
        number(name, value)
        return 1
    if depth < NESTED and isinstance(value, (dict, list, tuple)):
        if isinstance(value, dict) and not all(isinstance(key, str) for key in value):
            raise ParameterError(f"{name} must have words as keys, got {short(value)}")
        entries = value.values() if isinstance(value, dict) else value
        size = len(value)
        if size <= ENTRIES:
            size += sum(refuse_unplain(name, entry, depth + 1) for entry in entries)
        if size <= 2 * ENTRIES:
            return size
    raise ParameterError(
        f"{name} must be what a file can say, numbers, words, truth values and short lists of them, got {short(value)}"
    )


def shown(value: Any) -> str:
    """Return what a file says, or an error about it, as one short line that a terminal can print."""
    text = str(value) if isinstance(value, Exception) else short(value)
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= 200 else line[:197] + "..."


def as_lists(value: Any) -> Any:
    """Return a value as it comes back from JSON: tuples become lists."""
    if isinstance(value, dict):
        return {key: as_lists(entry) for key, entry in value.items()}
    return [as_lists(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def as_tuples(hyperparameters: dict[str, Any]) -> dict[str, Any]:
    """Return hyperparameters with the lists of JSON or TOML turned into tuples."""
    return {key: tuple(entry) if isinstance(entry, list) else entry for key, entry in hyperparameters.items()}
