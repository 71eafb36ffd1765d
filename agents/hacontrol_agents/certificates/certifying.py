"""certify: bound how far a policy is from an optimum that need not be known."""

from __future__ import annotations

from typing import Any

import numpy as np

from hacontrol_agents.certificates.brackets import BEYOND, Bracket, Search, Subject
from hacontrol_agents.certificates.certificate import Certificate
from hacontrol_agents.certificates.paths import Policy, Walk
from hacontrol_agents.certificates.simulated import Simulated, simulate
from hacontrol_agents.certificates.value import JetFunction
from hacontrol_agents.core.offers import offered
from hacontrol_envs import ControlProblem
from hacontrol_envs.core import parameters as read
from hacontrol_envs.errors import ParameterError

LOOSE = 0.05
"""Looseness of the lower bound, over the tolerance, above which paths are simulated, too."""
CONTRADICTED = 5.0
"""Spreads by which simulated paths may fall short of the lower bound."""
ASSUMED = (
    "where paths leave the region, V* and J differ from V by at most the size of V",
    "no policy that leaves the region gains more than that by doing so oftener than the greedy one",
    "weights of paths that have fallen to a hundredth go on falling",
    "between the points that searches found, the inequalities of the bounds are not violated by more than there",
)
"""What a certificate takes for granted."""


def certify(
    agent: Any,
    env: Any,
    *,
    confidence: float = 0.95,
    tolerance: float = 1e-2,
    starts: int = 32,
    evaluations: int = 1_000_000,
    seed: int = 0,
) -> Certificate:
    """Bound the value of a policy from below, and that of every policy from above, in continuous time.

    With h_a = r + V_t + L^a V - rho V, any control earns J = V(x) + E int e^{-rho t} h_a dt, up to what is left at the
    end of time. So a function W with max_a h_a <= 0 is above V*, and one with h_pi >= 0 is below the value of the
    policy pi. Both are looked for by linear programmes among sums of V, or a value fitted to the policy, and
    polynomials. Where the policy is too rough for that, paths weighted by V say what it earns. The optimum need not be
    known.

    Rogers (2002), Haugh, Kogan and Wang (2006) and Brown, Smith and Sun (2010) bound optima by duality; de Farias and
    Van Roy (2003) solve Bellman equations by linear programmes.

    Args:
        agent: an agent with `policy(t, x)`, and with `jet(t, x)` if it has learnt a value; or a pair (V, policy) with V
            a function (t, x) -> Jet or None; or a policy, a function of times t (N,) and observed states x (N, n).
        env: an environment, or its problem.
        confidence: probability with which the interval is to hold the truth, where paths were simulated.
        tolerance: relative gap up to which the policy counts as certified.
        starts: number of initial states, drawn from the problem's own, over which values are means.
        evaluations: about how many points the coefficients may be evaluated at in simulation.
        seed: seed of initial states, points and paths.

    Raises:
        ParameterError: the problem is no ControlProblem, there is no policy, or a number is out of its range.
        LearningError: the policy plays actions that are not finite in the problem's box.
    """
    problem = env if isinstance(env, ControlProblem) else getattr(getattr(env, "unwrapped", env), "problem", None)
    if not isinstance(problem, ControlProblem):
        raise ParameterError(f"certify takes an environment of a ControlProblem, or the problem; got {env!r}")
    if read.number("confidence", confidence, above=0.0) >= 1:
        raise ParameterError(f"confidence must be below 1, got {confidence!r}")
    read.number("tolerance", tolerance, above=0.0)
    drawn = problem.initial_state(np.random.default_rng(seed), read.count("starts", starts))
    read.count("evaluations", evaluations)
    search = Search(Subject(problem, *_parts(agent), drawn), seed)
    with np.errstate(all="ignore"):
        brackets, seen = search.brackets()
        sound = [bracket for bracket in brackets if bracket.discounted] or brackets
        above, below = min(sound, key=lambda one: one.upper), max(sound, key=lambda one: one.lower)
        simulated = None
        if below.discounted and not below.looseness <= LOOSE * tolerance:
            until = max(1e-2 * tolerance, 1e-6)
            simulated = simulate(search, below, evaluations, until=until, confidence=confidence)
        return _stated(search, above, below, simulated, seen, confidence=confidence, tolerance=tolerance)


def _parts(agent: Any) -> tuple[Policy, JetFunction | None]:
    """Return the policy, and the value with derivatives, of what `certify` is given."""
    if isinstance(agent, tuple) and len(agent) == 2 and callable(agent[1]):
        return agent[1], agent[0]
    if callable(getattr(agent, "policy", None)):
        return agent.policy, agent.jet if "jet" in offered(agent) else None
    if callable(agent):
        return agent, None
    raise ParameterError(f"certify takes an agent, a pair (V, policy) or a policy; got {agent!r}")


def _stated(
    search: Search,
    above: Bracket,
    below: Bracket,
    simulated: Simulated | None,
    seen: Walk,
    *,
    confidence: float,
    tolerance: float,
) -> Certificate:
    """Return what was found as a Certificate."""
    lower, error, middle = below.lower, 0.0, below.below.mean
    parts = {"residual": 0.0, "region": above.upper - above.above.mean, "tail": 0.0, "noise": 0.0, "step": 0.0}
    if simulated is not None and simulated.lower > lower:
        lower, error, middle = simulated.lower, simulated.standard_error, simulated.mean
        parts |= {name: getattr(simulated, name) for name in ("tail", "noise", "step")}
        parts["region"] += simulated.region
    else:
        parts["region"] += BEYOND * below.psi * below.escaped[1]
    parts["residual"] = above.above.mean - middle
    checked, failed = _checks(above, below, lower, simulated, seen)
    at = below.below.at
    return Certificate(
        problem=search.subject.problem,
        lower=lower if below.discounted else -np.inf,
        upper=above.upper if above.discounted else np.inf,
        scale=above.psi,
        standard_error=error,
        confidence=confidence,
        tolerance=tolerance,
        parts={name: float(part) for name, part in parts.items()},
        checked=tuple(checked),
        failed=tuple(failed),
        assumed=ASSUMED,
        evaluations=search.at.evaluations,
        starts=search.subject.starts,
        x=at.x,
        loss=above.value.loss(at) if np.isfinite(above.upper) else np.zeros(len(at.x)),
    )


def _checks(
    above: Bracket, below: Bracket, lower: float, simulated: Simulated | None, seen: Walk
) -> tuple[list[str], list[str]]:
    """Return what was found in order, and what was found wanting."""
    checked, failed = [], []
    if above.discounted and below.discounted:
        checked.append("paths lose their weight: what lies beyond the end of time does not count")
    else:
        failed.append(
            f"paths under the policy keep a weight of {seen.left:.2g}, so that their value does not come from rewards "
            "within reach; the policy may let states grow without end: learn longer, or from other starts"
        )
    if max(above.escaped[0], below.escaped[1]) >= 1:
        failed.append("paths leave every region that was tried: the policy may let states grow without end")
    if not (np.isfinite(lower) and np.isfinite(above.upper)):
        failed.append(
            "no bound was found: the policy's value may be infinite, or too rough for polynomials; certify a better "
            "policy, or give its value"
        )
    elif above.upper < lower - 1e-12 * above.psi:
        failed.append("the bounds contradict each other: the lower one exceeds the upper one")
    else:
        checked.append("the inequalities of the bounds hold at all points that searches found")
    if simulated is not None and np.isfinite(lower):
        short = below.lower - simulated.mean
        if np.isfinite(short) and short > CONTRADICTED * simulated.spread:
            failed.append("simulated paths earn less than the lower bound says")
        else:
            checked.append("simulated paths agree with the lower bound")
    return checked, failed
