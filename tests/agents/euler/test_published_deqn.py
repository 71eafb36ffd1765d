"""The published deep equilibrium net: residual by loops, what carries no gradient, schedule, and failure."""

from __future__ import annotations

from functools import cache

import gymnasium as gym
import numpy as np
import pytest

torch = pytest.importorskip("torch")

import hacontrol_envs  # noqa: E402, F401  (registers the environments)
from hacontrol_agents import Agent, PublishedDEQN  # noqa: E402
from hacontrol_agents.euler.published_deqn import Sample, euler_residual  # noqa: E402
from hacontrol_agents.learning.mish import Mish  # noqa: E402
from hacontrol_envs.errors import CheckpointError, ParameterError  # noqa: E402

SMALL = {"asset_nodes": 12, "asset_max": 60.0}
ECONOMIES = {
    "ssj": {
        "calibration": "ssj",
        "productivity_states": 3,
        "productivity_method": "rouwenhorst",
        "income_states": 2,
        "productivity_deviation": 0.1,
        **SMALL,
    },
    "jedc": {
        "calibration": "jedc",
        "intertemporal_elasticity": 0.5,
        "borrowing_limit": -0.2,
        **SMALL,
        "asset_max": 200.0,
    },
}
TINY = {"hidden": (6, 5), "economies": 5, "cells": 7, "epochs": 50}


@cache
def env(name="ssj", **parameters):
    """The household's environment in a small economy."""
    return gym.make("KrusellSmith-v0", others="steady state", **{**ECONOMIES[name], **parameters})


def learner(name="ssj", **settings):
    """A small one."""
    return PublishedDEQN(**{"env": env(name), "seed": 4, **TINY, **settings})


def sample(economy, size=3, households=4, seed=0):
    """Households at nodes, in float64, with levels of capital that are no law's."""
    rng = np.random.default_rng(seed)
    n_z, n_e = economy.earnings.shape
    assets = torch.as_tensor(rng.choice(economy.assets, (size, households)))
    e = torch.as_tensor(rng.integers(n_e, size=(size, households)))
    z = torch.as_tensor(rng.integers(n_z, size=size))
    return Sample(assets, e, z, *torch.as_tensor(rng.uniform(20.0, 45.0, (2, size))))


def by_loops(economy, network, at, attached=False):
    """The residuals one by one, from the parameters, with the savings held unless `attached`."""
    alpha, delta, low, high = economy.capital_share, economy.depreciation, economy.assets[0], economy.assets[-1]
    levels = [economy.productivity, economy.labour, economy.skill, economy.earnings]
    Z, L, skill, earnings = (torch.as_tensor(table) for table in levels)

    def choice(a, e, z, K):
        r = alpha * Z[z] * (L[z] / K) ** (1 - alpha) - delta
        w = (1 - alpha) * Z[z] * (K / L[z]) ** alpha
        above = (1 + r) * a + w * earnings[z, e] - low
        share = torch.sigmoid(network(torch.stack([(a - low) / (high - low), skill[e], Z[z], K])))[0]
        return above * share + low, above * (1 - share), r

    def residual(a, e, z, K, K_next):
        saved, c, _ = choice(a, e, z, K)
        saved = saved if attached else saved.detach()
        expected = 0.0
        for z_next in range(len(Z)):
            for e_next in range(len(skill)):
                _, c_next, r = choice(saved, e_next, z_next, K_next)
                odds = economy.aggregate_chain[z, z_next] * economy.income_chain[z, z_next, e, e_next]
                expected += odds * (1 + r) * c_next ** (-economy.risk_aversion)
        return 1 - economy.discount_factor * expected * c**economy.risk_aversion

    every = [
        [residual(a, e, z, K, K_next) for a, e in zip(assets, income, strict=True)]
        for assets, income, z, K, K_next in zip(*at, strict=True)
    ]
    return torch.stack([torch.stack(row) for row in every])


def gradient(residuals, network):
    """That of the mean square, as one vector."""
    parts = torch.autograd.grad(residuals.square().mean(), list(network.parameters()))
    return torch.cat([part.ravel() for part in parts])


@pytest.mark.parametrize("name", ECONOMIES)
def test_the_residual_is_that_of_loops_and_carries_no_gradient_through_savings(name):
    agent = learner(name)
    economy, network = agent.economy, agent.network.double()
    at = sample(economy)
    found, wanted = euler_residual(economy, network, at), by_loops(economy, network, at)
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-12)
    slope = gradient(found, network)
    torch.testing.assert_close(slope, gradient(wanted, network), rtol=1e-9, atol=1e-11)
    through = gradient(by_loops(economy, network, at, attached=True), network)
    assert (slope - through).norm() > 1e-4 * through.norm()


def test_an_epoch_moves_the_cloud_and_takes_next_capital_from_there(monkeypatch):
    agent = learner("jedc")
    economy, (z, law), seen = agent.economy, agent.training_economies, []
    descend = agent._descend
    monkeypatch.setattr(agent, "_descend", lambda at: seen.append(at) or descend(at))
    assets, e = np.tile(economy.assets, 2), np.repeat([0, 1], 12)
    saved = agent.saving(*(np.broadcast_to(x, (5, 24)) for x in (assets, e)), z, law)
    agent.step()
    at = seen[0]
    kept = (law.reshape(5, 24) * np.clip(saved, assets[0], assets[-1])).sum(axis=1)
    np.testing.assert_allclose(at.capital_next, kept, rtol=1e-5)
    np.testing.assert_allclose(at.capital_next, economy.capital_of(agent.training_economies.law), rtol=1e-6)
    np.testing.assert_allclose(at.capital, economy.capital_of(law), rtol=1e-6)
    assert not at.capital_next.requires_grad
    np.testing.assert_array_equal(at.z, z)
    assert at.assets.shape == at.e.shape == (5, 7)
    assert at.assets.dtype == torch.float32
    assert agent.training_economies.law.dtype == np.float32
    np.testing.assert_allclose(agent.training_economies.law.sum(axis=(1, 2)), 1.0, atol=1e-5)


def test_a_step_is_on_the_mean_square_of_all_that_were_drawn():
    """The gradient is taken a few economies at a time: 500 x 6 successors here, where 4096 rows fit."""
    agent = learner(economies=3, cells=500)
    at = Sample(*(x.float() if x.is_floating_point() else x for x in sample(agent.economy, 3, 500)))
    assert len(list(at.parts(6))) == 3
    residuals = euler_residual(agent.economy, agent.network, at)
    wanted = gradient(residuals, agent.network)
    loss = agent._descend(at)
    assert loss == pytest.approx(float(residuals.square().mean().detach()), rel=1e-5)
    found = torch.cat([p.grad.ravel() for p in agent.network.parameters()])
    assert (found - wanted).norm() < 1e-3 * wanted.norm()


def test_the_learning_rate_is_halved():
    agent, rates = learner(halved_every=2, learning_rate=0.008), []
    for _ in range(5):
        agent.step()
        rates.append(agent._adam.param_groups[0]["lr"])
    assert rates == [0.008, 0.008, 0.004, 0.004, 0.002]


def test_published_settings_are_the_defaults():
    settings = PublishedDEQN(env=env(), seed=0).hyperparameters
    published = {"hidden": (64, 64, 64), "epochs": 2000, "economies": 256, "cells": 64, "learning_rate": 1e-3}
    assert settings == {**published, "halved_every": 500}


@pytest.mark.slow
def test_a_run_that_was_interrupted_ends_at_the_same_bits(tmp_path):
    whole = learner().learn()
    assert [row["epoch"] for row in whole.history] == [20, 40, 50]
    file = tmp_path / "agent.safetensors"
    for stop in (1, 2, 9):
        parted = learner().learn(callback=lambda agent, stop=stop: len(agent.history) < stop, checkpoint=file)
    for name, tensor in whole._tensors().items():
        assert torch.equal(parted._tensors()[name], tensor), name
    rows = [[{key: row[key] for key in row if key != "seconds"} for row in agent.history] for agent in (whole, parted)]
    assert rows[0] == rows[1]
    loaded = Agent.load(file)
    assert isinstance(loaded, PublishedDEQN)
    y = env().unwrapped.problem.observe(env().unwrapped.problem.some_states(np.random.default_rng(0), 9))
    np.testing.assert_array_equal(loaded.policy(0.0, y), whole.policy(0.0, y))
    with pytest.raises(CheckpointError, match="seed"):
        learner(seed=5).learn(checkpoint=file)
    loaded.learn()
    assert loaded.history[-1]["epoch"] == 100


def test_a_budget_counts_evaluations():
    agent = learner()
    per_epoch = 5 * (24 + 7 * (1 + 6))
    agent.learn(10 * per_epoch)
    assert agent.evaluations == 10 * per_epoch
    assert agent.history[-1]["epoch"] == 10


def test_the_policy_of_the_environment_is_that_of_the_cloud():
    agent, problem = learner(), env().unwrapped.problem
    economy, (z, law) = agent.economy, agent.training_economies
    e = np.broadcast_to([0, 1, 1], (5, 3))
    assets = np.broadcast_to([0.0, 3.0, 80.0], (5, 3))
    saved = agent.saving(assets, e, z, law.astype(np.float64))
    np.testing.assert_allclose(problem.household_policy(agent.policy)(assets, e, z, law), saved, rtol=1e-5)
    cash = economy.cash(assets, e, z[:, None], economy.capital_of(law)[:, None])
    assert np.all((saved > economy.borrowing_limit) & (saved < cash))
    observation, _ = env().reset(seed=0)
    assert agent.predict(observation)[0].shape == (1,)


def test_its_cloud_loses_its_capital_and_says_so():
    """What an untrained network saves of cash on hand is about one share everywhere, and too little."""
    agent = learner(hidden=(16,), economies=20)
    assert not agent.trivial
    before = agent.capital
    agent.learn(20 * 20 * (24 + 7 * (1 + 6)))
    assert agent.capital < before / 10
    assert agent.trivial
    assert agent.history[-1]["trivial"] == 1.0
    assert agent.history[-1]["capital"] == agent.capital
    assert np.isfinite(agent.history[-1]["loss"])


def test_a_cloud_at_the_top_of_its_grid_is_trivial():
    agent = learner()
    law = agent.training_economies.law
    law[:] = 0.0
    law[:, 0, -1], law[:, 0, 3] = 0.4, 0.6
    assert agent.top == pytest.approx(0.4)
    assert not agent.trivial
    law[:, 0, -1], law[:, 0, 3] = 0.6, 0.4
    assert agent.trivial


@pytest.mark.parametrize("name", ECONOMIES)
def test_a_representative_agent_earns_what_it_is_patient_for(name):
    conditions, economy = env(name).unwrapped.problem.conditions(), learner(name).economy
    by_z = economy.joint_law.sum(axis=1)
    ratio = conditions.representative_capital / (by_z @ economy.labour)
    rate = economy.capital_share * (by_z @ economy.productivity) * ratio ** (economy.capital_share - 1)
    assert 1 + rate - economy.depreciation == pytest.approx(1 / economy.discount_factor, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mish_is_that_of_torch(dtype):
    x = torch.cat([torch.linspace(-30, 30, 601), torch.tensor([-200.0, -90.0, 90.0, 1e4])]).to(dtype).requires_grad_()
    found, wanted = Mish()(x), torch.nn.Mish()(x)
    close = {"rtol": 1e-12, "atol": 1e-13} if dtype == torch.float64 else {"rtol": 2e-6, "atol": 1e-7}
    torch.testing.assert_close(found, wanted, **close)
    weight = torch.linspace(-1, 2, len(x), dtype=dtype)
    slopes = (torch.autograd.grad(y, x, weight)[0] for y in (found, wanted))
    torch.testing.assert_close(*slopes, **close)


@pytest.mark.parametrize("other", ["LQR-v0", "BrockMirman-v0"])
def test_other_problems_are_refused(other):
    with pytest.raises(ParameterError, match="deqn-published learns a KrusellSmithHousehold"):
        PublishedDEQN(env=gym.make(other))


@pytest.mark.parametrize(
    "settings", [{"learning_rate": 0.0}, {"epochs": 0}, {"economies": 2.5}, {"cells": True}, {"hidden": (0,)}]
)
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ParameterError):
        learner(**settings)
