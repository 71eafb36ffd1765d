"""The learner's promises about files, seeds and what it uses; `test_stationary_law` is about its law."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hacontrol_agents import HJBFokkerPlanckPinn  # noqa: E402
from hacontrol_agents.equilibrium.industry_learner import IndustryLearner  # noqa: E402
from hacontrol_envs import FirmIndustry, FirmInvestment  # noqa: E402
from hacontrol_envs.errors import CheckpointError, ParameterError  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::hacontrol_envs.errors.ConvergenceWarning")
"""Most learners here are stopped long before they have learnt."""

TINY = {"value_hidden": (16,), "law_hidden": (6,), "firms": 256, "iterations": 2, "steps": 3, "law_steps": 2}


def learner(industry=None, **settings):
    """A small one: two iterations with simulated firms, then two with the law."""
    return HJBFokkerPlanckPinn(industry or FirmIndustry(), **{"seed": 3, "law_points": 200, **TINY, **settings})


@pytest.fixture(autouse=True)
def _coarse_steps(monkeypatch):
    """Simulated firms take eight times as long a step as they should: they need not go anywhere in particular."""
    monkeypatch.setattr("hacontrol_agents.equilibrium.hjb_fokker_planck_pinn.STEP", 0.8)


def weights(agent):
    """All that was learnt."""
    return torch.cat([part.flatten() for _, part in sorted(agent._tensors().items())])


@pytest.mark.slow
def test_an_interrupted_run_ends_with_the_same_weights(tmp_path):
    """Killed after every iteration, in both stages."""
    stages = []
    whole = learner().learn(callback=lambda agent: stages.append("law" in agent.history[-1]))
    path = tmp_path / "checkpoint.safetensors"
    for i in range(len(stages)):
        resumed = learner().learn(checkpoint=path, callback=lambda agent: False)
        assert len(resumed.history) == i + 1
    assert set(stages) == {False, True}
    assert stages.count(False) >= 2
    assert stages.count(True) >= 2
    assert torch.equal(weights(whole), weights(resumed))
    assert (whole.price, whole.output, whole.capital) == (resumed.price, resumed.output, resumed.capital)
    assert [row["price"] for row in whole.history] == [row["price"] for row in resumed.history]
    loaded = IndustryLearner.load(path)
    k, z = np.array([1.5, 2.0, 2.5]), np.array([-0.2, 0.0, 0.3])
    for name in ("value", "policy", "density"):
        np.testing.assert_array_equal(getattr(loaded, name)(k, z), getattr(whole, name)(k, z))
    assert (loaded.price, loaded.output, loaded.capital) == (whole.price, whole.output, whole.capital)
    for other in (learner(seed=4), learner(steps=4), learner(FirmIndustry(demand_elasticity=0.9))):
        with pytest.raises(CheckpointError, match="was saved with"):
            other.learn(checkpoint=path)


def test_a_file_names_where_the_law_lies_by_log_capital_and_log_productivity():
    agent = learner(settled=10.0).learn(callback=lambda agent: "law" not in agent.history[-1])
    c, frame = agent._x.numpy() * 1.0, agent._record()["frame"]
    c[:, 0] = np.log(c[:, 0])
    spread_z = c[:, 1].std()
    slope = np.cov(c.T, ddof=0)[0, 1] / spread_z**2
    wanted = {"mean_y": c[:, 0].mean(), "mean_z": c[:, 1].mean(), "spread_z": spread_z, "slope": slope}
    wanted["spread_y"] = (c[:, 0] - slope * c[:, 1]).std()
    assert frame == pytest.approx(wanted, rel=1e-9)


@pytest.mark.slow
def test_it_is_not_told_the_equilibrium(monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("the learner asked for what it should find")

    for owner, name in (
        (FirmIndustry, "equilibrium"),
        (FirmIndustry, "first_guess"),
        (FirmIndustry, "_at_first_guess"),
        (FirmIndustry, "_clear"),
        (FirmInvestment, "solution"),
        (FirmInvestment, "_numerical"),
    ):
        monkeypatch.setattr(owner, name, forbidden)
    with pytest.raises(AssertionError, match="asked"):
        FirmIndustry().equilibrium()
    agent = learner(settled=10.0).learn(callback=lambda agent: "law" not in agent.history[-1])
    assert "law" in agent.history[-1]


@pytest.mark.parametrize(
    ("name", "given"),
    [(name, 0) for name in ("start_price", "settled", "margin", "firms", "iterations", "steps", "law_steps")]
    + [("law_points", 0), ("value_hidden", (0,)), ("law_hidden", (0,)), ("seed", -1), ("start_price", math.nan)],
)
def test_settings_that_make_no_sense_are_refused(name, given):
    with pytest.raises(ParameterError):
        learner(**{name: given})


def test_an_industry_is_asked_for():
    with pytest.raises(ParameterError, match="FirmIndustry"):
        HJBFokkerPlanckPinn(FirmInvestment(), seed=0)
