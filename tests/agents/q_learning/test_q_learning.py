"""CTQLearning: model-free, resumable, right at both horizons."""

from __future__ import annotations

import re

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch.nn.utils import parameters_to_vector

from hacontrol_agents import Agent, CTQLearning
from hacontrol_envs import LQR, ControlProblem
from hacontrol_envs.errors import CheckpointError, ParameterError
from hacontrol_envs.simulation.env import SDEEnv


class Sealed(ControlProblem):
    """LQR of which the environment's steps alone can be had."""

    def __init__(self):
        self._inner = LQR()
        self.state, self.action = self._inner.state, self._inner.action
        self.discount, self.horizon, self.noise_dim = self._inner.discount, None, 1
        self.stepped = 0

    def exact_transition(self, t, x, a, dt, noise, out=None):
        self.stepped += 1
        return self._inner.exact_transition(t, x, a, dt, noise, out)

    def initial_state(self, rng, size):
        return self._inner.initial_state(rng, size)

    def _touched(self, *_, **__):
        raise AssertionError("a model-free agent has looked at the model")

    drift = diffusion = reward = terminal_reward = solution = maximiser = admissible = exact_step = exact_reward = (
        _touched
    )
    some_states = _touched


def lqr_env(dt=0.05, **parameters):
    return gym.make(
        "LQR-v0", dt=dt, **({} if "horizon" in parameters else {"episode_steps": round(2.5 / dt)}), **parameters
    )


def errors(agent, dt=None):
    """Relative L2 errors of policy and value where episodes start, against the optimum of the sampled problem."""
    problem, rng = agent.problem, np.random.default_rng(5)
    x, t = problem.initial_state(rng, 300), np.zeros(300)
    known = problem.solution(agent.env.unwrapped.dt)
    pairs = ((agent.policy(t, x), known.policy(t, x)), (agent.value(t, x), known.value(t, x)))
    return [np.sqrt(((found - true) ** 2).mean() / (true**2).mean()) for found, true in pairs]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["moments", "martingale loss"])
def test_no_coefficient_is_ever_touched(method):
    problem = Sealed()
    env = SDEEnv(problem, dt=0.05, episode_steps=50)
    problem.stepped = 0
    agent = CTQLearning(env=env, seed=0, num_envs=16, method=method, block=5.0).learn(6_400)
    assert problem.stepped == 6_400 / 16 + 1  # and one when the environment is built
    assert np.isfinite(agent.policy(0.0, np.zeros((3, 1)))).all()
    assert np.isfinite(agent.rate(0.0, np.zeros((3, 1)), np.ones((3, 1)))).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "steps", "bounds"),
    [
        ({}, 60_000, (0.1, 0.05)),
        ({"behaviour": "random"}, 120_000, (0.1, 0.05)),
        ({"method": "martingale loss"}, 60_000, (0.3, 0.2)),  # its residuals run to the end of the path: noisier
    ],
)
def test_lqr_is_learnt_from_experience(settings, steps, bounds):
    agent = CTQLearning(env=lqr_env(), seed=1, **settings).learn(steps)
    assert np.all(np.array(errors(agent)) < bounds)


@pytest.mark.slow
def test_a_portfolio_is_learnt_from_experience():
    """Risky fraction and consumption on the way from [1/2, 2], and the value, with r fitted to what was paid."""
    form = {"hidden": (), "curvature": "state and reward", "one_sign": True, "temperature": 0.0, "exploration": 0.5}
    agent = CTQLearning(env=gym.make("Merton-v0"), seed=1, **form).learn(200_000)
    problem, x = agent.problem, np.linspace(0.5, 2, 20)[:, None]
    known, t = problem.solution(), np.zeros(20)
    policy = np.abs(agent.policy(t, x) / known.policy(t, x) - 1).max(axis=0)
    assert np.all(policy < (0.2, 0.1))
    assert np.abs(agent.value(t, x) / known.value(t, x) - 1).max() < 0.1


@pytest.mark.slow
def test_a_firm_is_learnt_from_experience():
    """How much is invested where capital is, of a firm that is quiet and far from its bounds, and how much less by more
    capital; and what capital is worth. The bounds are such that neither a constant policy nor a constant value passes.
    """
    quiet = {"price": 0.4126, "volatility": 0.05, "productivity_bound": 1.0, "capital_bounds": (0.05, 20.0)}
    form = {"policy_hidden": (), "curvature": "state and reward", "temperature": 0.0}
    env = gym.make("FirmInvestment-v0", dt=0.1, **quiet)
    agent = CTQLearning(env=env, seed=1, exploration=0.5, persistence=0.1, **form).learn(20_000)
    k = np.linspace(0.8, 1.2, 20)
    x, t, known = np.stack([k, np.zeros(20)], axis=1), np.zeros(20), agent.problem.solution()
    policy, best = agent.policy(t, x)[:, 0], known.policy(t, x)[:, 0]
    value, truth = agent.value(t, x), known.value(t, x)
    slopes = [np.polyfit(np.log(k), each, 1)[0] for each in (policy, best, value, truth)]
    assert abs(policy.mean() / best.mean() - 1) < 0.15
    assert abs(slopes[0] / slopes[1] - 1) < 0.6
    assert np.abs(value / truth - 1).max() < 0.02
    assert abs(slopes[2] / slopes[3] - 1) < 0.1


@pytest.mark.parametrize("dt", [0.1, 0.01])
@pytest.mark.parametrize("behaviour", ["policy", "random"])
def test_what_is_explored_persists_over_a_time_not_over_steps(behaviour, dt):
    """After 0.2 units of time normals have a correlation of r = exp(-0.2/(persistence/rho)).

    Uniforms have 6/pi arcsin(r/2), as the ranks of a bivariate normal do (Pearson, 1907).
    """
    env, rows, far = gym.make("LQR-v0", dt=dt), 40_000, 0.2  # so that hardly any normal is clipped
    how = {"persistence": 0.1, "behaviour": behaviour, "exploration": far, "temperature": 0.0}
    agent = CTQLearning(env=env, seed=0, num_envs=rows, **how)
    agent._iteration, rng, s = 1, np.random.default_rng(5), np.zeros((rows, 1))
    drawn = [agent._draw(s, rng) for _ in range(round(0.2 / dt) + 1)]
    r = np.exp(-0.2 / (0.1 / agent.problem.discount))
    correlation, variance = (6 / np.pi * np.arcsin(r / 2), 1 / 3) if behaviour == "random" else (r, far**2)
    error = 4 * np.sqrt(2 / rows)
    assert abs(np.corrcoef(drawn[0][:, 0], drawn[-1][:, 0])[0, 1] - correlation) < error
    assert abs(np.var(drawn[-1]) / variance - 1) < error
    assert np.abs(np.mean(drawn[-1])) < 4 * np.sqrt(variance / rows)


@pytest.mark.slow
def test_a_policy_may_be_linear_where_the_value_is_not():
    agent = CTQLearning(env=lqr_env(), seed=0, policy_hidden=()).learn(6_400)
    x, env = np.linspace(-1, 1, 9)[:, None], agent.env.unwrapped
    action = np.arctanh(env.from_physical(agent.policy(0.0, x)))
    np.testing.assert_allclose(np.diff(action, n=2, axis=0), 0.0, atol=1e-6)
    assert np.abs(np.diff(agent.value(0.0, x), n=3)).max() > 1e-3


@pytest.mark.slow
def test_a_finite_horizon_ends_where_it_ends():
    agent = CTQLearning(env=lqr_env(horizon=2.0, terminal_cost=0.5), seed=0, hidden=(16,)).learn(60_000)
    assert np.all(np.array(errors(agent)) < (0.15, 0.1))


@pytest.mark.slow
@pytest.mark.parametrize("form", [{}, {"curvature": "state and reward", "temperature": 0.0}, {"persistence": 0.1}])
def test_a_run_goes_on_to_the_bit(form, tmp_path):
    def fresh():
        return CTQLearning(env=lqr_env(), seed=3, num_envs=8, block=2.0, replay=2, **form)

    whole = fresh().learn(4_000)
    path = tmp_path / "agent.safetensors"
    fresh().learn(4_000, checkpoint=path, callback=lambda agent: len(agent.history) < 3)
    resumed = fresh().learn(4_000, checkpoint=path)
    loaded = Agent.load(path)
    for other in (resumed, loaded):
        ours, theirs = (parameters_to_vector(agent._pair.parameters()) for agent in (whole, other))
        assert torch.equal(ours, theirs)
    x = np.linspace(-1, 1, 5)[:, None]
    assert (loaded.value(0.0, x) == whole.value(0.0, x)).all()
    a = np.linspace(-2, 2, 5)[:, None]
    assert (loaded.rate(0.0, x, a) == whole.rate(0.0, x, a)).all()
    assert len(resumed.history) == len(whole.history)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"method": "td"}, "method must be one of"),
        ({"method": ["moments"]}, "method must be one of"),
        ({"behaviour": "greedy"}, "behaviour must be one of"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"steps": 2.5}, "steps must be a whole number"),
        ({"num_envs": True}, "num_envs must be at least 1"),
        ({"replay": 0}, "replay must be at least 1"),
        ({"block": 0.0}, "block must be greater than 0.0, got 0.0"),
        ({"growth": 0.9}, "growth must be at least 1.0, got 0.9"),
        ({"prior": 0.0}, "prior must be greater than 0.0"),
        ({"temperature": -1.0}, "temperature must be at least final_temperature = 0.0, got -1.0"),
        ({"final_temperature": np.nan}, "final_temperature must be finite"),
        ({"exploration": "wide"}, "exploration must be a number"),
        ({"hidden": 8}, "hidden must be a tuple of the layers' widths"),
        ({"policy_hidden": (8, 0)}, "a layer's width must be at least 1, got 0"),
        ({"persistence": -0.1}, "persistence must be at least 0.0"),
        ({"persistence": np.inf}, "persistence must be finite"),
        ({"curvature": "state and action"}, "curvature must be one of"),
        ({"curvature": "state and reward"}, "needs temperature=0, got 0.1"),
        ({"one_sign": True}, "needs temperature=0, got 0.1"),
    ],
)
def test_bad_settings_are_refused(bad, said):
    with pytest.raises(ParameterError, match=re.escape(said)):
        CTQLearning(env=lqr_env(), **bad)


def test_what_cannot_be_learnt_is_refused():
    with pytest.raises(ParameterError, match="one_sign=False"):
        CTQLearning(env=gym.make("FirmInvestment-v0"), one_sign=True, temperature=0.0).learn(1_000)
    with pytest.raises(ParameterError, match="a positive discount or a finite horizon"):
        CTQLearning(env=gym.make("Merton-v0", discount=0.0))
    with pytest.raises(ParameterError, match="total_timesteps must be at least num_envs = 64"):
        CTQLearning(env=lqr_env()).learn(50)


def test_a_wrapper_that_would_be_ignored_is_refused():
    paid_less = gym.wrappers.TransformReward(lqr_env(), lambda reward: -reward)
    with pytest.raises(ParameterError, match="has a TransformReward, which would be ignored"):
        CTQLearning(env=paid_less)
    many = gym.wrappers.vector.RescaleAction(gym.make_vec("LQR-v0", num_envs=2), np.float32(0), np.float32(1))
    with pytest.raises(ParameterError, match="has a RescaleAction"):
        CTQLearning(env=many)
    assert CTQLearning(env=gym.wrappers.RecordEpisodeStatistics(lqr_env())).num_envs == 64


def test_the_rate_of_one_state_and_many_actions():
    agent = CTQLearning(env=lqr_env(), seed=0, num_envs=8).learn(400)
    x, a = np.array([0.3]), np.linspace(-1, 1, 4)[:, None]
    each = [agent.rate(0.0, x, one) for one in a]
    np.testing.assert_allclose(agent.rate(0.0, x, a), each, rtol=1e-12)


def test_a_run_does_not_go_on_at_another_time_step(tmp_path):
    """What it keeps was seen at the old one; what it has learnt may be used at any."""
    path = tmp_path / "agent.safetensors"
    CTQLearning(env=lqr_env(), seed=0, num_envs=8).learn(400, checkpoint=path)
    other = lqr_env(dt=0.01)
    with pytest.raises(CheckpointError, match="make the environment as it was"):
        CTQLearning(env=other, seed=0, num_envs=8).learn(400, checkpoint=path)
    assert np.isfinite(Agent.load(path, env=other).value(0.0, np.zeros((1, 1)))).all()


@pytest.mark.slow
def test_the_martingale_loss_is_another_condition():
    """Which rests on the same experience, and is solved once the temperature is at its end."""
    form = {"num_envs": 8, "temperature": 0.0, "annealing": 1, "replay": 1, "behaviour": "random"}
    x = np.linspace(-1, 1, 5)[:, None]
    first, second = (
        CTQLearning(env=lqr_env(), seed=0, method=method, **form).learn(8_000).value(0.0, x)
        for method in ("moments", "martingale loss")
    )
    assert np.abs(first - second).max() > 1e-3 * np.abs(first).max()
