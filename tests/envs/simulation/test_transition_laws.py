"""The law of a step, against computations that share no code with it; a planted error, which the same test must see."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad, solve_ivp

from common.calibrations import COUPLED
from hacontrol_envs import LQR, FirmInvestment, Merton
from hacontrol_envs.numerics import riccati
from hacontrol_envs.simulation.env import SDEVectorEnv
from hacontrol_envs.simulation.integrate import integrator

ASSETS = {"expected_return": [0.07, 0.08], "volatility": [[0.2, 0.0, 0.1], [0.0, 0.3, 0.05]]}
LINEAR = [LQR(), LQR(dimension=3), LQR(**COUPLED), LQR(**{**COUPLED, "noise_matrix": [[0.3], [0.1]]})]
PORTFOLIOS = [Merton(), Merton(**ASSETS), Merton(**ASSETS, risk_aversion=5.0)]


def moments(problem: LQR, dt: float, *, at: Any = None) -> tuple[Any, Any, Any, Any]:
    """F, G and covariance of X_dt = F x + G a + noise, expected cost from (x, a) = `at`, by a Runge-Kutta method."""
    A, B, D, n, m = problem.A, problem.B, problem.D, len(problem.A), problem.B.shape[1]
    x, a = at if at else (np.zeros(n), np.zeros(m))
    shapes = [(n, n), (n, m), (n, n), (1,)]
    cuts = np.cumsum([np.prod(shape) for shape in shapes])[:-1]

    def parts(y: Any) -> Any:
        return (part.reshape(shape) for part, shape in zip(np.split(y, cuts), shapes, strict=True))

    def rate(s: float, y: Any) -> Any:
        F, G, C, _ = parts(y)
        mean = F @ x + G @ a
        cost = mean @ problem.Q @ mean + np.sum(problem.Q * C) + a @ problem.R @ a
        slopes = A @ F, A @ G + B, A @ C + C @ A.T + D @ D.T, np.exp(-problem.discount * s) * cost / 2
        return np.concatenate([np.ravel(slope) for slope in slopes])

    start = np.concatenate([np.eye(n).ravel(), np.zeros(n * m + n * n + 1)])
    F, G, C, cost = parts(solve_ivp(rate, (0, dt), start, rtol=1e-12, atol=1e-14, method="DOP853").y[:, -1])
    return F, G, C, float(cost[0])


def standardised(env: SDEVectorEnv, steps: int) -> Any:
    """Increments of an environment under constant actions, standardised by the law that they should have, (rows, n)."""
    problem: Any = env.problem
    env.reset(seed=7)
    action = np.random.default_rng(1).uniform(-1, 1, env.action_space.shape)
    a = env.to_physical(action)
    if isinstance(problem, LQR):
        F, G, C, _ = moments(problem, env.dt)
        values, vectors = np.linalg.eigh(C)
        kept = values > 1e-9 * values[-1]
        whiten = (vectors / np.sqrt(np.where(kept, values, 1)))[:, kept]
    found = []
    for _ in range(steps):
        x = env.state
        env.step(action)
        if isinstance(problem, LQR):
            found.append((env.state - x @ F.T - a @ G.T) @ whiten)
        else:
            variance = np.sum((a[:, :-1] @ problem.sigma) ** 2, axis=1, keepdims=True)
            growth = problem.risk_free_rate + a[:, :-1] @ problem.excess - a[:, -1]
            gain = np.log(env.state / x) - (growth[:, None] - variance / 2) * env.dt
            found.append(gain / np.sqrt(variance * env.dt))
    return np.concatenate(found)


def refute(z: Any) -> list[str]:
    """Everything that speaks against independent standard normals, at five standard errors (3e-7 to err by chance)."""
    n, against = len(z), []
    for name, value, error in (
        ("mean", z.mean(0), 1 / np.sqrt(n)),
        ("variance", z.var(0) - 1, np.sqrt(2 / n)),
        ("skewness", stats.skew(z), np.sqrt(6 / n)),
        ("kurtosis", stats.kurtosis(z), np.sqrt(24 / n)),
        ("correlation", np.corrcoef(z.T)[np.triu_indices(z.shape[1], 1)] if z.shape[1] > 1 else 0.0, 1 / np.sqrt(n)),
        ("autocorrelation", np.mean(z[:-1000] * z[1000:], axis=0), 1 / np.sqrt(n)),
        ("neighbours", np.mean(z[:-1] * z[1:], axis=0), 1 / np.sqrt(n)),
    ):
        against += [name] if np.any(np.abs(value) > 5 * error) else []
    against += ["Kolmogorov-Smirnov"] if any(stats.kstest(column, "norm").pvalue < 3e-7 for column in z.T) else []
    return against


@pytest.mark.parametrize("problem", [*LINEAR, *PORTFOLIOS])
def test_the_exact_step_has_the_law_of_the_diffusion(problem: Any) -> None:
    dt = 0.4 if isinstance(problem, LQR) else 1.0
    assert refute(standardised(SDEVectorEnv(problem, 1000, dt=dt), 1000)) == []


@pytest.mark.parametrize("problem", [LINEAR[0], LINEAR[2], PORTFOLIOS[0], PORTFOLIOS[1]])
def test_a_planted_euler_step_is_caught(problem: Any) -> None:
    dt = 0.4 if isinstance(problem, LQR) else 1.0
    against = refute(standardised(SDEVectorEnv(problem, 1000, dt=dt, scheme="euler"), 1000))
    assert "Kolmogorov-Smirnov" in against


@pytest.mark.parametrize("problem", LINEAR)
@pytest.mark.parametrize("dt", [0.01, 0.4, 3.0])
def test_a_held_linear_system(problem: LQR, dt: float) -> None:
    rng = np.random.default_rng(0)
    held = riccati.hold(problem.A, problem.B, problem.Q, problem.R, problem.D, problem.discount, dt)
    for _ in range(3):
        x, a = rng.normal(size=len(problem.A)), rng.normal(size=problem.B.shape[1])
        F, G, C, cost = moments(problem, dt, at=(x, a))
        np.testing.assert_allclose(held.F, F, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(held.G, G, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(held.noise @ held.noise.T, C, rtol=1e-9, atol=1e-12)
        z = np.concatenate([x, a])
        assert (z @ held.M @ z + held.constant) / 2 == pytest.approx(cost, rel=1e-9)
        assert float(problem.exact_reward(0.0, x, a, dt)) == pytest.approx(-cost, rel=1e-9)
        np.testing.assert_allclose(
            problem.exact_step(0.0, x, a, dt, np.zeros(len(x))), F @ x + G @ a, rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize("risk_aversion", [0.5, 1.0, 2.0, 3.5, 5.0, 20.0])
@pytest.mark.parametrize("parameters", [{}, ASSETS])
@pytest.mark.parametrize("dt", [0.01, 0.25, 6.0])
def test_expected_utility_of_a_step(risk_aversion: float, parameters: dict[str, Any], dt: float) -> None:
    """Against quadrature in time of a Gauss-Hermite expectation; short steps use a series, long ones a call."""
    problem = Merton(**parameters, risk_aversion=risk_aversion, horizon=12.0, discount=0.03)
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    rng = np.random.default_rng(3)
    for unit in rng.uniform(-1, 1, (4, problem.action.dimension)):
        x, a = np.exp(rng.normal(size=1)), problem.action.from_unit(unit)
        growth = problem.risk_free_rate + problem.excess @ a[:-1] - a[-1]
        variance = float(np.sum((problem.sigma.T @ a[:-1]) ** 2))

        def flow(s: float, x: Any = x, a: Any = a, growth: float = growth, variance: float = variance) -> float:
            wealth = x * np.exp((growth - variance / 2) * s + np.sqrt(variance * s) * nodes)
            utilities = problem.reward(0.0, wealth[:, None], np.tile(a, (80, 1)))
            return float(np.exp(-problem.discount * s) * utilities @ weights / weights.sum())

        expected = quad(flow, 0, dt, epsabs=0, epsrel=1e-11)[0]
        assert float(problem.exact_reward(0.0, x, a, dt)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("risk_aversion", [0.5, 1.0, 2.0, 2.5, 16.0, 17.0])
def test_the_compiled_portfolio_is_the_formula(risk_aversion: float) -> None:
    """Series and products against plain NumPy, on both sides of every branch, on any leading axes."""
    problem = Merton(**ASSETS, risk_aversion=risk_aversion, horizon=10.0)
    rng = np.random.default_rng(0)
    for dt, scale in ((0.01, 1.0), (0.25, 0.1), (4.0, 1.0), (10.0, 9.0)):
        x, noise = np.exp(rng.normal(size=(40, 7, 1))), rng.normal(size=(40, 7, 3)) * scale
        a = problem.action.from_unit(rng.uniform(-1, 1, (7, 3)))
        loading, g = a[..., :-1] @ problem.sigma, risk_aversion
        growth, variance = problem.risk_free_rate + a[..., :-1] @ problem.excess - a[..., -1], (loading**2).sum(-1)
        gain = (growth - variance / 2) * dt + np.sqrt(dt) * (loading * noise).sum(-1)
        np.testing.assert_allclose(
            problem.exact_step(0.0, x, a, dt, noise)[..., 0], x[..., 0] * np.exp(gain), rtol=3e-14
        )
        if g != 1:
            rate = problem.discount - (1 - g) * (growth - g * variance / 2)
            utility = (a[..., -1] * x[..., 0]) ** (1 - g) / (1 - g)
            expected = utility * -np.expm1(-rate * dt) / rate
            np.testing.assert_allclose(problem.exact_reward(0.0, x, a, dt), expected, rtol=1e-13)


NEAR_EDGES = FirmInvestment(capital_bounds=(1.0, 3.0), productivity_bound=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("problem", [LQR(**COUPLED), Merton(**ASSETS), Merton(risk_aversion=1.0), NEAR_EDGES])
def test_the_reward_of_a_step_is_what_a_fine_simulation_collects(problem: Any) -> None:
    """Held actions, 64 substeps of the environment, trapezoidal rule in time; within four standard errors."""
    rows, substeps, dt = 20_000, 64, 0.5
    env = SDEVectorEnv(problem, 1, dt=dt)
    fine = SDEVectorEnv(problem, rows, dt=dt / substeps)
    x = problem.state.from_unit(np.full(problem.state.dimension, 0.3))
    action = np.full(env.single_action_space.shape, 0.4)
    env.reset(seed=0, options={"state": x})
    fine.reset(seed=0, options={"state": x})
    a, every = env.to_physical(action), np.tile(action, (rows, 1))
    flows = [problem.reward(0.0, fine.state, np.tile(a, (rows, 1)))]
    for step in range(1, substeps + 1):
        fine.step(every)
        flows.append(fine.gamma**step * problem.reward(0.0, fine.state, np.tile(a, (rows, 1))))
    collected = (np.sum(flows, axis=0) - (flows[0] + flows[-1]) / 2) * fine.dt
    error = collected.std() / np.sqrt(rows)
    assert abs(env.step(action[None])[1][0] - collected.mean()) < 4 * error + 1e-4 * abs(collected.mean())


@pytest.mark.parametrize("parameters", [{}, {**ASSETS}])
@pytest.mark.parametrize(("scheme", "order"), [("euler", 0.5), ("milstein", 1.0)])
def test_strong_order_on_geometric_brownian_motion(parameters: dict[str, Any], scheme: str, order: float) -> None:
    """E|X_T - X_T^dt| falls like dt^order on common Brownian paths."""
    problem = Merton(**parameters)
    rows, finest, T = 4000, 256, 4.0
    rng = np.random.default_rng(5)
    dW = rng.normal(size=(finest, rows, problem.noise_dim)) * np.sqrt(T / finest)
    x, a = np.ones((rows, 1)), np.tile(problem.action.high, (rows, 1))
    exact = problem.exact_step(0.0, x, a, T, dW.sum(0) / np.sqrt(T))
    counts = np.array([8, 16, 32, 64, 128, 256])
    errors = [np.abs(follow(problem, scheme, x, a, dW, T, count) - exact).mean() for count in counts]
    slope = np.polyfit(np.log(T / counts), np.log(errors), 1)[0]
    assert slope == pytest.approx(order, abs=0.12)


def follow(problem: Any, scheme: str, x: Any, a: Any, dW: Any, T: float, count: int) -> Any:
    """End of a discretised path that uses these Brownian increments in `count` steps."""
    dt = T / count
    step = integrator(problem, dt, scheme).step
    coarse = dW.reshape(count, -1, *dW.shape[1:]).sum(1) / np.sqrt(dt)
    for noise in coarse:
        x_next = np.empty_like(x)
        step(np.zeros(len(x)), x, a, noise, x_next, np.empty(len(x)))
        x = x_next
    return x


def test_additive_noise_makes_milstein_and_euler_one() -> None:
    problem, rng = LQR(**COUPLED), np.random.default_rng(0)
    x, a, noise = rng.normal(size=(9, 2)), rng.normal(size=(9, 1)), rng.normal(size=(9, 3))
    ends = []
    for scheme in ("euler", "milstein"):
        x_next, reward = np.empty_like(x), np.empty(9)
        integrator(problem, 0.1, scheme).step(np.zeros(9), x, a, noise, x_next, reward)
        ends.append(x_next)
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-13, atol=1e-15)
