"""How far a learnt equilibrium is from the truth: of learners whose distance is known."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from common.results import make_result
from hacontrol_agents import IndustryLearner
from hacontrol_benchmarks import Task
from hacontrol_benchmarks.reporting.scores import boards, columns_of
from hacontrol_benchmarks.running.runner import check_tasks
from hacontrol_envs import Equilibrium, FirmIndustry
from hacontrol_envs.economies.industry.judge import compare
from hacontrol_envs.errors import ParameterError

TRUTH = FirmIndustry().equilibrium()


@dataclass(kw_only=True)
class Near(IndustryLearner):
    """The truth, scaled and shifted."""

    truth: Equilibrium = field(default_factory=lambda: TRUTH)
    factor: float = 1.0
    shift: float = 0.0

    @property
    def price(self):
        return self.factor * self.truth.price

    @property
    def output(self):
        return self.factor * self.truth.output

    @property
    def capital(self):
        return self.factor * self.truth.capital

    def value(self, k, z):
        return self.factor * self.truth.value(k, z)

    def policy(self, k, z):
        return self.factor * self.truth.policy(k, z)

    def density(self, k, z):
        return self.truth.density(k, z - self.shift)

    def _learn(self, budget, report):
        pass


def test_the_truth_is_at_no_distance():
    found = compare(Near(TRUTH.industry, seed=0), TRUTH)
    assert set(found) == {metric.name for metric in FirmIndustry.judge.metrics}
    assert found.pop("reference_error") == TRUTH.error < 1e-6
    assert max(found.values()) < 1e-9


def test_a_factor_is_a_relative_error_and_a_shift_a_distance_of_densities():
    found = compare(Near(TRUTH.industry, seed=0, factor=1.01, shift=0.002), TRUTH)
    for name in ("price_error", "output_error", "capital_error", "policy_error_visited", "value_error_visited"):
        assert found[name] == pytest.approx(0.01, rel=1e-9)
    m = TRUTH.market
    correlation = m.mean(np.log(m.grid.x[:, 0]) * m.grid.x[:, 1]) / 0.2 / 0.05311661
    # the law is near a Gaussian, whose shift by h in z costs |h| sqrt(2/pi) / (sd of z given log capital)
    expected = 0.002 * np.sqrt(2 / np.pi) / (0.2 * np.sqrt(1 - correlation**2))
    assert found["density_error"] == pytest.approx(expected, rel=0.02)
    assert found["mass_error"] < 1e-6


def test_what_is_not_finite_is_no_result():
    broken = Near(TRUTH.industry, seed=0)
    broken.factor = np.nan
    with pytest.raises(FloatingPointError, match="not finite"):
        compare(broken, TRUTH)


def test_boards_of_equilibria_have_their_columns():
    metrics = {"price_error": 1e-6, "output_error": 2e-6, "mass_error": 0.0, "density_error": 3e-5}
    (board,) = boards([make_result(0, None, "learner", **metrics), make_result(1, None, "learner", **metrics)])
    assert board.headline == "price_error"
    assert [column.title for column in board.columns] == [
        column.title for column in columns_of(FirmIndustry.judge, metrics)
    ]
    shown = dict(zip([column.title for column in board.columns], board.rows[0].cells, strict=True))
    assert shown["output error"] == 2e-6
    assert shown["density error, L1"] == 3e-5
    assert board.rows[0].loss.estimate == pytest.approx(1e-6)


@pytest.mark.parametrize(("env", "agent"), [("FirmIndustry", "npi"), ("LQR-v0", "hjb-fp-pinn")])
def test_agents_that_learn_about_something_else_are_refused(env, agent):
    with pytest.raises(ParameterError, match="learns about an"):
        check_tasks([Task(title=env, env=env, label=agent, agent=agent)])
