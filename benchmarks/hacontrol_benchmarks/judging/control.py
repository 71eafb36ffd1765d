"""ControlJudge: how far an agent is from the optimum of a problem, known or not, each number with its formula.

A measure is a small pure function of a `Case`, registered by its name.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, final

import numpy as np

from hacontrol_agents.core.offers import offered
from hacontrol_benchmarks.judging import certified, sampling
from hacontrol_benchmarks.judging.regret import Regret, regret
from hacontrol_benchmarks.judging.transition import act
from hacontrol_benchmarks.records.tasks import Evaluation
from hacontrol_envs import Jet, Solution
from hacontrol_envs.arrays import Floats
from hacontrol_envs.core.judge import Judge, Metric, Score
from hacontrol_envs.errors import ParameterError


@final
class Case:
    """An agent to be judged, with the problem, its optimum, and the points at which they are compared."""

    def __init__(self, agent: Any, env: Any, evaluation: Evaluation) -> None:
        self.agent, self.evaluation = agent, evaluation
        self.problem: Any = env.unwrapped.problem
        self.dt: float = env.unwrapped.dt
        known = self.problem.solution()
        if known is None:
            raise ParameterError(f"{type(self.problem).__name__} has no known optimum to be judged by")
        self.optimum: Solution = known

    @cached_property
    def sampled_optimum(self) -> Solution | None:
        """The optimum of the environment's sampled-data problem, where it is known."""
        found: Solution | None = self.problem.solution(dt=self.dt)
        return found

    @cached_property
    def regret(self) -> Regret | None:
        """The value that the policy loses in the environment's sampled-data problem; None where unknown."""
        how = self.evaluation
        return regret(self.problem, self.agent.policy, self.dt, paths=how.paths, max_steps=how.max_steps, seed=how.seed)

    @cached_property
    def visited(self) -> sampling.Points | None:
        """Times and states that the optimal policy visits; None where the exact transition is not known."""
        return sampling.visited(self.problem, self.dt, self.evaluation)

    @cached_property
    def box(self) -> sampling.Points:
        """Times and states that are uniform in the box."""
        return sampling.box(self.problem, self.evaluation)

    @cached_property
    def offers(self) -> frozenset[str]:
        """Which of `value`, `jet` and `rate` the agent has learnt, as it declares."""
        return offered(self.agent)


MEASURES: dict[str, tuple[Metric, Callable[[Case], Score]]] = {}
"""Every metric and the function that computes it, by the metric's name."""


def measured(
    meaning: str, column: str = "", key: str = ""
) -> Callable[[Callable[[Case], Score]], Callable[[Case], Score]]:
    """Register the decorated function as the metric of its name.

    Args:
        meaning: what the metric is, in a sentence or two.
        column: title of its column in tables; empty where it has none.
        key: the entry that is shown, where the metric has several; empty otherwise.
    """

    def register(compute: Callable[[Case], Score]) -> Callable[[Case], Score]:
        name = compute.__name__
        MEASURES[name] = Metric(name, meaning, column, key), compute
        return compute

    return register


@measured(
    "What the policy loses against the optimum of the same sampled-data problem, both exact in law. Merton: the share "
    "of initial wealth that it wastes (certainty equivalent). Other problems: the relative loss of value. 0 is "
    "optimal, and an estimate below 0 counts as its standard error; an agent that plays the continuous-time optimum "
    "still loses what a finite step costs."
)
def value_loss(case: Case) -> Score:
    return case.regret.loss if case.regret else None


@measured("One standard error of value_loss, from the noise of the trajectories.")
def value_loss_error(case: Case) -> Score:
    return case.regret.loss_error if case.regret else None


@measured("V* - J in units of reward, averaged over the initial states.")
def value_regret(case: Case) -> Score:
    return case.regret.regret if case.regret else None


@measured("V* of the sampled-data problem in units of reward, averaged over the initial states.")
def value_optimal(case: Case) -> Score:
    return case.regret.optimal if case.regret else None


@measured("Share of the regret that the last tenth of the simulated time added: about what is neglected beyond it.")
def value_loss_tail(case: Case) -> Score:
    return case.regret.last_tenth if case.regret else None


@measured(
    "Relative L2 distance of the action (its worst component) from the continuous-time optimum, at states that the "
    "optimum visits.",
    "policy error, visited",
)
def policy_error_visited(case: Case) -> Score:
    return max(_policy_errors(case, case.optimum, case.visited).values()) if case.visited else None


@measured(
    "policy_error_visited, but uniformly over the problem's whole state box in learners' coordinates.",
    "policy error, box",
)
def policy_error_box(case: Case) -> Score:
    return max(_policy_errors(case, case.optimum, case.box).values())


@measured("policy_error_visited of each action component.")
def policy_error_visited_by_action(case: Case) -> Score:
    return _policy_errors(case, case.optimum, case.visited) if case.visited else None


@measured("policy_error_box of each action component.")
def policy_error_box_by_action(case: Case) -> Score:
    return _policy_errors(case, case.optimum, case.box)


@measured(
    "policy_error_visited against the optimum of the sampled-data problem: what is left when the known gap of order dt "
    "between the sampled and the continuous optimum is taken out."
)
def policy_error_sampled(case: Case) -> Score:
    found = _sampled_errors(case)
    return max(found.values()) if found else None


@measured("policy_error_sampled of each action component.")
def policy_error_sampled_by_action(case: Case) -> Score:
    return _sampled_errors(case)


@measured(
    "Relative L2 distance of the learnt value function from the continuous-time optimum's, at states that the optimum "
    "visits; empty for agents that learn none.",
    "value error, visited",
)
def value_error_visited(case: Case) -> Score:
    return _value_error(case, case.visited) if case.visited and "value" in case.offers else None


@measured("value_error_visited, but uniformly over the box.")
def value_error_box(case: Case) -> Score:
    return _value_error(case, case.box) if "value" in case.offers else None


@measured(
    "Relative L2 error of the learnt q, the rate of advantage, against q* = r + V*_t + L^a V* - rho V* of continuous "
    "time, at states the optimum visits and actions uniform in their box."
)
def rate_error_visited(case: Case) -> Score:
    points, jet = case.visited, case.optimum.jet
    return _rate_error(case, points, jet(*points)) if points and jet and "rate" in case.offers else None


@measured(
    "Quantiles of the Hamilton-Jacobi-Bellman residual |r + V_t + L^a V - rho V| at the agent's own value and policy, "
    "relative to the root mean square of the optimum's reward, at states that the optimum visits; empty without "
    "derivatives of a value. A small residual alone proves nothing.",
    "residual, 95 %",
    "95%",
)
def residual_visited(case: Case) -> Score:
    return _residuals(case, case.visited) if case.visited and "jet" in case.offers else None


@measured("residual_visited, but uniformly over the box.")
def residual_box(case: Case) -> Score:
    return _residuals(case, case.box) if "jet" in case.offers else None


def _sampled_errors(case: Case) -> dict[str, float] | None:
    known = case.sampled_optimum
    return _policy_errors(case, known, case.visited) if known and case.visited else None


def _policy_errors(case: Case, optimum: Solution, points: sampling.Points) -> dict[str, float]:
    """Return rms(a_j - a*_j) / rms(a*_j) by component j; relative to the box's half-width where a*_j is always 0."""
    t, x = points
    best = np.asarray(optimum.policy(t, x))
    size = _rms(best)
    size = np.where(size > 0, size, (case.problem.action.high - case.problem.action.low) / 2)
    errors = _rms(act(case.problem, case.agent.policy, t, x) - best) / size
    return dict(zip(case.problem.action.names, errors.tolist(), strict=True))


def _value_error(case: Case, points: sampling.Points) -> float:
    """Return rms(V - V*) / rms(V*)."""
    best = np.asarray(case.optimum.value(*points))
    return float(_rms(_finite("value", case.agent.value(*points)) - best) / _rms(best))


def _rate_error(case: Case, points: sampling.Points, jet: Jet) -> float:
    """Return rms(q - q*) / rms(q*), q* = r + V*_t + L^a V* - rho V* with V* and its derivatives in `jet`."""
    t, x = points
    a = sampling.actions(case.problem, case.evaluation, len(t))
    best = np.asarray(case.problem.hjb_residual(t, x, a, jet))
    return float(_rms(_finite("rate of advantage", case.agent.rate(t, x, a)) - best) / _rms(best))


def _residuals(case: Case, points: sampling.Points) -> dict[str, float]:
    """Return quantiles of |HJB residual| / rms(r(t, x, a*))."""
    t, x = points
    scale = _rms(np.asarray(case.problem.reward(t, x, case.optimum.policy(t, x))))
    a = act(case.problem, case.agent.policy, t, x)
    found = case.problem.hjb_residual(t, x, a, case.agent.jet(t, x))
    relative = np.abs(_finite("HJB residual", found)) / scale
    quantiles = {f"{level}%": float(np.quantile(relative, level / 100)) for level in (50, 95, 99)}
    return {**quantiles, "max": float(relative.max())}


def _finite(what: str, values: Any) -> Floats:
    """Return an agent's answer in float64; raise FloatingPointError where it is not finite."""
    found = np.asarray(values, dtype=np.float64)
    if not np.isfinite(found).all():
        raise FloatingPointError(f"the agent's {what} is not finite at {np.sum(~np.isfinite(found))} points")
    return found


def _rms(values: Floats) -> Floats:
    """Return the root mean square over the first axis."""
    root: Floats = np.sqrt(np.mean(values**2, axis=0))
    return root


@final
class ControlJudge(Judge):
    """Metrics of agents on an environment: by its known optimum where there is one, and by certificates."""

    metrics = (*(metric for metric, _ in MEASURES.values()), *certified.METRICS)
    headlines = ("value_loss", "policy_error_visited", "policy_error_box", "certified_gap")

    def compute(self, agent: Any, subject: Any, evaluation: Any) -> dict[str, Score]:
        """Compute all `metrics` of an agent on an environment.

        Where no optimum is known only those of its certificate are numbers.

        Raises:
            ParameterError: no optimum is known, and the policy is not to be certified.
        """
        problem = subject.unwrapped.problem
        scores: dict[str, Score] = dict.fromkeys(MEASURES)
        if problem.solution() is not None or not certified.certifies(problem, evaluation):
            case = Case(agent, subject, evaluation)
            scores = {name: compute(case) for name, (_, compute) in MEASURES.items()}
        return scores | certified.certified_scores(agent, problem, evaluation)


def largest_policy_error(agent: Any, env: Any, points: int) -> float:
    """Compute the largest component of policy_error_box.

    Args:
        agent: an agent with a `policy`.
        env: the environment, whose problem has a known optimum.
        points: number of points in the box.
    """
    case = Case(agent, env, Evaluation(points=points))
    return max(_policy_errors(case, case.optimum, case.box).values())
