"""Names of 0.1 are there still, warn of the present ones, and give what these give."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec

import hacontrol_envs
from hacontrol_agents import Agent, PublishedDEQN, SteadyStateAgent
from hacontrol_agents.core import checkpoint
from hacontrol_envs import KrusellSmithHousehold, KrusellSmithPlanner

SMALL = {"asset_nodes": 20, "asset_max": 200.0}


@pytest.fixture(scope="module")
def household() -> KrusellSmithHousehold:
    return KrusellSmithHousehold(others="steady state", **SMALL)


def test_population_is_others(household):
    with pytest.warns(DeprecationWarning, match="population= is deprecated: since 0.2 use others="):
        old = KrusellSmithHousehold(population="steady state", **SMALL)
    assert old.parameters == household.parameters == {**household.parameters, "others": "steady state"}
    with pytest.warns(DeprecationWarning, match="population is deprecated: since 0.2 use others"):
        assert old.population == "steady state"
    with pytest.warns(DeprecationWarning, match="with_population is deprecated: since 0.2 use among"):
        assert old.with_population("reference").others == "reference"
    with pytest.warns(DeprecationWarning, match="population="):
        env = gym.make("KrusellSmith-v0", population="steady state", **SMALL)
    assert env.unwrapped.problem.parameters == household.parameters


def test_seen_and_share_of_decode_observations(household):
    y = household.observe(household.some_states(np.random.default_rng(0), 6))
    x = household.decode_observation(y).x
    with pytest.warns(DeprecationWarning, match="seen is deprecated: since 0.2 use decode_observation"):
        seen = household.seen(y)
    assert np.array_equal(np.stack(seen, axis=-1), x)
    assert seen[1].dtype == seen[2].dtype == np.int64
    with pytest.warns(DeprecationWarning, match=r"share_of\(saved, y\) is deprecated: since 0.2 use action_of_saving"):
        share = household.share_of(x[:, 0], y)
    assert np.array_equal(share, household.action_of_saving(x, x[:, 0]))


@pytest.mark.parametrize("package", [hacontrol_envs, hacontrol_envs.economies])
def test_the_cloud_is_the_planner(package):
    with pytest.warns(DeprecationWarning, match="KrusellSmithCloud is deprecated: since 0.2 use KrusellSmithPlanner"):
        assert package.KrusellSmithCloud is KrusellSmithPlanner
    assert "KrusellSmithCloud" not in dir(package)


def test_a_saved_spec_of_the_planner_names_the_cloud():
    spec = gym.make("KrusellSmithCloud-v0", **SMALL).spec.to_json()
    assert "planner:KrusellSmithPlanner" in spec
    old = EnvSpec.from_json(spec.replace("planner:KrusellSmithPlanner", "planner:KrusellSmithCloud"))
    assert type(gym.make(old).unwrapped.problem) is KrusellSmithPlanner


def test_a_file_of_an_agent_may_name_the_population(tmp_path, household):
    """As 0.1 wrote it: with "population" among the parameters."""
    env = gym.make("KrusellSmith-v0", others="steady state", **SMALL)
    tensors, record = checkpoint.read_agent(SteadyStateAgent(env=env).save(tmp_path / "new.safetensors"))
    parameters = {{"others": "population"}.get(name, name): given for name, given in record["parameters"].items()}
    assert "population" in parameters
    old = checkpoint.write(tmp_path / "old.safetensors", tensors, {**record, "parameters": parameters})
    assert Agent.load(old).problem.parameters == Agent.load(old, env).problem.parameters == household.parameters


def test_a_cloud_of_the_published_net_is_its_economies():
    agent = PublishedDEQN(env=gym.make("KrusellSmith-v0", others="steady state", **SMALL), economies=3, cells=2)
    with pytest.warns(DeprecationWarning, match="cloud is deprecated: since 0.2 use training_economies"):
        assert agent.cloud is agent.training_economies
