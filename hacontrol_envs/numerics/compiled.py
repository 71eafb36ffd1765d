"""Compiling loops over rows with numba, late and with care for the cache.

A vector step in NumPy is a dozen passes over the batch; a compiled loop over rows is one. Each row's arithmetic is that
of a batch of one (no reassociation, no fused operations), so that results never depend on the batch, to the last bit.

Rule for whoever writes such a loop: it calls no other compiled function. numba renews a cached function when its own
file changes, not when a function that it calls does.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np

from hacontrol_envs.arrays import Floats

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function` as one that is compiled when first called, and from then on kept on disk where possible.

    numba is imported at that moment too: importing hacontrol_envs stays quick.
    """
    dispatcher: Any = None

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        nonlocal dispatcher
        if dispatcher is None:
            dispatcher = _compile(function)
        result: R = dispatcher(*args, **kwargs)
        return result

    return call


def _compile(function: Callable[..., Any]) -> Any:
    import numba

    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # nowhere to write: a read-only installation without a home directory
        return numba.njit(**options)(function)


def over_rows(
    fill: Callable[[Floats, Floats, Floats, Floats, Floats], None],
    x: Floats,
    a: Floats,
    noise: Floats,
    out: tuple[Floats, Floats] | None,
) -> tuple[Floats, Floats]:
    """Call `fill(x, a, noise, x_next, reward)` on rows, and return x_next and reward.

    Args:
        fill: writes the last two of its arguments, all contiguous rows.
        x, a, noise: states, actions and standard normals, (..., n), (..., m) and (..., d).
        out: arrays (N, n) and (N,) to fill, where the others have N rows; None makes them, for any leading axes.
    """
    if out is not None:
        fill(x, a, noise, *out)
        return out
    shape = np.broadcast_shapes(x.shape[:-1], a.shape[:-1], noise.shape[:-1])

    def rows(given: Floats) -> Floats:
        every = np.broadcast_to(given, (*shape, given.shape[-1]))
        return np.ascontiguousarray(every, dtype=np.float64).reshape(-1, given.shape[-1])

    x_next, reward = np.empty_like(rows(x)), np.empty(math.prod(shape))
    fill(rows(x), rows(a), rows(noise), x_next, reward)
    return x_next.reshape(*shape, -1), reward.reshape(shape)
