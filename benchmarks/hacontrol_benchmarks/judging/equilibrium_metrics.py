"""How far a learnt equilibrium of an industry is from the one that finite differences find."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hacontrol_envs import Equilibrium
from hacontrol_envs.arrays import Floats

if TYPE_CHECKING:
    from hacontrol_agents import IndustryLearner

EQUILIBRIUM_METRICS: dict[str, str] = {
    "price_error": "|P / P* - 1|, the relative error of the price that clears the market.",
    "output_error": "|Y / Y* - 1| of the output that the learnt law produces.",
    "capital_error": "|K / K* - 1| of the mean capital of the learnt law.",
    "policy_error_law": "Relative L2 distance of the investment rate from the true one, under the true law.",
    "value_error_law": "The same for the value of a firm.",
    "density_error": "L1 distance of the learnt density of firms from the true one, at most 2.",
    "mass_error": "|mass - 1| of the learnt density over the box, by the quadrature of the reference's grid.",
    "reference_error": "Estimated relative error of the reference's own price, output and capital.",
}
"""Meaning of each metric."""


def own_verdict(learner: Any) -> float | None:
    """What a learner says of itself: 1 if its own rule of having learnt was met, else 0; None where it has no rule."""
    found = getattr(learner, "converged", None)
    return None if found is None else float(bool(found))


def compare_equilibria(learner: IndustryLearner, truth: Equilibrium) -> dict[str, float]:
    """Every metric of `EQUILIBRIUM_METRICS`.

    Raises:
        FloatingPointError: the learner returns something that is not finite.
    """
    k, z = truth.market.grid.x.T
    mass, cells = truth.market.masses, truth.market.grid.cells
    learnt = learner.density(k, z) * k * cells  # per unit of log capital, as the grid's cells are
    found = {
        "price_error": abs(learner.price / truth.price - 1),
        "output_error": abs(learner.output / truth.output - 1),
        "capital_error": abs(learner.capital / truth.capital - 1),
        "policy_error_law": _distance(learner.policy(k, z), truth.policy(k, z), mass),
        "value_error_law": _distance(learner.value(k, z), truth.value(k, z), mass),
        "density_error": float(np.abs(learnt - mass).sum()),
        "mass_error": abs(float(learnt.sum()) - 1),
        "reference_error": truth.error,
    }
    if not np.all(np.isfinite(list(found.values()))):
        raise FloatingPointError(f"the learnt equilibrium is not finite: {found}")
    return found


def _distance(learnt: Floats, true: Floats, mass: Floats) -> float:
    return float(np.sqrt(mass @ (learnt - true) ** 2 / (mass @ true**2)))
