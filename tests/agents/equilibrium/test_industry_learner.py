"""What certifies an industry: an equilibrium by finite differences is certified, and no planted error is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from hacontrol_agents.equilibrium.industry_learner import IndustryLearner
from hacontrol_envs import FirmIndustry

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def truth():
    return FirmIndustry().equilibrium(1e-5)


@dataclass(kw_only=True)
class Told(IndustryLearner):
    """Answers what it was told: a true equilibrium, with planted errors."""

    name: ClassVar[str] = "told"
    planted = (0.0, 0.0, 0.0)

    def _learn(self, budget, report):
        report(1.0)

    def _met(self):
        return True

    @property
    def price(self):
        return self.truth.price * (1 + self.planted[0])

    @property
    def output(self):
        return self.truth.output * (1 + self.planted[1])

    @property
    def capital(self):
        return self.truth.capital

    def value(self, k, z):
        return self.truth.value(k, z)

    def policy(self, k, z):
        return self.truth.policy(k, z) * (1 + self.planted[2] * np.sin(3 * z))

    def density(self, k, z):
        return self.truth.density(k, z)


def doubt(truth, **planted):
    agent = Told(truth.industry, seed=0)
    agent.converged = True
    agent.truth, agent.planted = truth, tuple(planted.get(name, 0.0) for name in ("price", "output", "policy"))
    return agent._doubt()


def test_the_true_equilibrium_is_certified(truth):
    assert doubt(truth) == ""


@pytest.mark.parametrize(
    ("planted", "reason"),
    [
        ({"output": 5e-4}, "the law that it has learnt"),
        ({"policy": 5e-3}, "firms gain by deviating"),
        ({"price": 0.01}, "firms gain by deviating"),
    ],
)
def test_a_planted_error_is_not(truth, planted, reason):
    assert reason in doubt(truth, **planted)


def test_a_price_that_does_not_clear_is_not(truth):
    """Firms do what is best at another demand's price: only the market says so."""
    other = FirmIndustry(demand_elasticity=truth.industry.demand_elasticity * 1.02)
    agent = Told(other, seed=0)
    agent.truth = truth
    assert "the market does not clear" in agent._doubt()


def test_a_step_of_policy_iteration_finds_how_far_a_policy_is_from_the_best(truth):
    """Newton's method: what is left is of second order in what was planted."""
    wrong = [size * np.sin(3 * truth.market.grid.x[:, 1]) for size in (0.02, 0.04)]
    left = []
    for one in wrong:

        def policy(t, x, one=one):
            return (truth.policy(x[:, 0], x[:, 1]) + np.abs(one).max() * np.sin(3 * x[:, 1]))[:, None]

        better = truth.industry.follow(truth.price, policy).improved()
        best = truth.policy(better.grid.x[:, 0], better.grid.x[:, 1])
        left.append(np.sqrt(better.mean((better.rates - best) ** 2)))
    assert left[0] < 0.1 * 0.02
    assert left[1] / left[0] == pytest.approx(4, rel=0.5)
