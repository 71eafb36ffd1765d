"""States of a finite chain as components of arrays: read as whole numbers, and drawn by normals."""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import NDArray

from hacontrol_envs.arrays import Array, Floats, namespace


def whole(x: Array) -> Array:
    """Return numbers of states as whole numbers."""
    xp = namespace(x)
    return xp.astype(xp.round(x), xp.int64)


def draw(odds: Floats, noise: Floats) -> NDArray[np.int64]:
    """Draw numbers with these odds (..., k), by the inverse of the distribution function at standard normals (...)."""
    reached = np.cumsum(odds, axis=-1)
    uniform = scipy.special.ndtr(noise)[..., None] * reached[..., -1:]
    found: NDArray[np.int64] = np.minimum(np.sum(uniform > reached, axis=-1), odds.shape[-1] - 1)
    return found


def nearest(levels: Floats, seen: Floats) -> NDArray[np.int64]:
    """The numbers of the levels nearest to what was seen to float32 rounding."""
    order = np.argsort(levels)
    middles = (levels[order][1:] + levels[order][:-1]) / 2
    found: NDArray[np.int64] = order[np.searchsorted(middles, seen)]
    return found
