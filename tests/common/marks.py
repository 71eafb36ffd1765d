"""The mark `slow` on some parameters of a test."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def slow_where(costly: Callable[[Any], bool], values: Iterable[Any]) -> list[Any]:
    """Values for `pytest.mark.parametrize`, tuples for several names, those with the mark that `costly` is true of."""
    return [
        pytest.param(*value if isinstance(value, tuple) else (value,), marks=pytest.mark.slow)
        if costly(value)
        else value
        for value in values
    ]
