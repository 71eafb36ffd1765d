"""How environments are made, copied and kept: one rule for the length of an episode, pickles, unknown keywords."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from common.marks import slow_where
from common.sampled_envs import CHEAP, WITH_HORIZON, every_id, same
from hacontrol_agents import agents, make_agent
from hacontrol_envs import FirmIndustry, FirmInvestment, KrusellSmith, registered_ids
from hacontrol_envs.economies.krusell_smith.calibrations import CALIBRATIONS
from hacontrol_envs.economies.krusell_smith.household import KrusellSmithHousehold
from hacontrol_envs.economies.krusell_smith.planner import KrusellSmithPlanner
from hacontrol_envs.errors import ParameterError


def length(env: Any) -> int:
    env.reset(seed=0)
    action = np.zeros(env.action_space.shape, np.float32)
    return next(k for k in range(1, 2000) if np.any(env.step(action)[3]))


@every_id
@pytest.mark.parametrize("steps", [5, 300])
def test_max_episode_steps_is_the_length_of_an_episode(id: str, steps: int) -> None:
    one = gym.make(id, max_episode_steps=steps, **CHEAP.get(id, {}))
    many = gym.make_vec(id, num_envs=2, max_episode_steps=steps, **CHEAP.get(id, {}))
    for env in (one, many, gym.make(one.spec)):
        assert env.spec.max_episode_steps == env.unwrapped.episode_steps == length(env) == steps
    assert make_agent("random", env=one, seed=0)._setting()["episode_steps"] == steps


@every_id
def test_the_default_length_is_in_the_spec(id: str) -> None:
    env = gym.make(id, **CHEAP.get(id, {}))
    assert gym.wrappers.TimeAwareObservation(env).max_timesteps == env.unwrapped.episode_steps == length(env)
    assert gym.make(id, max_episode_steps=-1, **CHEAP.get(id, {})).unwrapped.episode_steps is None


@pytest.mark.parametrize("id", WITH_HORIZON)
def test_below_a_finite_horizon_both_refuse(id: str) -> None:
    for make in (gym.make, gym.make_vec):
        with pytest.raises(ParameterError, match="leave it out"):
            make(id, horizon=2.0, max_episode_steps=3)


def test_agents_obey_a_time_limit_around_an_environment() -> None:
    limited = gym.wrappers.TimeLimit(gym.make("LQR-v0"), 50)
    assert make_agent("random", env=limited, seed=0)._setting()["episode_steps"] == 50
    with pytest.raises(ParameterError, match="TimeLimit below the finite horizon"):
        make_agent("random", env=gym.wrappers.TimeLimit(gym.make("LQR-v0", horizon=1.0), 3), seed=0)


@pytest.mark.parametrize("id", slow_where(lambda id: id == "FirmInvestment-v0", registered_ids()))
@pytest.mark.parametrize("again", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_copy_goes_on_bitwise(id: str, again: Any) -> None:
    one, many = gym.make(id, max_episode_steps=6, **CHEAP.get(id, {})), gym.make_vec(id, 3, **CHEAP.get(id, {}))
    one.unwrapped.problem.solution()  # which the problem keeps
    for env in (one, many):
        env.reset(seed=3)
        env.step(env.action_space.sample())
        other = again(env)
        for _ in range(4):
            step, step2 = env.step(env.action_space.sample()), other.step(other.action_space.sample())
            assert all(same(a, b) for a, b in zip(step[:4], step2[:4], strict=True))
        assert same(env.reset()[0], other.reset()[0])


@every_id
def test_an_unknown_keyword_is_a_type_error(id: str) -> None:
    for make in (gym.make, gym.make_vec):
        with pytest.raises(TypeError, match="unexpected keyword argument 'frameskip'"):
            make(id, frameskip=1)


def test_an_unknown_keyword_of_an_agent_is_a_type_error() -> None:
    env = gym.make("LQR-v0")
    for kind in agents().values():
        with pytest.raises(TypeError, match="unexpected keyword argument 'frameskip'"):
            kind(**{kind.subject: env}, frameskip=1)
        with pytest.raises(TypeError, match="unexpected keyword argument 'frameskip'"):
            make_agent(kind.name, **{kind.subject: env}, frameskip=1)


@pytest.mark.parametrize("kind", [KrusellSmith, KrusellSmithHousehold, KrusellSmithPlanner, FirmIndustry])
def test_signatures_name_every_parameter(kind: Any) -> None:
    """Each is taken with the default that is shown, except that "jedc" alone has some, and others of its own."""
    shown = inspect.signature(kind).parameters
    assert not any(one.kind is one.VAR_KEYWORD for one in shown.values())
    every = {name: one.default for name, one in shown.items()}
    if kind is FirmIndustry:
        assert set(every) == {"demand_elasticity", *inspect.signature(FirmInvestment).parameters} - {"price"}
        assert vars(kind(**every).firm(1.0)).keys() == vars(kind().firm(1.0)).keys()
        assert kind(**every).first_guess() == kind().first_guess()
    else:
        for calibration, known in CALIBRATIONS.items():
            assert set(known) <= set(every)
            own = {name: every[name] for name in every if name in known or name in ("others", "observe")}
            kind(**{**own, "calibration": calibration})
        assert list(every)[-1] == "insurance"
        with pytest.raises(TypeError, match=r"\('jedc'\) got an unexpected keyword argument 'income_states'"):
            kind("jedc", income_states=3)
    with pytest.raises(TypeError, match="unexpected keyword argument 'frameskip'"):
        kind(frameskip=1)


def test_list_render_mode_is_gymnasiums() -> None:
    env = gym.make("LQR-v0", render_mode="rgb_array_list")
    env.reset(seed=0)
    env.step(env.action_space.sample())
    assert len(env.render()) == 2
