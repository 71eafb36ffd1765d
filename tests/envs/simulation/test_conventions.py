"""Gymnasium's conventions, and SB3's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.env_checker import check_env as check_env_of_sb3

import hacontrol_envs
from common.sampled_envs import (
    BOTH_HORIZONS,
    CHEAP,
    DIFFUSIONS,
    NEXT_STEP,
    ROWS,
    every_case,
    every_id,
    same,
    single,
    vector,
)
from hacontrol_envs import LQR


class TestConventions:
    @pytest.mark.parametrize(("id", "parameters"), BOTH_HORIZONS)
    def test_checkers_of_gymnasium_and_sb3(self, id: str, parameters: dict[str, Any]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            # The one piece of advice we do not take: a state is unbounded, and so is what is seen of it.
            warnings.filterwarnings("ignore", message=".*A Box observation space m.* is -?infinity.*")
            check_env(gym.make(id, render_mode="rgb_array", **parameters).unwrapped)
            check_env_of_sb3(gym.make(id, **parameters))

    @every_id
    def test_types(self, id: str) -> None:
        env = gym.make(id, **CHEAP.get(id, {}))
        seen, _ = env.reset(seed=0)
        assert seen.dtype == np.float32
        assert [type(part) for part in env.step(env.action_space.sample())[1:]] == [float, bool, bool, dict]
        env = vector(id, {}, NEXT_STEP)
        env.reset(seed=0)
        assert [part.dtype for part in env.step(env.action_space.sample())[:4]] == [np.float32, np.float64, bool, bool]

    @every_id
    @pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
    def test_the_spec_is_the_record_of_the_run(self, id: str, mode: str) -> None:
        how = {"scheme": "euler", "dt": 0.125, "discount": 0.07}
        other = {"discount": 0.08}
        if id not in DIFFUSIONS:
            how, other = ({**CHEAP.get(id, {}), "discount_factor": beta} for beta in (0.93, float(np.exp(-0.08))))
        env = gym.make_vec(id, num_envs=3, autoreset_mode=mode, max_episode_steps=9, **how)
        again = gym.make_vec(EnvSpec.from_json(env.spec.to_json()))
        assert again.unwrapped.get_state().keys() == env.unwrapped.get_state().keys()
        wanted = (3, how.get("dt", 1.0), how.get("scheme", "exact"), 9)
        assert (again.num_envs, again.dt, again.scheme, again.episode_steps) == wanted
        assert again.metadata["autoreset_mode"] is AutoresetMode(mode)
        assert again.problem.parameters == env.problem.parameters
        alone = gym.make(EnvSpec.from_json(gym.make(id, **other).spec.to_json())).unwrapped
        assert alone.problem.discount == pytest.approx(0.08, rel=1e-15)
        assert alone.gamma == pytest.approx(np.exp(-0.08 * alone.dt), rel=1e-15)

    @every_case
    def test_coordinates_are_inverse_to_each_other(self, id: str, parameters: dict[str, Any]) -> None:
        env = vector(id, parameters, NEXT_STEP)
        rng = np.random.default_rng(1)
        problem, box = env.problem, env.problem.observation
        x = problem.some_states(rng, 12).reshape(4, 3, -1)
        t = rng.integers(0, 7, (4, 3)) * env.dt
        back_t, back = env.from_observation(env.to_observation(t, x))
        np.testing.assert_allclose(box.to_unit(back), box.to_unit(problem.observe(x)), atol=1e-6)
        np.testing.assert_allclose(back_t, t * env.finite, atol=1e-6)
        unit = rng.uniform(-1, 1, (4, 3, env.problem.action.dimension))
        np.testing.assert_allclose(env.from_physical(env.to_physical(unit)), unit, atol=1e-12)
        seen, _ = env.reset(seed=0)
        assert same(env.to_observation(env.time, env.state), seen)
        assert same(single(id, parameters).to_observation(0.0, env.state[0]), env.to_observation(0.0, env.state)[0])
        units = box.to_unit(problem.observe(env.state))
        np.testing.assert_allclose(seen[:, : units.shape[1]], units, rtol=1e-6, atol=1e-12)

    @every_id
    def test_an_action_outside_is_clipped(self, id: str) -> None:
        one, other = single(id, {}), single(id, {})
        one.reset(seed=2), other.reset(seed=2)
        outside = np.full(one.action_space.shape, -3.5, np.float32)
        assert one.step(outside)[1] == other.step(np.clip(outside, -1, 1))[1]
        assert same(one.state, other.state)

    @every_id
    def test_arrays_are_not_reused(self, id: str) -> None:
        for mode in AutoresetMode:
            env = vector(id, {}, mode)
            env.reset(seed=0)
            first = env.step(env.action_space.sample())[:4]
            kept = [part.copy() for part in first]
            env.step(env.action_space.sample())
            assert all(same(part, copy) for part, copy in zip(first, kept, strict=True))

    @pytest.mark.slow
    @pytest.mark.parametrize(("id", "parameters"), BOTH_HORIZONS)
    def test_pictures(self, id: str, parameters: dict[str, Any]) -> None:
        env = gym.make(id, render_mode="rgb_array", **parameters)
        env.reset(seed=0)
        first = env.render()
        env.step(env.action_space.sample())
        assert first.dtype == np.uint8
        assert first.ndim == 3
        assert first.shape == env.render().shape == (*first.shape[:2], 3)
        assert len(np.unique(first)) > 20
        assert not np.array_equal(first, env.render())
        several = gym.make_vec(id, num_envs=2, render_mode="rgb_array", **parameters)
        several.reset(seed=0)
        assert [frame.shape for frame in several.render()] == [first.shape] * 2
        assert gym.make(id, **CHEAP.get(id, {})).unwrapped.render() is None

    def test_random_starts_differ_and_streams_go_on(self) -> None:
        env, other = vector("LQR-v0", {}, NEXT_STEP), vector("LQR-v0", {}, NEXT_STEP)
        first, second = env.reset()[0], other.reset()[0]
        assert len(np.unique(np.concatenate([first, second, env.reset()[0]]))) == 3 * ROWS
        one = single("LQR-v0", {})
        starts = [one.reset(seed=4)[0], *(one.reset()[0] for _ in range(100))]
        assert len(np.unique(starts)) == 101
        assert same(one.reset(seed=4)[0], starts[0])

    def test_importing_is_light(self) -> None:
        code = "import hacontrol_envs, sys; print([m for m in ('numba', 'torch', 'matplotlib') if m in sys.modules])"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ), check=True
        )
        assert done.stdout.strip() == "[]"


def test_the_readme_of_the_package_runs() -> None:
    assert "gym.make" in str(hacontrol_envs.__doc__)
    env: Any = gym.make("Merton-v0", risk_aversion=3.0)
    env.reset(seed=0)
    assert env.unwrapped.problem.solution().policy(0.0, env.unwrapped.state).shape == (2,)
    assert json.loads(env.spec.to_json())["kwargs"]["risk_aversion"] == 3.0
    assert isinstance(gym.make("LQR-v0").unwrapped.problem, LQR)
