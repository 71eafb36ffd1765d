"""Compiling loops over rows with numba, late and with care for the cache.

A vector step in NumPy is a dozen passes over the batch; a compiled loop over rows is one. Each row's arithmetic is that
of a batch of one (no reassociation, no fused operations), so that results never depend on the batch, to the last bit.

A compiled function may call others, which its module defines or imports by name; their bodies are put in place of the
calls. numba renews what it keeps on disk when a function's own file changes, and not when a file that it calls into
does: therefore the name under which it is kept includes a digest of those files.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import math
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any, ParamSpec, TypeVar, cast

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
            dispatcher = _compile(_COMPILED[call])
        result: R = dispatcher(*args, **kwargs)
        return result

    _COMPILED[call] = cast(FunctionType, function)
    return call


_COMPILED: dict[Callable[..., Any], FunctionType] = {}
"""What `compiled` was given, by what it returned."""


@functools.cache
def _compile(function: FunctionType, inline: str = "never") -> Any:
    """Return numba's dispatcher of a function; its calls of others are replaced by their bodies."""
    import numba

    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "inline": inline}
    linked = _linked(function)
    try:
        return numba.njit(cache=True, **options)(linked)
    except RuntimeError:  # nowhere to write: a read-only installation without a home directory
        return numba.njit(**options)(linked)


def _linked(function: FunctionType) -> FunctionType:
    """Return `function` with dispatchers in place of the compiled functions that it calls."""
    called = _called(function)
    if not called:
        return function
    names = {**function.__globals__, **{name: _compile(other, "always") for name, other in called.items()}}
    linked = FunctionType(function.__code__, names, function.__name__)
    linked.__qualname__ = function.__qualname__
    if files := sorted(_files(function) - {inspect.getfile(function)}):
        contents = b"".join(Path(file).read_bytes() for file in files)
        linked.__qualname__ += f"-{hashlib.sha256(contents).hexdigest()[:16]}"
    return linked


def _called(function: FunctionType) -> dict[str, FunctionType]:
    """Return the compiled functions that a function calls, as `compiled` was given them, by name."""
    named = {name: function.__globals__.get(name) for name in function.__code__.co_names}
    return {name: _COMPILED[known] for name, known in named.items() if inspect.isfunction(known) and known in _COMPILED}


def _files(function: FunctionType) -> set[str]:
    """Return the files of a function and of all the compiled functions that it leads to."""
    return {inspect.getfile(function)}.union(*(_files(other) for other in _called(function).values()))


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
