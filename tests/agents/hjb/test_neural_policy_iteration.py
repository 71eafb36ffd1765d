"""Agents against the known optimum, and their files."""

import gymnasium as gym
import numpy as np
import pytest

import hacontrol_envs  # noqa: F401  (registers the ids)
from hacontrol_agents import Agent, AnalyticAgent, NeuralPolicyIteration
from hacontrol_envs.errors import CheckpointError

pytestmark = pytest.mark.filterwarnings("ignore::hacontrol_envs.errors.ConvergenceWarning")
"""Most learners here are stopped long before they have learnt."""


def policy_error(agent):
    """Relative L2 error of each control on points of the box, the largest."""
    problem, rng = agent.problem, np.random.default_rng(5)
    x = problem.state.from_unit(rng.uniform(-0.8, 0.8, (200, problem.state.dimension)))
    t = rng.uniform(0.0, problem.horizon or 0.0, 200)
    optimal = problem.solution().policy(t, x)
    return np.sqrt(((agent.policy(t, x) - optimal) ** 2).mean(0) / (optimal**2).mean(0)).max()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("id", "parameters", "settings", "bound"),
    [
        ("LQR-v0", {}, {"iterations": 25}, 1e-5),
        ("Merton-v0", {}, {"iterations": 25}, 1e-5),
        ("Merton-v0", {"risk_aversion": 1.0}, {"iterations": 25}, 1e-4),
        ("Merton-v0", {"risk_aversion": 0.5, "discount": 0.2}, {"iterations": 25}, 1e-4),
        ("LQR-v0", {"dimension": 4}, {"iterations": 10, "visits": 128}, 1e-2),
        ("LQR-v0", {"horizon": 2.0, "terminal_cost": 0.5}, {"iterations": 25, "visits": 128}, 1e-2),
        ("Merton-v0", {"horizon": 5.0}, {"iterations": 15, "visits": 128}, 1e-3),
        ("Merton-v0", {}, {"iterations": 6, "evaluation": "monte carlo"}, 1e-3),
        ("LQR-v0", {}, {"iterations": 5, "evaluation": "monte carlo", "starts": 128, "visits": 128}, 5e-2),
    ],
)
def test_neural_policy_iteration_finds_the_closed_form(id, parameters, settings, bound):
    agent = NeuralPolicyIteration(env=gym.make(id, **parameters), seed=0, **settings).learn()
    assert policy_error(agent) < bound


def test_an_interrupted_run_ends_with_the_same_weights(tmp_path):
    def fresh():
        return NeuralPolicyIteration(env=gym.make("Merton-v0"), seed=3, iterations=3, visits=32)

    whole = fresh().learn()
    path = tmp_path / "checkpoint.safetensors"
    fresh().learn(checkpoint=path, callback=lambda agent: False)
    resumed = fresh().learn(checkpoint=path)
    assert (whole._parameters() == resumed._parameters()).all()
    again = fresh().learn(checkpoint=path)  # killed between the last save and the end: nothing is left to do
    assert (whole._parameters() == again._parameters()).all()
    assert again.evaluations == whole.evaluations
    assert len(whole.learn().history) == 6  # a second call goes on for as long again


def test_an_altered_file_is_refused(tmp_path):
    path = AnalyticAgent(env=gym.make("LQR-v0"), seed=0).save(tmp_path / "a.safetensors")
    content = bytearray(path.read_bytes())
    for place in range(0, len(content), 7):
        content[place] ^= 1
        path.write_bytes(content)
        with pytest.raises(CheckpointError):
            Agent.load(path)
        content[place] ^= 1
