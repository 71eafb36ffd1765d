"""Brackets in discrete time: bases by least squares on the Bellman equation, paths, and errors of quadrature."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, NamedTuple, cast, final

import numpy as np
import scipy

from hacontrol_agents.certificates.bounds import Bound
from hacontrol_agents.certificates.brackets import (
    ASSUMED,
    BEYOND,
    MARGIN,
    PILOT_LEFT,
    PILOT_PATHS,
    PILOT_STEPS,
    Bracket,
    Search,
)
from hacontrol_agents.certificates.candidate import Candidate, Policy
from hacontrol_agents.certificates.extended import Extended, Splines
from hacontrol_agents.certificates.fitting import least_squares
from hacontrol_agents.certificates.paths import Plan, Walk
from hacontrol_agents.certificates.periods import PeriodValue, States
from hacontrol_agents.certificates.region import Region
from hacontrol_agents.certificates.simulated import MOST_PATHS, Simulated
from hacontrol_envs import DiscreteProblem
from hacontrol_envs.arrays import Floats
from hacontrol_envs.errors import LearningError
from hacontrol_envs.numerics.quadrature import gauss_hermite

NODES = 300
"""Nodes of a base that is a spline."""
DEGREE = {0: 0, 2: 8, 3: 5}
"""Degree of a base that is a polynomial, by the number of states that are not finite."""
DEGREES = {0: (0,), 1: (0, 6), 2: (0, 3), 3: (0, 2)}
"""Degrees of the corrections that are tried, by the number of states that are not finite."""
FITTED = 3
"""Points for each weight of a fitted base, at least, and 256 in all."""
IMPROVEMENTS = 8
"""Most rounds of policy iteration."""
SAME = 1e-11
"""Relative change of the value that ends policy iteration."""
FINER = {1: 31, 2: 15}
"""Nodes in each direction of the rule that expectations over normals are compared with, by the normals' dimension."""
LONGEST = 10_000
"""Most periods of a path."""


class DiscreteSubject(NamedTuple):
    """A policy to be certified in discrete time."""

    problem: DiscreteProblem
    policy: Policy
    value: Callable[[Any, Floats], Floats] | None
    """The value learnt, a function (t, x) -> (N,) of what is observed of states; None without."""
    starts: Floats
    """Initial states, (S, n)."""


@final
class DiscreteSearch(Search):
    """Looks for brackets in discrete time."""

    sizes = (256, 128)
    targets = (1e-10,)
    widening = 1.8
    assumed = (*ASSUMED, "`successors` are exact for finite shocks, and for the barriers at the region's edges")

    def __init__(self, subject: DiscreteSubject, seed: int) -> None:
        self.subject, self.at = subject, States(subject.problem)
        super().__init__(self.at, subject.policy, subject.starts, seed)
        self._nothing = PeriodValue(self.at, lambda x: np.zeros(len(x)), 1.0)
        self.free = self.at.states - len(self.at.levels)

    @property
    def degrees(self) -> tuple[int, ...]:
        """Degrees of the polynomials that are tried."""
        return DEGREES[self.free]

    def bases(self, found: list[Bracket]) -> Iterator[list[Candidate]]:
        """Yield the value learnt, one fitted to the policy, and one that policy iteration makes of it.

        Args:
            found: brackets found so far, which make no difference.
        """
        self._refuse_what_is_not_finite()
        value, problem = self.subject.value, self.subject.problem
        if value is not None:
            yield [self._weighted(lambda x: np.asarray(value(0.0, problem.observe(x))))]
        fit = self._fit()
        own = self._weighted(fit.base(self._nothing.played(self.policy, fit.t, fit.x)))
        yield [own]
        best = own
        for _ in range(IMPROVEMENTS):
            better = self._weighted(fit.base(best.greedy(fit.t, fit.x)))
            change = np.abs(better.value(*self.start) - best.value(*self.start)).max() / better.psi
            best = better
            if not change > SAME:
                break
        yield [best]

    def _fit(self) -> _Fit:
        """Return what fits on the region of a first fit, on a box around the paths: few paths leave it."""
        seen = self._pilot
        low, high = np.minimum(seen.low, self.begin.min(axis=0)), np.maximum(seen.high, self.begin.max(axis=0))
        center, half = (low + high) / 2, MARGIN**2 * np.maximum(high - low, 1e-3) / 2
        first = _Fit(self.at, Region(self.at, center - half, center + half), self.rng)
        own = self._weighted(first.base(self._nothing.played(self.policy, first.t, first.x)))
        return _Fit(self.at, self._region(own, seen, self.targets[-1])[0], self.rng)

    def _weighted(self, base: Callable[[Floats], Floats]) -> PeriodValue:
        """Return a base with a weight of the mean size of its values at the starts."""
        psi = float(np.abs(base(self.starts)).mean())
        return PeriodValue(self.at, base, psi if np.isfinite(psi) and psi > 0 else 1.0)

    def _refuse_what_is_not_finite(self) -> None:
        x = self.subject.problem.some_states(self.rng, 1024)
        a = np.asarray(self.policy(np.zeros(len(x)), self.subject.problem.observe(x)), dtype=np.float64)
        if wrong := int(np.logical_not(np.isfinite(a.reshape(len(x), -1)).all(axis=1)).sum()):
            raise LearningError(
                f"the policy plays actions that are not finite at {wrong} of {len(x)} states of the box: "
                "there is nothing to certify"
            )

    def pilot(self, value: Candidate) -> Walk:
        """Return a walk of the policy from the starts, which a constant weight does not change."""
        return self._pilot

    @cached_property
    def _pilot(self) -> Walk:
        paths = max(1, PILOT_PATHS // len(self.starts))
        plan = Plan(paths, 1.0, self._periods(PILOT_LEFT, PILOT_STEPS), 0, self.seed, PILOT_LEFT)
        return walk_periods(self._nothing, self.policy, self.starts, plan, None)

    def _periods(self, until: float, most: int) -> int:
        """Return how many periods it takes until a reward counts for less than `until`."""
        return int(np.clip(np.ceil(np.log(until) / np.log(self.subject.problem.discount_factor)), 1, most))

    def step_error(self, bound: Bound) -> float:
        """Return what a finer rule for expectations over normals would change in a bound, at most at its points.

        Zero where a component is finite: there shocks are taken for finite, and `successors` for exact.
        """
        problem, dimension, at = self.subject.problem, self.subject.problem.noise_dim, bound.at
        if self.at.levels or dimension not in FINER:
            return 0.0
        nodes, weights = gauss_hermite(FINER[dimension], dimension)
        value = cast(PeriodValue, bound.value)
        x, a = (np.repeat(part, len(weights), axis=0) for part in (at.x, at.a))
        after = problem.transition(x, a, np.tile(nodes, (len(at.x), 1)))
        finer = value.value(at.t, after).reshape(len(at.x), -1) @ weights * problem.discount_factor
        return float(np.abs(finer - value.expected(at.x, at.a)[0]).max()) * value.lasting

    def simulate(self, bracket: Bracket, evaluations: int, *, until: float, confidence: float) -> Simulated:
        """Return what paths say of the policy; see `walk_periods`.

        Args:
            bracket: a bracket, one of whose functions is the control variate.
            evaluations: about how many points to evaluate expectations at.
            until: weight below which paths stop.
            confidence: one-sided confidence of `noise`.
        """
        values = [cast(PeriodValue, one) for one in (bracket.value, bracket.below.value)]
        at = bracket.below.at
        value = min(values, key=lambda one: float(np.median(np.abs(one.rates(at.t, at.x, at.a).residual))))
        steps = self._periods(until, LONGEST)
        paths = int(np.clip(evaluations // (steps * len(self.starts)), 4, MOST_PATHS))
        plan = Plan(paths, 1.0, steps, 0, self.seed + 1, until)
        found = walk_periods(value, self.policy, self.starts, plan, bracket.region)
        error = float(np.sqrt(found.gain.var(axis=1, ddof=1).sum() / paths) / len(self.starts)) * value.psi
        return Simulated(
            mean=float((value.value(*self.start) + value.psi * found.gain.mean(axis=1)).mean()),
            standard_error=error,
            noise=float(scipy.stats.norm.ppf(confidence)) * error,
            step=0.0,
            tail=BEYOND * value.psi * found.left,
            region=BEYOND * value.psi * max(found.exited, bracket.escaped[1]),
        )


def walk_periods(value: PeriodValue, policy: Policy, starts: Floats, plan: Plan, region: Region | None) -> Walk:
    """Run paths of a policy, and sum what the residual of a value adds to it.

    J - V = E sum_t beta^t (r + beta E[V(X_{t+1})|X_t] - V)(X_t), up to beta^T E V(X_T): expectations over a period are
    computed, so that the noise is proportional to the residual.

    Args:
        value: V.
        policy: the policy.
        starts: states at time 0, (S, n).
        plan: numbers of paths and periods.
        region: the region that ends a path which leaves it; None for no end.
    """
    problem, at, rng = value.problem, value.coordinates, np.random.default_rng(plan.seed)
    x = np.repeat(starts, plan.paths, axis=0)
    t, D, gain, exited = np.zeros(len(x)), np.ones(len(x)), np.zeros(len(x)), np.zeros(len(x))
    low, high, seen, alive = at.of(t, x), at.of(t, x), [], np.ones(len(x), dtype=bool)
    for _ in range(plan.steps):
        a = value.played(policy, t, x)
        gain += np.where(alive, D * value.rates(t, x, a).residual / value.psi, 0.0)
        noise = rng.standard_normal((len(x), problem.noise_dim))
        x = np.where(alive[:, None], problem.transition(x, a, noise), x)
        D, s = np.where(alive, D * problem.discount_factor, D), at.of(t, x)
        low, high = np.minimum(low, s), np.maximum(high, s)
        if region is not None:
            out = alive & np.logical_not(region.holds(s))
            exited[out], alive = D[out], alive & np.logical_not(out)
        if not alive.any():
            break
        seen.append(x[alive])
    visited = np.concatenate(seen) if seen else x[:0]
    return Walk(
        gain.reshape(len(starts), plan.paths),
        float((D * alive).mean()),
        float(exited.mean()),
        low.min(axis=0),
        high.max(axis=0),
        np.zeros(len(visited)),
        visited,
    )


class _Fit:
    """Solves the Bellman equation of given actions, W = r + beta E W(X'), at points of a box.

    W is a spline of one state that is not finite, else a polynomial, by least squares.
    """

    def __init__(self, at: States, region: Region, rng: np.random.Generator) -> None:
        free = [i for i in range(at.states) if i not in at.levels]
        if len(free) == 1:
            inner = Splines(region.low[free[0]], region.high[free[0]], NODES)
            self.basis = Extended(at.levels, free, inner)
            axes = [at.levels.get(i, inner.nodes) for i in range(at.states)]
            s = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, at.states)
        else:
            self.basis = at.expansion(region.low, region.high, DEGREE[len(free)])
            s = region.points(rng, max(256, FITTED * len(self.basis)))
        self.at, (self.t, self.x) = at, at.back(s)
        self.nothing = PeriodValue(at, lambda x: np.zeros(len(x)), 1.0)

    def base(self, a: Floats) -> Callable[[Floats], Floats]:
        """Return the value, a function of states (N, n), of a policy with actions a (N, 1) at the points."""
        at, basis = self.nothing.rates(self.t, self.x, a), self.basis
        size = np.abs(at.residual) + np.abs(at.residual).mean() + 1e-300
        weights = least_squares(self.nothing.rows(basis, at) / size[:, None], at.residual / size)

        def base(x: Floats) -> Floats:
            return basis.sum(self.at.of(np.empty(0), x), weights)

        return base
