"""PortfolioTrading against the linear-quadratic closed form, quadrature, and bounds that hold at any cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad

from hacontrol_envs import LQR, Jet, PortfolioTrading, check_problem
from hacontrol_envs.errors import ParameterError
from hacontrol_envs.solvers.grid import Grid
from hacontrol_envs.solvers.hjb import GridValue, extrapolate, solve


@pytest.mark.parametrize("parameters", [{}, {"cost_exponent": 2.0, "mean_return": 0.0}, {"cost_exponent": 1.2}])
def test_contract(parameters):
    check_problem(PortfolioTrading(**parameters))


def squares(problem: PortfolioTrading, mu: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """int_0^inf e^{-rho t} E[mu_t^2] dt / (2 g sigma^2), what trading without cost earns, and its derivatives in mu."""
    rho, kappa, m = problem.discount, problem.mean_reversion, problem.mean_return
    y, s, unit = mu - m, problem.return_deviation, 2 * problem.risk_price
    total = m**2 / rho + 2 * m * y / (rho + kappa) + y**2 / (rho + 2 * kappa) + s**2 * (1 / rho - 1 / (rho + 2 * kappa))
    return total / unit, (2 * m / (rho + kappa) + 2 * y / (rho + 2 * kappa)) / unit, 2 / (rho + 2 * kappa) / unit


def test_a_quadratic_cost_without_bound_is_linear_quadratic():
    """X mu - g s^2 X^2/2 is mu^2/(2 g s^2) less g s^2/2 times the squared distance from Merton's position."""
    problem = PortfolioTrading(cost_exponent=2.0, trading_bound=1e3)
    price, kappa, eta = problem.risk_price, problem.mean_reversion, problem.return_volatility
    tracking = LQR(
        state_matrix=[[0.0, 0.0], [0.0, -kappa]],
        control_matrix=[[1.0], [0.0]],
        state_cost=[[price, -1.0], [-1.0, 1 / price]],
        control_cost=problem.trading_cost,
        noise_matrix=[[0.0], [eta]],
        discount=problem.discount,
    ).solution()
    x = problem.state.from_unit(np.random.default_rng(0).uniform(-1.0, 1.0, (200, 2)))
    z = x - [problem.mean_return / price, problem.mean_return]
    lost, (earned, slope, bend) = tracking.jet(0.0, z), squares(problem, x[:, 1])
    v_x, v_xx = lost.v_x.copy(), lost.v_xx.copy()
    v_x[:, 1] += slope
    v_xx[:, 1, 1] += bend
    jet = Jet(lost.v + earned, 0 * lost.v, v_x, v_xx)
    chosen = problem.maximiser(0.0, x, v_x, v_xx)
    np.testing.assert_allclose(chosen, tracking.policy(0.0, z), rtol=1e-9, atol=1e-12)
    assert np.abs(problem.hjb_residual(0.0, x, chosen, jet)).max() <= 1e-12 * np.abs(jet.v).max()


def value_at_rest(**parameters: Any) -> tuple[float, float]:
    """V, with its error, at the mean return and Merton's position there, by three grids of order 1, extrapolated."""
    problem = PortfolioTrading(**parameters)
    rest, found = np.array([[problem.mean_return / problem.risk_price, problem.mean_return]]), []
    for count in (13, 25, 49):
        grid = Grid(problem, (np.linspace(-1.0, 1.0, count),) * 2)
        start = found[-1].value(0.0, grid.x) if found else None
        found.append(GridValue(grid, solve(grid, start)[0]))
    value, error = extrapolate([one.value(0.0, rest)[0] for one in found])
    return float(value), float(error)


def test_at_any_cost_the_value_is_between_that_of_no_trade_and_that_of_trade_without_cost():
    """Who never trades at Merton's position earns m^2/(2 g s^2) a year in the mean."""
    problem = PortfolioTrading()
    idle = problem.mean_return**2 / (2 * problem.risk_price * problem.discount)
    free = float(squares(problem, np.array(problem.mean_return))[0])
    values, errors = zip(*(value_at_rest(trading_cost=cost) for cost in (3e-3, 0.1, 30.0)), strict=True)
    assert max(errors) <= 1e-2 * free
    assert errors[2] <= 1e-5 * free
    assert idle < values[2] < values[1] < values[0] < free
    assert values[2] - idle <= 1e-4 * (free - idle)
    assert free - values[0] <= 0.2 * (free - idle)


def test_expected_rewards_by_quadrature():
    problem, x, a, dt = PortfolioTrading(), np.array([0.9, 0.12]), np.array([-1.3]), 0.7
    m, kappa, rho, g = problem.mean_return, problem.mean_reversion, problem.discount, problem.risk_price

    def flow(s):
        position, mu = x[0] + a[0] * s, m + (x[1] - m) * np.exp(-kappa * s)
        cost = problem.trading_cost * abs(a[0]) ** 1.5 / 1.5
        return np.exp(-rho * s) * (position * mu - g / 2 * position**2 - cost)

    assert problem.exact_reward(0.0, x, a, dt) == pytest.approx(quad(flow, 0.0, dt, epsabs=1e-14)[0], rel=1e-12)


def test_speeds_beyond_the_bound_are_cut():
    problem = PortfolioTrading()
    slopes = problem.trading_cost * np.array([[0.0], [0.5], [-0.5], [1.5], [-1.5], [1e300]]) * [1.0, 0.0]
    chosen = problem.maximiser(0.0, np.zeros((6, 2)), slopes, np.zeros((6, 2, 2)))
    np.testing.assert_allclose(chosen[:, 0], [0.0, 0.25, -0.25, 2.0, -2.0, 2.0], atol=1e-15)


def test_no_optimum_is_known():
    assert PortfolioTrading().solution() is None
    assert PortfolioTrading().solution(0.05) is None


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"cost_exponent": 1.0}, "cost_exponent must be greater than 1"),
        ({"cost_exponent": 2.1}, "cost_exponent must be at most 2"),
        ({"trading_cost": 0.0}, "trading_cost must be greater than 0"),
        ({"discount": 0.0}, "discount must be greater than 0"),
    ],
)
def test_bad_parameters_are_refused(parameters, message):
    with pytest.raises(ParameterError, match=message):
        PortfolioTrading(**parameters)
