"""The firm's costs and rules, its held capital constraint, its rewards, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize_scalar

from hacontrol_envs import FirmInvestment
from hacontrol_envs.errors import ParameterError
from hacontrol_envs.simulation.env import SDEVectorEnv
from hacontrol_envs.simulation.integrate import SCHEMES

KINKED = [FirmInvestment(), FirmInvestment(resale_price=0.8, adjustment_cost_down=3.0)]
SMOOTHED = [
    FirmInvestment(adjustment="smoothed"),
    FirmInvestment(adjustment="smoothed", adjustment_cost_up=1.0, adjustment_cost_down=20.0),
    FirmInvestment(
        adjustment="smoothed", adjustment_cost_up=3.0, adjustment_cost_down=3.0, purchase_price=0.7, resale_price=0.7
    ),
]
PUBLISHED = FirmInvestment(adjustment="as-published")


def theta(p, q):
    """The published cost's steepness, which falls from theta_- to theta_+ as q grows."""
    return p.adjustment_cost_up + (p.adjustment_cost_down - p.adjustment_cost_up) / (1 + np.exp(5 * q))


def gain(p, q):
    """max over iota of iota q - (L(iota) - p_+ iota), as stated: two parabolas with a flat piece, or q^2/(2 theta)."""
    if p.adjustment != "kinked":
        return q**2 / (2 * theta(p, q))
    wedge = p.purchase_price - p.resale_price
    return max(q, 0) ** 2 / (2 * p.adjustment_cost_up) + max(-wedge - q, 0) ** 2 / (2 * p.adjustment_cost_down)


def played(p, v_k, k=1.0):
    """The maximiser at a marginal value of capital."""
    v_x = np.array([[v_k, 0.3]])
    return float(p.maximiser(0.0, np.array([[k, 0.1]]), v_x, np.zeros((1, 2, 2)))[0, 0])


@pytest.mark.parametrize("p", KINKED + SMOOTHED)
def test_the_cost_is_the_legendre_transform_of_the_gain(p):
    """L(iota) = max over q of iota (p_+ + q) - H(q), maximised numerically."""
    low, high = p.action.low[0], p.action.high[0]
    for rate in np.linspace(low, high, 23):
        bracket = (-p.purchase_price - 0.5, 12 * p.adjustment_cost_up * high)
        found = minimize_scalar(lambda q, i=rate: gain(p, q) - i * q, bounds=bracket, options={"xatol": 1e-9})
        assert float(p.cost(np.array(rate))) == pytest.approx(p.purchase_price * rate - found.fun, abs=1e-10)


@pytest.mark.parametrize("p", KINKED + SMOOTHED)
def test_the_maximiser_is_the_derivative_of_the_gain(p):
    for q in (-0.6, -0.3, -0.1, 0.05, 0.2, 0.4):
        slope = (gain(p, q + 1e-6) - gain(p, q - 1e-6)) / 2e-6
        wanted = np.clip(slope, p.action.low[0], p.action.high[0])
        assert played(p, p.purchase_price + q) == pytest.approx(wanted, abs=1e-8)


@pytest.mark.parametrize("p", [*SMOOTHED, PUBLISHED])
def test_the_marginal_cost_of_a_rate_is_the_price_at_which_it_is_played(p):
    """The rule inverted: played(p_+ + q) = iota where p_+ + q = L'(iota); as published, where q = iota theta(q)."""
    for rate in np.linspace(0.9 * p.action.low[0], 0.9 * p.action.high[0], 11):
        if p is PUBLISHED:
            steepness = 2 * float(p.cost(np.array(rate)) - p.purchase_price * rate) / rate**2
            v_k = p.purchase_price + rate * steepness
        else:
            v_k = float(p.cost(np.array(rate + 1e-6)) - p.cost(np.array(rate - 1e-6))) / 2e-6
        assert played(p, v_k) == pytest.approx(rate, abs=1e-8)


def test_as_published_the_cost_makes_the_published_hamiltonian_and_is_not_maximised_by_its_control():
    p = PUBLISHED
    for q in (-0.4, -0.2, 0.1, 0.5):
        rate, v_k = played(p, 1 + q), 1 + q
        assert rate == pytest.approx(q / theta(p, q), rel=1e-14)
        assert float(p.cost(np.array(rate))) == pytest.approx(rate + theta(p, q) * rate**2 / 2, rel=1e-12)
        assert v_k * rate - float(p.cost(np.array(rate))) == pytest.approx(q**2 / (2 * theta(p, q)), rel=1e-11)
    q = -0.4
    rates = np.linspace(p.action.low[0], 0, 2001)
    assert np.max((1 + q) * rates - p.cost(rates)) > q**2 / (2 * theta(p, q)) + 1e-5


def test_nothing_is_done_between_the_two_prices_of_capital():
    p = FirmInvestment(resale_price=0.8)
    assert [played(p, v) for v in (0.8, 0.83, 0.9, 1.0)] == [0.0] * 4
    assert played(p, 0.8 - 1e-6) == pytest.approx(-1e-6 / 6, rel=1e-8)
    assert played(p, 1 + 1e-6) == pytest.approx(1e-6 / 2, rel=1e-8)
    steep = np.diff(p.cost(np.array([-1e-9, 0.0, 1e-9]))) / 1e-9
    np.testing.assert_allclose(steep, [0.8, 1.0], rtol=1e-6)


def test_a_rate_is_cut_only_as_far_as_capital_must_stay():
    p, dt = FirmInvestment(capital_bounds=(0.5, 2.0)), 0.25
    low, high = p.action.low[0], p.action.high[0]
    k = np.array([0.5, 0.505, 1.0, 1.95, 2.0])
    x = np.stack([k, np.zeros(5)], axis=-1)
    for rate, edge in ((low, 0.5), (high, 2.0)):
        a = np.full((5, 1), rate)
        free = k * np.exp((rate - p.depreciation) * dt)
        stays = (free >= 0.5) & (free <= 2.0)
        np.testing.assert_allclose(
            p.exact_step(0.0, x, a, dt, np.zeros((5, 1)))[:, 0], np.where(stays, free, edge), rtol=1e-14
        )
        held = p.admissible(0.0, x, a, dt)[:, 0]
        np.testing.assert_array_equal(held[stays], rate)
        np.testing.assert_allclose((k * np.exp((held - p.depreciation) * dt))[~stays], edge, rtol=1e-14)
        assert 0 < stays.sum() < 5
    at_once = p.admissible(0.0, x, np.full((5, 1), low))[:, 0]
    np.testing.assert_array_equal(at_once, [p.depreciation, low, low, low, low])
    assert played(p, 0.1, k=0.5) == played(p, 9.0, k=2.0) == p.depreciation
    assert played(p, 0.1, k=2.0) < 0 < p.depreciation < played(p, 9.0, k=0.5)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_scheme_leaves_the_edges(scheme):
    env = SDEVectorEnv(FirmInvestment(capital_bounds=(1.0, 1.5), productivity_bound=0.1), 64, dt=0.25, scheme=scheme)
    env.reset(seed=0)
    for sign in (1, -1):
        for _ in range(30):
            env.step(np.full((64, 1), sign, np.float32))
            assert np.all((env.state >= [1.0, -0.1]) & (env.state <= [1.5, 0.1]))
        assert np.all(env.state[:, 0] == (1.5 if sign > 0 else 1.0))


@pytest.mark.parametrize(
    "p", [*KINKED, *SMOOTHED, FirmInvestment(returns_to_scale=1.0, depreciation=0.0, volatility=0.0)]
)
@pytest.mark.parametrize("dt", [0.25, 2.0])
def test_the_reward_of_a_step_is_the_integral_of_expected_flows(p, dt):
    """Away from the edges of productivity, by adaptive quadrature; one rate is cut, one makes both integrands flat."""
    kappa, r, alpha = p.mean_reversion, p.discount, p.returns_to_scale
    for k, z, rate in (
        (1.0, 0.3, 0.2),
        (3.0, -0.5, -0.1),
        (4.9, 0.0, 0.4),
        (0.201, 0.1, -0.16),
        (1.5, 0.0, p.depreciation + r),
    ):
        held = np.clip(rate, p.depreciation + np.log(0.2 / k) / dt, p.depreciation + np.log(5.0 / k) / dt)

        def flow(s, k=k, z=z, held=held):
            capital = k * np.exp((held - p.depreciation) * s)
            mean, variance = z * np.exp(-kappa * s), p.volatility**2 * -np.expm1(-2 * kappa * s) / (2 * kappa)
            revenue = p.price * np.exp(mean + variance / 2) * capital**alpha
            return np.exp(-r * s) * (revenue - capital * float(p.cost(np.array(held))))

        wanted = quad(flow, 0, dt, epsabs=1e-14, epsrel=1e-13)[0]
        given = p.exact_reward(0.0, np.array([k, z]), np.array([rate]), dt)
        assert float(given) == pytest.approx(wanted, rel=2e-12)


def test_reflection_lowers_the_reward_at_the_upper_edge():
    """By P k^alpha e^z int E[push] ds, where E[push] = sigma sqrt(2 s/pi) for a short step without drift."""
    wide, narrow = (FirmInvestment(productivity_bound=b, mean_reversion=1e-9) for b in (9.0, 0.5))
    x, a, dt = np.array([1.0, 0.5]), np.array([0.08]), 1e-4
    lost = float(wide.exact_reward(0.0, x, a, dt) - narrow.exact_reward(0.0, x, a, dt))
    assert lost == pytest.approx(np.exp(0.5) * 0.2 * np.sqrt(2 / np.pi) * dt**1.5 / 1.5, rel=5e-3)


def test_states_beyond_their_bounds_count_as_the_nearest_within():
    p, a, z = FirmInvestment(), np.array([0.1]), np.array([0.4])
    for beyond, within in (([9.0, 7.0], [5.0, 2.5]), ([0.01, -3.0], [0.2, -2.5])):
        pairs = zip(*(p.exact_transition(0.0, np.array(x), a, 0.25, z) for x in (beyond, within)), strict=True)
        assert all(np.array_equal(*pair) for pair in pairs)


def test_the_resting_capital_rests():
    """Without noise and with V_k = p_+ + theta_+ delta for ever, the firm replaces what it loses, and V_k stays."""
    p = FirmInvestment(volatility=0.0)
    k, delta = p.resting_capital, p.depreciation
    v_k = p.purchase_price + p.adjustment_cost_up * delta
    assert played(p, v_k, k) == pytest.approx(delta, rel=1e-14)
    marginal = p.returns_to_scale * k ** (p.returns_to_scale - 1) - float(p.cost(np.array(delta)))
    assert p.discount * v_k == pytest.approx(marginal, rel=1e-12)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"returns_to_scale": 1.2}, "at most 1"),
        ({"resale_price": 1.1}, "without bound"),
        ({"capital_bounds": (2.0, 1.0)}, "capital_bounds"),
        ({"capital_bounds": (0.0, 1.0)}, "capital_bounds"),
        ({"capital_bounds": 3.0}, "capital_bounds"),
        ({"adjustment": "convex"}, "adjustment"),
        ({"adjustment": "smoothed", "resale_price": 0.9}, "one price of capital"),
        ({"adjustment": "smoothed", "adjustment_cost_down": 1e4}, "no convex cost"),
        ({"adjustment": "smoothed", "adjustment_cost_down": 600.0}, "no convex cost"),
        ({"adjustment": "as-published", "adjustment_cost_up": 600.0}, "no convex cost"),
        ({"mean_reversion": 0.0}, "mean_reversion"),
        ({"volatility": -0.1}, "volatility"),
        ({"productivity_bound": np.inf}, "productivity_bound"),
        ({"discount": 0.0}, "discount"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(bad, words):
    with pytest.raises(ParameterError, match=words):
        FirmInvestment(**bad)


def test_steps_too_long_are_refused():
    with pytest.raises(ParameterError, match="is too long a step"):
        SDEVectorEnv(FirmInvestment(), 2, dt=50.0)
