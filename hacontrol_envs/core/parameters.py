"""Reading a problem's parameters: what a user may write, as arrays, refused with a clear message where it is wrong."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hacontrol_envs.arrays import Floats
from hacontrol_envs.errors import ParameterError, UnknownParameterError, nearest

ALIASES = {
    "alpha": ("capital_share", "returns_to_scale"),
    "beta": ("discount_factor", "discount"),
    "crra": ("risk_aversion", "intertemporal_elasticity"),
    "delta": ("depreciation",),
    "eis": ("intertemporal_elasticity", "risk_aversion"),
    "gamma": ("risk_aversion", "intertemporal_elasticity", "discount"),
    "kappa": ("mean_reversion",),
    "mu": ("expected_return",),
    "r": ("risk_free_rate", "discount"),
    "rf": ("risk_free_rate",),
    "rho": ("discount", "productivity_persistence"),
    "sigma": ("volatility", "noise_matrix", "risk_aversion", "intertemporal_elasticity"),
    "theta": ("adjustment_cost_up",),
}
"""Symbols and short names of the literature, and the parameters that they may stand for, the likeliest first."""


def spelt_out(init: Callable[..., None], keywords: Mapping[str, Any]) -> inspect.Signature:
    """Return the signature of `init` with these keywords and defaults in place of its **parameters."""
    own = [one for one in list(inspect.signature(init).parameters.values())[1:] if one.kind is not one.VAR_KEYWORD]
    named = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=given) for name, given in keywords.items()]
    return inspect.Signature([*own, *named])


def refuse_unknown(name: str, make: Callable[..., Any], given: Iterable[str]) -> None:
    """Raise UnknownParameterError for the first given name that a callable does not take.

    The message names the nearest parameter that there is, or the one that a symbol of the literature stands for.

    Args:
        name: what users call the callable.
        make: the callable whose parameters are known.
        given: names of the arguments that it was given.
    """
    known = inspect.signature(make).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        return
    refuse_unlisted(name, list(known), given)


def refuse_unlisted(name: str, known: Iterable[str], given: Iterable[str]) -> None:
    """Raise UnknownParameterError for the first given name that is not one of the known; see `refuse_unknown`.

    Args:
        name: what users call the thing that was given the arguments.
        known: names of the parameters that there are.
        given: names of the arguments given.
    """
    known = list(known)
    for one in given:
        if one in known:
            continue
        meant = [word for word in ALIASES.get(str(one).lower(), ()) if word in known]
        hint = f"did you mean {meant[0]!r}? " if meant else nearest(one, known)
        raise UnknownParameterError(
            f"{name} got an unexpected keyword argument {short(one)}; {hint}it has: {', '.join(known) or 'none'}"
        )


def number(name: str, given: Any, *, above: float = -np.inf, at_least: float = -np.inf) -> float:
    """Read a finite real number.

    Args:
        name: name of the parameter, for messages.
        given: what the user gave.
        above: a bound that the number must exceed.
        at_least: a bound that the number must not be below.

    Raises:
        ParameterError: anything else.
    """
    if isinstance(given, (bool, np.bool_, str, bytes)) or given is None:
        raise ParameterError(f"{name} must be a number, got {short(given)}")
    try:
        result = float(given)
    except OverflowError as error:
        raise ParameterError(f"{name} must be finite, got {short(given)}, which no float can hold") from error
    except (TypeError, ValueError) as error:
        raise ParameterError(f"{name} must be a number, got {short(given)}") from error
    if not np.isfinite(result):
        raise ParameterError(f"{name} must be finite, got {short(given)}")
    if not (result > above and result >= at_least):
        bound = f"greater than {above}" if above > -np.inf else f"at least {at_least}"
        raise ParameterError(f"{name} must be {bound}, got {short(given)}")
    return result


def count(name: str, given: Any, *, at_least: int = 1, at_most: int = 2**53, optional: bool = False) -> int:
    """Read a whole number between two bounds.

    Args:
        name: name of the parameter, for messages.
        given: what the user gave.
        at_least, at_most: the bounds, themselves allowed.
        optional: whether messages say that None would be allowed, too; None itself is the caller's to catch.

    Raises:
        ParameterError: anything else.
    """
    wanted = f"at least {at_least}{' or None' if optional else ''}"
    try:
        result = operator.index(given)
    except TypeError as error:
        raise ParameterError(f"{name} must be a whole number of {wanted}, got {short(given)}") from error
    if result < at_least or isinstance(given, (bool, np.bool_)):
        raise ParameterError(f"{name} must be {wanted}, got {short(given)}")
    if result > at_most:
        raise ParameterError(f"{name} must be at most {at_most}, got {short(given)}")
    return result


def short(given: Any) -> str:
    """Return the repr of any object, cut to 80 characters so that it fits into a message."""
    try:
        text = repr(given)
    except Exception:  # an object may do anything; of an integer, Python itself refuses to print many digits
        text = f"a {type(given).__name__}" + (" with thousands of digits" if isinstance(given, int) else "")
    return text if len(text) <= 80 else text[:77] + "..."


def one_of(name: str, given: Any, allowed: Iterable[str]) -> str:
    """Read one of several words.

    Args:
        name: name of the parameter, for messages.
        given: what the user gave.
        allowed: the words.

    Raises:
        ParameterError: anything else.
    """
    words = tuple(allowed)
    if not isinstance(given, str) or given not in words:
        raise ParameterError(f"{name} must be one of {', '.join(map(repr, words))}, got {short(given)}")
    return given


def array(name: str, given: Any) -> Floats:
    """Read a finite real array of at most two axes; raise ParameterError for anything else."""
    try:
        raw = np.asarray(given)
    except ValueError as error:
        raise ParameterError(f"{name} must be a number, a vector or a matrix, got {short(given)}") from error
    if raw.dtype.kind == "O" and raw.size and all(isinstance(entry, (int, float)) for entry in raw.flat):
        raise ParameterError(f"{name} must be finite, got {short(given)}, which no float can hold")
    if raw.dtype.kind not in "iuf" or raw.ndim > 2 or raw.size == 0:
        raise ParameterError(f"{name} must be a number, a vector or a matrix of numbers, got {short(given)}")
    if not np.all(np.isfinite(raw)):
        raise ParameterError(f"{name} must be finite, got {short(given)}")
    return raw.astype(np.float64)


def whole_numbers(name: str, given: Any) -> NDArray[np.int64]:
    """Read an array of whole numbers; raise ParameterError for anything else."""
    try:
        raw = np.asarray(given)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"{name} must be an array of whole numbers, got {short(given)}") from error
    if raw.dtype.kind not in "iu" or np.any(raw > np.iinfo(np.int64).max):
        raise ParameterError(f"{name} must be an array of whole numbers, got {short(given)}")
    return raw.astype(np.int64)


def matrix(name: str, given: Any, rows: int, columns: int | None = None) -> Floats:
    """Read a matrix; a number stands for that multiple of the identity.

    Args:
        name: name of the parameter, for messages.
        given: what the user gave.
        rows: number of rows.
        columns: number of columns; None allows any, and makes a number a square matrix.

    Raises:
        ParameterError: anything else.
    """
    result = array(name, given)
    if result.ndim == 0:
        result = float(result) * np.eye(rows, columns)
    if result.ndim != 2 or result.shape[0] != rows or columns not in (None, result.shape[1]):
        wanted = f"({rows}, {'any' if columns is None else columns})"
        raise ParameterError(f"{name} must be a matrix of shape {wanted}, got shape {result.shape}: {short(given)}")
    return result


def weight(name: str, given: Any, size: int, *, definite: bool) -> Floats:
    """Read a symmetric positive semidefinite (or definite) matrix; a number stands for that multiple of the identity.

    Args:
        name: name of the parameter, for messages.
        given: what the user gave.
        size: number of rows and columns.
        definite: whether the matrix must be positive definite.

    Raises:
        ParameterError: anything else.
    """
    result = matrix(name, given, size, size)
    largest = np.abs(result).max()
    if np.any(np.abs(result / 2 - result.T / 2) > 1e-12 * largest):
        raise ParameterError(f"{name} must be symmetric, got {short(given)}")
    lowest = float(np.linalg.eigvalsh(result)[0])
    if lowest <= 0 if definite else lowest < -1e-12 * largest:
        kind = "positive definite" if definite else "positive semidefinite"
        raise ParameterError(f"{name} must be {kind}, but its smallest eigenvalue is {lowest:.3g}: {short(given)}")
    symmetric: Floats = result / 2 + result.T / 2
    if lowest < -4 * size * np.finfo(np.float64).eps * largest:  # what no control pays for must not pay
        values, vectors = np.linalg.eigh(symmetric)
        symmetric = (vectors * np.maximum(values, 0.0)) @ vectors.T
        symmetric = (symmetric + symmetric.T) / 2
    return symmetric


def steps(horizon: float, dt: float) -> int:
    """Return the whole number of steps of length dt in a horizon; raise ParameterError where there is none."""
    ratio = horizon / dt
    if not ratio <= 2**53:
        raise ParameterError(f"dt={dt} is too short a step for the horizon {horizon}: {ratio:.3g} steps")
    count = round(ratio)
    if count < 1 or abs(count * dt - horizon) > 1e-9 * horizon:
        raise ParameterError(f"dt must divide the horizon: horizon / dt = {horizon} / {dt} = {horizon / dt} steps")
    return count
