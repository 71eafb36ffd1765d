"""How far a policy can be from an optimum that need not be known: metrics of its certificate."""

from __future__ import annotations

from typing import Any

import numpy as np

from hacontrol_benchmarks.records.tasks import Evaluation
from hacontrol_envs import ControlProblem, Problem
from hacontrol_envs.core.judge import Metric, Score

METRICS = (
    Metric(
        "certified_gap",
        "What the policy can lose at most, in the problem's own time (continuous for a ControlProblem): the upper "
        "bound on what any policy earns less the lower bound on what this one does, relative to the size of the upper "
        "bound, that of the optimal value. The optimum need not be known. Infinite where a check of it failed.",
        "certified gap",
    ),
    Metric(
        "certified",
        "1 where certified_gap is within the tolerance of `certify`, 1e-2; else 0.",
    ),
    Metric(
        "certified_bounds",
        "Means over the certificate's initial states, in units of reward: what the policy earns at least (lower), and "
        "what any policy earns at most (upper).",
    ),
)
"""What `certified_scores` returns."""


def certifies(problem: Problem, evaluation: Evaluation) -> bool:
    """Tell whether the judge certifies policies: where it is asked to, or where no optimum is known."""
    return problem.solution() is None if evaluation.certify is None else evaluation.certify


def certified_scores(agent: Any, problem: Problem, evaluation: Evaluation) -> dict[str, Score]:
    """Return every one of `METRICS` by name, None where the judge does not certify.

    Args:
        agent: an agent with a `policy`, and a `jet` if it has learnt a value.
        problem: the problem that it has learnt.
        evaluation: settings of the judge, whose seed is that of the certificate.

    Raises:
        ParameterError: the problem has more states or actions than `certify` takes.
        ContractError: the problem's `maximiser` is not the best action, so that nothing can be certified by it.
        LearningError: the policy plays actions that are not finite.
    """
    if not certifies(problem, evaluation):
        return dict.fromkeys(metric.name for metric in METRICS)
    from hacontrol_agents import certify  # these take long to import
    from hacontrol_envs.checks.actions import check_maximiser
    from hacontrol_envs.checks.probe import Probe

    if isinstance(problem, ControlProblem):
        with np.errstate(all="ignore"):
            check_maximiser(Probe(problem, 100, evaluation.seed, None))
    found = certify(agent, problem, seed=evaluation.seed)
    size = abs(found.upper)  # and not `found.scale`, which is of the policy's own value: the worse, the larger
    gap = found.gap / size if not found.failed and np.isfinite(found.gap) and size > 0 else np.inf
    return {
        "certified_gap": float(gap),
        "certified": float(gap <= found.tolerance),
        "certified_bounds": {"lower": found.lower, "upper": found.upper},
    }
