"""How episodes start and end, and that they stay finite on the way."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from common.sampled_envs import (
    CHEAP,
    DISABLED,
    SAME_STEP,
    WITH_HORIZON,
    every_id,
    same,
    single,
    step_of,
    vector,
)
from hacontrol_envs import Merton
from hacontrol_envs.simulation.env import SDEVectorEnv
from hacontrol_envs.simulation.integrate import SCHEMES


class TestEndings:
    @every_id
    @pytest.mark.parametrize("mode", AutoresetMode)
    def test_a_finite_horizon_terminates_and_an_infinite_one_is_truncated(self, id: str, mode: AutoresetMode) -> None:
        for parameters, which in (({}, 3), ({"horizon": 7 * 0.25}, 2))[: 1 + (id in WITH_HORIZON)]:
            env = vector(id, {"dt": step_of(id), **parameters}, mode)
            env.reset(seed=0)
            flags = [env.step(np.zeros(env.action_space.shape, np.float32))[2:4] for _ in range(7)]
            assert not np.any(flags[:6])
            assert flags[6][which - 2].all()
            assert not flags[6][3 - which].any()

    @every_id
    def test_never(self, id: str) -> None:
        env: Any = gym.make(id, episode_steps=None, **CHEAP.get(id, {})).unwrapped
        env.reset(seed=0)
        assert not any(env.step(np.zeros(env.action_space.shape, np.float32))[3] for _ in range(300))

    def test_time_to_go_falls_from_one_to_zero(self) -> None:
        env = single("LQR-v0", {"horizon": 0.14})
        seen = [env.reset(seed=0)[0], *(env.step([0.0])[0] for _ in range(7))]
        np.testing.assert_allclose([s[-1] for s in seen], 1 - np.arange(8) / 7, atol=1e-7)
        assert seen[-1][-1] == 0
        assert all(s in env.observation_space for s in seen)

    @pytest.mark.parametrize("scheme", SCHEMES)
    def test_the_last_reward_holds_the_discounted_terminal_reward(self, scheme: str) -> None:
        with_, without = (single("LQR-v0", {"horizon": 0.14, "terminal_cost": S, "scheme": scheme}) for S in (2.0, 0.0))
        with_.reset(seed=3), without.reset(seed=3)
        a = without.from_physical([0.4])  # the boxes differ with the terminal cost, the physical action does not
        pairs = [(with_.step(with_.from_physical([0.4])), without.step(a)) for _ in range(7)]
        gaps = [one[1] - other[1] for one, other in pairs]
        np.testing.assert_allclose(gaps[:6], 0, atol=1e-14)
        assert gaps[6] == pytest.approx(-with_.gamma * with_.state[0] ** 2, rel=1e-6)

    def test_start_from_a_state_and_time(self) -> None:
        env = vector("Merton-v0", {"horizon": 1.75}, DISABLED)
        env.reset(seed=0)
        before = env.state
        mask = np.array([True, False, False, True, False])
        x = np.array([[2.0], [9.0], [9.0], [3.0], [9.0]])
        seen, _ = env.reset(options={"reset_mask": mask, "state": x, "time": 0.5})
        np.testing.assert_array_equal(env.state, np.where(mask[:, None], x, before))
        np.testing.assert_array_equal(env.time, np.where(mask, 0.5, 0.0))
        assert same(seen, env.to_observation(env.time, env.state))
        ended = [env.step(np.zeros((5, 2)))[2] for _ in range(5)]
        np.testing.assert_array_equal(ended[4], mask)
        env.reset(options={"state": [1.5]})
        np.testing.assert_array_equal(env.state, np.full((5, 1), 1.5))


def test_a_discretised_step_keeps_wealth_positive() -> None:
    env = SDEVectorEnv(Merton(volatility=3.0), 200, dt=4.0, scheme="euler")
    env.reset(seed=0)
    for _ in range(50):
        seen, rewards, *_ = env.step(np.ones(env.action_space.shape))
        assert np.all(np.isfinite(seen))
        assert np.all(np.isfinite(rewards))
    assert env.state.min() >= 1e-7


@every_id
def test_no_nan_under_random_and_corner_actions(id: str) -> None:
    env = vector(id, {}, SAME_STEP, 64 if id in CHEAP else 1024)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    for step in range(400):
        action = rng.uniform(-1, 1, env.action_space.shape)
        seen, rewards, *_ = env.step(np.sign(action) if step % 2 else action)
        assert np.isfinite(seen).all()
        assert np.isfinite(rewards).all()
