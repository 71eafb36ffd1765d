"""What npi and hjb-pinn know of their own errors, without the optimum, and what they do about them."""

import gymnasium as gym
import numpy as np
import pytest
import torch

import hacontrol_envs  # noqa: F401  (registers the ids)
from hacontrol_agents import NeuralPolicyIteration
from hacontrol_agents.hjb import doubts

pytestmark = pytest.mark.filterwarnings("ignore::hacontrol_envs.errors.ConvergenceWarning")
"""Learners here are stopped long before they have learnt."""

SYSTEM = {
    "state_matrix": [[-0.1, 0.4], [-0.4, 0.2]],
    "control_matrix": [[0.3], [1.0]],
    "state_cost": [[1.0, 0.2], [0.2, 0.5]],
    "control_cost": [[0.7]],
    "noise_matrix": [[0.2, 0.0], [0.1, 0.3]],
    "discount": 0.2,
}
FIRM = {"capital_bounds": [0.8, 1700.0], "price": 0.7, "returns_to_scale": 0.66, "adjustment_cost_up": 0.85}
"""A firm in a box so wide that rewards at the centre of the actions' box have two signs."""


def estimated(agent):
    """The estimate of the policy's error, and the true one at the same states."""
    rng = np.random.default_rng(0)
    where = agent._visits, rng, agent._region, agent._long_step
    found, counted = doubts.policy_error(agent._v, agent._track, agent._best, *where)
    assert counted > 0
    problem, x = agent.problem, agent._visits.x[: doubts.STATES].numpy()
    optimum = torch.as_tensor(problem.solution().policy(0.0, x))
    return found, doubts.apart(problem, torch.as_tensor(agent.policy(0.0, x)), optimum)


def test_the_estimated_error_of_a_policy_is_the_true_one():
    found = []

    def look(agent):
        if len(agent.history) in (5, 9):
            found.append(estimated(agent))

    NeuralPolicyIteration(env=gym.make("LQR-v0", **SYSTEM), seed=3, iterations=9, visits=64).learn(callback=look)
    assert 2e-6 < found[1][1] < 0.3 * found[0][1] < 0.1
    for estimate, true in found:
        assert estimate == pytest.approx(true, rel=0.3)


def test_a_policy_that_moves_the_noise_is_estimated_by_the_second_derivative_too():
    agent = NeuralPolicyIteration(env=gym.make("Merton-v0"), seed=3, iterations=5, hidden=(3,), visits=64).learn()
    found, true = estimated(agent)
    assert 1e-6 < true < 0.2
    assert found == pytest.approx(true, rel=0.5)


def test_a_wider_network_starts_from_what_was_learnt(tmp_path):
    agent = NeuralPolicyIteration(env=gym.make("LQR-v0", **SYSTEM), seed=3, iterations=6, visits=64).learn()
    x = agent._visits.x.numpy()
    before = agent.policy(0.0, x)
    agent._grow(np.random.default_rng(0))
    assert len(agent._parameters()) == 3 * 16 + 17 * 16 + 17
    np.testing.assert_allclose(agent.policy(0.0, x), before, atol=0.02 * np.abs(before).max())
    agent.save(tmp_path / "agent.safetensors")
    read = NeuralPolicyIteration.load(tmp_path / "agent.safetensors")
    assert (read.policy(0.0, x) == agent.policy(0.0, x)).all()
    agent.iterations = 4
    assert agent.learn().history[-1]["residual"] < 1e-2


def test_rewards_that_an_action_makes_positive_put_v_on_a_log_scale():
    agent = NeuralPolicyIteration(env=gym.make("FirmInvestment-v0", **FIRM), seed=0)
    problem, u = agent.problem, np.random.default_rng(0).uniform(-1.0, 1.0, (260, 2))
    x, t = torch.as_tensor(problem.state.from_unit(u)), torch.zeros(260, dtype=torch.float64)
    centre = problem.action.from_unit(torch.zeros(260, 1, dtype=torch.float64))
    assert (problem.reward(t, x, centre) < 0).any()
    assert (problem.reward(t, x, agent._act(t, x)) > 0).all()
    assert agent._v.log
    assert agent._v.scale > 0
