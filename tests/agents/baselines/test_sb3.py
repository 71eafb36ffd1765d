"""SB3's agents on native vector environments: what the adapter says, learn, predict, save, load, resume."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import DummyVecEnv

import hacontrol_envs
from hacontrol_agents import Agent, NativeVecEnv, make_agent
from hacontrol_envs.errors import ParameterError
from hacontrol_envs.simulation.env import SDEVectorEnv

SMALL = {
    "ppo": {"n_steps": 8, "batch_size": 32},
    "sac": {"learning_starts": 60, "gradient_steps": 1},
    "td3": {"learning_starts": 60, "gradient_steps": 1},
    "dac": {"learning_starts": 60, "gradient_steps": 1},
}


def make(name, env="LQR-v0", seed=0):
    return make_agent(name, env=gym.make(env), seed=seed, num_envs=4, settings=SMALL[name])


@pytest.mark.parametrize("name", SMALL)
def test_learns_a_little_and_survives_a_save(name, tmp_path):
    agent = make(name).learn(200)
    x = np.array([[0.5], [-0.5]])
    chosen = agent.policy(0.0, x)
    assert chosen.shape == (2, 1)
    assert np.isfinite(chosen).all()
    loaded = Agent.load(agent.save(tmp_path / "agent.safetensors"))
    np.testing.assert_array_equal(loaded.policy(0.0, x), chosen)
    observation, _ = agent.env.reset(seed=0)
    assert agent.env.action_space.contains(agent.predict(observation)[0])


@pytest.mark.slow
@pytest.mark.parametrize("env", ["LQR-v0", "Merton-v0"])
@pytest.mark.parametrize("name", SMALL)
def test_an_interrupted_run_ends_with_the_same_weights(name, env, tmp_path):
    """Stopped at its fifth report, and gone on with in a fresh agent, while others use the global random states."""
    path, seen = tmp_path / "checkpoint.safetensors", []

    class KilledError(Exception):
        pass

    def kill(agent):
        seen.append(agent.evaluations)
        if len(seen) == 5:
            raise KilledError

    whole = make(name, env).learn(240, checkpoint=tmp_path / "whole.safetensors")
    with pytest.raises(KilledError):
        make(name, env).learn(240, checkpoint=path, callback=kill)
    torch.rand(3), np.random.rand(3)
    resumed = make(name, env).learn(240, checkpoint=path)
    assert resumed.evaluations == whole.evaluations
    for key, tensor in whole._tensors().items():
        assert torch.equal(tensor, resumed._tensors()[key]), key


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_callback_that_stops_is_not_called_again_and_the_run_goes_on_bitwise(name, tmp_path):
    path, seen = tmp_path / "checkpoint.safetensors", []

    def stop(agent):
        seen.append(agent.evaluations)
        return len(seen) < 5

    whole = make(name).learn(240, checkpoint=tmp_path / "whole.safetensors")
    make(name).learn(240, checkpoint=path, callback=stop)
    assert len(seen) == 5
    assert seen[-1] < whole.evaluations
    resumed = make(name).learn(240, checkpoint=path)
    for key, tensor in whole._tensors().items():
        assert torch.equal(tensor, resumed._tensors()[key]), key


def test_learning_leaves_the_global_random_states_alone():
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    make("ppo").learn(64)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])


def test_the_adapter_says_what_sb3s_own_vector_environment_says():
    """Same rows, rewards, ends and final observations as a DummyVecEnv of single environments, over two episodes."""
    rows, steps = 3, 5
    kwargs = {"dt": 0.02, "episode_steps": steps}
    single = DummyVecEnv([lambda: gym.make("LQR-v0", **kwargs) for _ in range(rows)])
    native = NativeVecEnv(
        SDEVectorEnv(hacontrol_envs.LQR(), rows, dt=0.02, episode_steps=steps, autoreset_mode="SameStep")
    )
    for env in (single, native):
        env.seed(7)
    np.testing.assert_array_equal(single.reset(), native.reset())
    rng = np.random.default_rng(0)
    for _ in range(2 * steps):
        action = rng.uniform(-1, 1, (rows, 1)).astype(np.float32)
        (one, r, done, infos), (other, r2, done2, infos2) = single.step(action), native.step(action)
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(r, r2)
        np.testing.assert_array_equal(done, done2)
        for info, info2 in zip(infos, infos2, strict=True):
            assert info.get("TimeLimit.truncated", False) == info2.get("TimeLimit.truncated", False)
            if "terminal_observation" in info:
                np.testing.assert_array_equal(info["terminal_observation"], info2["terminal_observation"])
            assert ("terminal_observation" in info) == ("terminal_observation" in info2)


@pytest.mark.slow
@pytest.mark.parametrize("dt", [0.1, 0.01, 0.001])
def test_updates_are_counted_by_time(dt):
    agent = make_agent(
        "dac", env=gym.make("LQR-v0", dt=dt), seed=0, num_envs=4, updates=5.0, settings={"learning_starts": 60}
    )
    agent.learn(round(40 / dt))
    late = agent._model.learning_starts * dt  # nothing is learnt before
    assert abs(agent._model._n_updates - 5 * (40 - late)) <= 0.1 * 200


def test_what_does_not_replay_has_no_updates_by_time():
    for name, updates in (("ppo", 5.0), ("dac", 0.0)):
        with pytest.raises(ParameterError, match="updates"):
            make_agent(name, env=gym.make("LQR-v0"), updates=updates)
