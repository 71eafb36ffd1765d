"""Pickles: environments go on, and learners play, to the bit as before."""

from __future__ import annotations

import pickle
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import hacontrol_envs
from common.sampled_envs import CHEAP, every_id, same
from hacontrol_agents import agents, make_agent
from hacontrol_envs.economies.krusell_smith.household import KrusellSmithHousehold

FIRMS: dict[str, Any] = {"adjustment": "as-published"}
"""Of an economy that both of its learners take."""
TINY = {"hidden": (6, 5), "steps": 3, "points": 20, "boundary_points": 8, "mass_points": 30, "iterations": 3}
LEARNERS: dict[str, tuple[str, dict[str, Any], dict[str, Any], int]] = {
    "analytic": ("Merton-v0", {}, {}, 1),
    "ctq": ("LQR-v0", {}, {}, 200),
    "dac": ("LQR-v0", {}, {}, 600),
    "deqn": ("KrusellSmith-v0", {}, {"hidden": (8,)}, 100),
    "deqn-published": ("KrusellSmith-v0", {}, {"hidden": (8,)}, 100),
    "hjb-fp-pinn": ("FirmIndustry", FIRMS, {}, 100),
    "hjb-fp-published": ("FirmIndustry", FIRMS, TINY, 100),
    "hjb-pinn": ("LQR-v0", {}, {}, 100),
    "market-clearing": ("KrusellSmith", {"asset_nodes": 40, "asset_max": 300.0}, {}, 2000),
    "npi": ("LQR-v0", {}, {}, 100),
    "ppo": ("LQR-v0", {}, {}, 100),
    "random": ("LQR-v0", {}, {}, 1),
    "reference": ("KrusellSmith-v0", {}, {}, 1),
    "sac": ("LQR-v0", {}, {}, 600),
    "steady-state": ("KrusellSmith-v0", {}, {}, 1),
    "td3": ("LQR-v0", {}, {}, 600),
}
"""Of every agent: what it learns about with which parameters, its hyperparameters, and a short budget."""
KNOW = {"analytic", "random", "reference", "steady-state", "deqn-published"}
"""Those with nothing to learn, and one that a short budget leaves at its bound of saving."""


def again(held: Any) -> Any:
    return pickle.loads(pickle.dumps(held))


def learner(name: str) -> Any:
    id, parameters, hyperparameters, _ = LEARNERS[name]
    every = {**CHEAP.get(id, {}), **parameters}
    economies = hacontrol_envs.registered_economies()
    subject = economies[id](**every) if id in economies else gym.make(id, **every)
    return make_agent(name, **{agents()[name].subject: subject}, seed=0, **hyperparameters)


def played(agent: Any) -> dict[str, bytes]:
    """What it plays at some states, and of an economy all else that it says, to the bit."""
    if agent.subject != "env":
        return {name: np.asarray(given).tobytes() for name, given in agent._answers().items()}
    x = agent.problem.observe(agent.problem.some_states(np.random.default_rng(1), 7))
    return {"policy": np.asarray(agent.policy(0.0, x)).tobytes()}


def test_every_agent_is_here() -> None:
    assert {name for name, kind in agents().items() if kind.__module__.startswith("hacontrol_agents.")} == set(LEARNERS)


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNERS)
def test_a_learner_plays_as_before(name: str) -> None:
    """Freshly made, and after it has learnt a little."""
    agent = learner(name)
    fresh = played(again(agent))
    assert fresh == played(agent)
    agent.learn(LEARNERS[name][3])
    other = again(agent)
    assert (other.history, other.hyperparameters) == (agent.history, agent.hyperparameters)
    learnt = played(other)
    assert learnt == played(agent)
    assert name in KNOW or learnt != fresh


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ctq", "ppo", "sac", "td3"])
def test_a_learner_learns_on_as_before(name: str) -> None:
    """The environments that it learns from, and all randomness, are in its pickle."""
    agent = learner(name).learn(LEARNERS[name][3])
    other = again(agent)
    before = played(agent)
    agent.learn(LEARNERS[name][3])
    other.learn(LEARNERS[name][3])
    learnt = played(other)
    assert learnt == played(agent)
    assert learnt != before


@pytest.mark.slow
@every_id
def test_within_wrappers_and_a_render_mode(id: str) -> None:
    made = gym.make(id, max_episode_steps=6, render_mode="rgb_array", **CHEAP.get(id, {}))
    env = gym.wrappers.NormalizeObservation(gym.wrappers.RecordEpisodeStatistics(made))
    env.reset(seed=3)
    env.render()
    env.step(env.action_space.sample())
    other = again(env)
    action = env.action_space.sample()
    assert same(other.action_space.sample(), action)
    assert all(same(a, b) for a, b in zip(env.step(action)[:4], other.step(action)[:4], strict=True))
    assert same(env.render(), other.render())


@pytest.mark.slow
def test_vector_environments_under_a_render_mode() -> None:
    env: Any = gym.make_vec("Merton-v0", num_envs=2, render_mode="rgb_array")
    env.reset(seed=0)
    env.render()
    other = again(env)
    action = env.action_space.sample()
    assert same(env.step(action)[0], other.step(action)[0])
    assert all(same(a, b) for a, b in zip(env.render(), other.render(), strict=True))


@pytest.mark.slow
def test_spawned_processes_step_as_this_one() -> None:
    make = partial(gym.make, "hacontrol_envs:LQR-v0")
    spawned, here = gym.vector.AsyncVectorEnv([make, make], context="spawn"), gym.make_vec("LQR-v0", num_envs=2)
    try:
        assert same(spawned.reset(seed=5)[0], here.reset(seed=5)[0])
        action = here.action_space.sample()
        for mine, its in zip(here.step(action)[:4], spawned.step(action)[:4], strict=True):
            assert same(mine, its)
    finally:
        spawned.close()


def test_a_household_among_those_of_an_agent() -> None:
    """Its population is what the agent does, wherever it is unpickled."""
    agent = learner("steady-state")
    among = agent.problem.among(agent.problem.household_policy(agent.policy))
    other: KrusellSmithHousehold = again(among)
    rng = np.random.default_rng(2)
    x, a, noise = among.some_states(rng, 5), np.full((5, 1), 0.9), rng.standard_normal((5, among.noise_dim))
    assert other.parameters == among.parameters == {**among.parameters, "others": "given"}
    assert same(among.transition(x, a, noise), other.transition(x, a, noise))
