"""Metrics: small pure functions of a `Case`, each registered by its name, with its formula where it is computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias, final

import numpy as np

from hacontrol_agents import Agent, IndustryLearner
from hacontrol_benchmarks.judging import sampling
from hacontrol_benchmarks.judging.equilibrium_metrics import compare_equilibria, own_verdict
from hacontrol_benchmarks.judging.law import act
from hacontrol_benchmarks.judging.outsider import as_agent
from hacontrol_benchmarks.judging.population_metrics import compare_households
from hacontrol_benchmarks.judging.regret import Regret, regret
from hacontrol_benchmarks.records.tasks import Evaluation
from hacontrol_envs import Jet, Solution
from hacontrol_envs.arrays import Floats
from hacontrol_envs.economies.krusell_smith.household import KrusellSmithHousehold
from hacontrol_envs.errors import ParameterError

Score: TypeAlias = "float | dict[str, float] | None"
"""None where the metric does not apply: an agent without a value has no value error."""


@final
class Case:
    """An agent before its judge: the problem, the truth, and the points at which they are compared."""

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
        """What the policy gives away in the environment's sampled-data problem."""
        how = self.evaluation
        return regret(self.problem, self.agent.policy, self.dt, paths=how.paths, max_steps=how.max_steps, seed=how.seed)

    @cached_property
    def law(self) -> sampling.Points | None:
        """Times and states of the optimal policy."""
        return sampling.optimal_law(self.problem, self.dt, self.evaluation)

    @cached_property
    def box(self) -> sampling.Points:
        """Times and states of the box."""
        return sampling.box(self.problem, self.evaluation)

    @cached_property
    def has_value(self) -> bool:
        """Whether the agent learnt a value function."""
        return self._offers("value")

    @cached_property
    def has_jet(self) -> bool:
        """Whether it knows that value's derivatives."""
        return self._offers("jet")

    @cached_property
    def has_rate(self) -> bool:
        """Whether it learnt q, the rate of advantage."""
        return self._offers("rate", sampling.actions(self.problem, self.evaluation, 1))

    def _offers(self, name: str, *more: Floats) -> bool:
        t, x = self.box
        try:
            getattr(self.agent, name)(t[:1], x[:1], *more)
        except (NotImplementedError, AttributeError):
            return False
        return True


@dataclass(frozen=True)
class Metric:
    """A number that says how far an agent is from the optimum, or what it cost."""

    compute: Callable[[Case], Score]
    meaning: str
    """One sentence for the reader of a report."""


METRICS: dict[str, Metric] = {}
"""Every metric by name."""


def metric(meaning: str) -> Callable[[Callable[[Case], Score]], Callable[[Case], Score]]:
    """Register the decorated function under its name."""

    def register(compute: Callable[[Case], Score]) -> Callable[[Case], Score]:
        METRICS[compute.__name__] = Metric(compute, meaning)
        return compute

    return register


def evaluate(agent: Any, env: Any, evaluation: Evaluation | None = None) -> dict[str, Score]:
    """Every metric of an agent on an environment: on an economy those of `equilibrium_metrics`, on a household among
    many those of `population_metrics`.

    Args:
        agent: one of ours, or anything that plays (see `Outsider`): a model with `predict(observation, ...)`, as those
            of Stable-Baselines3, or a function from observations to actions in the environment's box [-1, 1]^m.
        env: the environment, single or vector, with no wrapper that changes what is seen, played or paid.
        evaluation: how carefully to judge.

    Raises:
        ParameterError: the problem has no known optimum, the environment is not ours, or the model cannot play in it.
        ActionError: a model's actions have another shape than the environment's, or are not in their box.
        FloatingPointError: the agent returns something that is not finite.
    """
    if isinstance(agent, IndustryLearner):
        return {**compare_equilibria(agent, agent.industry.equilibrium()), "converged": own_verdict(agent)}
    evaluation, agent = evaluation or Evaluation(), as_agent(agent, env)
    if isinstance(env.unwrapped.problem, KrusellSmithHousehold):
        return {**compare_households(agent, env.unwrapped.problem, evaluation.seed)}
    case = Case(agent, env, evaluation)
    return {name: metric.compute(case) for name, metric in METRICS.items()}


def watch(env: Any, points: int = 256) -> Callable[[Agent], None]:
    """A callback of `learn` that adds "policy_error", on the box, to each row of the agent's learning curve."""

    def note(agent: Agent) -> None:
        case = Case(agent, env, Evaluation(points=points))
        agent.history[-1]["policy_error"] = max(_policy_errors(case, case.optimum, case.box).values())

    return note


@metric("Whether the learner's own rule of having learnt was met: 1 or 0; none where it has no rule.")
def converged(case: Case) -> Score:
    return own_verdict(case.agent)


@metric(
    "What the policy loses in the sampled-data problem against that problem's own optimum, both exact in law. "
    "Merton: share of initial wealth wasted (certainty equivalent); others: relative loss of value."
)
def value_loss(case: Case) -> Score:
    return case.regret.loss if case.regret else None


@metric("One standard error of value_loss, from the noise of the trajectories.")
def value_loss_error(case: Case) -> Score:
    return case.regret.loss_error if case.regret else None


@metric("V* - J in units of reward, averaged over the initial states.")
def value_regret(case: Case) -> Score:
    return case.regret.regret if case.regret else None


@metric("V* of the sampled-data problem in units of reward, averaged over the initial states.")
def value_optimal(case: Case) -> Score:
    return case.regret.optimal if case.regret else None


@metric("Share of the regret that the last tenth of the simulated time added: about what is neglected beyond it.")
def value_loss_tail(case: Case) -> Score:
    return case.regret.last_tenth if case.regret else None


@metric("Relative L2 error of the worst action component against the continuous optimum, at states the optimum visits.")
def policy_error_law(case: Case) -> Score:
    return max(_policy_errors(case, case.optimum, case.law).values()) if case.law else None


@metric("The same, uniformly on the problem's box in learners' coordinates.")
def policy_error_box(case: Case) -> Score:
    return max(_policy_errors(case, case.optimum, case.box).values())


@metric("policy_error_law of each action component.")
def policy_error_law_by_action(case: Case) -> Score:
    return _policy_errors(case, case.optimum, case.law) if case.law else None


@metric("policy_error_box of each action component.")
def policy_error_box_by_action(case: Case) -> Score:
    return _policy_errors(case, case.optimum, case.box)


@metric(
    "policy_error_law against the optimum of the sampled-data problem: what is left when the known gap of order dt "
    "between the sampled and the continuous optimum is taken out."
)
def policy_error_sampled(case: Case) -> Score:
    found = _sampled_errors(case)
    return max(found.values()) if found else None


@metric("policy_error_sampled of each action component.")
def policy_error_sampled_by_action(case: Case) -> Score:
    return _sampled_errors(case)


@metric("Relative L2 error of the learnt value against the continuous-time optimum, at states the optimum visits.")
def value_error_law(case: Case) -> Score:
    return _value_error(case, case.law) if case.law and case.has_value else None


@metric("The same, uniformly on the box.")
def value_error_box(case: Case) -> Score:
    return _value_error(case, case.box) if case.has_value else None


@metric(
    "Relative L2 error of the learnt q, the rate of advantage, against q* = r + V*_t + L^a V* - rho V* of continuous "
    "time, at states the optimum visits and actions uniform in their box."
)
def rate_error_law(case: Case) -> Score:
    jet = case.optimum.jet
    return _rate_error(case, case.law, jet(*case.law)) if case.law and jet and case.has_rate else None


@metric(
    "Quantiles of |r + V_t + L^a V - rho V| at the agent's own value and policy, relative to the root mean square of "
    "the optimum's reward, at states the optimum visits. A small residual does not prove a good policy."
)
def residual_law(case: Case) -> Score:
    return _residuals(case, case.law) if case.law and case.has_jet else None


@metric("The same, uniformly on the box.")
def residual_box(case: Case) -> Score:
    return _residuals(case, case.box) if case.has_jet else None


def _sampled_errors(case: Case) -> dict[str, float] | None:
    known = case.sampled_optimum
    return _policy_errors(case, known, case.law) if known and case.law else None


def _policy_errors(case: Case, optimum: Solution, points: sampling.Points) -> dict[str, float]:
    """rms(a_j - a*_j) / rms(a*_j) for every component j; relative to the box's half-width where a*_j is always 0."""
    t, x = points
    best = np.asarray(optimum.policy(t, x))
    size = _rms(best)
    size = np.where(size > 0, size, (case.problem.action.high - case.problem.action.low) / 2)
    errors = _rms(act(case.problem, case.agent.policy, t, x) - best) / size
    return dict(zip(case.problem.action.names, errors.tolist(), strict=True))


def _value_error(case: Case, points: sampling.Points) -> float:
    """rms(V - V*) / rms(V*)."""
    best = np.asarray(case.optimum.value(*points))
    return float(_rms(_finite("value", case.agent.value(*points)) - best) / _rms(best))


def _rate_error(case: Case, points: sampling.Points, jet: Jet) -> float:
    """rms(q - q*) / rms(q*), q* = r + V*_t + L^a V* - rho V* with V* and its derivatives in `jet`."""
    t, x = points
    a = sampling.actions(case.problem, case.evaluation, len(t))
    best = np.asarray(case.problem.hjb_residual(t, x, a, jet))
    return float(_rms(_finite("rate of advantage", case.agent.rate(t, x, a)) - best) / _rms(best))


def _residuals(case: Case, points: sampling.Points) -> dict[str, float]:
    """Quantiles of |HJB residual| / rms(r(t, x, a*))."""
    t, x = points
    scale = _rms(np.asarray(case.problem.reward(t, x, case.optimum.policy(t, x))))
    a = act(case.problem, case.agent.policy, t, x)
    found = case.problem.hjb_residual(t, x, a, case.agent.jet(t, x))
    relative = np.abs(_finite("HJB residual", found)) / scale
    quantiles = {f"{level}%": float(np.quantile(relative, level / 100)) for level in (50, 95, 99)}
    return {**quantiles, "max": float(relative.max())}


def _finite(what: str, values: Any) -> Floats:
    """An agent's answer, float64; FloatingPointError where it is not finite."""
    found = np.asarray(values, dtype=np.float64)
    if not np.isfinite(found).all():
        raise FloatingPointError(f"the agent's {what} is not finite at {np.sum(~np.isfinite(found))} points")
    return found


def _rms(values: Floats) -> Floats:
    """Root mean square over the first axis."""
    root: Floats = np.sqrt(np.mean(values**2, axis=0))
    return root
