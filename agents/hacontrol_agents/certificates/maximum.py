"""Maximum points of many functions of one number at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hacontrol_envs.arrays import Floats

GRID, NARROWINGS = 13, 14
"""Numbers at which functions are compared, denser towards the ends, and steps of golden sections."""
GOLDEN = (5**0.5 - 1) / 2
"""The golden section."""


def maximum_point(height: Callable[[Floats], Floats], low: float, high: float, size: int) -> Floats:
    """Return points (N,) where N functions of one number are largest.

    A grid, golden sections about its best point, and a parabola through the last three: a smooth function with one peak
    near the best point of the grid is found to about 1e-12 of its height. The best point of the grid, ends included, is
    taken where that is higher.

    Args:
        height: numbers (N,), one for each function, to heights (N,).
        low: least number.
        high: largest number.
        size: the number N of functions.
    """
    grid = low + (high - low) * (1 - np.cos(np.pi * np.arange(GRID) / (GRID - 1))) / 2
    heights = np.stack([height(np.full(size, at)) for at in grid])
    k = heights.argmax(axis=0)
    left, right = grid[np.maximum(k - 1, 0)], grid[np.minimum(k + 1, GRID - 1)]
    inner = [right - GOLDEN * (right - left), left + GOLDEN * (right - left)]
    tops = [height(at) for at in inner]
    for _ in range(NARROWINGS):
        up = tops[1] > tops[0]
        left, right = np.where(up, inner[0], left), np.where(up, right, inner[1])
        new = np.where(up, left + GOLDEN * (right - left), right - GOLDEN * (right - left))
        there = height(new)
        inner = [np.where(up, inner[1], new), np.where(up, new, inner[0])]
        tops = [np.where(up, tops[1], there), np.where(up, there, tops[0])]
    points = [grid[k], *inner, np.clip(_peak(left, right, height), low, high)]
    found = np.stack([heights.max(axis=0), *tops, height(points[-1])])
    return np.asarray(np.stack(points)[np.nan_to_num(found, nan=-np.inf).argmax(axis=0), np.arange(size)])


def _peak(left: Floats, right: Floats, height: Callable[[Floats], Floats]) -> Floats:
    """Return peaks (N,) of parabolas through the ends and the middles of intervals, or the middles."""
    middle, half = (left + right) / 2, (right - left) / 2
    low, top, high = height(left), height(middle), height(right)
    bend = low - 2 * top + high
    shift = np.divide(low - high, 2 * bend, out=np.zeros_like(bend), where=bend < 0)
    return np.asarray(middle + half * np.clip(shift, -1.0, 1.0))
