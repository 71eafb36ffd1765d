"""Brackets in continuous time: bases that were learnt or fitted, the pilot walk, and what paths say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, cast, final

import numpy as np
import scipy

from hacontrol_agents.certificates.bounds import Bound
from hacontrol_agents.certificates.brackets import (
    ASSUMED,
    BEYOND,
    PILOT_LEFT,
    PILOT_PATHS,
    PILOT_STEPS,
    POINTS,
    Bracket,
    Search,
)
from hacontrol_agents.certificates.candidate import Candidate, Policy
from hacontrol_agents.certificates.coordinates import Coordinates, lifetime
from hacontrol_agents.certificates.fitting import corrected, fit_base
from hacontrol_agents.certificates.paths import Plan, Walk, walk
from hacontrol_agents.certificates.simulated import MOST_PATHS, Simulated
from hacontrol_agents.certificates.value import JetFunction, Rates, Value
from hacontrol_envs import ControlProblem
from hacontrol_envs.arrays import Floats
from hacontrol_envs.errors import LearningError

DEGREES = {1: (0, 2, 4, 8, 12), 2: (0, 2, 4, 6), 3: (0, 2, 4)}
"""Degrees of the polynomials that are tried in one, two and three coordinates; `FEW` in more."""
IMPROVEMENTS = 1
"""Most better policies to which values are fitted."""
FEW = (0, 2)
"""Degrees that are tried in four coordinates and more."""


class Subject(NamedTuple):
    """A policy to be certified."""

    problem: ControlProblem
    policy: Policy
    jet: JetFunction | None
    """The value learnt, with its derivatives; None without."""
    starts: Floats
    """Initial states, (S, n)."""


@final
class ControlSearch(Search):
    """Looks for brackets in continuous time."""

    assumed = (*ASSUMED, "weights of paths that have fallen to a hundredth go on falling")

    def __init__(self, subject: Subject, seed: int) -> None:
        self.subject, self.at = subject, Coordinates(subject.problem)
        super().__init__(self.at, subject.policy, subject.starts, seed)

    @property
    def degrees(self) -> tuple[int, ...]:
        """Degrees of the polynomials that are tried."""
        return DEGREES.get(self.at.size, FEW)

    def bases(self, found: list[Bracket]) -> Iterator[list[Candidate]]:
        """Yield the value learnt, and one fitted to the policy, each under its weights.

        Where these bound the optimum loosely, values fitted to better policies follow.

        Args:
            found: brackets found so far, a list that grows.
        """
        problem, policy, jet, _ = self.subject
        points = self.at.back(self.rng.uniform(-1, 1, (POINTS, self.at.size)))
        a = np.asarray(policy(points[0], problem.observe(points[1])), dtype=np.float64)
        if not np.isfinite(a).all():
            wrong = int(np.logical_not(np.isfinite(a)).any(axis=-1).sum())
            raise LearningError(
                f"the policy plays actions that are not finite at {wrong} of {len(a)} states of the box: "
                "there is nothing to certify"
            )
        if jet is not None:
            yield self._weighted(jet)
        own = self._weighted(fit_base(self.at, points, np.asarray(problem.admissible(*points, a))))
        yield own
        for _ in range(IMPROVEMENTS):
            if min(one.slack for one in found) <= max(self.targets):
                break
            own = self._weighted(fit_base(self.at, points, own[-1].greedy(*points)))
            yield own

    def _weighted(self, base: JetFunction) -> list[Candidate]:
        """Return a value weighted by its own size if it has one sign in the box, then with a constant weight."""
        problem, size = self.subject.problem, float(np.abs(base(*self.start).v).mean())
        v = base(*self.at.back(self.rng.uniform(-1, 1, (POINTS, self.at.size)))).v
        values: list[Candidate] = [Value(self.at, base, None, size or 1.0)]
        if (v > 0).all() or (v < 0).all():
            values.insert(0, Value(self.at, base, 0.0, None if problem.state.log.any() else size))
        return values

    def pilot(self, value: Candidate) -> Walk:
        """Return a walk of the policy from the starts, under the value's weight."""
        t, x = self.at.back(self.rng.uniform(-1, 1, (POINTS, self.at.size)))
        step, steps = self.steps(cast(Value, value).rates(t, x, value.played(self.subject.policy, t, x)))
        paths = max(1, PILOT_PATHS // len(self.start[0]))
        plan = Plan(paths=paths, step=step, steps=steps, halvings=0, seed=self.seed, until=PILOT_LEFT)
        return walk(cast(Value, value), self.subject.policy, self.subject.starts, plan, None)

    def steps(self, at: Rates) -> tuple[float, int]:
        """Return a time step short beside what moves, and a number of steps."""
        speed = np.abs(at.weighted_drift[:, : self.at.states]) + (at.columns[:, : self.at.states] ** 2).sum(axis=2)
        known = speed[np.isfinite(speed).all(axis=1)].max(axis=1)
        step = 0.4 / max(float(np.quantile(known, 0.9)) if len(known) else 1.0, 1e-9)
        horizon = self.subject.problem.horizon
        if horizon is not None:
            steps = int(np.clip(np.ceil(horizon / step), 20, PILOT_STEPS))
            return horizon / steps, steps
        return min(step, 0.2 * lifetime(self.subject.problem)), PILOT_STEPS

    def step_error(self, bound: Bound) -> float:
        """Return zero: expectations are exact, as those of Ito's formula."""
        return 0.0

    def simulate(self, bracket: Bracket, evaluations: int, *, until: float, confidence: float) -> Simulated:
        """Return what paths say of the policy, in the region of a bracket.

        Args:
            bracket: a bracket, whose value is the control variate after a correction.
            evaluations: about how many points the coefficients may be evaluated at; four paths a start at least.
            until: mean weight below which paths stop.
            confidence: one-sided confidence of `noise`.
        """
        starts, policy = self.starts, self.policy
        value, rates = self._close_value(bracket)
        step, steps = self.steps(rates)
        paths = int(np.clip(evaluations // (3 * steps * len(starts)), 4, MOST_PATHS))
        plans = [Plan(paths, step, steps, halvings, self.seed + 1, until) for halvings in (0, 1)]
        coarse, fine = (walk(value, policy, starts, plan, bracket.region) for plan in plans)
        gain = 2 * fine.gain - coarse.gain  # extrapolated, as the error of a step is of first order
        psi = value.weight(*self.start)
        error = float(np.sqrt((psi**2 * gain.var(axis=1, ddof=1)).sum() / paths) / len(starts))
        return Simulated(
            mean=float((value.value(*self.start) + psi * gain.mean(axis=1)).mean()),
            standard_error=error,
            noise=float(scipy.stats.norm.ppf(confidence)) * error,
            step=float(abs((psi * (fine.gain - coarse.gain).mean(axis=1)).mean())),
            tail=BEYOND * float(psi.mean()) * fine.left,
            region=BEYOND * float(psi.mean()) * max(fine.exited, bracket.escaped[1]),
        )

    def _close_value(self, bracket: Bracket) -> tuple[Value, Rates]:
        """Return the value, corrected or not, with the least residual at held-out points, and its rates there."""
        value, region = cast(Value, bracket.value), bracket.region
        points = [self.at.back(region.points(self.rng, 4 * POINTS)) for _ in range(2)]
        fitted, held = (value.rates(*some, value.played(self.policy, *some)) for some in points)
        values = [value, *(corrected(value, region, fitted, degree, self.rng) for degree in self.degrees)]
        rates = [one.rates(held.t, held.x, held.a) for one in values]
        best = min(range(len(values)), key=lambda k: float(np.median(np.abs(rates[k].residual / rates[k].size))))
        return values[best], rates[best]
