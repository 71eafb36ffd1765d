"""Reading of what callers hand to `reset` and `step`, which is refused before anything changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hacontrol_envs.arrays import Floats
from hacontrol_envs.core.domain import Domain
from hacontrol_envs.core.parameters import short
from hacontrol_envs.core.problem import Problem
from hacontrol_envs.errors import ActionError, ResetError, SeedError, nearest


def read_action(given: Any, out: Floats) -> None:
    """Copy an action into `out`, which has the shape that it must have.

    Raises:
        ActionError: not an array of real numbers of that shape. Whether they are finite is for the caller to see.
    """
    try:
        array = given if type(given) is np.ndarray else np.asarray(given)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ActionError(f"an action must be an array of numbers of shape {out.shape}, got {short(given)}") from error
    if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
        raise ActionError(
            f"an action must be an array of real numbers (float32 in [-1, 1]) of shape {out.shape}, "
            f"got dtype {array.dtype}: {short(given)}"
        )
    if array.shape != out.shape:
        hint = ", one row per environment" if out.ndim == 2 else ""
        raise ActionError(f"an action must have shape {out.shape}{hint}, got shape {array.shape}: {short(given)}")
    out[...] = array


def read_seed(given: Any) -> int | None:
    """Read a seed, a non-negative integer or None.

    Raises:
        SeedError: anything else.
    """
    if given is None:
        return None
    if isinstance(given, (bool, np.bool_)) or not isinstance(given, (int, np.integer)) or given < 0:
        raise SeedError(f"a seed must be a non-negative integer or None, got {short(given)}")
    return int(given)


def read_seeds(given: Any, num_envs: int) -> list[int | None]:
    """Read one seed per row: s becomes s, s + 1, ...; a list gives each row its own.

    Raises:
        SeedError: anything else.
    """
    if isinstance(given, (list, tuple)):
        if len(given) != num_envs:
            raise SeedError(f"a list of seeds needs one for each of the {num_envs} environments, got {len(given)}")
        return [read_seed(seed) for seed in given]
    first = read_seed(given)
    return [None] * num_envs if first is None else [first + row for row in range(num_envs)]


@dataclass(frozen=True)
class ResetOptions:
    """Options of `reset(options=...)`, as read."""

    rows: NDArray[np.intp]
    """Rows to reset."""
    state: Floats | None
    """States in which they start, (len(rows), n); None draws the initial state."""
    steps: NDArray[np.int64]
    """Numbers of steps at which they start, (len(rows),)."""


def read_options(
    given: Any, num_envs: int, problem: Problem, dt: float, last: int | None, known: tuple[str, ...]
) -> ResetOptions:
    """Read options of `reset`.

    Args:
        given: what the caller gave, a dictionary or None.
        num_envs: number of rows.
        problem: the problem of the environment.
        dt: length of a step.
        last: number of steps of an episode; None where it has no end.
        known: names of the options that there are.

    Raises:
        ResetError: an unknown option, or one that makes no sense.
    """
    if given is None:
        given = {}
    if not isinstance(given, dict):
        raise ResetError(f"options must be a dictionary or None, got {short(given)}")
    for name in given:
        if name not in known:
            options = f"known options: {', '.join(known)}"
            raise ResetError(f"unknown reset option {name!r}; {nearest(name, known)}{options}")
    rows = np.arange(num_envs) if given.get("reset_mask") is None else _read_mask(given["reset_mask"], num_envs)
    state = None if given.get("state") is None else _read_state(given["state"], num_envs, problem.state)[rows]
    if state is not None:
        problem.refuse_state(state)
    time = 0.0 if given.get("time") is None else given["time"]
    return ResetOptions(rows, state, _read_time(time, num_envs, dt, last)[rows])


def _read_mask(given: Any, num_envs: int) -> NDArray[np.intp]:
    if not isinstance(given, np.ndarray) or given.dtype != np.bool_ or given.shape != (num_envs,):
        raise ResetError(f"reset_mask must be a boolean array of shape ({num_envs},), got {short(given)}")
    if not given.any():
        raise ResetError("reset_mask must select at least one environment, but all its entries are False")
    return np.flatnonzero(given)


def _read_numbers(name: str, given: Any) -> Floats:
    try:
        array = np.asarray(given)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ResetError(f"{name} must be an array of numbers, got {short(given)}") from error
    if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8 or not np.all(np.isfinite(array)):
        raise ResetError(f"{name} must be finite real numbers, got {short(given)}")
    return array.astype(np.float64)


def _read_state(given: Any, num_envs: int, domain: Domain) -> Floats:
    state, n = _read_numbers("state", given), domain.dimension
    if state.shape not in ((n,), (num_envs, n)):
        raise ResetError(f"state must have shape ({n},) or ({num_envs}, {n}), got shape {state.shape}")
    if np.any(state[..., domain.log] <= 0):
        raise ResetError(f"state must be positive in the components on a logarithmic scale, got {short(given)}")
    outside = domain.closed & ((state < domain.low) | (state > domain.high))
    if np.any(outside):
        names = ", ".join(np.array(domain.names)[outside.reshape(-1, n).any(axis=0)])
        raise ResetError(f"state must be within {domain.low} and {domain.high} in {names}, got {short(given)}")
    return np.broadcast_to(state, (num_envs, n))


def _read_time(given: Any, num_envs: int, dt: float, last: int | None) -> NDArray[np.int64]:
    time = _read_numbers("time", given)
    if time.shape not in ((), (num_envs,)):
        raise ResetError(f"time must be a number or have shape ({num_envs},), got shape {time.shape}")
    with np.errstate(over="ignore"):  # a time beyond all floating-point steps is no multiple of dt
        steps = np.rint(time / dt)
        off = np.abs(steps * dt - time)
    if np.any(time < 0) or np.any(off > 1e-9 * np.maximum(time, dt)):
        raise ResetError(f"time must be a non-negative multiple of dt={dt}, got {short(given)}")
    if np.any(steps >= (2**53 if last is None else last)):
        raise ResetError(f"time must be before the end of the episode at {last} * dt, dt={dt}; got {short(given)}")
    return np.broadcast_to(steps.astype(np.int64), (num_envs,))
