"""IndustryJudge: how far a learnt equilibrium of an industry is from the one that finite differences find."""

from __future__ import annotations

from typing import Any, final

import numpy as np

from hacontrol_envs.core.equilibrium_judge import finite, relative_distance
from hacontrol_envs.core.judge import Judge, Metric, Score
from hacontrol_envs.economies.industry.equilibrium import IndustryEquilibrium
from hacontrol_envs.errors import ParameterError


@final
class IndustryJudge(Judge):
    """Metrics of agents on a `FirmIndustry`, which offer `signal`, the price, and a `solution` of the firm.

    An agent's law is its `cross_section` of states (k, z), or, where it has one, its `density(k, z)` per unit of
    capital and log productivity.
    """

    metrics = (
        Metric("price_error", "|P / P* - 1|, the relative error of the price that clears the market."),
        Metric("output_error", "|Y / Y* - 1| of the output that the learnt law produces.", "output error"),
        Metric("capital_error", "|K / K* - 1| of the mean capital of the learnt law."),
        Metric(
            "policy_error_visited",
            "Relative L2 distance of the investment rate from the true one, under the true law.",
            "policy error, visited",
        ),
        Metric(
            "value_error_visited",
            "Relative L2 distance of the value of a firm from the true one, under the true law.",
            "value error, visited",
        ),
        Metric(
            "density_error",
            "L1 distance of the learnt density of firms from the true one, at most 2.",
            "density error, L1",
        ),
        Metric(
            "mass_error",
            "|mass - 1| of the learnt density over the box, by the quadrature of the reference's grid.",
            "mass error",
        ),
        Metric("reference_error", "Estimated relative error of the reference's own price, output and capital."),
    )
    headlines = ("price_error",)

    def compute(self, agent: Any, subject: Any, evaluation: Any) -> dict[str, Score]:
        """Compute all `metrics` against `subject.equilibrium()`; those of a density are None where none is learnt."""
        for name in ("signal", "solution"):
            if not hasattr(agent, name):
                raise ParameterError(
                    f"{type(agent).__name__} has no `{name}`, by which agents of an industry are judged"
                )
        return compare(agent, subject.equilibrium())


def compare(agent: Any, truth: IndustryEquilibrium) -> dict[str, Score]:
    """Compute every metric of `IndustryJudge` for an agent, against the true equilibrium.

    Raises:
        FloatingPointError: the agent returns something that is not finite.
    """
    x, mass = truth.cross_section
    learnt, true = agent.solution, truth.solution
    output, capital = _totals(agent, truth)
    found: dict[str, Score] = {
        "price_error": abs(float(agent.signal) / truth.price - 1),
        "output_error": abs(output / truth.output - 1),
        "capital_error": abs(capital / truth.capital - 1),
        "policy_error_visited": float(relative_distance(learnt.policy(0.0, x), true.policy(0.0, x), mass).max()),
        "value_error_visited": float(relative_distance(learnt.value(0.0, x), true.value(0.0, x), mass)),
        "density_error": None,
        "mass_error": None,
        "reference_error": truth.error,
    }
    if hasattr(agent, "density"):
        # Per unit of log capital, as the grid's cells are.
        density = agent.density(x[:, 0], x[:, 1]) * x[:, 0] * truth.market.grid.cells
        found |= {"density_error": float(np.abs(density - mass).sum()), "mass_error": abs(float(density.sum()) - 1)}
    return finite(found)


def _totals(agent: Any, truth: IndustryEquilibrium) -> tuple[float, float]:
    """Return output and capital as an agent has learnt them: its own figures, or those of its law."""
    if hasattr(agent, "output"):
        return float(agent.output), float(agent.capital)
    law = agent.cross_section
    return float(law.mean(truth.firm.revenue(law.x))) / truth.price, float(law.mean(law.x[:, 0]))
