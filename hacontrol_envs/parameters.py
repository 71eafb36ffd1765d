"""Reading a problem's parameters: what a user may write, as arrays, refused with a clear message where it is wrong."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from hacontrol_envs.arrays import Floats
from hacontrol_envs.errors import ParameterError, nearest


def refuse_unknown(name: str, make: Callable[..., Any], given: Iterable[str]) -> None:
    """Raise ParameterError for the first of these names that `make`, which users know as `name`, does not take."""
    known = inspect.signature(make).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        return
    for one in given:
        if one not in known:
            raise ParameterError(
                f"{name} has no parameter {one!r}; {nearest(one, known)}it has: {', '.join(known) or 'none'}"
            )


def number(name: str, given: Any, *, above: float = -np.inf, at_least: float = -np.inf) -> float:
    """A finite real number above one bound, or at least another."""
    if isinstance(given, (bool, str)) or given is None:
        raise ParameterError(f"{name} must be a number, got {given!r}")
    try:
        result = float(given)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"{name} must be a number, got {given!r}") from error
    if not np.isfinite(result):
        raise ParameterError(f"{name} must be finite, got {given!r}")
    if not (result > above and result >= at_least):
        bound = f"greater than {above}" if above > -np.inf else f"at least {at_least}"
        raise ParameterError(f"{name} must be {bound}, got {given!r}")
    return result


def count(name: str, given: Any) -> int:
    """A whole number of at least 1."""
    try:
        result = operator.index(given)
    except TypeError as error:
        raise ParameterError(f"{name} must be a whole number of at least 1, got {given!r}") from error
    if result < 1 or isinstance(given, bool):
        raise ParameterError(f"{name} must be at least 1, got {given!r}")
    return result


def one_of(name: str, given: Any, allowed: Iterable[str]) -> str:
    """One of these words."""
    words = tuple(allowed)
    if not isinstance(given, str) or given not in words:
        raise ParameterError(f"{name} must be one of {', '.join(map(repr, words))}, got {given!r}")
    return given


def array(name: str, given: Any) -> Floats:
    """A finite real array of at most two axes."""
    try:
        raw = np.asarray(given)
    except ValueError as error:
        raise ParameterError(f"{name} must be a number, a vector or a matrix, got {given!r}") from error
    if raw.dtype.kind not in "iuf" or raw.ndim > 2 or raw.size == 0:
        raise ParameterError(f"{name} must be a number, a vector or a matrix of numbers, got {given!r}")
    if not np.all(np.isfinite(raw)):
        raise ParameterError(f"{name} must be finite, got {given!r}")
    return raw.astype(np.float64)


def matrix(name: str, given: Any, rows: int, columns: int | None = None) -> Floats:
    """A (rows, columns) matrix; a number stands for that multiple of the identity. `columns=None` leaves them free."""
    result = array(name, given)
    if result.ndim == 0:
        result = float(result) * np.eye(rows, columns)
    if result.ndim != 2 or result.shape[0] != rows or columns not in (None, result.shape[1]):
        wanted = f"({rows}, {'any' if columns is None else columns})"
        raise ParameterError(f"{name} must be a matrix of shape {wanted}, got shape {result.shape}: {given!r}")
    return result


def weight(name: str, given: Any, size: int, *, definite: bool) -> Floats:
    """A symmetric positive semidefinite (or definite) matrix."""
    result = matrix(name, given, size, size)
    if not np.allclose(result, result.T, rtol=1e-12, atol=1e-14):
        raise ParameterError(f"{name} must be symmetric, got {given!r}")
    lowest = float(np.linalg.eigvalsh(result)[0])
    scale = float(np.abs(result).max())
    if lowest <= 0 if definite else lowest < -1e-12 * scale:
        kind = "positive definite" if definite else "positive semidefinite"
        raise ParameterError(f"{name} must be {kind}, but its smallest eigenvalue is {lowest:.3g}: {given!r}")
    symmetric: Floats = (result + result.T) / 2
    return symmetric


def steps(horizon: float, dt: float) -> int:
    """The whole number of steps of length dt in a horizon."""
    count = round(horizon / dt)
    if count < 1 or abs(count * dt - horizon) > 1e-9 * horizon:
        raise ParameterError(f"dt must divide the horizon: horizon / dt = {horizon} / {dt} = {horizon / dt} steps")
    return count
