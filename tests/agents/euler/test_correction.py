"""A Newton step on the Euler equation tells how far a saving rule is from the optimum, and whether it is certified."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch

from hacontrol_agents import DEQN
from hacontrol_agents.euler.correction import corrected
from hacontrol_envs.errors import ConvergenceWarning

PARAMETERS = {"capital_share": 0.4, "discount_factor": 0.95, "productivity_deviation": 0.05}
SHARE = 0.4 * 0.95


def agent(**settings: float) -> DEQN:
    env = gym.make("BrockMirman-v0", **PARAMETERS)
    return DEQN(env=env, seed=0, hidden=(12,), points=256, **settings)


@pytest.fixture(scope="module")
def learnt() -> DEQN:
    return agent(iterations=4).learn()


def apart(found: DEQN) -> float:
    """Return the relative distance of the saving share from the optimum's, at states all over the box."""
    x = found.problem.some_states(np.random.default_rng(1), 500)
    return float(np.sqrt(np.mean((found.policy(0.0, x)[:, 0] / SHARE - 1) ** 2)))


def test_what_is_learnt_is_certified(learnt):
    assert apart(learnt) < 1e-4
    assert (learnt.ending, learnt.reason) == ("certified", "")


def test_what_is_half_learnt_says_so():
    """Its own rule of having learnt is met, as it is set to be met by anything."""
    with pytest.warns(ConvergenceWarning, match="not certified"):
        half = agent(iterations=1, steps=1, settled=10.0).learn()
    assert half.converged
    assert apart(half) > 1e-3
    assert half.ending == "not certified"


@pytest.mark.parametrize("size", [1e-3, 1e-2, 1e-1])
def test_a_planted_error_is_found_to_its_size(learnt, size):
    """c e^size saves (1 - s) size/s too little of what an s is saved of, to first order."""
    bias = learnt._rule.network.layers[-1].bias
    before, planted = bias.detach().clone(), apart(learnt)
    try:
        with torch.no_grad():
            bias.add_(size)
        planted = apart(learnt)
        step = corrected(learnt._residual, learnt._batch(np.random.default_rng(5), 2048))
        x = step.rule.conditions.start(np.random.default_rng(2), 500)
        now = learnt.consumption(x)
        with torch.no_grad():
            then = step.rule.consumption(torch.as_tensor(x), torch.zeros(0)).numpy()
        assert planted == pytest.approx((1 - SHARE) * np.expm1(size) / SHARE, rel=0.02)
        assert np.log(now / then) == pytest.approx(size, rel=0.2)
        assert "Newton" in learnt._doubt() or "small step" in learnt._doubt()
    finally:
        with torch.no_grad():
            bias.copy_(before)
