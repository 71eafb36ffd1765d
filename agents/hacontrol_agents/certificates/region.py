"""Region: a box in unit coordinates that paths hardly ever leave, and a bound on how rarely they do."""

from __future__ import annotations

from typing import final

import numpy as np
import scipy

from hacontrol_agents.certificates.coordinates import Coordinates
from hacontrol_agents.certificates.value import Rates
from hacontrol_envs.arrays import Floats

EXPONENTS = 2.0 ** (np.arange(-8, 29) / 4)
"""Exponents of the barriers that are tried."""
SLACK = 1e-9
"""Distance in unit coordinates below which a point counts as on the region's edge."""


@final
class Region:
    """Points s with low <= s <= high; over a finite horizon the last coordinate is time."""

    def __init__(self, coordinates: Coordinates, low: Floats, high: Floats) -> None:
        closed = coordinates.problem.state.closed
        ends = np.where(closed, 1.0, np.inf)
        n = coordinates.states
        self.coordinates, self.low, self.high = coordinates, low.copy(), high.copy()
        self.low[:n], self.high[:n] = np.maximum(low[:n], -ends), np.minimum(high[:n], ends)
        if coordinates.timed:
            self.low[n], self.high[n] = -1.0, 1.0
        ends_of_all = [(i, side, end) for i in range(n) for side, end in ((-1, self.low[i]), (1, self.high[i]))]
        reached = [closed[i] and abs(end) >= 1.0 - SLACK for i, _, end in ends_of_all]
        self.open = [(i, side) for (i, side, _), met in zip(ends_of_all, reached, strict=True) if not met]
        """Edges of the region that paths may cross: coordinate and side, -1 or 1."""
        met = [(i, side) for (i, side, _), met in zip(ends_of_all, reached, strict=True) if met]
        constrained = coordinates.problem.state.constrained
        self.constrained = [(i, side) for i, side in met if constrained[i]]
        """Edges at which actions are cut so that paths stay."""
        self.reflecting = [(i, side) for i, side in met if not constrained[i]]
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

    def escapes(self, at: Rates, starts: Floats, share: Floats) -> Floats:
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
        drift, variance = at.weighted_drift, (at.columns**2).sum(axis=2)
        found = []
        for i, side in self.open:
            half, center = (self.high[i] - self.low[i]) / 2, (self.high[i] + self.low[i]) / 2
            z, start = side * (at.s[:, i] - center) / half, side * (starts[:, i] - center) / half
            move = side * drift[:, i] / half, variance[:, i] / half**2
            kinds = [(kind, k) for k in EXPONENTS for kind in (1, 2)]
            found.append(min(_barrier(*kind, z, move, at.yielded, (start, share), time) for kind in kinds))
        return np.array(found)

    def widened(self, edge: int, factor: float) -> Region:
        """Return a region whose open edge of this number is farther from the centre by a factor."""
        low, high, (i, side) = self.low.copy(), self.high.copy(), self.open[edge]
        step = (factor - 1) * (high[i] - low[i]) / 2
        low[i], high[i] = (low[i] - step, high[i]) if side < 0 else (low[i], high[i] + step)
        return Region(self.coordinates, low, high)


def _barrier(
    kind: int,
    k: float,
    z: Floats,
    move: tuple[Floats, Floats],
    rate: Floats,
    begin: tuple[Floats, Floats],
    time: float,
) -> float:
    """Return the bound by e = exp(k (q(z) - q(1))), q = z or (z + 1)^2/4; 1 where it is none."""
    q, first, second = (z, np.ones_like(z), 0.0) if kind == 1 else ((z + 1) ** 2 / 4, (z + 1) / 2, 0.5)
    e = np.exp(k * (q - 1))
    L = e * (move[0] * k * first + move[1] / 2 * (k * second + (k * first) ** 2))
    over = L - rate * e
    if not np.isfinite(over).all():
        return 1.0
    lasting = (
        np.inf
        if (over[rate <= 0] > 0).any()
        else float(np.max(np.divide(over, rate, out=np.zeros_like(over), where=(over > 0))))
    )
    timely = max(float(over.max()), 0.0) * time if np.isfinite(time) and (rate >= 0).all() else np.inf
    begun = begin[0] if kind == 1 else (begin[0] + 1) ** 2 / 4
    return min(float(begin[1] @ np.exp(k * (begun - 1))) + min(lasting, timely), 1.0)
