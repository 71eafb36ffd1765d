"""Simulated: what paths say of a policy's value, with the errors of noise and of time steps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy

from hacontrol_agents.certificates.brackets import BEYOND, POINTS, Bracket, Search
from hacontrol_agents.certificates.fitting import corrected
from hacontrol_agents.certificates.paths import Plan, walk
from hacontrol_agents.certificates.value import Rates, Value

MOST_PATHS = 4096
"""Most paths from each start."""


class Simulated(NamedTuple):
    """What paths say of a policy's value, in units of reward."""

    mean: float
    """Estimate, extrapolated in the time step."""
    standard_error: float
    """Its standard error."""
    noise: float
    """Standard error times the quantile of the confidence."""
    step: float
    """What halving the time step changed."""
    tail: float
    """What paths may earn beyond the simulated time."""
    region: float
    """What paths that left the region may earn there."""

    @property
    def spread(self) -> float:
        """All that the estimate may be off by."""
        return self.standard_error + self.step + self.tail + self.region

    @property
    def lower(self) -> float:
        """The estimate less all that it may be off by."""
        return self.mean - self.noise - self.step - self.tail - self.region


def simulate(search: Search, bracket: Bracket, evaluations: int, *, until: float, confidence: float) -> Simulated:
    """Return what paths say of the policy of a search, in the region of a bracket.

    Args:
        search: the search, for the policy, the starts and the seed.
        bracket: a bracket, whose value is the control variate after a correction.
        evaluations: about how many points the coefficients may be evaluated at; there are at least four paths from each
            start.
        until: mean weight below which paths stop.
        confidence: one-sided confidence of `noise`.
    """
    starts, policy = search.subject.starts, search.subject.policy
    value, rates = _close_value(search, bracket)
    step, steps = search.steps(rates)
    paths = int(np.clip(evaluations // (3 * steps * len(starts)), 4, MOST_PATHS))
    plans = [Plan(paths, step, steps, halvings, search.seed + 1, until) for halvings in (0, 1)]
    coarse, fine = (walk(value, policy, starts, plan, bracket.region) for plan in plans)
    gain = 2 * fine.gain - coarse.gain  # extrapolated, as the error of a step is of first order
    psi = value.weight(*search.start)
    error = float(np.sqrt((psi**2 * gain.var(axis=1, ddof=1)).sum() / paths) / len(starts))
    return Simulated(
        mean=float((value.value(*search.start) + psi * gain.mean(axis=1)).mean()),
        standard_error=error,
        noise=float(scipy.stats.norm.ppf(confidence)) * error,
        step=float(abs((psi * (fine.gain - coarse.gain).mean(axis=1)).mean())),
        tail=BEYOND * float(psi.mean()) * fine.left,
        region=BEYOND * float(psi.mean()) * max(fine.exited, bracket.escaped[1]),
    )


def _close_value(search: Search, bracket: Bracket) -> tuple[Value, Rates]:
    """Return the value, corrected or not, with the least residual at held-out points, and its rates there."""
    value, region = bracket.value, bracket.region
    points = [search.at.back(region.points(search.rng, 4 * POINTS)) for _ in range(2)]
    fitted, held = (value.rates(*some, value.played(search.subject.policy, *some)) for some in points)
    values = [value, *(corrected(value, region, fitted, degree, search.rng) for degree in search.degrees)]
    rates = [one.rates(held.t, held.x, held.a) for one in values]
    best = min(range(len(values)), key=lambda k: float(np.median(np.abs(rates[k].residual / rates[k].size))))
    return values[best], rates[best]
