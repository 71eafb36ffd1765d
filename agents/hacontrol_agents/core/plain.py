"""Plain values, which a file can hold: numbers, words, truth values, and lists and dictionaries of them."""

from __future__ import annotations

from typing import Any

from hacontrol_envs.core.parameters import number, short
from hacontrol_envs.errors import ParameterError

NESTED = 4
"""Levels of lists and dictionaries in a value that is free."""
ENTRIES = 10_000


def refuse_unplain(name: str, value: Any, depth: int = 0) -> int:
    """Raise ParameterError for what JSON cannot hold, is not finite, nested or long beyond reason; its size.

    Python's tuples count as lists.
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
    """What a file says, or an error about it, as one short line that a terminal can print."""
    text = str(value) if isinstance(value, Exception) else short(value)
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= 200 else line[:197] + "..."


def as_lists(value: Any) -> Any:
    """A value as it returns from JSON."""
    if isinstance(value, dict):
        return {key: as_lists(entry) for key, entry in value.items()}
    return [as_lists(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def as_tuples(hyperparameters: dict[str, Any]) -> dict[str, Any]:
    """JSON's and TOML's lists as the tuples that hyperparameters are."""
    return {key: tuple(entry) if isinstance(entry, list) else entry for key, entry in hyperparameters.items()}
