"""certify: bound how far a policy is from an optimum that need not be known."""

from __future__ import annotations

from typing import Any

import numpy as np

from hacontrol_agents.certificates.brackets import BEYOND, MOST_ESCAPED, Bracket, Search
from hacontrol_agents.certificates.candidate import Policy
from hacontrol_agents.certificates.certificate import Certificate
from hacontrol_agents.certificates.continuous import ControlSearch, Subject
from hacontrol_agents.certificates.discrete import DiscreteSearch, DiscreteSubject
from hacontrol_agents.certificates.paths import Walk
from hacontrol_agents.certificates.periods import refuse_large
from hacontrol_agents.certificates.simulated import Simulated
from hacontrol_agents.core.offers import offered
from hacontrol_envs import ControlProblem, DiscreteProblem, Problem
from hacontrol_envs.arrays import Floats
from hacontrol_envs.core import parameters as read
from hacontrol_envs.errors import ParameterError

LOOSE = 0.05
"""Looseness of the lower bound, over the tolerance, above which paths are simulated, too."""
CONTRADICTED = 5.0
"""Spreads by which simulated paths may fall short of the lower bound."""


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
    """Bound the value of a policy from below, and that of every policy from above, in continuous or discrete time.

    With h_a = r + V_t + L^a V - rho V, any control earns J = V(x) + E int e^{-rho t} h_a dt, up to what is left at the
    end of time. So a function W with max_a h_a <= 0 is above V*, and one with h_pi >= 0 is below the value of the
    policy pi. Both are looked for by linear programmes among sums of V, or a value fitted to the policy, and
    polynomials. Where the policy is too rough for that, paths weighted by V say what it earns. The optimum need not be
    known. In discrete time h_a = r + beta E[V(X')] - V, and J = V(x) + E sum_t beta^t h_a.

    Rogers (2002), Haugh, Kogan and Wang (2006) and Brown, Smith and Sun (2010) bound optima by duality; de Farias and
    Van Roy (2003) solve Bellman equations by linear programmes.

    Args:
        agent: an agent with `policy(t, x)`, and with `jet(t, x)`, or `value(t, x)` in discrete time, if it has learnt a
            value; or a pair (V, policy) with V a function (t, x) -> Jet, or -> values (N,) in discrete time, or None;
            or a policy, a function of times t (N,) and observed states x (N, n).
        env: an environment, or its problem.
        confidence: probability with which the interval is to hold the truth, where paths were simulated.
        tolerance: relative gap up to which the policy counts as certified.
        starts: number of initial states, drawn from the problem's own, over which values are means.
        evaluations: about how many points the coefficients may be evaluated at in simulation.
        seed: seed of initial states, points and paths.

    Raises:
        ParameterError: there is no problem, or one in discrete time with too many states or actions; there is no
            policy, or a number is out of its range.
        LearningError: the policy plays actions that are not finite in the problem's box.
    """
    problem = env if isinstance(env, Problem) else getattr(getattr(env, "unwrapped", env), "problem", None)
    if not isinstance(problem, (ControlProblem, DiscreteProblem)):
        raise ParameterError(
            f"certify takes an environment of a ControlProblem or a DiscreteProblem, or the problem; got {env!r}"
        )
    if read.number("confidence", confidence, above=0.0) >= 1:
        raise ParameterError(f"confidence must be below 1, got {confidence!r}")
    read.number("tolerance", tolerance, above=0.0)
    if isinstance(problem, DiscreteProblem):
        refuse_large(problem)
    drawn = problem.initial_state(np.random.default_rng(seed), read.count("starts", starts))
    read.count("evaluations", evaluations)
    search = _search(problem, agent, drawn, seed)
    with np.errstate(all="ignore"):
        brackets, seen = search.brackets()
        sound = [bracket for bracket in brackets if bracket.discounted] or brackets
        above = min(sound, key=lambda one: (one.upper, one.escaped[0]))
        below = max(sound, key=lambda one: (one.lower, -one.escaped[1]))
        simulated = None
        if below.discounted and below.escaped[1] < MOST_ESCAPED and not below.looseness <= LOOSE * tolerance:
            until = max(1e-2 * tolerance, 1e-6)
            simulated = search.simulate(below, evaluations, until=until, confidence=confidence)
        return _stated(search, above, below, simulated, seen, confidence=confidence, tolerance=tolerance)


def _search(problem: ControlProblem | DiscreteProblem, agent: Any, drawn: Floats, seed: int) -> Search:
    """Return what looks for bounds in the problem's kind of time."""
    if isinstance(problem, DiscreteProblem):
        return DiscreteSearch(DiscreteSubject(problem, *_parts(agent, "value"), drawn), seed)
    return ControlSearch(Subject(problem, *_parts(agent, "jet"), drawn), seed)


def _parts(agent: Any, name: str) -> tuple[Policy, Any]:
    """Return the policy, and the value (by the name of an agent's method), of what `certify` is given."""
    if isinstance(agent, tuple) and len(agent) == 2 and callable(agent[1]):
        return agent[1], agent[0]
    if callable(getattr(agent, "policy", None)):
        return agent.policy, getattr(agent, name) if name in offered(agent) else None
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
    steps = search.step_error(above.above), search.step_error(below.below)
    upper, step = above.upper + steps[0], steps[1]
    lower, error, middle = below.lower - step, 0.0, below.below.mean
    parts = {
        "residual": 0.0,
        "region": above.upper - above.above.mean,
        "tail": 0.0,
        "noise": 0.0,
        "step": upper - above.upper,
    }
    parts["step"] += step
    if simulated is not None and simulated.lower - step > lower:
        lower, error, middle = simulated.lower - step, simulated.standard_error, simulated.mean
        parts |= {"tail": simulated.tail, "noise": simulated.noise, "step": parts["step"] + simulated.step}
        parts["region"] += simulated.region
    else:
        parts["region"] += BEYOND * below.psi * below.escaped[1]
    parts["residual"] = above.above.mean - middle
    checked, failed = _checks(above, below, lower, simulated, seen)
    at = below.below.at
    return Certificate(
        problem=search.frame.problem,
        lower=lower if below.discounted else -np.inf,
        upper=upper if above.discounted else np.inf,
        scale=above.psi,
        standard_error=error,
        confidence=confidence,
        tolerance=tolerance,
        parts={name: float(part) for name, part in parts.items()},
        checked=tuple(checked),
        failed=tuple(failed),
        assumed=search.assumed,
        evaluations=search.frame.evaluations,
        starts=search.starts,
        x=at.x,
        loss=above.value.loss(at) if np.isfinite(upper) else np.zeros(len(at.x)),
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
    if max(above.escaped[0], below.escaped[1]) >= MOST_ESCAPED:
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
