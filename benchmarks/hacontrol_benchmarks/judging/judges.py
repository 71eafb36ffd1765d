"""Who judges what: the judge of a subject, and everything that it measures of an agent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, final

import gymnasium as gym

from hacontrol_agents import Agent
from hacontrol_benchmarks.judging.control import ControlJudge, largest_policy_error
from hacontrol_benchmarks.judging.outsider import as_agent
from hacontrol_benchmarks.records.tasks import Evaluation
from hacontrol_envs import Economy, Judge, registered_economies, registered_ids
from hacontrol_envs.core.judge import Metric, Score
from hacontrol_envs.core.registration import problem_class
from hacontrol_envs.errors import ParameterError

CONTROL = ControlJudge()
"""The judge of problems that name none of their own."""
CONVERGED = "Whether the learner's own rule of having learnt was met: 1 or 0; none where it has no rule."
"""Meaning of "converged", which is told of every agent."""


def evaluate(agent: Any, env: Any, evaluation: Evaluation | None = None) -> dict[str, Score]:
    """Measure how far an agent is from the truth: every metric of its subject's judge, and "converged".

    Args:
        agent: one of ours, or anything that plays (see `Outsider`): a model with `predict(observation, ...)`, as those
            of Stable-Baselines3, or a function from observations to actions in the environment's box [-1, 1]^m.
        env: the environment, single or vector, with no wrapper that changes what is seen, played or paid; or the
            economy.
        evaluation: how carefully to judge.

    Raises:
        ParameterError: the problem has no known optimum, the environment is not ours, the model cannot play in it, or
            the agent does not offer what is judged on the economy.
        ActionError: a model's actions have another shape than the environment's, or are not in their box.
        FloatingPointError: the agent returns something that is not finite.
    """
    if isinstance(env, Economy):
        judge = env.judge
    else:
        agent = as_agent(agent, env)
        judge = env.unwrapped.problem.judge or CONTROL
    met = getattr(agent, "converged", None)
    found = judge.compute(agent, env, evaluation or Evaluation())
    return {**found, "converged": None if met is None else float(bool(met))}


def watch(env: Any, points: int = 256) -> Callable[[Agent], None]:
    """Make a callback of `learn` that adds "policy_error", on the box, to each row of the agent's learning curve."""

    def note(agent: Agent) -> None:
        agent.history[-1]["policy_error"] = largest_policy_error(agent, env, points)

    return note


def judge_of(name: str) -> Judge | None:
    """Find the judge of the environment of this id, or of the economy of this name; None where neither is known."""
    if name in (economies := registered_economies()):
        return economies[name].judge
    if name in registered_ids() or name in gym.registry:
        kind = problem_class(name)
        return None if kind is None else kind.judge or CONTROL
    return None


def judge_of_results(names: Iterable[str], metrics: Iterable[Mapping[str, Any]]) -> Judge:
    """Find the judge of results by what they are about, or else by what they hold.

    Args:
        names: environments or economies, the likeliest first.
        metrics: those of each result, None where one does not apply.

    Returns:
        The first judge that has a headline among the metrics. Where none has, as of an economy that is not imported
        here, one that ranks by the first number there is and shows all of them.
    """
    known = {name: None for every in metrics for name, score in every.items() if score is not None}
    everywhere = [*registered_economies(), *registered_ids()]
    for name in dict.fromkeys([*names, *everywhere]):
        judge = judge_of(name)
        if judge is not None and judge.headline(known):
            return judge
    numbers = [
        name
        for name in known
        if any(isinstance(every.get(name), (int, float)) for every in metrics) and name != "converged"
    ]
    return UnknownJudge(numbers) if numbers else CONTROL


@final
class UnknownJudge(Judge):
    """Stands for a judge that is not known here: the first metric is the headline, each other has a column."""

    def __init__(self, names: list[str]) -> None:
        meaning, titles = "Not explained here: what it was measured on is not imported.", ["", *names[1:]]
        self.metrics = tuple(
            Metric(name, meaning, title.replace("_", " ")) for name, title in zip(names, titles, strict=True)
        )
        self.headlines = tuple(names[:1])

    def compute(self, agent: Any, subject: Any, evaluation: Any) -> dict[str, Score]:
        """Raise ParameterError."""
        raise ParameterError("these results are of a judge that is not known here")
