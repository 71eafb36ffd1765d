"""Results that depend on a problem and the length of its step, kept by the problem itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

Problem = TypeVar("Problem")
Result = TypeVar("Result")

MOST = 8
"""Step lengths that are kept; few are used with a problem."""


def kept_by_step(method: Callable[[Problem, float], Result]) -> Callable[[Problem, float], Result]:
    """A method of the step length that is computed once for each problem and step length.

    Not `functools.lru_cache`, whose size all problems would share: 64 environments, each with a problem of its own,
    would then push one another's results out at every step.
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
