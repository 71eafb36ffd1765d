"""Find the judge of a subject, or of results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, final

import gymnasium as gym

from hacontrol_benchmarks.judging.control import ControlJudge
from hacontrol_benchmarks.records.renamed import ByMetric
from hacontrol_envs import Judge, registered_economies, registered_ids
from hacontrol_envs.core.judge import Metric, Score
from hacontrol_envs.core.registration import problem_class
from hacontrol_envs.errors import ParameterError

CONTROL = ControlJudge()
"""The judge of problems that name none of their own."""
METRICS = ByMetric({metric.name: metric for metric in CONTROL.metrics})
"""Metrics of `CONTROL` by name; deprecated, as the package's `METRICS` of version 0.1."""


def judge_of(name: str) -> Judge | None:
    """Find the judge of the environment of this id, or of the economy of this name; None where neither is known."""
    if name in (economies := registered_economies()):
        return economies[name].judge
    if name in registered_ids() or name in gym.registry:
        kind = problem_class(name)
        return None if kind is None else kind.judge or CONTROL
    return None


def judge_of_results(names: Iterable[str], metrics: Iterable[Mapping[str, Any]]) -> Judge:
    """Find the judge of results by their subjects, or else by the metrics they hold.

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
        if any(isinstance(every.get(name), (int, float)) for every in metrics)
        and name not in ("converged", "certified")
    ]
    return UnknownJudge(numbers) if numbers else CONTROL


@final
class UnknownJudge(Judge):
    """A substitute for a judge that is not known here: the first metric is the headline, each other has a column."""

    def __init__(self, names: list[str]) -> None:
        meaning, titles = "Not explained here: what it was measured on is not imported.", ["", *names[1:]]
        self.metrics = tuple(
            Metric(name, meaning, title.replace("_", " ")) for name, title in zip(names, titles, strict=True)
        )
        self.headlines = tuple(names[:1])

    def compute(self, agent: Any, subject: Any, evaluation: Any) -> dict[str, Score]:
        """Raise ParameterError, as the judge that could compute the metrics is not known here."""
        raise ParameterError("these results are of a judge that is not known here")
