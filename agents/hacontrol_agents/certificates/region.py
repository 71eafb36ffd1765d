"""Region: a box in unit coordinates that paths hardly ever leave, and a bound on how rarely they do."""

from __future__ import annotations

from typing import final

import numpy as np
import scipy

from hacontrol_agents.certificates.candidate import At, Barrier, Frame
from hacontrol_envs.arrays import Floats

EXPONENTS = 2.0 ** (np.arange(-8, 29) / 4)
"""Exponents of the barriers that are tried."""
SLACK = 1e-9
"""Distance in unit coordinates below which a point counts as on the region's edge."""


@final
class Region:
    """Points s with low <= s <= high; over a finite horizon the last coordinate is time."""

    def __init__(self, coordinates: Frame, low: Floats, high: Floats) -> None:
        n, ends = coordinates.states, coordinates.ends
        self.coordinates, self.low, self.high = coordinates, low.copy(), high.copy()
        self.low[:n], self.high[:n] = np.maximum(low[:n], ends[0]), np.minimum(high[:n], ends[1])
        if coordinates.timed:
            self.low[n], self.high[n] = -1.0, 1.0
        both = [(i, side) for i in range(n) for side in (-1, 1)]
        left = {-1: self.low[:n] - ends[0], 1: ends[1] - self.high[:n]}
        self.open = [(i, side) for i, side in both if left[side][i] > SLACK]
        """Edges of the region that paths may cross: coordinate and side, -1 or 1."""
        met = [edge for edge in both if edge not in self.open]
        self.constrained = [(i, side) for i, side in met if coordinates.constrained[i]]
        """Edges at which actions are cut so that paths stay."""
        self.reflecting = [(i, side) for i, side in met if coordinates.reflecting[i]]
        """Edges at which paths are reflected."""

    def holds(self, s: Floats) -> Floats:
        """Tell which points s (N, k) lie in the region, (N,)."""
        inside: Floats = ((s >= self.low - SLACK) & (s <= self.high + SLACK)).all(axis=1)
        return inside

    def points(self, rng: np.random.Generator, size: int) -> Floats:
        """Draw points (size, k), half of them denser towards the edges, where polynomials bend most."""
        draws = scipy.stats.qmc.Sobol(len(self.low), rng=rng).random(size)
        draws[::2] = (1 - np.cos(np.pi * draws[::2])) / 2
        drawn: Floats = self.low + (self.high - self.low) * draws
        return drawn

    def edges(self, rng: np.random.Generator, size: int, which: list[tuple[int, int]]) -> Floats:
        """Draw points on some edges, (M, k).

        Args:
            rng: draws the points.
            size: number of points on each edge.
            which: edges, as coordinate and side.
        """
        drawn = [self.points(rng, size) for _ in which]
        for (i, side), points in zip(which, drawn, strict=True):
            points[:, i] = self.low[i] if side < 0 else self.high[i]
        return np.concatenate(drawn) if drawn else np.empty((0, len(self.low)))

    def escapes(self, at: At, starts: Floats, share: Floats) -> Floats:
        """Bound the mean weight E^psi[D_tau] of paths that leave, for each open edge, (E,).

        A barrier e(s) + c bounds it where (L - rate) e <= c rate at all points: e is exponential or Gaussian in one
        coordinate, and one at the edge. Over a finite horizon T so does e(s) + c (T - t) where (L - rate) e <= c and no
        rate is negative. The exponent with the least bound is taken.

        Args:
            at: points all over the region, with their motion under the policy.
            starts: where paths start, s (S, k).
            share: weights of the starts in the mean, (S,); they sum to one.
        """
        time = self.coordinates.horizon if self.coordinates.timed else np.inf
        found = []
        for i, side in self.open:
            half, center = (self.high[i] - self.low[i]) / 2, (self.high[i] + self.low[i]) / 2
            barriers = [Barrier(i, side / half, center, kind, k) for k in EXPONENTS for kind in (1, 2)]
            found.append(min(_bound(barrier, at, (starts, share), time) for barrier in barriers))
        return np.array(found)

    def widened(self, edge: int, factor: float) -> Region:
        """Return a region whose open edge of this number is farther from the centre by a factor."""
        low, high, (i, side) = self.low.copy(), self.high.copy(), self.open[edge]
        step = (factor - 1) * (high[i] - low[i]) / 2
        low[i], high[i] = (low[i] - step, high[i]) if side < 0 else (low[i], high[i] + step)
        return Region(self.coordinates, low, high)


def _bound(barrier: Barrier, at: At, begin: tuple[Floats, Floats], time: float) -> float:
    """Return the bound by a barrier; 1 where it is none."""
    over, rate = at.excess(barrier), at.yielded
    if not np.isfinite(over).all():
        return 1.0
    lasting = (
        np.inf
        if (over[rate <= 0] > 0).any()
        else float(np.max(np.divide(over, rate, out=np.zeros_like(over), where=(over > 0))))
    )
    timely = max(float(over.max()), 0.0) * time if np.isfinite(time) and (rate >= 0).all() else np.inf
    return min(float(begin[1] @ barrier.jet(begin[0][:, barrier.i])[0]) + min(lasting, timely), 1.0)
