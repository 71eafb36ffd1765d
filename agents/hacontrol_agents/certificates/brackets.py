"""Brackets: intervals that hold a policy's value and the optimum, by base, weight and region."""

from __future__ import annotations

from typing import NamedTuple, final

import numpy as np

from hacontrol_agents.certificates.bounds import EDGE_POINTS, Bound, Squeeze
from hacontrol_agents.certificates.coordinates import Coordinates, lifetime
from hacontrol_agents.certificates.fitting import fit_base
from hacontrol_agents.certificates.paths import Plan, Policy, Walk, walk
from hacontrol_agents.certificates.region import Region
from hacontrol_agents.certificates.value import JetFunction, Rates, Value
from hacontrol_envs import ControlProblem
from hacontrol_envs.arrays import Floats
from hacontrol_envs.errors import LearningError

BEYOND = 1.0
"""Size of V* - V and of J - V, relative to the larger of |V| and psi, that is assumed where paths leave the region, and
where they are cut."""
MARGIN, WIDENINGS = 1.2, 30
"""Extent of the region relative to that of the paths, at first, and how often an edge of it is moved at most."""
TARGETS = (1e-5, 1e-10)
"""Weights of paths that leave the region, which are aimed at."""
DEGREES = {1: (0, 2, 4, 8, 12), 2: (0, 2, 4, 6), 3: (0, 2, 4)}
"""Degrees of the polynomials that are tried in one, two and three coordinates; `FEW` in more."""
FEW = (0, 2)
"""Degrees that are tried in four coordinates and more."""
PILOT_PATHS, PILOT_LEFT, PILOT_STEPS = 64, 1e-3, 1000
"""Paths, weight at the end, and most steps of the walk that shows where the policy goes."""
SHARP = 1e-10
"""Relative gap that is not tried to be improved upon."""
DISCOUNTED = 1e-2
"""Weight at the end of the pilot walk up to which paths count as discounted, where rates are not positive
everywhere."""
POINTS, VISITED = 1024, 512
"""Points of the region, and points on paths, at which inequalities are stated."""


class Subject(NamedTuple):
    """A policy to be certified."""

    problem: ControlProblem
    policy: Policy
    jet: JetFunction | None
    """The value learnt, with its derivatives; None without."""
    starts: Floats
    """Initial states, (S, n)."""


class Bracket(NamedTuple):
    """Bounds found with one base and weight in one region."""

    value: Value
    """V."""
    region: Region
    """Where the inequalities of the bounds hold."""
    above: Bound
    """The bound on all policies."""
    below: Bound
    """The bound on the policy."""
    escaped: tuple[float, float]
    """Bounds on the weight of paths that leave the region, times the size of V there over psi: under the greedy policy
    of V, and under the policy."""
    discounted: bool
    """Whether psi-weighted paths lose their weight: everywhere in the region, or all but a hundredth in a walk."""
    psi: float
    """Mean of psi over the starts."""

    @property
    def upper(self) -> float:
        """The upper bound, with what may happen beyond the region."""
        return self.above.mean + BEYOND * self.psi * self.escaped[0]

    @property
    def lower(self) -> float:
        """The lower bound, with what may happen beyond the region."""
        return self.below.mean - BEYOND * self.psi * self.escaped[1]

    @property
    def gap(self) -> float:
        """Difference of the bounds relative to psi; infinite where one is missing."""
        gap = (self.upper - self.lower) / self.psi
        return gap if np.isfinite(gap) else np.inf

    @property
    def looseness(self) -> float:
        """About how far the lower bound is below what the policy earns, relative to psi."""
        at = self.below.value.rates(self.below.at.t, self.below.at.x, self.below.at.a)
        return float(np.quantile(np.abs(at.residual) / at.size, 0.95))


@final
class Search:
    """Looks for brackets of one policy."""

    def __init__(self, subject: Subject, seed: int) -> None:
        self.subject, self.seed = subject, seed
        self.rng = np.random.default_rng([seed, 1])
        self.at = Coordinates(subject.problem)
        self.start = np.zeros(len(subject.starts)), subject.starts
        self.begin = self.at.of(*self.start)

    @property
    def degrees(self) -> tuple[int, ...]:
        """Degrees of the polynomials that are tried."""
        return DEGREES.get(self.at.size, FEW)

    def brackets(self) -> tuple[list[Bracket], Walk]:
        """Return brackets by base, weight and region until one is sharp, and the last walk."""
        found: list[Bracket] = []
        seen: Walk
        for base in self._bases():
            for value in self._weighted(base):
                seen = self._pilot(value)
                here = [self._bracket(value, seen, *self._region(value, seen, target)) for target in TARGETS]
                found += here
                if any(one.discounted and one.gap <= SHARP for one in here):
                    return found, seen
                if any(one.discounted and max(one.escaped) < 0.1 for one in here):
                    break
        return found, seen

    def _bases(self) -> list[JetFunction]:
        """Return the value learnt, and one fitted to the policy."""
        problem, policy, jet, _ = self.subject
        points = self.at.back(self.rng.uniform(-1, 1, (POINTS, self.at.size)))
        a = np.asarray(policy(points[0], problem.observe(points[1])), dtype=np.float64)
        if not np.isfinite(a).all():
            wrong = int(np.logical_not(np.isfinite(a)).any(axis=-1).sum())
            raise LearningError(
                f"the policy plays actions that are not finite at {wrong} of {len(a)} states of the box: "
                "there is nothing to certify"
            )
        a = np.asarray(problem.admissible(*points, a))
        return [*([] if jet is None else [jet]), fit_base(self.at, points, a)]

    def _weighted(self, base: JetFunction) -> list[Value]:
        """Return a value weighted by its own size if it has one sign in the box, then with a constant weight."""
        problem, size = self.subject.problem, float(np.abs(base(*self.start).v).mean())
        v = base(*self.at.back(self.rng.uniform(-1, 1, (POINTS, self.at.size)))).v
        values = [Value(self.at, base, None, size or 1.0)]
        if (v > 0).all() or (v < 0).all():
            values.insert(0, Value(self.at, base, 0.0, None if problem.state.log.any() else size))
        return values

    def _pilot(self, value: Value) -> Walk:
        """Return a walk of the policy from the starts, under the value's weight."""
        t, x = self.at.back(self.rng.uniform(-1, 1, (POINTS, self.at.size)))
        step, steps = self.steps(value.rates(t, x, value.played(self.subject.policy, t, x)))
        paths = max(1, PILOT_PATHS // len(self.start[0]))
        plan = Plan(paths=paths, step=step, steps=steps, halvings=0, seed=self.seed, until=PILOT_LEFT)
        return walk(value, self.subject.policy, self.subject.starts, plan, None)

    def steps(self, at: Rates) -> tuple[float, int]:
        """Return a time step short beside what moves, and a number of steps."""
        speed = np.abs(at.weighted_drift[:, : self.at.states]) + (at.columns[:, : self.at.states] ** 2).sum(axis=2)
        step = 0.4 / max(float(np.quantile(speed.max(axis=1), 0.9)), 1e-9)
        horizon = self.subject.problem.horizon
        if horizon is not None:
            steps = int(np.clip(np.ceil(horizon / step), 20, PILOT_STEPS))
            return horizon / steps, steps
        return min(step, 0.2 * lifetime(self.subject.problem)), PILOT_STEPS

    def _region(self, value: Value, seen: Walk, target: float) -> tuple[Region, tuple[float, float]]:
        """Return a region around the paths that paths leave with at most a target weight, and the weights.

        The edge through which most may leave, under the greedy policy of V or under the policy, is widened in turn.
        """
        low, high = np.minimum(seen.low, self.begin.min(axis=0)), np.maximum(seen.high, self.begin.max(axis=0))
        center, half = (low + high) / 2, MARGIN * np.maximum(high - low, 1e-3) / 2
        region = Region(self.at, center - half, center + half)
        psi = value.weight(*self.start)
        best = region, (1.0, 1.0)
        for _ in range(WIDENINGS):
            t, x = self.at.back(region.points(self.rng, POINTS // 2))
            actions = value.greedy(t, x), value.played(self.subject.policy, t, x)
            size = np.array([self._size(value, region, edge) for edge in region.open])
            edges = [size * region.escapes(value.rates(t, x, a), self.begin, psi / psi.sum()) for a in actions]
            escaped = min(float(edges[0].sum()), 1.0), min(float(edges[1].sum()), 1.0)
            if sum(escaped) <= sum(best[1]):
                best = region, escaped
            if sum(escaped) <= target:
                break
            region = region.widened(int(np.argmax(edges[0] + edges[1])), 1.2)
        return best

    def _size(self, value: Value, region: Region, edge: tuple[int, int]) -> float:
        """Return the largest |V|/psi on an open edge, at least one: what may be lost there, in units of psi."""
        t, x = self.at.back(region.edges(self.rng, EDGE_POINTS, [edge]))
        largest = float((np.abs(value.value(t, x)) / value.weight(t, x)).max())
        return max(largest, 1.0) if np.isfinite(largest) else np.inf

    def _bracket(self, value: Value, seen: Walk, region: Region, escaped: tuple[float, float]) -> Bracket:
        """Return bounds in a region, by polynomials of the degree that brings them closest."""
        chosen = self.rng.choice(len(seen.t), min(VISITED, len(seen.t)), replace=False)
        squeeze = Squeeze(
            value, region, self.subject.starts, (seen.t[chosen], seen.x[chosen]), points=POINTS, seed=self.seed
        )
        t, x = squeeze.t, squeeze.x
        both = [value.rates(t, x, value.greedy(t, x)), value.rates(t, x, value.played(self.subject.policy, t, x))]
        yields = all(bool((rates.yielded > 0).all()) for rates in both)
        discounted = yields or self.at.timed or seen.left <= DISCOUNTED
        above = min((squeeze.above(degree) for degree in self.degrees), key=_tightness)
        below = min((squeeze.below(degree, self.subject.policy) for degree in self.degrees), key=_tightness)
        return Bracket(value, region, above, below, escaped, discounted, float(squeeze.psi.mean()))


def _tightness(bound: Bound) -> float:
    return bound.tightness
