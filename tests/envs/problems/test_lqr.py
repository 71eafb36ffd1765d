"""LQR: its closed form against computations that share no code with it, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.linalg import expm, solve_discrete_are
from scipy.optimize import minimize_scalar

from common.calibrations import CALIBRATIONS, COUPLED
from hacontrol_envs import LQR
from hacontrol_envs.errors import ParameterError


def test_lqr_reference_values():
    found = LQR().solution()
    one = np.ones(1)
    assert -2 * (found.value(0.0, one) - found.value(0.0, 0 * one)) == pytest.approx(0.2659750769, abs=5e-11)
    assert found.policy(0.0, one) == pytest.approx(-2.659750769, abs=5e-10)
    assert found.value(0.0, 0 * one) == pytest.approx(-0.1196887846, abs=5e-11)


def riccati_flow(p: LQR, tau: float, P: np.ndarray) -> np.ndarray:
    """P(tau) by the exponential of the Hamiltonian matrix."""
    n, A = len(p.A), p.A - p.discount / 2 * np.eye(len(p.A))
    H = np.block([[-A, p.B @ np.linalg.solve(p.R, p.B.T)], [p.Q, A.T]])
    both = expm(H * tau) @ np.vstack([np.eye(n), P])
    return np.linalg.solve(both[:n].T, both[n:].T).T


def value_matrix(found, n: int, t: float = 0.0) -> np.ndarray:
    """P out of a quadratic value, by polarisation."""

    def level(x):
        return -2 * (found.value(t, x) - found.value(t, 0 * x))

    unit = np.eye(n)
    return np.array([[(level(u + w) - level(u - w)) / 4 for w in unit] for u in unit])


@pytest.mark.parametrize("name", [name for name in CALIBRATIONS if name.startswith("LQR")])
def test_lqr_value_matrix_by_the_hamiltonian_matrix(name):
    p = CALIBRATIONS[name]
    n, horizon = len(p.A), p.horizon or 60.0
    P = p.S if p.horizon else np.zeros((n, n))
    for _ in range(200):
        P = riccati_flow(p, horizon / 200, P)
    np.testing.assert_allclose(value_matrix(p.solution(), n), P, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("t", [0.0, 0.7, 1.9, 2.0])
def test_lqr_constant_by_quadrature(t):
    p = LQR(**COUPLED, horizon=2.0, terminal_cost=2.0)

    def spent(s):
        return np.exp(-p.discount * (s - t)) * np.sum(p.D @ p.D.T * riccati_flow(p, 2.0 - s, p.S)) / 2

    expected = quad(spent, t, 2.0, epsabs=1e-12)[0]
    assert p.solution().value(t, np.zeros(2)) == pytest.approx(-expected, rel=1e-9, abs=1e-12)


def test_lqr_is_the_limit_of_discrete_lqr():
    p = LQR(**COUPLED)
    shifted, exact = p.A - p.discount / 2 * np.eye(2), value_matrix(p.solution(), 2)

    def coarse(dt):
        return solve_discrete_are(np.eye(2) + shifted * dt, p.B * dt, p.Q * dt, p.R * dt)

    gaps = [np.abs(coarse(dt) - exact).max() for dt in (4e-3, 2e-3, 1e-3)]
    assert gaps[0] / gaps[1] == pytest.approx(2, abs=0.05)
    np.testing.assert_allclose(2 * coarse(1e-3) - coarse(2e-3), exact, rtol=1e-4)


def scalar_step(p: LQR, dt: float):
    """F, G, variance, and the step's cost of (x, a) as a function, by formula and quadrature."""
    A, B, D, rho = p.A.item(), p.B.item(), p.D.item(), p.discount

    def mean(s, x, a):
        return np.exp(A * s) * x + (np.exp(A * s) - 1) / A * B * a

    def variance(s):
        return D**2 * (np.exp(2 * A * s) - 1) / (2 * A)

    def cost(x, a):
        def flow(s):
            return np.exp(-rho * s) * (p.Q.item() * (mean(s, x, a) ** 2 + variance(s)) + p.R.item() * a**2) / 2

        return quad(flow, 0, dt, epsabs=1e-14)[0]

    return mean(dt, 1, 0), mean(dt, 0, 1), variance(dt), cost


@pytest.mark.parametrize("dt", [0.02, 0.3, 1.0])
def test_lqr_sampled_against_the_best_constant_gain(dt):
    p = LQR()
    F, G, variance, cost = scalar_step(p, dt)
    gamma, spent = np.exp(-p.discount * dt), cost(0, 0)

    def P(k):
        return 2 * (cost(1, -k) - spent) / (1 - gamma * (F - G * k) ** 2)

    best = minimize_scalar(P, bracket=(0.2, 0.5), tol=1e-12)
    found = p.solution(dt)
    assert found.policy(0.0, np.ones(1)) == pytest.approx(-best.x, rel=1e-6)
    assert value_matrix(found, 1) == pytest.approx(best.fun, rel=1e-9)
    constant = (spent + gamma * variance * best.fun / 2) / (1 - gamma)
    assert found.value(0.0, np.zeros(1)) == pytest.approx(-constant, rel=1e-9)


def test_lqr_sampled_finite_against_optimising_every_step():
    p, dt = LQR(horizon=1.0, terminal_cost=0.5), 0.25
    F, G, variance, cost = scalar_step(p, dt)
    gamma, P, c = np.exp(-p.discount * dt), 0.5, 0.0
    found = p.solution(dt)
    for k in range(3, -1, -1):

        def total(a, x, P=P, c=c):
            return cost(x, a) + gamma * (P * ((F * x + G * a) ** 2 + variance) / 2 + c)

        best = minimize_scalar(total, args=(1.0,), bracket=(-3, 3), tol=1e-12)
        c = total(0.0, 0.0)
        P = 2 * (best.fun - c)
        assert found.policy(k * dt, np.ones(1)) == pytest.approx(best.x, rel=1e-6)
        assert found.value(k * dt, np.ones(1)) == pytest.approx(-P / 2 - c, rel=1e-9)


def test_lqr_sampled_tends_to_continuous():
    """Value at first order, because noise goes unanswered within a step; P at second order; the gain at first."""
    p, x = LQR(**COUPLED), np.array([0.7, -0.4])
    steps = [0.04, 0.02, 0.01, 0.005]
    value = [p.solution().value(0.0, x) - p.solution(dt).value(0.0, x) for dt in steps]
    matrix = [np.abs(value_matrix(p.solution(dt), 2) - value_matrix(p.solution(), 2)).max() for dt in steps]
    gain = [np.abs(p.solution(dt).policy(0.0, x) - p.solution().policy(0.0, x)).max() for dt in steps]
    assert min(value) > 0
    for gaps, order in ((value, 1), (matrix, 2), (gain, 1)):
        assert np.log2(gaps[-2] / gaps[-1]) == pytest.approx(order, abs=0.1)


BAD_LQRS = [
    ({"discount": 0.0}, "discount"),
    ({"discount": -0.1, "horizon": 1.0}, "discount"),
    ({"horizon": 0.0}, "horizon"),
    ({"horizon": np.nan}, "horizon"),
    ({"dimension": 0}, "dimension"),
    ({"dimension": 2.0}, "dimension"),
    ({"dimension": True}, "dimension"),
    ({"dimension": 3, "state_matrix": [[0.0, 1.0], [0.0, 0.0]]}, "contradicts"),
    ({"state_matrix": [[0.0, 1.0]]}, "square"),
    ({"state_matrix": [[0.0, 1.0], [0.0]]}, "state_matrix"),
    ({"control_matrix": [[1.0], [1.0]]}, "control_matrix"),
    ({"state_cost": -1.0}, "semidefinite"),
    ({"state_cost": [[1.0, 2.0], [0.0, 1.0]], "dimension": 2}, "symmetric"),
    ({"control_cost": 0.0}, "positive definite"),
    ({"noise_matrix": [[np.inf]]}, "noise_matrix"),
    ({"terminal_cost": -1.0, "horizon": 1.0}, "terminal_cost"),
    ({"state_matrix": 1.0, "control_matrix": 0.0}, "stabilisable"),
]


@pytest.mark.parametrize(("bad", "words"), BAD_LQRS)
def test_bad_parameters_are_refused(bad, words):
    with pytest.raises(ParameterError, match=words):
        LQR(**bad)
