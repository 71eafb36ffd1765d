"""Certificates hold the truth where it is known, and say so where they know nothing."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import scipy

from hacontrol_agents import Certificate, certify
from hacontrol_agents.certificates import bounds
from hacontrol_agents.certificates.continuous import ControlSearch, Subject
from hacontrol_agents.certificates.coordinates import Coordinates
from hacontrol_agents.certificates.expansion import Expansion
from hacontrol_agents.certificates.fitting import fit_base
from hacontrol_agents.certificates.paths import Plan, walk
from hacontrol_agents.certificates.region import Region
from hacontrol_agents.certificates.value import Value
from hacontrol_envs import LQR, FirmInvestment, Jet, Merton
from hacontrol_envs.errors import LearningError, ParameterError


def linear_value(problem: LQR, K: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The value of a = -K x: (rho/2 - A + B K)'P + P(rho/2 - A + B K) = Q + K'R K, and a constant (Lyapunov)."""
    closed = problem.A - problem.B @ K - problem.discount / 2 * np.eye(len(problem.A))
    P = scipy.linalg.solve_continuous_lyapunov(closed.T, -(problem.Q + K.T @ problem.R @ K))
    constant = np.trace(problem.D @ problem.D.T @ P) / 2 / problem.discount
    return -np.einsum("ni,ij,nj->n", x, P, x) / 2 - constant


def holds(found: Certificate, earned: float, best: float) -> bool:
    """Whether lower <= J <= V* <= upper, up to rounding."""
    slack = 1e-9 * found.scale
    return found.lower - slack <= earned <= best + slack <= found.upper + 2 * slack


def random_lqr(seed: int) -> LQR:
    """A system of one or two states, stable or not, with one control a state."""
    rng = np.random.default_rng([seed, 7])
    n = 1 + seed % 2
    return LQR(
        dimension=n,
        state_matrix=rng.normal(0, 0.6, (n, n)).tolist(),
        discount=float(np.exp(rng.uniform(np.log(0.05), np.log(0.5)))),
        control_cost=float(np.exp(rng.uniform(np.log(0.05), np.log(0.5)))),
        noise_matrix=float(rng.uniform(0.1, 0.5)),
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("gain", [1.0, 1.15])
def test_a_linear_policy_of_a_random_system_is_bounded_sharply(seed, gain):
    problem = random_lqr(seed)
    optimum = problem.solution()
    K = -np.stack([optimum.policy(0.0, e) for e in np.eye(len(problem.A))], axis=-1) * gain
    found = certify(lambda t, x: -x @ K.T, problem)
    earned, best = linear_value(problem, K, found.starts).mean(), optimum.value(0.0, found.starts).mean()
    assert holds(found, earned, best)
    assert earned - found.lower <= 1e-6 * found.scale
    assert found.upper - best <= 1e-6 * found.scale
    assert not found.failed


@pytest.mark.slow
@pytest.mark.parametrize(("risk_aversion", "discount"), [(0.5, 0.1), (1.0, 0.05), (6.0, 0.05), (20.0, 0.05)])
def test_constant_portfolios_are_bounded_sharply_at_any_risk_aversion(risk_aversion, discount):
    problem = Merton(risk_aversion=risk_aversion, discount=discount)
    optimum = problem.solution()
    a = np.asarray(optimum.policy(0.0, np.ones((1, 1))))[0] * np.array([1.02, 0.99])
    found = certify(lambda t, x: np.tile(a, (len(x), 1)), problem)
    earned = problem.constant_action_value(found.starts, a).mean()
    best = optimum.value(0.0, found.starts).mean()
    assert holds(found, earned, best)
    assert (earned - found.lower) / found.scale <= 1e-5
    assert (found.upper - best) / found.scale <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("c", [20.0, -20.0, -0.1])
def test_a_value_with_a_homogeneous_solution_added_is_not_believed(c):
    """V* + c w^m has no residual under the optimal policy, m a root of m mu + m (m - 1) s^2/2 = rho, and is wrong."""
    problem = Merton()
    optimum = problem.solution()
    a = np.asarray(optimum.policy(0.0, np.ones((1, 1))))[0]
    mu, s = problem.risk_free_rate + a[0] * 0.05 - a[1], a[0] * 0.2
    m = max(np.roots([s**2 / 2, mu - s**2 / 2, -problem.discount]))

    def wrong(t, x):
        jet, w = optimum.jet(t, x), x[:, 0]
        more = c * w**m
        return Jet(
            jet.v + more,
            jet.v_t,
            jet.v_x + (m * more / w)[:, None],
            jet.v_xx + (m * (m - 1) * more / w**2)[:, None, None],
        )

    x = np.array([[0.5], [2.0]])
    residual = problem.hjb_residual(0.0, x, optimum.policy(0.0, x), wrong(0.0, x))
    assert np.abs(residual).max() < 1e-10
    found = certify((wrong, optimum.policy), problem)
    best = optimum.value(0.0, found.starts).mean()
    assert np.abs(wrong(0.0, found.starts).v.mean() - best) > 1e-4 * found.scale
    assert holds(found, best, best)


@pytest.mark.slow
def test_a_firm_is_certified_without_its_value():
    problem = FirmInvestment()
    optimum = problem.solution()
    found = certify(optimum.policy, problem)
    best = optimum.value(0.0, found.starts).mean()
    assert found.certified
    assert found.lower <= best <= found.upper
    assert found.relative_gap <= 1e-3


@pytest.mark.slow
def test_a_firm_that_is_held_at_a_bound_is_bounded_as_its_paths_say():
    """It invests so much that capital rests at k_max, where the rate is cut: the edge is no limit of points inside."""
    problem = FirmInvestment()
    found = certify(lambda t, x: np.tile(problem.action.center, (len(x), 1)), problem, evaluations=200_000)
    best = problem.solution().value(0.0, found.starts).mean()
    assert not found.failed
    assert "simulated paths agree with the lower bound" in found.checked
    assert holds(found, found.lower, best)


def test_over_a_finite_horizon_the_optimum_is_certified():
    problem = LQR(horizon=3.0)
    optimum = problem.solution()
    found = certify((optimum.jet, optimum.policy), problem)
    assert found.relative_gap <= 1e-9
    best = optimum.value(0.0, found.starts).mean()
    assert holds(found, best, best)


def test_over_a_finite_horizon_a_value_is_fitted():
    """As closely as polynomials in time can be: V is quadratic in x, log |V| linear in log wealth."""
    rng = np.random.default_rng(0)
    for problem in (LQR(horizon=1.0, terminal_cost=0.2), Merton(horizon=8.0, bequest=0.5)):
        optimum, at = problem.solution(), Coordinates(problem)
        t, x = at.back(rng.uniform(-1, 1, (1024, 2)))
        fitted = fit_base(at, (t, x), optimum.policy(t, x))
        t, x = at.back(rng.uniform(-1, 1, (200, 2)))
        best = optimum.value(t, x)
        assert np.abs(fitted(t, x).v - best).max() <= 2e-3 * np.abs(best).max()


@pytest.mark.slow
def test_a_merton_policy_over_a_finite_horizon_is_bounded_without_a_value():
    problem = Merton(horizon=8.0, bequest=0.15)
    optimum = problem.solution()
    found = certify(optimum.policy, problem, starts=8, evaluations=50_000)
    best = optimum.value(np.zeros(8), found.starts).mean()
    assert holds(found, best, best)
    assert found.relative_gap <= 0.2


@pytest.mark.slow
def test_a_portfolio_without_a_finite_value_has_no_lower_bound():
    """Of three times the best risky fraction at risk aversion 10: discounted utility grows without end."""
    problem = Merton(risk_aversion=10.0)
    a = np.asarray(problem.solution().policy(0.0, np.ones((1, 1))))[0] * np.array([3.0, 1.0])
    assert problem.constant_action_value(np.ones((1, 1)), a)[0] == -np.inf
    found = certify(lambda t, x: np.tile(a, (len(x), 1)), problem, starts=4)
    assert found.lower == -np.inf
    assert "paths leave every region" in str(found)


@pytest.mark.slow
def test_a_policy_that_lets_states_explode_is_not_certified():
    problem = LQR(state_matrix=0.5, discount=0.1)
    found = certify(lambda t, x: 0.0 * x, problem)
    assert not found.certified
    assert found.failed
    assert str(found).startswith("Not certified")


def test_a_policy_that_is_not_finite_is_refused():
    with pytest.raises(LearningError, match="not finite at 1024 of 1024 states"):
        certify(lambda t, x: np.nan * x, LQR())


def test_a_value_that_is_not_finite_is_no_help_and_no_harm():
    problem = LQR()
    optimum = problem.solution()

    def nothing(t, x):
        return Jet(*(np.nan * part for part in optimum.jet(t, x)))

    found = certify((nothing, optimum.policy), problem)
    best = optimum.value(0.0, found.starts).mean()
    assert holds(found, best, best)
    assert found.certified


def test_without_a_discount_a_finite_horizon_is_certified():
    problem = LQR(horizon=1.0, discount=0.0)
    optimum = problem.solution()
    found = certify((optimum.jet, optimum.policy), problem)
    best = optimum.value(0.0, found.starts).mean()
    assert holds(found, best, best)
    assert found.relative_gap <= 1e-6


@pytest.mark.slow
def test_the_other_root_of_riccatis_equation_is_not_certified():
    """It solves the HJB equation exactly, with a policy that steers away from the origin."""
    problem = LQR()
    a, b, q, r, rho = problem.A[0, 0], problem.B[0, 0], problem.Q[0, 0], problem.R[0, 0], problem.discount
    P = min(np.roots([b**2 / r, rho - 2 * a, -q]))
    c = problem.D[0, 0] ** 2 * P / 2 / rho

    def wrong(t, x):
        return Jet(-P * x[:, 0] ** 2 / 2 - c, 0 * x[:, 0], -P * x, np.full((len(x), 1, 1), -P))

    def away(t, x):
        return -b / r * P * x

    x = np.array([[0.3], [-0.2]])
    assert np.abs(problem.hjb_residual(0.0, x, away(0.0, x), wrong(0.0, x))).max() < 1e-12
    found = certify((wrong, away), problem)
    assert not found.certified
    assert found.upper >= problem.solution().value(0.0, found.starts).mean() - 1e-9


def test_a_rough_policy_is_certified_by_paths():
    problem = LQR()
    optimum = problem.solution()

    def rough(t, x):
        return optimum.policy(t, x) * np.where(np.sin(200 * x) > 0, 1.3, 0.75)

    found = certify(rough, problem, tolerance=0.1, evaluations=400_000)
    best = optimum.value(0.0, found.starts).mean()
    assert found.standard_error > 0
    assert found.certified
    assert found.lower < best
    assert holds(found, found.lower, best)


@pytest.mark.slow
def test_paths_weighted_by_the_value_earn_what_the_policy_does():
    """Far from the optimum, and at a high risk aversion, where plain averages of rewards never settle."""
    problem = Merton(risk_aversion=8.0)
    optimum = problem.solution()
    a = np.asarray(optimum.policy(0.0, np.ones((1, 1))))[0] * np.array([1.3, 0.95])
    at = Coordinates(problem)
    value = Value(at, optimum.jet, 0.0)
    starts = np.array([[0.5], [1.0], [2.0]])
    plan = Plan(paths=200, step=0.1, steps=4000, halvings=0, seed=0, until=1e-6)
    found = walk(value, lambda t, x: np.tile(a, (len(x), 1)), starts, plan, None)
    V = optimum.value(0.0, starts)
    exact = (problem.constant_action_value(starts, a) - V) / np.abs(V)
    error = found.gain.std(axis=1) / np.sqrt(200)
    np.testing.assert_allclose(found.gain.mean(axis=1), exact, atol=4 * error.max() + 0.01 * np.abs(exact).max())


@pytest.mark.parametrize(("degree", "last", "size"), [(5, None, 21), (2, 6, 21)])
def test_polynomials_are_differentiated(degree, last, size):
    rng = np.random.default_rng(0)
    expansion = Expansion(np.array([-1.5, 0.2]), np.array([0.5, 2.0]), degree, last)
    assert len(expansion) == size
    weights, s, step = rng.standard_normal(len(expansion)), rng.uniform(0.3, 0.4, (4, 2)), 1e-5
    _, slope, bend = expansion.jet(s, weights)
    for i in range(2):
        e = step * np.eye(2)[i]
        up, down = expansion.jet(s + e, weights), expansion.jet(s - e, weights)
        np.testing.assert_allclose((up[0] - down[0]) / (2 * step), slope[:, i], rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose((up[1] - down[1]) / (2 * step), bend[:, i], rtol=1e-6, atol=1e-6)


def test_a_corrected_value_is_differentiated():
    problem = FirmInvestment()
    base = Merton().solution()

    def jet(t, x):
        found = base.jet(t, x[:, :1])
        wide = np.zeros((len(x), 2, 2))
        wide[:, :1, :1] = found.v_xx
        return Jet(found.v, 0 * found.v, np.concatenate([found.v_x, 0 * found.v_x], axis=1), wide)

    at = Coordinates(problem)
    expansion = Expansion(-np.ones(2), np.ones(2), 3)
    weights = np.random.default_rng(1).standard_normal(len(expansion)) * 0.1
    t, x, step = np.zeros(3), np.array([[1.0, 0.1], [2.0, -0.3], [0.7, 0.2]]), 1e-5
    for factor in (None, 2.0):
        value = Value(at, jet, 0.0, factor).plus(expansion, weights).lifted(0.1)
        found = value.jet(t, x)
        for i in range(2):
            e = step * np.eye(2)[i]
            up, down = value.jet(t, x + e), value.jet(t, x - e)
            np.testing.assert_allclose((up.v - down.v) / (2 * step), found.v_x[:, i], rtol=1e-5, atol=1e-4)
            np.testing.assert_allclose((up.v_x - down.v_x) / (2 * step), found.v_xx[:, i], rtol=1e-5, atol=1e-3)


def test_the_weight_that_leaves_is_bounded_from_above():
    """Log wealth is Brownian, so that E[e^{-rho tau}] from the middle of an interval is 1/cosh in both directions."""
    problem = Merton(risk_aversion=1.0)
    a = np.array([[0.5, 0.03 + 0.5 * 0.05 - 0.005]])  # no drift of log wealth: .03 + .5 * .05 - k = s^2/2
    at, s = Coordinates(problem), 0.1
    half = problem.state.half_width[0]
    for width in (0.5, 1.0):
        region = Region(at, np.array([-width]), np.array([width]))
        t, x = at.back(region.points(np.random.default_rng(0), 512))
        value = Value(at, lambda t, x: Jet(np.ones(len(x)), np.zeros(len(x)), 0 * x, 0 * x[:, :, None]), None, 1.0)
        rates = value.rates(t, x, np.repeat(a, len(x), axis=0))
        exact = 1 / np.cosh(np.sqrt(2 * problem.discount) / s * width * half)
        bound = region.escapes(rates, np.zeros((1, 1)), np.ones(1)).sum()
        assert exact <= bound <= 4 * exact


def test_a_certificate_is_told_and_drawn():
    found = certify(gym.make("LQR-v0").unwrapped.problem.solution().policy, gym.make("LQR-v0"))
    assert str(found).startswith("Certified: up to what is assumed the policy loses at most")
    assert found.gap == pytest.approx(found.upper - found.lower)
    assert set(found.parts) == {"residual", "region", "tail", "noise", "step"}
    assert sum(found.parts.values()) == pytest.approx(found.gap, rel=1e-6, abs=1e-12)
    figure = found.plot()
    assert len(figure.axes) == 2


def test_the_weight_that_leaves_is_that_of_the_best_policy_known():
    """Of W's greedy policy, as W is closer to V* than V; E e^{-rho tau} of a Brownian motion from the middle."""
    problem, half = Merton(risk_aversion=1.0), 3.0
    optimum, start = problem.solution(), np.ones((1, 1))
    search = ControlSearch(Subject(problem, optimum.policy, None, start), 0)
    nothing = Value(search.at, lambda t, x: Jet(np.ones(len(x)), np.zeros(len(x)), 0 * x, 0 * x[:, :, None]), None, 1.0)
    best = Value(search.at, optimum.jet, 0.0)
    pi, k = np.asarray(optimum.policy(0.0, start))[0]
    s = 0.2 * pi
    m = problem.risk_free_rate + 0.05 * pi - k - s**2 / 2
    width = half * problem.state.half_width[0]
    exact = np.cosh(m * width / s**2) / np.cosh(np.sqrt(m**2 + 2 * problem.discount * s**2) * width / s**2)
    region = Region(search.at, np.array([-half]), np.array([half]))
    bound = search._leaving(best, nothing, region)
    assert exact <= bound <= 4 * exact


def test_a_programme_on_which_the_simplex_method_cycles_is_solved_by_interior_points(monkeypatch):
    solve, tried = scipy.optimize.linprog, []

    def cycling(*arguments, method, **settings):
        tried.append(method)
        settings["options"]["maxiter"] = 0 if method == "highs" else 100
        return solve(*arguments, method=method, **settings)

    monkeypatch.setattr(scipy.optimize, "linprog", cycling)
    rng = np.random.default_rng(0)
    left, right = np.concatenate([np.eye(3), rng.random((40, 3))]), -np.ones(43)
    found = bounds._least(np.ones(3), left, right)
    assert tried == ["highs", "highs-ipm"]
    assert found.status == 0
    assert (left @ found.x >= right - 1e-7).all()
    dual = solve(-right, A_eq=left.T, b_eq=np.ones(3), method="highs-ds")  # max right'y, left'y = cost, y >= 0
    assert found.fun == pytest.approx(-dual.fun, rel=1e-6)


def test_where_a_value_is_not_finite_the_greedy_action_is_the_middle_of_the_box():
    problem = Merton(expected_return=[0.06, 0.08], volatility=[0.2, 0.25])
    optimum, x = problem.solution(), np.array([[0.5], [1.0], [2.0]])

    def jet(t, x):
        found = optimum.jet(t, x)
        return found._replace(v_xx=np.where(x[:, :, None] == 1.0, np.nan, found.v_xx))

    a = Value(Coordinates(problem), jet, 0.0).greedy(np.zeros(3), x)
    np.testing.assert_allclose(a[[0, 2]], optimum.policy(0.0, x[[0, 2]]), rtol=1e-6)
    np.testing.assert_array_equal(a[1], problem.action.center)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"agent": 3}, "takes an agent"),
        ({"env": 3}, "ControlProblem or a DiscreteProblem"),
        ({"confidence": 1.0}, "below 1"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"starts": 0}, "starts"),
        ({"evaluations": 0}, "evaluations"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    problem = LQR()
    chosen = {"agent": problem.solution().policy, "env": problem, **arguments}
    with pytest.raises(ParameterError, match=message):
        certify(chosen.pop("agent"), chosen.pop("env"), **chosen)
