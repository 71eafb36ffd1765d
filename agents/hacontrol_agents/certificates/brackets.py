"""Brackets: intervals that hold a policy's value and the optimum, by base, weight and region."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from typing import NamedTuple, final

import numpy as np

from hacontrol_agents.certificates.bounds import EDGE_POINTS, Bound, Squeeze
from hacontrol_agents.certificates.candidate import Candidate, Frame, Policy
from hacontrol_agents.certificates.paths import Walk
from hacontrol_agents.certificates.region import Region
from hacontrol_agents.certificates.simulated import Simulated
from hacontrol_envs.arrays import Floats

BEYOND = 1.0
"""Size of V* - V and of J - V, relative to the larger of |V| and psi, that is assumed where paths leave the region, and
where they are cut."""
MOST_ESCAPED = 0.1
"""Weight of paths that leave the region, from which on nothing is known: V may be anything there, and so may V*."""
BELIEVED = 1e-2
"""Such a weight under the greedy policy of a bound, up to which it counts."""
MARGIN, WIDENINGS = 1.2, 30
"""Extent of the region relative to that of the paths, at first, and how often an edge of it is moved at most."""
ASSUMED = (
    "where paths leave the region, V* and J differ from V by at most the size of V",
    "no policy that leaves the region gains more than that by doing so oftener than the greedy one",
    "between the points that searches found, the inequalities of the bounds are not violated by more than there",
)
"""What a certificate takes for granted in any kind of time."""
TARGETS = (1e-5, 1e-10)
"""Weights of paths that leave the region, which are aimed at."""
PILOT_PATHS, PILOT_LEFT, PILOT_STEPS = 64, 1e-3, 1000
"""Paths, weight at the end, and most steps of the walk that shows where the policy goes."""
SHARP = 1e-10
"""Relative gap that is not tried to be improved upon."""
DISCOUNTED = 1e-2
"""Weight at the end of the pilot walk up to which paths count as discounted, where rates are not positive
everywhere."""
POINTS, VISITED = 1024, 512
"""Points of the region, and points on paths, at which inequalities are stated."""


class Bracket(NamedTuple):
    """Bounds found with one base and weight in one region."""

    value: Candidate
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
        """The upper bound, with what may happen beyond the region; infinite where many paths may leave it."""
        return self.above.mean + _beyond(self.psi, self.escaped[0])

    @property
    def lower(self) -> float:
        """The lower bound, with what may happen beyond the region; infinite where many paths may leave it."""
        return self.below.mean - _beyond(self.psi, self.escaped[1])

    @property
    def gap(self) -> float:
        """Difference of the bounds relative to psi; infinite where one is missing."""
        gap = (self.upper - self.lower) / self.psi
        return gap if np.isfinite(gap) else np.inf

    @property
    def slack(self) -> float:
        """What of the upper bound is a lift, or for paths that leave, relative to psi."""
        slack = self.above.lift / self.psi + self.escaped[0]
        return slack if np.isfinite(slack) else np.inf

    @property
    def looseness(self) -> float:
        """About how far the lower bound is below what the policy earns, relative to psi."""
        at = self.below.value.rates(self.below.at.t, self.below.at.x, self.below.at.a)
        left = at.residual + self.below.lift / self.below.value.lasting
        return float(np.quantile(np.abs(left) / at.size, 0.95))


class Search(abc.ABC):
    """Looks for brackets of one policy."""

    sizes: tuple[int, int] = (POINTS, VISITED)
    """Points of the region, and points on paths, at which inequalities are stated."""

    assumed: tuple[str, ...] = ASSUMED
    """What is taken for granted."""
    targets: tuple[float, ...] = TARGETS
    """Weights of paths that leave the region, which are aimed at."""

    widening: float = 1.2
    """Factor by which an edge of the region is moved away."""

    def __init__(self, frame: Frame, policy: Policy, starts: Floats, seed: int) -> None:
        """Keep what is looked at.

        Args:
            frame: coordinates.
            policy: the policy.
            starts: initial states, (S, n).
            seed: seed of points and paths.
        """
        self.frame, self.policy, self.starts, self.seed = frame, policy, starts, seed
        self.rng = np.random.default_rng([seed, 1])
        self.start = np.zeros(len(starts)), starts
        self.begin = frame.of(*self.start)

    @property
    @abc.abstractmethod
    def degrees(self) -> tuple[int, ...]:
        """Degrees of the polynomials that are tried."""

    @abc.abstractmethod
    def bases(self, found: list[Bracket]) -> Iterator[list[Candidate]]:
        """Yield functions to begin with, of more than one origin, each with its weights in the order to try.

        Args:
            found: brackets found so far, a list that grows.
        """

    @abc.abstractmethod
    def pilot(self, value: Candidate) -> Walk:
        """Return a walk of the policy from the starts, under the weight of a candidate."""

    @abc.abstractmethod
    def step_error(self, bound: Bound) -> float:
        """Return what inexact expectations may change in a bound, in units of reward."""

    @abc.abstractmethod
    def simulate(self, bracket: Bracket, evaluations: int, *, until: float, confidence: float) -> Simulated:
        """Return what paths say of the policy, in the region of a bracket.

        Args:
            bracket: a bracket, whose functions may be control variates.
            evaluations: about how many points the coefficients may be evaluated at.
            until: mean weight below which paths stop.
            confidence: one-sided confidence of `noise`.
        """

    @final
    def brackets(self) -> tuple[list[Bracket], Walk]:
        """Return brackets by base, weight and region until one is sharp, and the last walk."""
        found: list[Bracket] = []
        seen: Walk
        for weighted in self.bases(found):
            for value in weighted:
                seen = self.pilot(value)
                here = [self._bracket(value, seen, *self._region(value, seen, target)) for target in self.targets]
                found += here
                if any(one.discounted and one.gap <= SHARP for one in here):
                    return found, seen
                if any(one.discounted and max(one.escaped) < MOST_ESCAPED for one in here):
                    break
        return found, seen

    def _region(self, value: Candidate, seen: Walk, target: float) -> tuple[Region, tuple[float, float]]:
        """Return a region around the paths that paths leave with at most a target weight, and the weights.

        The edge through which most may leave, under the greedy policy of V or under the policy, is widened in turn.
        """
        low, high = np.minimum(seen.low, self.begin.min(axis=0)), np.maximum(seen.high, self.begin.max(axis=0))
        center, half = (low + high) / 2, MARGIN * np.maximum(high - low, 1e-3) / 2
        region = Region(self.frame, center - half, center + half)
        best = region, (1.0, 1.0)
        for _ in range(WIDENINGS):
            t, x = self.frame.back(region.points(self.rng, self.sizes[0] // 2))
            actions = value.greedy(t, x), value.played(self.policy, t, x)
            edges = [self._escapes(value, region, (t, x), a) for a in actions]
            escaped = min(float(edges[0].sum()), 1.0), min(float(edges[1].sum()), 1.0)
            if sum(escaped) <= sum(best[1]):
                best = region, escaped
            if sum(escaped) <= target:
                break
            region = region.widened(int(np.argmax(edges[0] + edges[1])), self.widening)
        return best

    def _escapes(self, value: Candidate, region: Region, points: tuple[Floats, Floats], a: Floats) -> Floats:
        """Bound the weight of paths that leave, times the size of V there over psi, for each open edge, (E,).

        Args:
            value: V.
            region: the region.
            points: times and states all over it.
            a: actions there.
        """
        psi, size = value.weight(*self.start), [self._size(value, region, edge) for edge in region.open]
        return np.array(size) * region.escapes(value.rates(*points, a), self.begin, psi / psi.sum())

    def _size(self, value: Candidate, region: Region, edge: tuple[int, int]) -> float:
        """Return the largest |V|/psi on an open edge, at least one: what may be lost there, in units of psi."""
        t, x = self.frame.back(region.edges(self.rng, EDGE_POINTS, [edge]))
        largest = float((np.abs(value.value(t, x)) / value.weight(t, x)).max())
        return max(largest, 1.0) if np.isfinite(largest) else np.inf

    def _bracket(self, value: Candidate, seen: Walk, region: Region, escaped: tuple[float, float]) -> Bracket:
        """Return bounds in a region, by polynomials of the degree that brings them closest."""
        chosen = self.rng.choice(len(seen.t), min(self.sizes[1], len(seen.t)), replace=False)
        squeeze = Squeeze(
            value, region, self.starts, (seen.t[chosen], seen.x[chosen]), points=self.sizes[0], seed=self.seed
        )
        t, x = squeeze.t, squeeze.x
        both = [value.rates(t, x, value.greedy(t, x)), value.rates(t, x, value.played(self.policy, t, x))]
        yields = all(bool((rates.yielded > 0).all()) for rates in both)
        discounted = yields or self.frame.timed or seen.left <= DISCOUNTED
        psi = float(squeeze.psi.mean())
        degrees = self.degrees if min(escaped) < MOST_ESCAPED else self.degrees[:1]
        bounds = [squeeze.above(degree) for degree in degrees]
        leaving = [max(escaped[0], self._leaving(bound.value, value, region)) for bound in bounds]
        pairs = zip(bounds, leaving, strict=True)
        above, leaves = min(pairs, key=lambda one: (one[0].mean + _beyond(psi, one[1]), one[1]))
        below = min((squeeze.below(degree, self.policy) for degree in degrees), key=_tightness)
        return Bracket(value, region, above, below, (leaves, escaped[1]), discounted, psi)

    def _leaving(self, best: Candidate, value: Candidate, region: Region) -> float:
        """Bound the weight of paths that leave under the policy that is greedy for a bound W, as in `_region`.

        W is closer to V* than V where the policy is far from the optimum. Zero where barriers say nothing: between
        points polynomials may have slopes that V* has not.
        """
        t, x = self.frame.back(region.points(self.rng, self.sizes[0] // 2))
        bound = float(self._escapes(value, region, (t, x), best.greedy(t, x)).sum())
        return bound if bound < BELIEVED else 0.0


def _beyond(psi: float, escaped: float) -> float:
    """Return what may happen beyond the region, in units of reward; infinite where many paths may leave it."""
    return BEYOND * psi * escaped if escaped < MOST_ESCAPED else np.inf


def _tightness(bound: Bound) -> float:
    return bound.tightness
