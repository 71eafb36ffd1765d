"""Metrics on agents whose errors are known: against the sampled optimum, and of a learnt rate of advantage."""

import gymnasium as gym
import numpy as np
import pytest
from scipy.linalg import solve_continuous_are, solve_discrete_are

from hacontrol_agents import AnalyticAgent, make_agent
from hacontrol_benchmarks import Evaluation, evaluate
from hacontrol_benchmarks.judging.sampling import visited
from hacontrol_envs import LQR, SDEEnv
from hacontrol_envs.numerics import riccati

SMALL = Evaluation(paths=8, points=256, max_steps=100)


def gains(problem, dt):
    """K and K_dt of a = -K x, by SciPy's Riccati solvers."""
    gamma, n = np.exp(-problem.discount * dt), problem.state.dimension
    P = solve_continuous_are(problem.A - problem.discount / 2 * np.eye(n), problem.B, problem.Q, problem.R)
    held = riccati.hold(problem.A, problem.B, problem.Q, problem.R, problem.D, problem.discount, dt)
    F, G, M = np.sqrt(gamma) * held.F, np.sqrt(gamma) * held.G, held.M
    P_dt = solve_discrete_are(F, G, M[:n, :n], M[n:, n:], s=M[:n, n:])
    K_dt = np.linalg.solve(M[n:, n:] + G.T @ P_dt @ G, G.T @ P_dt @ F + M[n:, :n])
    return np.linalg.solve(problem.R, problem.B.T @ P), K_dt


@pytest.mark.parametrize("dt", [0.3, 0.03])
def test_the_known_gap_between_the_sampled_and_the_continuous_optimum_is_taken_out(dt):
    env = gym.make("LQR-v0", dt=dt)
    K, K_dt = gains(env.unwrapped.problem, dt)
    gap = abs(K - K_dt).item()

    held, continuous = (evaluate(AnalyticAgent(env=env, seed=0, sampled=s), env, SMALL) for s in (True, False))

    assert held["policy_error_sampled"] == 0
    assert held["policy_error_visited"] == pytest.approx(gap / abs(K.item()), rel=1e-6)
    assert continuous["policy_error_sampled"] == pytest.approx(gap / abs(K_dt.item()), rel=1e-6)
    assert continuous["policy_error_sampled_by_action"] == {"a": continuous["policy_error_sampled"]}
    assert continuous["policy_error_visited"] == 0


class Bent:
    """Plays the sampled optimum plus x^2 / 10."""

    def __init__(self, env):
        self.best = env.unwrapped.problem.solution(dt=env.unwrapped.dt).policy

    def policy(self, t, x):
        return self.best(t, x) + x**2 / 10


def test_the_sampled_error_is_measured_where_the_optimum_goes():
    env = gym.make("LQR-v0", dt=0.1)
    agent, (t, x) = Bent(env), visited(env.unwrapped.problem, 0.1, SMALL)
    error = np.sqrt(np.mean(x**4)) / 10 / np.sqrt(np.mean(agent.best(t, x) ** 2))
    assert evaluate(agent, env, SMALL)["policy_error_sampled"] == pytest.approx(error)


class Unsampled(LQR):
    """Its sampled optimum is not known."""

    def solution(self, dt=None):
        return super().solution() if dt is None else None


class Unlawful(LQR):
    """Its law is not known."""

    def exact_step(self, t, x, a, dt, noise):
        return None


@pytest.mark.parametrize("kind", [Unsampled, Unlawful])
def test_without_sampled_optimum_or_law_there_is_no_sampled_error(kind):
    env = SDEEnv(kind(), dt=0.1, scheme="euler", episode_steps=10)
    scores = evaluate(AnalyticAgent(env=env, seed=0), env, SMALL)
    assert scores["policy_error_sampled"] is None
    assert scores["policy_error_sampled_by_action"] is None
    assert scores["policy_error_box"] == 0


class Rated:
    """Knows q* = -(a - a*)' R (a - a*) / 2 of an LQR, up to a factor, and notes what it is asked."""

    def __init__(self, env, factor):
        self.problem, self.factor = env.unwrapped.problem, factor
        self.policy = self.problem.solution().policy

    def rate(self, t, x, a):
        self.asked = x, a
        off = a - self.policy(t, x)
        return -self.factor * np.einsum("...i,ij,...j->...", off, self.problem.R, off) / 2


@pytest.mark.parametrize("parameters", [{}, {"dimension": 2}, {"horizon": 1.0, "dt": 0.1}])
@pytest.mark.parametrize(("factor", "error"), [(1.0, 0.0), (1.1, 0.1), (0.0, 1.0), (-1.0, 2.0)])
def test_a_planted_error_of_the_rate_is_found(parameters, factor, error):
    env = gym.make("LQR-v0", **parameters)
    assert evaluate(Rated(env, factor), env, SMALL)["rate_error_visited"] == pytest.approx(error, abs=1e-6)


def test_rates_are_asked_for_at_states_of_the_law_and_all_over_the_action_box():
    env = gym.make("LQR-v0", dimension=2)
    problem, agent, asked = env.unwrapped.problem, Rated(env, 1.0), []
    for seed in (1, 1, 2):
        how = Evaluation(paths=8, points=1024, max_steps=100, seed=seed)
        evaluate(agent, env, how)
        x, a = agent.asked
        assert np.array_equal(x, visited(problem, env.unwrapped.dt, how).x)
        asked.append(a)
    unit = problem.action.to_unit(asked[0])
    assert unit.shape == (1024, 2)
    assert np.abs(unit).max() <= 1
    assert np.abs(np.sort(unit, axis=0) - np.linspace(-1, 1, 1024)[:, None]).max() < 0.1
    assert np.array_equal(asked[0], asked[1])
    assert not np.array_equal(asked[0], asked[2])


def test_agents_without_a_rate_have_no_error_of_it():
    env = gym.make("LQR-v0")
    assert evaluate(AnalyticAgent(env=env, seed=0), env, SMALL)["rate_error_visited"] is None


@pytest.mark.slow
def test_a_learner_of_rates_has_an_error_of_it():
    env = gym.make("LQR-v0")
    assert 0 < evaluate(make_agent("ctq", env=env, seed=0), env, SMALL)["rate_error_visited"] < np.inf
