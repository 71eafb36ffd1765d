"""The judge against closed forms, and against plain Monte Carlo."""

import gymnasium as gym
import numpy as np
import pytest
from scipy.linalg import solve_discrete_lyapunov

import hacontrol_envs  # noqa: F401
from hacontrol_agents import AnalyticAgent, RandomAgent
from hacontrol_benchmarks import Evaluation, evaluate, regret
from hacontrol_benchmarks.judging.regret import REPLICATES, gaussian_quadrature
from hacontrol_benchmarks.judging.transition import known_transition
from hacontrol_envs import LQR, Jet, Merton
from hacontrol_envs.numerics import riccati

SMALL = Evaluation(paths=32, points=256)


def initial_states(problem, paths, seed):
    return problem.initial_state(np.random.default_rng(seed), paths // REPLICATES)


@pytest.mark.parametrize("risk_aversion", [0.5, 1.0, 2.0, 5.0])
def test_merton_constant_actions_lose_what_the_closed_form_says(risk_aversion):
    problem = Merton(risk_aversion=risk_aversion)
    optimum = problem.solution()
    chosen = problem.action.from_unit(np.array([0.6, -0.4]))

    found = regret(
        problem, lambda t, x: np.broadcast_to(chosen, (len(x), 2)), 0.25, paths=128, max_steps=5000, seed=1, tail=1e-4
    )

    x = initial_states(problem, 128, 1)
    best, reached = optimum.value(0.0, x).mean(), problem.constant_action_value(x, chosen).mean()
    assert found.regret == pytest.approx(best - reached, abs=4 * found.standard_error + 1e-3 * (best - reached))
    g = risk_aversion
    wasted = 1 - np.exp((reached - best) * problem.discount) if g == 1 else 1 - (reached / best) ** (1 / (1 - g))
    assert found.loss == pytest.approx(wasted, abs=4 * found.loss_error + 1e-3 * wasted)
    assert found.optimal == pytest.approx(best)


@pytest.mark.parametrize("dimension", [1, 3])
def test_lqr_linear_feedback_loses_what_the_lyapunov_equation_says(dimension):
    problem, dt = LQR(dimension=dimension, discount=0.5), 0.1
    held = riccati.hold(problem.A, problem.B, problem.Q, problem.R, problem.D, problem.discount, dt)
    gamma, K = np.exp(-problem.discount * dt), 0.8 * riccati.sampled(held).K
    feedback = np.vstack([np.eye(dimension), -K])
    closed = np.sqrt(gamma) * (held.F - held.G @ K)
    P = solve_discrete_lyapunov(closed.T, feedback.T @ held.M @ feedback)
    c = (held.constant + gamma * np.trace(held.noise @ held.noise.T @ P)) / 2 / (1 - gamma)

    found = regret(problem, lambda t, x: -x @ K.T, dt, paths=64, max_steps=5000, seed=3, tail=1e-5)

    x = initial_states(problem, 64, 3)
    reached = -(np.einsum("ki,ij,kj->k", x, P, x) / 2 + c).mean()
    expected = found.optimal - reached
    assert found.regret == pytest.approx(expected, abs=4 * found.standard_error + 1e-4 * expected)
    assert found.loss == pytest.approx(expected / abs(found.optimal), rel=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("problem", "dt"), [(LQR(horizon=1.0, terminal_cost=0.5), 0.1), (Merton(horizon=2.0, risk_aversion=1.0), 0.25)]
)
def test_it_agrees_with_paired_rollouts_over_a_finite_horizon(problem, dt):
    optimum, exact, rng = problem.solution(dt=dt), known_transition(problem, dt), np.random.default_rng(7)
    policies = [lambda t, x: 0.7 * optimum.policy(t, x), optimum.policy]

    found = regret(problem, policies[0], dt, paths=4096, max_steps=100, seed=2)

    start, steps = problem.initial_state(rng, 20_000), round(problem.horizon / dt)
    noise = rng.standard_normal((steps, len(start), exact.noise_dim))
    returns = []
    for policy in policies:
        x, total = start, 0.0
        for k in range(steps):
            t = np.full(len(x), k * dt)
            a = np.asarray(policy(t, x))
            total = total + exact.gamma**k * exact.reward(t, x, a)
            x = exact.step(t, x, a, noise[k])
        returns.append(total + exact.gamma**steps * problem.terminal_reward(x))
    paired = returns[1] - returns[0]
    error = np.hypot(paired.std() / np.sqrt(len(paired)), found.regret / np.sqrt(4096 / REPLICATES))
    assert found.regret == pytest.approx(paired.mean(), abs=4 * error)
    assert found.horizon == pytest.approx(problem.horizon)


def test_the_sampled_optimum_has_no_regret_and_nothing_beats_it():
    for problem, dt in ((LQR(), 0.1), (LQR(dimension=4), 0.1), (Merton(), 0.25)):
        best = problem.solution(dt=dt).policy
        assert regret(problem, best, dt, paths=16, max_steps=300, seed=0).regret == 0.0
        for size in (1e-5, 1e-2):
            for factor in (1 + size, 1 - size):
                found = regret(
                    problem, lambda t, x, f=factor, best=best: f * best(t, x), dt, paths=16, max_steps=300, seed=0
                )
                assert found.regret > 0
                assert found.loss < 10 * size


def test_tiny_losses_are_resolved():
    problem = Merton()
    best = problem.solution().policy
    found = [
        regret(problem, lambda t, x, s=s: (1 + s) * best(t, x), 0.25, paths=32, max_steps=2000, seed=0)
        for s in (1e-4, 1e-6)
    ]
    assert found[1].loss == pytest.approx(1e-4 * found[0].loss, rel=1e-2)
    assert found[1].loss < 1e-11


def test_an_action_that_is_not_finite_is_an_error():
    with pytest.raises(FloatingPointError, match="not finite"):
        regret(Merton(), lambda t, x: np.full((len(x), 2), np.nan), 0.25, paths=8, max_steps=5, seed=0)


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_quadrature_integrates_quadratics(dimension):
    nodes, weights = gaussian_quadrature(dimension)
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(weights @ nodes, 0, atol=1e-14)
    np.testing.assert_allclose(np.einsum("k,ki,kj->ij", weights, nodes, nodes), np.eye(dimension), atol=1e-13)


class Scaled:
    """Policy 10 % too large, value 1 % too large."""

    def __init__(self, env):
        self.solution = env.unwrapped.problem.solution()

    def policy(self, t, x):
        return 1.1 * self.solution.policy(t, x)

    def value(self, t, x):
        return 1.01 * self.solution.value(t, x)

    def jet(self, t, x):
        return Jet(*(1.01 * part for part in self.solution.jet(t, x)))


def test_metrics_of_known_errors():
    env = gym.make("LQR-v0")
    scores = evaluate(Scaled(env), env, SMALL)
    assert scores["policy_error_visited"] == pytest.approx(0.1)
    assert scores["policy_error_visited_by_action"] == {"a": pytest.approx(0.1)}
    assert scores["value_error_visited"] == pytest.approx(0.01)
    assert scores["value_error_box"] == pytest.approx(0.01)
    residual = scores["residual_visited"]
    assert 0 < residual["50%"] < residual["95%"] <= residual["max"]


def test_metrics_of_the_optimum_and_of_noise():
    env = gym.make("Merton-v0")
    best, noise = (evaluate(kind(env=env, seed=0), env, SMALL) for kind in (AnalyticAgent, RandomAgent))
    assert best["value_loss"] == best["policy_error_visited"] == best["policy_error_box"] == 0
    assert best["value_error_visited"] == 0
    assert best["residual_box"]["max"] < 1e-12
    assert noise["value_loss"] > 0.05
    assert noise["value_error_visited"] is None
    assert noise["residual_visited"] is None
