"""Observation spaces: bounded where states are, never left, and no wider than what can be reached."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from common.sampled_envs import CHEAP
from hacontrol_envs import FirmInvestment, registered_ids
from hacontrol_envs.errors import ResetError
from hacontrol_envs.simulation.env import SDEVectorEnv

ROWS, STEPS = 64, 300
BOUNDED = {
    "BrockMirman-v0": [(False, False)] * 2,
    "FirmInvestment-v0": [(True, True)] * 2,
    "LQR-v0": [(False, False)],
    "Merton-v0": [(False, False)],
    "KrusellSmith-v0": [(True, False), *[(True, True)] * 4],
    "PortfolioTrading-v0": [(False, False)] * 2,
    "SaturatedLQR-v0": [(False, False)],
}
"""Below, above, by component; of the cloud all are."""


def made(id: str, **more: Any) -> Any:
    return gym.make_vec(id, ROWS, **{**CHEAP.get(id, {}), **more})


@pytest.mark.parametrize("id", registered_ids())
def test_boxes_are_bounded_where_states_are(id):
    box = made(id).unwrapped.single_observation_space
    found = list(zip(np.isfinite(box.low).tolist(), np.isfinite(box.high).tolist(), strict=True))
    assert found == BOUNDED.get(id, [(True, True)] * box.shape[0])


def drive(env: Any, extreme: bool) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest observation on the way, every one of which is in the space."""
    rng = np.random.default_rng(0)
    seen, _ = env.reset(seed=0)
    low, high = seen.min(axis=0), seen.max(axis=0)
    pushed = rng.choice([-1.0, 1.0], env.action_space.shape)  # each row towards a corner of its own, two to the ends
    pushed[0], pushed[1] = -1.0, 1.0
    for _ in range(STEPS):
        seen, reward, *_ = env.step(pushed if extreme else rng.uniform(-1, 1, env.action_space.shape))
        assert np.isfinite(reward).all()
        assert env.observation_space.contains(seen)
        low, high = np.minimum(low, seen.min(axis=0)), np.maximum(high, seen.max(axis=0))
    return low, high


@pytest.mark.parametrize("extreme", [False, True], ids=["random", "extreme"])
@pytest.mark.parametrize("id", registered_ids())
def test_no_observation_leaves_its_box(id, extreme):
    drive(made(id, horizon=50.0) if id in ("LQR-v0", "Merton-v0") else made(id), extreme)


@pytest.mark.parametrize("scheme", ["exact", "euler", "milstein"])
def test_a_firm_reaches_the_ends_of_its_box_and_goes_no_further(scheme):
    problem = FirmInvestment(volatility=2.0, mean_reversion=0.05, capital_bounds=(0.9, 1.1))
    env = SDEVectorEnv(problem, ROWS, dt=0.25, scheme=scheme, episode_steps=None)
    low, high = drive(env, True)
    np.testing.assert_allclose(low, -1.0, atol=0.02)
    np.testing.assert_allclose(high, 1.0, atol=0.02)
    for corner in (problem.state.low, problem.state.high):
        seen, _ = env.reset(options={"state": corner})
        assert env.observation_space.contains(seen)


def test_states_beyond_a_closed_edge_are_refused():
    env = gym.make("FirmInvestment-v0")
    problem = env.unwrapped.problem
    with pytest.raises(ResetError, match="state must be within"):
        env.reset(options={"state": problem.state.high * 1.001})
    wealthy = gym.make("Merton-v0")
    seen, _ = wealthy.reset(options={"state": [1e6]})
    assert wealthy.observation_space.contains(seen)


def test_the_law_of_households_fills_its_bounds():
    """All households at the borrowing limit, or half of them at either end, are the ends of mean and deviation."""
    env = gym.make("KrusellSmith-v0", **CHEAP["KrusellSmith-v0"]).unwrapped
    economy, (n_e, n_a) = env.problem.economy, env.problem.shape
    for masses, capital, deviation in (
        ({0: 1.0}, -1, -1),
        ({0: 0.5, n_a - 1: 0.5}, None, 1),
        ({n_a - 1: 1.0}, 1, -1),
    ):
        law = np.zeros((n_e, n_a))
        for node, mass in masses.items():
            law[0, node] = mass
        seen, _ = env.reset(options={"state": [economy.borrowing_limit, 0, 0, *law.ravel()]})
        assert env.observation_space.contains(seen)
        box = env.observation_space
        ends = {-1: box.low, 1: box.high}
        assert seen[4] == pytest.approx(ends[deviation][4], rel=1e-6)
        if capital is not None:
            assert seen[3] == pytest.approx(ends[capital][3], rel=1e-6)
