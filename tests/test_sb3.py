"""SB3's agents on native vector environments: learn, predict, save, load."""

import gymnasium as gym
import numpy as np
import pytest

import hacontrol_envs  # noqa: F401  (registers the ids)
from hacontrol_agents import Agent, make_agent


@pytest.mark.parametrize("name", ["ppo", "sac"])
def test_learns_a_little_and_survives_a_save(name, tmp_path):
    env = gym.make("LQR-v0")
    agent = make_agent(name, env=env, seed=0, num_envs=4).learn(600)
    x = np.array([[0.5], [-0.5]])
    chosen = agent.policy(0.0, x)
    assert chosen.shape == (2, 1)
    assert np.isfinite(chosen).all()
    loaded = Agent.load(agent.save(tmp_path / "agent.safetensors"), env=env)
    np.testing.assert_array_equal(loaded.policy(0.0, x), chosen)
    observation, _ = env.reset(seed=0)
    assert env.action_space.contains(agent.predict(observation)[0])
