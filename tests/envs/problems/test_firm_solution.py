"""FirmInvestment's optimum by finite differences, against closed forms and what any optimum must satisfy."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy.integrate import quad, solve_bvp

from hacontrol_envs import FirmInvestment
from hacontrol_envs.errors import NumericalError
from hacontrol_envs.solvers.grid import Grid, edge_nodes
from hacontrol_envs.solvers.hjb import GridValue, extrapolate, monotone_solution, refine, solve

WIDE = {"capital_bounds": (0.02, 50.0), "productivity_bound": 1.0}
WEDGE = FirmInvestment(price=0.5, volatility=0.4, purchase_price=1.2, resale_price=0.9)


@cache
def solved(**parameters):
    p = FirmInvestment(**parameters)
    return p, p.solution()


def states(k, z):
    return np.stack(np.meshgrid(k, z, indexing="ij"), axis=-1).reshape(-1, 2)


@pytest.mark.slow
def test_constant_returns_by_an_ordinary_differential_equation():
    """Hayashi (1982): V = q(z) k, r q = P e^z - delta q + max_iota {iota q - L} - kappa z q' + sigma^2/2 q''."""
    _, found = solved(returns_to_scale=1.0, price=0.15, adjustment_cost_up=4.0, **WIDE)

    def slopes(z, y):
        q, q_z = y
        gain = np.maximum(q - 1, 0) ** 2 / (2 * 4.0) + np.maximum(1 - q, 0) ** 2 / (2 * 6.0)
        return np.stack([q_z, 2 / 0.2**2 * ((0.05 + 0.08) * q - 0.15 * np.exp(z) - gain + 0.5 * z * q_z)])

    z = np.linspace(-1, 1, 101)
    bvp = solve_bvp(
        slopes, lambda a, b: np.array([a[1], b[1]]), z, [1 + 0.3 * z, 0.3 + 0 * z], tol=1e-9, max_nodes=10**5
    )
    assert bvp.status == 0
    x = states(np.linspace(0.7, 1.5, 5), np.linspace(-1, 1, 41))
    q = bvp.sol(x[:, 1])[0]
    assert q.min() < 1.1 < 1.4 < q.max()
    assert np.abs(found.value(0.0, x) - q * x[:, 0]).max() < min(found.error, 2e-5)
    np.testing.assert_allclose(found.policy(0.0, x)[:, 0], (q - 1) / 4, atol=2e-5)


@pytest.mark.slow
def test_constant_returns_without_noise():
    """(r + delta) q = P + (q - 1)^2/(2 theta): the root from which capital does not explode."""
    _, found = solved(
        returns_to_scale=1.0, price=0.15, adjustment_cost_up=4.0, volatility=0.0, capital_bounds=(0.02, 50.0)
    )
    at = 4.0 * (0.05 + 0.08)
    q = 1 + at - np.sqrt((1 + at) ** 2 - 1 - 2 * 4.0 * 0.15)
    k = np.linspace(0.7, 1.5, 9)
    x = states(k, [0.0])
    assert np.abs(found.value(0.0, x) - q * k).max() < found.error
    np.testing.assert_allclose(found.value(0.0, x), q * k, rtol=3e-5)
    np.testing.assert_allclose(found.policy(0.0, x)[:, 0], (q - 1) / 4, atol=1e-5)


@pytest.mark.slow
def test_rest_without_noise():
    """At the k* with alpha P k^{alpha-1} = (r + delta)(1 + theta delta) - theta delta^2/2 nothing moves."""
    _, found = solved(volatility=0.0)
    k = (0.35 / ((0.05 + 0.08) * (1 + 2 * 0.08) - 0.08**2)) ** (1 / 0.65)
    x = np.array([[k, 0.0]])
    assert found.value(0.0, x) == pytest.approx((k**0.35 - (0.08 + 0.08**2) * k) / 0.05, abs=found.error)
    assert found.value(0.0, x) == pytest.approx((k**0.35 - (0.08 + 0.08**2) * k) / 0.05, rel=1e-5)
    assert found.jet(0.0, x).v_x[0, 0] == pytest.approx(1 + 2 * 0.08, rel=1e-4)
    assert found.policy(0.0, x)[0, 0] == pytest.approx(0.08, abs=1e-4)


@pytest.mark.slow
def test_replacing_what_depreciates_is_worth_its_expected_revenue():
    """Capital stays, and E e^{z_t} = exp(z e^{-kappa t} + sigma^2 (1 - e^{-2 kappa t})/(4 kappa)); no edge is met."""
    p = FirmInvestment()

    def worth(k, z):
        def flow(t):
            return np.exp(-0.05 * t + z * np.exp(-0.5 * t) + 0.2**2 * (1 - np.exp(-t)) / 2)

        return k**0.35 * quad(flow, 0, 600, epsabs=1e-12, limit=500)[0] - k * (0.08 + 0.08**2) / 0.05

    x = states([0.5, 1.0, 3.0], [-1.0, -0.3, 0.0, 0.5, 1.0])
    exact = np.array([worth(*one) for one in x])
    gaps = []
    for shape in ((21, 41), (41, 81)):
        grid = Grid(p, tuple(map(edge_nodes, shape)), 4)
        V = grid.evaluate(np.full((len(grid.x), 1), 0.08))
        gaps.append(np.abs(GridValue(grid, V).value(0.0, x) - exact).max())
    assert gaps[1] < min(gaps[0] / 8, 1e-4)
    optimum = p.solution().value(0.0, x)
    assert np.all(optimum > exact)


@pytest.mark.slow
@pytest.mark.parametrize("p", [FirmInvestment(), WEDGE], ids=["default", "wedge"])
def test_the_error_covers_a_finer_grid(p):
    found = p.solution()
    finer = refine(p, (edge_nodes, edge_nodes), ((41, 61), (101, 181)))[-1]
    x = np.concatenate([finer.grid.x, p.state.from_unit(np.random.default_rng(1).uniform(-1, 1, (2000, 2)))])
    assert 0 < np.abs(found.value(0.0, x) - finer.value(0.0, x)).max() < found.error


@pytest.mark.slow
def test_order_1_tends_to_it():
    p, x = FirmInvestment(), states([1.0, 2.0, 4.0], [-0.5, 0.0, 0.5])
    gaps = []
    for shape in ((31, 41), (61, 81)):
        grid = Grid(p, (edge_nodes(shape[0]), edge_nodes(shape[1])))
        gaps.append(np.abs(GridValue(grid, solve(grid)[0]).value(0.0, x) - p.solution().value(0.0, x)).max())
    assert np.log2(gaps[0] / gaps[1]) == pytest.approx(1, abs=0.4)


@pytest.mark.slow
@pytest.mark.parametrize("p", [FirmInvestment(), FirmInvestment(adjustment="smoothed"), WEDGE])
def test_no_action_does_better_than_the_policy(p):
    found, x = p.solution(), states(np.linspace(0.6, 3.5, 15), np.linspace(-0.8, 0.8, 15))
    jet, best = found.jet(0.0, x), found.policy(0.0, x)
    scale, free = p.discount * np.abs(jet.v), best[:, 0] < p.action.high - 0.02
    assert free.mean() > 0.8
    own = p.hjb_residual(0.0, x, best, jet)
    assert np.max(np.abs(own) / scale) < 2e-3
    assert np.median(np.abs(own) / scale) < 2e-5
    for off in (-0.02, -0.002, 0.002, 0.02):
        rival = p.hjb_residual(0.0, x, best + off, jet)
        assert np.all((own > rival)[free])
        if p.adjustment == "kinked":
            assert np.all((own - rival)[free] > 0.99 * off**2 / 2 * p.adjustment_cost_up * x[free, 0])


@pytest.mark.slow
def test_a_wedge_between_prices_makes_a_region_of_inaction():
    found = WEDGE.solution()
    x = states(np.linspace(0.3, 4.8, 121), [0.0])
    rate, h = found.policy(0.0, x)[:, 0], np.array([1e-3, 0.0])
    slope = (found.value(0.0, x + h) - found.value(0.0, x - h)) / 2e-3
    idle = rate == 0
    assert 20 < idle.sum() < 100
    assert np.all(np.diff(rate) <= 0)
    assert rate[0] > 0 > rate[-1]
    assert np.all((slope[idle] > 0.9 - 1e-4) & (slope[idle] < 1.2 + 1e-4))
    assert np.all(slope[rate > 0] > 1.2 - 1e-4)
    assert np.all(slope[rate < 0] < 0.9 + 1e-4)


@pytest.mark.slow
def test_the_value_is_monotone_where_it_must_be():
    (_, found), x = solved(), states(np.linspace(0.3, 4.5, 30), np.linspace(-1.5, 1.5, 30))
    V = found.value(0.0, x).reshape(30, 30)
    assert np.all(np.diff(V, axis=1) > 0)  # in productivity
    assert np.all(np.diff(V, n=2, axis=0) < 0)  # concave in capital
    for name, value in (("price", 0.9), ("adjustment_cost_up", 2.5)):
        assert np.all(FirmInvestment(**{name: value}).solution().value(0.0, x) < V.ravel()), name


@pytest.mark.slow
def test_smoothed_costs_that_are_symmetric_are_kinked_ones():
    (_, kinked), (_, smoothed) = (
        solved(adjustment_cost_down=2.0, adjustment=adjustment) for adjustment in ("kinked", "smoothed")
    )
    x = states(np.linspace(0.2, 5, 20), np.linspace(-2.5, 2.5, 20))
    np.testing.assert_allclose(smoothed.value(0.0, x), kinked.value(0.0, x), rtol=1e-8)
    np.testing.assert_allclose(smoothed.policy(0.0, x), kinked.policy(0.0, x), atol=1e-7)


def test_no_optimum_is_claimed_where_the_control_is_none():
    assert FirmInvestment(adjustment="as-published").solution() is None
    assert FirmInvestment(adjustment="as-published").solution(dt=0.1) is None


@pytest.mark.slow
@pytest.mark.parametrize("down", [6.0, 20.0, 100.0])
def test_cheap_to_build_and_dear_to_sell(down, monkeypatch):
    """Where investing costs next to nothing V has layers on which order 4 does not settle: the monotone scheme does.

    Its error covers what extrapolation on other nodes finds, and its policy loses less than that on them.
    """
    monkeypatch.setattr("hacontrol_envs.problems.firm_investment.NESTED", ((21, 31), (41, 61), (81, 121)))
    p = FirmInvestment(adjustment_cost_up=0.05, adjustment_cost_down=down)
    with pytest.raises(NumericalError, match=r"order 4 .* not converged"):
        refine(p, (edge_nodes, edge_nodes), ((41, 61),))
    found = p._monotone
    grids = [Grid(p, (edge_nodes(count + 10), edge_nodes(count))) for count in (31, 61, 121)]
    V = [solve(grid)[0] for grid in grids]
    x = p.state.from_unit(np.random.default_rng(1).uniform(-1, 1, (2000, 2)))
    right, _ = extrapolate([GridValue(grid, values).value(0.0, x) for grid, values in zip(grids, V, strict=True)])
    assert np.abs(found.value(0.0, x) - right).max() < found.error < 0.01 * np.abs(right).max()
    lost = V[-1] - grids[-1].evaluate(found.policy(0.0, grids[-1].x))
    assert lost.max() < found.error


@pytest.mark.slow
def test_the_monotone_scheme_agrees_with_order_4():
    p = FirmInvestment()
    exact, found = p.solution(), monotone_solution(p, (edge_nodes, edge_nodes), ((21, 31), (41, 61), (81, 121)))
    x = p.state.from_unit(np.random.default_rng(1).uniform(-1, 1, (2000, 2)))
    assert exact.error < np.abs(found.value(0.0, x) - exact.value(0.0, x)).max() + exact.error < found.error


def test_a_solver_whose_numbers_are_not_right_says_so(monkeypatch):
    p = FirmInvestment()
    grid = Grid(p, (edge_nodes(15), edge_nodes(15)))
    a = np.full((len(grid.x), 1), 0.08)
    monkeypatch.setattr("hacontrol_envs.solvers.grid.BALANCE", 0.0)
    with pytest.raises(NumericalError, match="misses its equation"):
        grid.evaluate(a)
    with pytest.raises(NumericalError, match="no stationary law found"):
        grid.law(a)
