"""evaluate: everything that the judge of its subject measures of an agent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hacontrol_agents import Agent
from hacontrol_benchmarks.judging.control import largest_policy_error
from hacontrol_benchmarks.judging.judges import CONTROL
from hacontrol_benchmarks.judging.outsider import as_agent
from hacontrol_benchmarks.records.renamed import ByMetric
from hacontrol_benchmarks.records.tasks import Evaluation
from hacontrol_envs import Economy
from hacontrol_envs.core.judge import Score


def evaluate(agent: Any, env: Any, evaluation: Evaluation | None = None) -> ByMetric[Score]:
    """Measure how far an agent is from the truth: every metric of its subject's judge, and "converged".

    Args:
        agent: one of ours, or anything that plays (see `Outsider`): a model with `predict(observation, ...)`, as those
            of Stable-Baselines3, or a function from observations to actions in the environment's box [-1, 1]^m.
        env: the environment, single or vector, with no wrapper that changes what is seen, played or paid; or the
            economy.
        evaluation: number of paths and points, the judge's seed, and whether to certify the policy; None for the
            defaults of `Evaluation`, by which it is certified where no optimum is known.

    Raises:
        ParameterError: the problem has no known optimum and is not certified, the environment is not ours, the model
            cannot play in it, or the agent does not offer what is judged on the economy.
        ActionError: a model's actions have another shape than the environment's, or are not in their box.
        FloatingPointError, LearningError: the agent returns something that is not finite.
        ContractError: the problem's `maximiser` is not the best action, so that nothing can be certified by it.
    """
    if isinstance(env, Economy):
        judge = env.judge
    else:
        agent = as_agent(agent, env)
        judge = env.unwrapped.problem.judge or CONTROL
    met = getattr(agent, "converged", None)
    found = judge.compute(agent, env, evaluation or Evaluation())
    return ByMetric({**found, "converged": None if met is None else float(bool(met))})


def watch(env: Any, points: int = 256) -> Callable[[Agent], None]:
    """Return a callback of `learn` that adds "policy_error", on the box, to each row of the agent's learning curve.

    It adds nothing where no optimum is known.
    """
    known = env.unwrapped.problem.solution() is not None

    def note(agent: Agent) -> None:
        if known:
            agent.history[-1]["policy_error"] = largest_policy_error(agent, env, points)

    return note
