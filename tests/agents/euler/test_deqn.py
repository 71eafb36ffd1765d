"""DEQN: its derivatives, what it learns, and what it refuses."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

import hacontrol_envs  # noqa: F401
from hacontrol_agents import DEQN, Agent
from hacontrol_agents.learning.networks import MLP
from hacontrol_agents.learning.row_jacobian import call
from hacontrol_envs.errors import EquilibriumError, ParameterError

pytestmark = pytest.mark.filterwarnings("ignore::hacontrol_envs.errors.ConvergenceWarning")
"""Most learners here are stopped long before they have learnt."""

SMALL = {"asset_nodes": 30, "asset_max": 200.0}


def make(env="KrusellSmith-v0", parameters=SMALL, **settings) -> DEQN:
    return DEQN(env=gym.make(env, **parameters), seed=0, **settings)


@pytest.mark.slow
@pytest.mark.parametrize("complementarity", ["minimum", "fischer-burmeister"])
@pytest.mark.parametrize("law_input", ["moments", "learned moments", "histogram"])
def test_the_jacobian_is_that_of_the_residual(complementarity, law_input):
    """All of it, what everybody's savings change of capital and moments included, by central differences."""
    agent = make(economies=3, points=24, hidden=(4,), law_input=law_input, complementarity=complementarity)
    rule, residual = agent._rule, agent._residual
    theta = parameters_to_vector(rule.parameters()).detach()
    theta = theta + 0.1 * torch.randn(theta.shape, generator=torch.Generator().manual_seed(1), dtype=theta.dtype)
    vector_to_parameters(theta, rule.parameters())
    batch = agent._batch(np.random.default_rng(0))
    found, columns = residual.with_jacobian(batch)
    assert torch.equal(found, residual(batch).reshape(-1))
    step = 1e-6
    for k in range(0, len(theta), 5):
        sides = []
        for sign in (1, -1):
            moved = theta.clone()
            moved[k] += sign * step
            vector_to_parameters(moved, rule.parameters())
            sides.append(residual(batch).reshape(-1))
        slope = (sides[0] - sides[1]) / (2 * step)
        close = (columns[:, k] - slope).abs() < 1e-6 * (1 + slope.abs())
        assert close.float().mean() > 0.95  # but for kinks between the two sides
    vector_to_parameters(theta, rule.parameters())


@pytest.mark.parametrize("law_input", ["moments", "learned moments"])
def test_the_gradient_in_parts_is_that_of_the_mean_square(law_input, monkeypatch):
    """Whatever the economies have in common is differentiated once, for all parts."""
    monkeypatch.setattr("hacontrol_agents.euler.euler_residual.AT_A_TIME", 16)
    agent = make(economies=5, points=40, hidden=(4,), law_input=law_input)
    rule, batch = agent._rule, agent._batch(np.random.default_rng(0))
    residual, columns = agent._residual.with_jacobian(batch)
    square = agent._residual.differentiate(batch)
    found = torch.cat([p.grad.reshape(-1) for p in rule.parameters()])
    assert square == pytest.approx(float(residual.square().mean()), rel=1e-12)
    expected = 2 * residual @ columns / len(residual)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))


def test_a_call_is_the_network_and_its_derivative_torch_s():
    """The layers that `call` computes by other means, against the module's own."""
    draws = torch.Generator().manual_seed(0)
    network = MLP(3, (5, 4), generator=draws)
    z = torch.randn(6, 2, 3, generator=draws, dtype=torch.float64).mul_(3).requires_grad_()
    weights = torch.randn(6, 2, 1, generator=draws, dtype=torch.float64)
    each = [*network.parameters(), z]
    ours, torchs = call(network, z).output, network(z)
    torch.testing.assert_close(ours, torchs, rtol=0, atol=1e-14)
    slopes = [torch.autograd.grad((weights * output).sum(), each) for output in (ours, torchs)]
    torch.testing.assert_close(*slopes, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("calibration", ["ssj", "jedc"])
def test_gathered_laws_save_what_the_laws_do(calibration):
    """Capital of the period after, from two points for a group of nodes, against every node of the histogram."""
    agent = make(parameters={"calibration": calibration, "others": "steady state"}, economies=4)
    cloud, conditions = agent._training, agent.conditions
    states, nodes = cloud.laws.shape[1:]
    z, capital = cloud.z[:, None], cloud.capital[:, None]
    every = conditions.place(np.tile(conditions.assets, states), np.repeat(np.arange(states), nodes), z, capital)
    whole = np.sum(cloud.laws.reshape(4, -1) * agent._saved(every, cloud.laws), axis=-1)
    mass, own = cloud.gathered(cloud.laws)
    each = np.repeat(np.tile(np.arange(states), 2), mass.shape[-1] // (2 * states))
    gathered = np.sum(mass * agent._saved(conditions.place(own, each, z, capital), cloud.laws), axis=-1)
    np.testing.assert_allclose(gathered, whole, rtol=1e-5)


@pytest.mark.slow
def test_growth_with_a_closed_form_is_learnt():
    agent = make("BrockMirman-v0", {}, iterations=15).learn()
    x = agent.problem.some_states(np.random.default_rng(0), 500)
    error = np.abs(agent.policy(0.0, x)[:, 0] / agent.problem.saving_share - 1)
    assert error.mean() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["levenberg-marquardt", "adam"])
def test_a_resumed_run_is_bitwise_the_same(optimizer, tmp_path):
    settings = {"economies": 8, "points": 128, "iterations": 4, "optimizer": optimizer}
    whole = make(**settings).learn()
    file = tmp_path / "agent.safetensors"
    make(**settings).learn(checkpoint=file, callback=lambda agent: len(agent.history) < 2)
    resumed = make(**settings).learn(checkpoint=file)
    assert torch.equal(*(parameters_to_vector(agent._rule.parameters()) for agent in (whole, resumed)))
    loaded = Agent.load(whole.save(tmp_path / "other.safetensors"))
    law, z = whole._training.laws[:2], whole._training.z[:2]
    point = np.array([[1.0, 7.0], [0.0, 30.0]]), np.array([[0, 1], [2, 0]]), z, law
    assert np.array_equal(loaded.saving(*point), whole.saving(*point))


@pytest.mark.parametrize("node", [1, -1])
def test_a_trivial_cloud_is_refused(node):
    """Without capital, and at the top of a grid that is too short for capital to tell."""
    agent = make(economies=4, points=64)
    agent._training.refuse_trivial()
    agent._training.laws[...] = 0.0
    agent._training.laws[..., node] = 1 / agent._training.laws.shape[1]
    with pytest.raises(EquilibriumError, match="trivial"):
        agent._training.refuse_trivial()


@pytest.mark.slow
def test_a_cloud_at_the_top_of_a_short_grid_is_trivial():
    agent = make(parameters=SMALL | {"asset_max": 100.0}, economies=4, points=64)
    cloud, sensible = agent._training, agent.conditions.representative_capital
    assert 1 < 100.0 / sensible < 5.0
    cloud.laws[...] = 0.0
    cloud.laws[..., -1] = 1 / cloud.laws.shape[1]
    with pytest.raises(EquilibriumError, match="100% of savers are at the top"):
        cloud.refuse_trivial()


@pytest.mark.parametrize(("share", "leads"), [(0.5, "to ruin"), (0.999, "ever upwards")])
def test_where_a_rule_leads_is_looked_at_before_it_is_called_learnt(share, leads):
    """A cloud that is fine now, under rules that save too little or too much of cash on hand."""
    cloud, conditions = (agent := make(economies=4, points=64))._training, agent.conditions
    laws, z = cloud.laws.copy(), cloud.z.copy()
    with pytest.raises(EquilibriumError, match="trivial"):
        cloud.refuse_trivial_future(np.random.default_rng(0), lambda x, law: share * conditions.resources(x))
    assert np.array_equal(cloud.laws, laws)
    assert np.array_equal(cloud.z, z)
    cloud.refuse_trivial_future(np.random.default_rng(0), agent._saved)  # what is known to begin with leads nowhere


def test_learning_looks_ahead(monkeypatch):
    """While it learns this cloud stays where it is, so that nothing else can tell."""
    agent = make(economies=4, points=64, iterations=1, moves=0)
    monkeypatch.setattr(agent._rule, "saving", lambda x, q: 0.5 * agent.conditions.resources(x))
    with pytest.raises(EquilibriumError, match="trivial"):
        agent.learn()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"law_input": "all"}, "law_input"),
        ({"complementarity": "none"}, "complementarity"),
        ({"optimizer": "sgd"}, "optimizer"),
        ({"economies": 0}, "economies"),
        ({"learning_rate": -1.0}, "learning_rate"),
    ],
)
def test_bad_hyperparameters(settings, message):
    with pytest.raises(ParameterError, match=message):
        make(**settings)


def test_other_problems_are_refused():
    with pytest.raises(ParameterError, match="DiscreteProblem"):
        make("LQR-v0", {})
