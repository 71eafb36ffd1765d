"""DEQN learns from an economy itself: as from its environment, in files, and what it refuses."""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import pytest
import torch

from hacontrol_agents import DEQN, Agent, NeuralPolicyIteration
from hacontrol_envs import BrockMirman, EulerConditions, FirmIndustry, KrusellSmith
from hacontrol_envs.economies.krusell_smith.paths import path_of_z, simulate
from hacontrol_envs.errors import CheckpointError, ParameterError

pytestmark = pytest.mark.filterwarnings("ignore::hacontrol_envs.errors.ConvergenceWarning")
"""The learners here are stopped long before they have learnt."""

SMALL = {"asset_nodes": 30, "asset_max": 200.0}
FEW = {"hidden": (6,), "economies": 8, "points": 64, "iterations": 2}
LIMIT = {"borrowing_limit": -1.5}


@dataclass(frozen=True)
class Own:
    """A user's economy that nobody has registered."""

    patience: float = 0.96
    note: object = None

    def conditions(self):
        return BrockMirman(discount_factor=self.patience).conditions()


class Undeclared:
    def conditions(self):
        return None


def learnt(*economy, **settings):
    return DEQN(*economy, seed=0, **{**FEW, **settings}).learn()


def same(one, other):
    """Whether two learners hold the same, to the bit."""
    mine, others = one._tensors(), other._tensors()
    return mine.keys() == others.keys() and all(torch.equal(mine[name], others[name]) for name in mine)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("economy", "id", "parameters"),
    [
        (BrockMirman, "BrockMirman-v0", {"capital_share": 0.3}),
        (KrusellSmith, "KrusellSmith-v0", SMALL),
        (KrusellSmith, "KrusellSmith-v0", {**SMALL, **LIMIT}),
    ],
)
def test_an_economy_is_learnt_as_from_its_environment(economy, id, parameters):
    by_env = learnt(env=gym.make(id, **parameters))
    by_economy = learnt(economy(**parameters))
    assert same(by_env, by_economy)
    x = by_economy.conditions.start(np.random.default_rng(0), 50)
    c = by_economy.consumption(x)
    assert np.array_equal(c, by_env.consumption(x))
    assert np.array_equal(by_economy.policy(0.0, x), c[:, None])
    saved = by_env._saved(x[:, None, :], None)[:, 0]
    np.testing.assert_allclose(c + saved, by_env.conditions.resources(x), rtol=1e-13)  # the budget
    assert saved.min() >= by_env.conditions.limit


def test_saving_is_a_household_policy():
    """A path of the economy follows it, and it saves what is not consumed at the point that it stands for."""
    economy = KrusellSmith(**SMALL, **LIMIT)
    agent = learnt(economy)
    steady = economy.steady_state(cut=True)
    path = simulate(economy, agent.saving, path_of_z(economy, 20, seed=0), steady.law)
    np.testing.assert_allclose(path.capital, steady.capital, rtol=0.1)
    assets, e, z = np.array([[-1.5, 3.0, 40.0]]), np.array([[0, 1, 2]]), np.array([1])
    x = agent.conditions.place(assets, e, z[:, None], steady.capital)
    saved = agent.saving(assets, e, z, steady.law[None])
    np.testing.assert_allclose(saved + agent.consumption(x), agent.conditions.resources(x), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(
    "economy", [BrockMirman(capital_share=0.3), KrusellSmith(**SMALL), KrusellSmith("jedc", **SMALL)]
)
def test_files_name_what_we_know(economy, tmp_path):
    agent = learnt(economy)
    loaded = Agent.load(agent.save(tmp_path / "agent.safetensors"))
    assert same(agent, loaded)
    assert loaded.env is None
    assert loaded.economy is not economy
    assert loaded.economy.parameters == economy.parameters
    with pytest.raises(CheckpointError, match="parameters"):
        DEQN.load(tmp_path / "agent.safetensors", economy=type(economy)())


def test_a_file_of_a_user_s_economy_needs_it(tmp_path):
    agent = learnt(Own(0.9))
    file = agent.save(tmp_path / "agent.safetensors")
    with pytest.raises(CheckpointError, match="'Own'; pass economy= to load"):
        Agent.load(file)
    assert same(agent, Agent.load(file, economy=Own(0.9)))
    with pytest.raises(CheckpointError, match="patience"):
        Agent.load(file, economy=Own(0.8))
    with pytest.raises(ParameterError, match="one of env and economy"):
        Agent.load(file, gym.make("BrockMirman-v0"), economy=Own(0.9))


def test_what_was_learnt_from_a_problem_plays_in_its_environment(tmp_path):
    agent = learnt(BrockMirman())
    env = gym.make("BrockMirman-v0")
    loaded = DEQN.load(agent.save(tmp_path / "agent.safetensors"), env)
    x = env.unwrapped.problem.some_states(np.random.default_rng(0), 20)
    share = 1 - agent.consumption(x) / env.unwrapped.problem.output(x)
    np.testing.assert_allclose(loaded.policy(0.0, x)[:, 0], share, rtol=1e-12)
    assert loaded.predict(env.reset(seed=0)[0])[0].shape == (1,)


def test_a_resumed_run_is_bitwise_the_same(tmp_path):
    file = tmp_path / "agent.safetensors"
    whole = learnt(Own(), iterations=3)
    DEQN(Own(), seed=0, **{**FEW, "iterations": 3}).learn(checkpoint=file, callback=lambda agent: False)
    resumed = DEQN(Own(), seed=0, **{**FEW, "iterations": 3}).learn(checkpoint=file)
    assert same(whole, resumed)
    with pytest.raises(CheckpointError, match="patience"):
        DEQN(Own(0.9), seed=0, **{**FEW, "iterations": 3}).learn(checkpoint=file)


def test_a_file_names_no_economy_without_conditions(tmp_path, monkeypatch):
    """One that is registered, but that no Euler equation is known of."""
    agent = learnt(Own())
    monkeypatch.setattr(agent, "_subject", lambda: ("FirmIndustry", FirmIndustry().parameters))
    with pytest.raises(CheckpointError, match="'FirmIndustry'; pass economy="):
        Agent.load(agent.save(tmp_path / "agent.safetensors"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "exactly one of economy and env"),
        ({"economy": BrockMirman(), "env": gym.make("BrockMirman-v0")}, "exactly one of economy and env"),
        ({"economy": gym.make("BrockMirman-v0")}, "given as env="),
        ({"economy": "KrusellSmith"}, "given as env="),
        ({"economy": Undeclared()}, "Undeclared declares no Euler conditions"),
        ({"env": gym.make("KrusellSmithCloud-v0", **SMALL)}, "KrusellSmithPlanner declares no Euler conditions"),
        ({"economy": Own(note=object())}, "note must be what a file can say"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ParameterError, match=message):
        DEQN(**arguments, seed=0, **FEW)


def test_without_an_environment_there_is_nothing_to_predict():
    agent = DEQN(Own(), seed=0, **FEW)
    with pytest.raises(ParameterError, match="deqn on Own has no environment"):
        agent.predict(np.zeros(2))
    with pytest.raises(ParameterError, match="deqn on Own has no environment"):
        _ = agent.problem
    with pytest.raises(ParameterError, match="Own has no population; its rule is `consumption`"):
        agent.saving(np.ones((1, 1)), np.zeros((1, 1), int), np.zeros(1, int), np.ones((1, 1, 1)))


def test_a_subject_is_no_hyperparameter():
    assert not {"env", "economy", "seed", "device"} & {*DEQN.hyperparameter_names()}
    assert "env" not in NeuralPolicyIteration.hyperparameter_names()


def test_conditions_without_labour_spend_what_is_consumed():
    """The two hooks of a choice of work, where there is none."""
    conditions = BrockMirman().conditions()
    assert isinstance(conditions, EulerConditions)
    x, c = np.ones((3, 2)), np.array([0.1, 0.2, 0.3])
    assert conditions.spending(x, c) is c
    assert conditions.affordable(x, c) is c
