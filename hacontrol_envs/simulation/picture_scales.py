"""Axes of pictures: coordinates in which they are linear, limits that rarely change, ticks that can be read."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np

from hacontrol_envs.arrays import Floats
from hacontrol_envs.core.domain import Domain

Limits = tuple[float, float]
FAR_OFF = 1e100
"""Largest coordinate: a picture of a state that exploded is still a picture."""
DECADES = 40
"""Powers of ten, from the top, at which a logarithmic axis may have ticks."""
POWER = 0.4
"""Exponent that stretches wealth near its lower end, in which the nodes of `egm.asset_grid` are evenly spaced."""


@final
@dataclass(frozen=True, eq=False)
class Scale:
    """An axis that is linear in c(x), an increasing function of what is drawn.

    Args:
        forward, inverse: c and its inverse, of arrays (...).
        least: smallest width in coordinates, so that hardly any movement does not look like a lot of it.
        even: whether c is the identity, so that ticks are evenly spaced.
    """

    forward: Callable[[Floats], Floats]
    inverse: Callable[[Floats], Floats]
    least: float
    even: bool

    @classmethod
    def linear(cls, least: float = 0.0) -> Scale:
        """Make the scale c(x) = x."""
        return cls(lambda x: x, lambda c: c, least, True)

    @classmethod
    def of(cls, box: Domain, component: int) -> Scale:
        """Make the scale of a component of a box, linear or of decimal logarithms; windows show at least 1/8 of it."""
        low, high = float(box.low[component]), float(box.high[component])
        if not box.log[component]:
            return cls.linear((high - low) / 8)
        return cls(lambda x: np.log10(np.maximum(x, 1e-300)), lambda c: 10.0**c, math.log10(high / low) / 8, False)

    @classmethod
    def stretched(cls, low: float) -> Scale:
        """Make the scale c(x) = (x - low)^0.4, for wealth above its limit."""
        return cls(
            lambda x: np.maximum(x - low, 0.0) ** POWER, lambda c: low + np.maximum(c, 0.0) ** (1 / POWER), 0.0, False
        )

    def place(self, x: Floats | float) -> Floats:
        """Return coordinates (...) of what is to be drawn, (...); not-a-number stays, infinity is far off."""
        placed: Floats = np.clip(self.forward(np.asarray(x, dtype=np.float64)), -FAR_OFF, FAR_OFF)
        return placed

    def window(self, placed: Floats) -> Limits:
        """Return limits around coordinates, rounded outward to 1, 2 or 5 times a power of ten to change rarely."""
        seen = placed[np.isfinite(placed)]
        low, high = (float(seen.min()), float(seen.max())) if seen.size else (0.0, 1.0)
        scale = max(abs(low), abs(high), 1e-290)
        width = max(high - low, self.least, 1e-9 * scale)
        middle = low / 2 + high / 2
        low, high = min(low, middle - width / 2) - 0.04 * width, max(high, middle + width / 2) + 0.04 * width
        step = nice(width / 4)
        return float(f"{step * math.floor(low / step):.12g}"), float(f"{step * math.ceil(high / step):.12g}")

    def ticks(self, limits: Limits, most: int) -> tuple[Floats, list[str]]:
        """Return coordinates and labels of at most so many ticks within the limits, and at least two."""
        x = _even(limits, most) if self.even else self._uneven(limits, most)
        return self.place(x), labels(x, self.even)

    def _uneven(self, limits: Limits, most: int) -> Floats:
        """The roundest numbers that are far enough apart: a lower end <= 0, powers of ten, fives of them, then twos."""
        low, high = (float(end) for end in self.inverse(np.array(limits)))
        apart, top = (limits[1] - limits[0]) / (most + 1), math.floor(math.log10(max(high, 1e-290)))
        decades = 10.0 ** np.arange(top, max(math.floor(math.log10(max(low, 1e-290))), top - DECADES) - 1, -1)
        chosen: Floats = np.array([low] if low <= 0 else [])
        for x in np.concatenate([decades, 5 * decades, 2 * decades]):
            if low <= x <= high and np.all(np.abs(self.place(chosen) - self.place(x)) >= apart):
                chosen = np.append(chosen, x)
        return np.sort(chosen) if len(chosen) > 2 else _even((low, high), most)


def nice(x: float) -> float:
    """Return the smallest of 1, 2, 5 times a power of ten that is no less than x > 0."""
    power = 10.0 ** math.floor(math.log10(x))
    return next((first * power for first in (1.0, 2.0, 5.0) if first * power >= x * (1 - 1e-9)), 10 * power)


def _even(limits: Limits, most: int) -> Floats:
    """Multiples of 1, 2 or 5 times a power of ten within the limits, at most so many."""
    low, high = limits
    step = nice((high - low) / most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    if last - first + 1 < 2:
        return np.array([low, high])
    found: Floats = step * np.arange(first, last + 1, dtype=np.float64)
    return found


def labels(x: Floats, even: bool = True) -> list[str]:
    """Return labels of ticks at x: as many digits as tell them apart; even ticks have equally many after the point.

    Args:
        x: increasing numbers, (n,).
        even: whether they are evenly spaced.
    """
    apart = float(np.diff(x).min()) if len(x) > 1 else 1.0
    largest = float(np.abs(x).max(initial=0.0))
    if not even and len(set(short := [f"{entry:.4g}" for entry in x])) == len(x):
        shown = short
    elif largest < 1e5 and apart >= 0.999e-4 and np.ptp(x) < 200 * apart:
        places = max(0, -math.floor(math.log10(apart) + 1e-9))
        shown = [f"{entry + 0.0:.{places}f}" for entry in x]
    else:
        digits = max(1, math.ceil(math.log10(max(largest, 1e-300) / apart) - 1e-9) + 1)
        shown = [f"{0.0 if abs(entry) < 1e-9 * apart else entry:.{min(digits, 15)}g}" for entry in x]
    return [text.replace("-", "\N{MINUS SIGN}") if float(text) != 0 else text.lstrip("-") for text in shown]
