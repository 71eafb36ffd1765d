"""Functions that the judges share: drawing parameters, and comparing two answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hacontrol_benchmarks.measure.judges import WrongAnswer

Uniform = Callable[[], float]
"""Function that returns a uniform number in [0, 1]."""


def log_uniform(u: Uniform, low: float, high: float) -> float:
    """Draw a number between two positive ones, its logarithm uniform.

    Args:
        u: source of uniform numbers.
        low: lower end, positive.
        high: upper end.
    """
    return float(low * (high / low) ** u())


def require_close(name: str, got: Any, right: Any, allowed: Any, parameters: dict[str, Any]) -> None:
    """Raise WrongAnswer unless `got` is finite and within `allowed` of `right`, entry by entry.

    Args:
        name: name of the figure, for the message.
        got: the answer, a number or an array.
        right: the true value, broadcast against the answer.
        allowed: largest absolute difference, broadcast against the answer.
        parameters: parameters of the subject, for the message.
    """
    got, right, allowed = np.broadcast_arrays(*(np.asarray(part, dtype=np.float64) for part in (got, right, allowed)))
    wrong = ~(np.abs(got - right) <= allowed)
    if wrong.any():
        first = np.flatnonzero(wrong)[0]
        raise WrongAnswer(
            f"{name} is {got.flat[first]:.17g} instead of {right.flat[first]:.17g}, off by more than "
            f"{allowed.flat[first]:.3g}, at {parameters!r}"
        )
