"""EquilibriumJudge: how far a learnt equilibrium is from the solved one, for any economy."""

from __future__ import annotations

from typing import Any, final

import numpy as np

from hacontrol_envs.arrays import Floats
from hacontrol_envs.core.judge import Judge, Metric, Score
from hacontrol_envs.errors import ParameterError


@final
class EquilibriumJudge(Judge):
    """Judge of any economy: agents offer `signal` and a `solution` of the individual at it.

    They are compared at the states of the true law, which no seed draws.
    """

    metrics = (
        Metric("signal_error", "Largest |s - s*| of the signal s, relative to the largest |s*|."),
        Metric(
            "clearing_error",
            "Largest |gap| at the learnt signal, where everybody follows the learnt policy.",
            "clearing error",
        ),
        Metric(
            "policy_error_visited",
            "Relative L2 distance of the worst component of the policy from the true one, under the true law.",
            "policy error, visited",
        ),
        Metric(
            "value_error_visited",
            "Relative L2 distance of the value of an individual from the true one, under the true law.",
            "value error, visited",
        ),
    )
    headlines = ("signal_error",)

    def compute(self, agent: Any, subject: Any, evaluation: Any) -> dict[str, Score]:
        """Measure every one of `metrics` against `subject.equilibrium()`."""
        for name in ("signal", "solution"):
            if not hasattr(agent, name):
                raise ParameterError(
                    f"{type(agent).__name__} has no `{name}`: what is judged on a {type(subject).__name__} has a "
                    "`signal`, and a `solution` of the individual's problem at it"
                )
        truth = subject.equilibrium()
        true, learnt = (np.atleast_1d(np.asarray(one.signal, dtype=np.float64)) for one in (truth, agent))
        law = truth.cross_section
        best, chosen = (np.asarray(one.solution.policy(0.0, law.x)) for one in (truth, agent))
        worth, said = (np.asarray(one.solution.value(0.0, law.x)) for one in (truth, agent))
        clearing = subject.gap(agent.signal, subject.respond(agent.signal, agent.solution.policy))
        found: dict[str, Score] = {
            "signal_error": float(np.abs(learnt - true).max() / np.abs(true).max()),
            "clearing_error": float(np.abs(np.asarray(clearing)).max()),
            "policy_error_visited": float(relative_distance(chosen, best, law.mass).max()),
            "value_error_visited": float(relative_distance(said, worth, law.mass)),
        }
        return finite(found)


def relative_distance(learnt: Floats, true: Floats, mass: Floats) -> Floats:
    """Return the root mean square of learnt - true over that of true, (...).

    Args:
        learnt, true: values at M states, (M, ...).
        mass: shares of the M states in both means, (M,).
    """
    gap, size = (np.tensordot(mass, part**2, axes=1) for part in (learnt - true, true))
    found: Floats = np.sqrt(gap / size)
    return found


def finite(scores: dict[str, Score]) -> dict[str, Score]:
    """Return the scores, if all numbers in them are finite.

    Raises:
        FloatingPointError: one is not.
    """
    for name, score in scores.items():
        numbers = list(score.values()) if isinstance(score, dict) else [] if score is None else [score]
        if not np.all(np.isfinite(numbers)):
            raise FloatingPointError(f"the learnt equilibrium is not finite: {name} is {score}")
    return scores
