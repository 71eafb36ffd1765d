"""ValueAndRate: its normalisation, its maximum, and its derivatives."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from hacontrol_agents.learning.networks import MLP
from hacontrol_agents.q_learning.fitted_reward import FittedReward
from hacontrol_agents.q_learning.value_and_rate import ValueAndRate, triangle

INPUTS = 2
KINDS = [{}, {"bounded": False}, {"one_sign": True}, {"rewarded": True}, {"rewarded": True, "one_sign": True}]


def paid(s, u):
    """Negative, concave in the action and no quadratic."""
    return -torch.exp(0.5 * s[:, 0] + 0.8 * u.sum(1)) - torch.exp(-0.6 * u[:, 0])


@cache
def fitted(actions, one_sign) -> FittedReward:
    draws = torch.Generator().manual_seed(3)
    reward = FittedReward(INPUTS, actions, one_sign, draws)
    reward.offset, reward.scale = (0.0, -2.0) if one_sign else (-2.0, 3.0)
    s, u = points(actions, 4000)
    reward.fit(s, u, paid(s, u))
    return reward


def make(actions, temperature=0.0, rewarded=False, **kind) -> ValueAndRate:
    draws = torch.Generator().manual_seed(actions)
    networks = [MLP(INPUTS, (5,), outputs, generator=draws) for outputs in (1, actions, triangle(actions))]
    reward = fitted(actions, kind.get("one_sign", False)) if rewarded else None
    pair = ValueAndRate(*networks, actions, reward=reward, **kind)
    pair.value_offset, pair.value_scale, pair.rate_scale, pair.temperature = 0.7, -3.0, 2.0, temperature
    return pair


def points(actions, size=7):
    draws = torch.Generator().manual_seed(1)
    return (torch.rand(size, k, generator=draws, dtype=torch.float64) * 2 - 1 for k in (INPUTS, actions))


@pytest.mark.parametrize("temperature", [0.05, 1.0])
@pytest.mark.parametrize("actions", [1, 2])
def test_the_density_integrates_to_one(actions, temperature):
    pair = make(actions, temperature)
    axis = torch.linspace(-9, 9, 1501 if actions == 2 else 20001, dtype=torch.float64)
    u = torch.cartesian_prod(*[axis] * actions).reshape(-1, actions)
    s = torch.tensor([[0.3, -0.8]], dtype=torch.float64).expand(len(u), INPUTS)
    with torch.no_grad():
        mass = torch.exp(pair.rate(s, u) / temperature).sum() * (axis[1] - axis[0]) ** actions
    assert float(mass) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("actions", [1, 3])
def test_without_temperature_the_largest_rate_is_zero_at_the_maximiser(actions, kind):
    pair = make(actions, **kind)
    s, u = points(actions)
    with torch.no_grad():
        assert torch.all(pair.rate(s, pair.mean(s)) == 0)
        assert torch.all(pair.rate(s, u) < 0)
        assert kind.get("bounded") is False or torch.all(pair.mean(s).abs() < 1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("actions", [1, 3])
@pytest.mark.parametrize("temperature", [0.0, 0.3])
def test_derivatives_in_the_parameters(actions, kind, temperature):
    """Against central differences of the function that they are of."""
    pair = make(actions, temperature, **kind)
    s, u = points(actions)
    theta = parameters_to_vector(pair.parameters()).detach().clone()
    with torch.no_grad():
        v, of_value = pair.value_gradient(s)
        q, of_rate = pair.rate_gradient(s, u)
        assert torch.equal(v, pair.value(s))
        assert torch.equal(q, pair.rate(s, u))
        for k in range(len(theta)):
            sides = []
            for sign in (1, -1):
                moved = theta.clone()
                moved[k] += sign * 1e-6
                vector_to_parameters(moved, pair.parameters())
                sides.append(torch.stack([pair.value(s), pair.rate(s, u)]))
            slope = (sides[0] - sides[1]) / 2e-6
            mine = of_value[:, k] if k < pair.value_size else of_rate[:, k - pair.value_size]
            torch.testing.assert_close(mine, slope[0 if k < pair.value_size else 1], rtol=1e-6, atol=1e-7)


def test_samples_have_the_mean_and_the_covariance_of_the_density():
    pair = make(2, temperature=0.4)
    s = torch.tensor([[0.3, -0.8]], dtype=torch.float64).expand(200_000, INPUTS)
    drawn = pair.sample(s, np.random.default_rng(0)).numpy()
    with torch.no_grad():
        mean, _, factor = pair.shape(s[:1])
    covariance = 0.4 * np.linalg.inv((factor[0] @ factor[0].T).numpy())
    errors = (drawn.mean(0) - mean[0].numpy()) / np.sqrt(np.diag(covariance) / len(drawn))
    assert np.abs(errors).max() < 4
    i, j = np.triu_indices(2)
    away = drawn - mean[0].numpy()
    products = away[:, i] * away[:, j]
    gap = (products.mean(0) - covariance[i, j]) / (products.std(0) / math.sqrt(len(drawn)))
    assert np.abs(gap).max() < 4


@pytest.mark.slow
@pytest.mark.parametrize("one_sign", [False, True])
@pytest.mark.parametrize("actions", [1, 2])
def test_a_fitted_reward_is_reward_and_bends_like_it(actions, one_sign):
    reward = fitted(actions, one_sign)
    s, u = points(actions, 50)
    mean = 0.7 * u.roll(1, 0)
    found = reward.beyond_tangent(s, u, mean)
    torch.testing.assert_close(reward(s, u), paid(s, u), rtol=5e-3, atol=0)

    first, second = torch.zeros(actions, dtype=s.dtype), torch.exp(-0.6 * mean[:, 0])[:, None]
    first[0], every = 1.0, torch.exp(0.5 * s[:, 0] + 0.8 * mean.sum(1))[:, None]
    slope = 0.6 * second * first - 0.8 * every
    bend = -0.36 * second[:, None] * torch.outer(first, first) - 0.64 * every[:, None]
    beyond = paid(s, u) - paid(s, mean) - (slope * (u - mean)).sum(1)
    assert float((found.value - beyond).norm()) < 0.02 * float(beyond.norm())
    assert float((found.bend - bend).norm()) < 0.05 * float(bend.norm())


def test_a_value_of_one_sign_has_it():
    pair, (s, _) = make(1, one_sign=True), points(1, 50)
    assert torch.all(pair.value(100 * s) < 0)
