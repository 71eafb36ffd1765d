"""HouseholdJudge: how far a household policy is from the reference, for an economy whose households all follow it."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from hacontrol_envs.arrays import Floats
from hacontrol_envs.core.judge import Judge, Metric, Score
from hacontrol_envs.economies.krusell_smith import accuracy as measures
from hacontrol_envs.economies.krusell_smith.law_of_motion import LawOfMotion
from hacontrol_envs.economies.krusell_smith.paths import path_of_z, simulate
from hacontrol_envs.economies.krusell_smith.policies import HouseholdPolicy, of_agent

PATHS, QUARTERS, KEEP, LATE = 16, 600, 50, 200
"""Number of paths, their quarters, quarters between laws that are kept, and first quarter of Euler errors."""
HORIZON, DRAWS = 800, 8
"""Quarters and number of the paths on which welfare is compared."""


@final
class HouseholdJudge(Judge):
    """Metrics of agents on `KrusellSmith` and on its environments.

    Agents offer `saving`, a household policy (`policies.HouseholdPolicy`), or, on an environment, a `policy` of
    observations.
    """

    metrics = (
        Metric(
            "path_error",
            "Mean of |log K - log K of the reference| where all households follow the policy, in percent, on 16 paths "
            "of productivity of 600 quarters that all agents share, from the reference's own populations.",
        ),
        Metric(
            "path_error_max",
            "Maximum of |log K - log K of the reference| on the paths of path_error, in percent.",
            "path error, max",
        ),
        Metric(
            "euler_mean",
            "log10 of the mean, by mass, of |min(c implied, cash on hand)/c - 1| at all cells of economies that the "
            "policy leads to; the expectation is exact, and tomorrow's capital what the policy itself makes it.",
            "Euler, mean",
            style="plain",
        ),
        Metric(
            "euler_high",
            "log10 of the 99.9 % quantile by mass of the Euler error of euler_mean.",
            "Euler, 99.9 %",
            style="plain",
        ),
        Metric(
            "euler_max",
            "log10 of the maximum of the Euler error of euler_mean over cells with mass above 1e-8.",
            "Euler, max",
            style="plain",
        ),
        Metric(
            "den_haan",
            "Mean of |log K forecast - log K|, in percent, on the paths of the policy, by the log-linear law of motion "
            "that fits them best: how well capital forecasts itself (Den Haan, 2010).",
            "Den Haan",
        ),
        Metric("den_haan_max", "Maximum of |log K forecast - log K| on the paths of den_haan, in percent."),
        Metric(
            "welfare_gain",
            "Percent of consumption at all times that a household gains by the policy where all others follow the "
            "reference (permanent-consumption equivalent); negative is a loss.",
            "welfare gain",
        ),
        Metric("welfare_error", "One standard error of welfare_gain, over paths of productivity."),
        Metric(
            "capital",
            "Mean capital on the paths of the policy; that of the reference is reference_capital.",
            "capital",
            style="plain",
        ),
        Metric("reference_capital", "Mean capital on the reference's paths."),
        Metric("at_top", "Largest mass at the highest node of the grid on the paths."),
    )
    headlines = ("path_error",)

    def compute(self, agent: Any, subject: Any, evaluation: Any) -> dict[str, Score]:
        """Compute all `metrics` of an agent on a `KrusellSmith` or on an environment of one of its households."""
        problem: Any = None if hasattr(subject, "reference_solution") else subject.unwrapped.problem
        economy = subject if problem is None else problem.economy
        return compare(economy, of_agent(agent, economy, problem), evaluation.seed)


def compare(economy: Any, policy: HouseholdPolicy, seed: int) -> dict[str, Score]:
    """Compute every metric of `HouseholdJudge` for a policy, against the reference solution of a `KrusellSmith`.

    Args:
        economy: a `KrusellSmith`.
        policy: what households save.
        seed: seed of the paths of Z and of the populations at their start.

    Raises:
        FloatingPointError: the policy returns something that is not finite.
    """
    reference, policy = economy.reference_solution(cut=True), checked(policy)
    rng = np.random.default_rng(seed)
    start = rng.integers(len(reference.ergodic.z), size=PATHS)
    z = path_of_z(economy, QUARTERS, seed, PATHS, reference.ergodic.z[start])
    law = reference.ergodic.laws[start]
    mine, true = (simulate(economy, one, z, law, KEEP) for one in (policy, reference.policy))
    late = mine.kept >= LATE
    laws, states = mine.laws[late], z[mine.kept[late]]
    errors = measures.euler_errors(economy, policy, states.reshape(-1), laws.reshape(-1, *law.shape[1:]))
    path = measures.log_differences(mine.capital, true.capital)
    law_of_motion, _ = LawOfMotion.fitted(z, mine.capital, len(economy.productivity))
    forecast = measures.log_differences(law_of_motion.forecast(mine.capital[0], z), mine.capital)
    far = path_of_z(economy, HORIZON, seed + 1, DRAWS, reference.ergodic.z[start[:DRAWS]])
    welfare = measures.welfare(economy, policy, reference.policy, far, law[:DRAWS])
    return {
        "path_error": path.mean,
        "path_error_max": path.max,
        "euler_mean": errors.mean,
        "euler_high": errors.high,
        "euler_max": errors.max,
        "den_haan": forecast.mean,
        "den_haan_max": forecast.max,
        "welfare_gain": welfare.gain,
        "welfare_error": welfare.error,
        "capital": float(mine.capital.mean()),
        "reference_capital": float(true.capital.mean()),
        "at_top": float(mine.laws[..., -1].sum(axis=-1).max()),
    }


def checked(policy: HouseholdPolicy) -> HouseholdPolicy:
    """Return the same policy, made to raise FloatingPointError where it is not finite."""

    def checked(assets: Floats, e: NDArray[np.int64], z: NDArray[np.int64], law: Floats) -> Floats:
        saved = np.asarray(policy(assets, e, z, law), dtype=np.float64)
        if not np.isfinite(saved).all():
            raise FloatingPointError("the policy returned savings that are not finite")
        return saved

    return checked
