"""Bounds on values from the equation alone: least supersolutions and largest subsolutions, by linear programmes."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, final

import numpy as np
import scipy

from hacontrol_agents.certificates.candidate import At, Candidate, Policy
from hacontrol_agents.certificates.region import Region
from hacontrol_envs.arrays import Floats

LARGEST = 1e6
"""Largest weight of a polynomial, in units of the residual."""
SEARCHES, KEPT = 5, 64
"""Rounds of local search for the largest violation, and points from which it starts."""
ROUNDS = 8
"""Most linear programmes in a row."""
PIVOTS = 3000
"""Most iterations of a linear programme: the simplex method, which cycles on some, takes up to a few hundred."""
EXACT = 1e-12
"""Largest residual relative to the equation's terms that is rounding."""
LIFTS = 8
"""Most lifts in a row."""
NEGLIGIBLE = 1e-7
"""Multiple of psi whose violation of second order is neglected."""
EDGE_POINTS = 128
"""Points on each open edge, and four times as many at the horizon."""


class Bound(NamedTuple):
    """A bound on the values of a policy from below, or of all policies from above."""

    value: Candidate
    """W, which meets the inequality but for `lift`."""
    mean: float
    """Mean of W over the starts, the lift included."""
    lift: float
    """What was added to W's mean, or taken off, so that the inequality holds at all points that a search found."""
    at: At
    """Points of the region with the actions that count there."""
    side: int
    """1 for a bound from above, -1 from below."""

    @property
    def tightness(self) -> float:
        """The mean, signed so that less is tighter."""
        return self.side * self.mean


@final
class Squeeze:
    """Finds functions W = V + b p, p a polynomial, that bound values in a region.

    From above, W with (rho - L^a) W >= r_a for all actions a is a supersolution: the value of no policy exceeds it.
    From below, W with (rho - L^pi) W <= r_pi is a subsolution for one policy pi: its value is no less. Both hold up to
    what leaves the region, where V is taken for the value (W >= V on open edges from above, W <= V from below), and if
    paths are discounted without end. The mean of W over the starts is made least, or largest, by a linear programme
    whose rows are points with actions. From above the greedy actions of W are new rows where they violate the
    inequality (as in approximate linear programming: de Farias and Van Roy, 2003).
    """

    def __init__(
        self,
        value: Candidate,
        region: Region,
        starts: Floats,
        visited: tuple[Floats, Floats],
        *,
        points: int,
        seed: int,
    ) -> None:
        """Choose points.

        Args:
            value: V.
            region: where the inequalities are to hold.
            starts: states at time 0 over which means are taken, (S, n).
            visited: times (M,) and states (M, n) that are among the points.
            points: number of points all over the region.
            seed: seed of the points.
        """
        self.value, self.region, self.starts, self.seed = value, region, starts, seed
        rng = np.random.default_rng(seed)
        edges = region.edges(rng, EDGE_POINTS, region.constrained)
        t, x = value.coordinates.back(np.concatenate([region.points(rng, points), edges]))
        self.t, self.x = np.concatenate([t, visited[0]]), np.concatenate([x, visited[1]])
        self.start = np.zeros(len(starts)), starts
        self.psi = value.weight(*self.start)

    def above(self, degree: int) -> Bound:
        """Return a bound on all policies from above, by polynomials of this total degree."""
        return self._bound(degree, 1, None)

    def below(self, degree: int, policy: Policy) -> Bound:
        """Return a bound on one policy's value from below, by polynomials of this total degree."""
        return self._bound(degree, -1, policy)

    def _bound(self, degree: int, side: Literal[1, -1], policy: Policy | None) -> Bound:
        rng, value = np.random.default_rng([self.seed, degree]), self.value
        expansion = value.coordinates.expansion(self.region.low, self.region.high, degree)
        powers = expansion.values(value.coordinates.of(*self.start))
        cost = side * (value.factors(*self.start)[:, None] * powers).mean(axis=0) / self.psi.mean()
        best, worst = self._closed(value, side, policy, rng)
        unit = float(np.abs(best.at.residual / best.at.size).max())
        if not EXACT < unit < np.inf:
            return best
        rows = [self._rows(expansion, best.at, side, unit), self._floors(expansion, side, unit, rng)]
        rows.append(self._rows(expansion, worst, side, unit))
        for _ in range(ROUNDS):
            left, right = (np.concatenate(parts) for parts in zip(*rows, strict=True))
            if not (np.isfinite(left).all() and np.isfinite(right).all()):
                break
            found = _least(cost, left, right)
            if found.status != 0:
                break
            bound, worst = self._closed(value.plus(expansion, found.x * unit), side, policy, rng)
            best = min(best, bound, key=lambda bound: bound.tightness)
            if bound.lift <= 1e-3 * unit * self.psi.mean() * abs(found.fun) + 1e-14 * self.psi.mean():
                break
            rows += [self._rows(expansion, at, side, unit) for at in (_violating(bound.at, side), worst)]
        return best

    def _rates(self, value: Candidate, t: Floats, x: Floats, policy: Policy | None) -> At:
        return value.rates(t, x, value.greedy(t, x) if policy is None else value.played(policy, t, x))

    def _rows(self, expansion: Any, at: At, side: int, unit: float) -> tuple[Floats, Floats]:
        """Return rows (N, K) and right sides (N,) of side ((rho - L)(b p) - h) >= 0, relative to size and `unit`."""
        base = self.value.rates(at.t, at.x, at.a)
        share = side * (base.weight / base.size)[:, None]
        return share * self.value.rows(expansion, base), side * base.residual / base.size / unit

    def _floors(self, expansion: Any, side: int, unit: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Return rows of side p >= 0 on open edges, of side (W - g) >= 0 at the horizon, and of W's slope at edges.

        Where paths are reflected W may not rise inwards from above, nor fall from below.
        """
        value, s = self.value, self.region.edges(rng, EDGE_POINTS, self.region.open)
        due = np.zeros(len(s))
        if value.coordinates.timed:
            last = self.region.points(rng, 4 * EDGE_POINTS)
            last[:, -1] = 1.0
            t, x = value.coordinates.back(last)
            owed = (value.coordinates.problem.terminal_reward(x) - value.value(t, x)) / value.factors(t, x)
            s, due = np.concatenate([s, last]), np.concatenate([due, owed])
        rows, right = [side * expansion.values(s)], [side * due / unit]
        for i, end in self.region.reflecting:
            slopes, slope = value.slopes(expansion, self.region.edges(rng, EDGE_POINTS, [(i, end)]), i)
            rows.append(side * end * slopes)
            right.append(-side * end * slope / unit)
        return np.concatenate(rows), np.concatenate(right)

    def _closed(self, value: Candidate, side: int, policy: Policy | None, rng: np.random.Generator) -> tuple[Bound, At]:
        """Return the bound by W, lifted until the inequality holds wherever a search looked, and W's worst points.

        W is lifted by multiples of psi, or a constant where that is less. A multiple of psi has a slope, which moves
        the greedy actions: its violation is of second order, and is lifted again.
        """
        at = self._rates(value, self.t, self.x, policy)
        worst = self._search(value, at, side, policy, rng)
        lifted, first = value, at.joined(worst)
        flat, steep = self._lifts(first, side)
        total, rest = 0.0, first
        for _ in range(LIFTS):
            if not 1e-14 < steep < min(1.0, flat / self.psi.mean()):
                break
            lifted, total = lifted.lifted(side * steep), total + steep
            rest = self._rates(lifted, rest.t, rest.x, policy)
            flat, steep = self._lifts(rest, side)
        lift = total * self.psi.mean() + min(flat, steep * self.psi.mean() if steep < NEGLIGIBLE else np.inf)
        if not self._reflects(lifted, side, rng):
            lift = np.inf
        mean = float(value.value(*self.start).mean()) + side * lift
        if not np.isfinite(mean):
            mean, lift = side * np.inf, np.inf
        return Bound(value, mean, lift, at, side), worst

    def _reflects(self, value: Candidate, side: int, rng: np.random.Generator) -> bool:
        """Tell whether W's slope at reflecting edges has the sign that a bound needs, up to `NEGLIGIBLE` of psi."""
        constant = value.coordinates.expansion(self.region.low, self.region.high, 0)
        slopes = [
            side * end * value.slopes(constant, self.region.edges(rng, EDGE_POINTS, [(i, end)]), i)[1]
            for i, end in self.region.reflecting
        ]
        return all(bool((slope >= -NEGLIGIBLE).all()) for slope in slopes)

    def _lifts(self, at: At, side: int) -> tuple[float, float]:
        """Return the constant, and the multiple of psi, that outweigh the violation to first order."""
        over = np.maximum(side * at.residual, 0.0)
        if not np.isfinite(over).all():
            return np.inf, np.inf
        due, safe = over > 0, at.yielded > 0
        steep = np.divide(over, at.weight * at.yielded, out=np.zeros_like(over), where=due & safe)
        return float(over.max()) * self.value.lasting, np.inf if (due & ~safe).any() else float(steep.max())

    def _search(self, value: Candidate, at: At, side: int, policy: Policy | None, rng: np.random.Generator) -> At:
        """Return points to which a random search climbed from the largest violations."""
        low, high = self.region.low, self.region.high
        violation = side * at.residual / at.size
        worst = np.argsort(violation)[-KEPT:]
        s, height, found = at.s[worst], violation[worst], at.select(worst)
        for k in range(SEARCHES):
            tried = np.clip(s + (high - low) * 0.1 * 0.4**k * rng.standard_normal(s.shape), low, high)
            there = self._rates(value, *value.coordinates.back(tried), policy)
            better = side * there.residual / there.size > height
            s = np.where(better[:, None], tried, s)
            height = np.where(better, side * there.residual / there.size, height)
            found = found.replaced(better, there)
        return found


def _violating(at: At, side: int) -> At:
    return at.select(side * at.residual > 0)


def _least(cost: Floats, left: Floats, right: Floats) -> Any:
    """Return SciPy's answer to: minimise cost'w where left w >= right; by interior points where simplices cycle."""
    found: Any = None
    for method in ("highs", "highs-ipm"):
        limits, options = (-LARGEST, LARGEST), {"maxiter": PIVOTS}
        found = scipy.optimize.linprog(cost, -left, -right, bounds=limits, method=method, options=options)
        if found.status != 1:
            break
    return found
