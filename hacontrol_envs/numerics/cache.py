"""Results that depend on a problem and the length of its step, cached by the problem itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

Problem = TypeVar("Problem")
Result = TypeVar("Result")

MOST = 8
"""Step lengths for which a problem caches results; few are used with a problem."""


def cached_by_step(method: Callable[[Problem, float], Result]) -> Callable[[Problem, float], Result]:
    """Return a method of the step length that is computed once for each problem and step length.

    `functools.lru_cache` would not do: all problems would share its size, and 64 environments, each with a problem of
    its own, would drop one another's results at every step.
    """
    name = f"{method.__name__} by step"

    @wraps(method)
    def call(self: Problem, dt: float) -> Result:
        known: dict[float, Any] = self.__dict__.setdefault(name, {})
        if dt not in known:
            if len(known) == MOST:
                known.pop(next(iter(known)))
            known[dt] = method(self, dt)
        found: Result = known[dt]
        return found

    return call
