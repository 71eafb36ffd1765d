"""Merton to rounding: extreme bequests, horizons, risk aversions and nearly redundant assets, against other means."""

from __future__ import annotations

import itertools
from fractions import Fraction

import gymnasium as gym
import numpy as np
import pytest
from scipy.integrate import quad

from hacontrol_benchmarks.measure.judges import WrongAnswer, brock_mirman, merton
from hacontrol_envs import BrockMirman, Merton
from hacontrol_envs.errors import ParameterError


@pytest.mark.parametrize("bequest", [1e-12, 1e-6, 1e-3, 1e-2, 1.0, 1e5])
@pytest.mark.parametrize(("horizon", "discount"), [(10.0, 0.05), (1000.0, 1.0), (1e-6, 0.05), (30.0, 0.0)])
def test_log_utility_by_adaptive_quadrature(bequest, horizon, discount):
    p = Merton(risk_aversion=1.0, horizon=horizon, bequest=bequest, discount=discount)
    M = p.riskless_equivalent

    def integrand(left):
        """e^{-rho s} (M f - log f - 1) with this time left to the end, s = horizon - left."""
        f = bequest * np.exp(-discount * left) + (-np.expm1(-discount * left) / discount if discount else left)
        return np.exp(-discount * (horizon - left)) * (M * f - np.log(f) - 1)

    cuts = [0.0, *(horizon * 10.0 ** np.arange(-15.0, 0.0)), *(horizon * (1 - 2.0 ** -np.arange(1, 15))), horizon]
    parts = [quad(integrand, low, high, epsrel=1e-13, epsabs=0.0) for low, high in itertools.pairwise(cuts)]
    right = sum(part for part, _ in parts)
    size = sum(abs(part) for part, _ in parts)
    assert p.solution().value(0.0, np.ones(1)) == pytest.approx(right, abs=2e-13 * size)


def test_log_utility_as_reported():
    def value(**parameters):
        return Merton(risk_aversion=1.0, horizon=10.0, **parameters).solution().value(0.0, np.ones(1))

    assert value(bequest=1e-6) == pytest.approx(-15.82848085, abs=5e-9)
    assert value(bequest=1e-2) == pytest.approx(value(bequest=1e-2 * (1 + 1e-9)), abs=1e-8)


EXTREMES = [
    {"risk_aversion": 2.0, "horizon": 10.0, "bequest": 1e-6},
    {"risk_aversion": 2.0, "horizon": 10.0, "bequest": 1e-12},
    {"risk_aversion": 2.0, "horizon": 10.0, "bequest": 1e12},
    {"risk_aversion": 100.0, "horizon": 10.0},
    {"risk_aversion": 100.0, "horizon": 10.0, "bequest": 1e-6},
    {"risk_aversion": 100.0},
    {"risk_aversion": 0.05, "discount": 2.0, "horizon": 3.0, "bequest": 0.3},
    {"risk_aversion": 1 + 1e-9, "horizon": 5.0},
    {"risk_aversion": 1 - 1e-9, "horizon": 5.0, "bequest": 1e-6},
    {"risk_aversion": 1.0, "horizon": 10.0, "bequest": 1e-6},
    {"risk_aversion": 1.0, "horizon": 1e4, "discount": 0.0},
    {"risk_aversion": 3.0, "horizon": 1e-6},
    {"risk_aversion": 3.0, "horizon": 1e4, "volatility": 0.01},
    {"expected_return": 0.03 + 1e-9, "volatility": 1e-6, "risk_aversion": 4.0},
]


@pytest.mark.parametrize("parameters", EXTREMES, ids=str)
def test_extremes_in_continuous_time_and_held(parameters):
    merton.judge(parameters)


@pytest.mark.parametrize("dt", [0.25, 2.5])
def test_a_small_bequest_is_eaten_within_the_last_step(dt):
    """Without a bequest consumption of the last step is argmax k^{1-g} int_0^dt e^{-c s} ds, whatever came before."""
    p = Merton(risk_aversion=2.0, horizon=10.0, bequest=1e-30)
    k = p.solution(dt).policy(10.0 - dt, np.ones(1))[1]
    rate, tried = p.discount + p.riskless_equivalent, k * np.array([0.99, 1.0, 1.01])
    cost = [quad(lambda s, k=k: np.exp(-(rate - k) * s) / k, 0, dt, epsrel=1e-13)[0] for k in tried]
    assert cost[1] < min(cost[0], cost[2])


def test_assets_almost_redundant_in_fractions():
    """Two assets 3e-6 apart: the covariance has a condition number of 1e11, of which no digit may be seen."""
    volatility = [[0.2, 0.0], [0.2, 6e-7]]
    p = Merton(expected_return=[0.08, 0.0800001], volatility=volatility, risk_aversion=4.0)
    (a, _), (b, c) = [[Fraction(v) for v in row] for row in volatility]
    first, second = (Fraction(mu) - Fraction(0.03) for mu in (0.08, 0.0800001))
    loading = first / a, (second - first / a * b) / c  # Sigma^{-1} excess
    held = loading[1] / c
    right = [(loading[0] - b * held) / a / 4, held / 4]
    np.testing.assert_allclose(p.fractions, [float(share) for share in right], rtol=2e-16)


def test_lifetime_utility_that_is_hardly_finite():
    """nu = rho - (1-g) M over g of 1e-12, computed from numbers of .1: all its digits are right."""
    given = {"risk_aversion": 0.5, "risk_free_rate": 0.03, "expected_return": 0.08, "volatility": 0.2}
    M = Fraction(0.03) + (Fraction(0.08) - Fraction(0.03)) ** 2 / Fraction(0.2) ** 2
    discount = float(M / 2) + 1e-12
    p = Merton(**given, discount=discount)
    assert p.nu == pytest.approx(float((Fraction(discount) - M / 2) * 2), rel=1e-15)


def test_risk_aversion_beyond_all_floats_is_refused_by_its_name():
    for make in (lambda: Merton(risk_aversion=1000.0), lambda: gym.make("Merton-v0", risk_aversion=1000.0)):
        with pytest.raises(ParameterError, match=r"risk_aversion=1000\.0.*10\^\d+.*closer to 1"):
            make()
    with pytest.raises(ParameterError, match=r"bequest=1e-06.*bequest closer to 1"):
        Merton(risk_aversion=0.01, horizon=1.0, bequest=1e-6)
    with pytest.raises(ParameterError, match=r"pi\*.*raise volatility"):
        Merton(volatility=1e-200)
    with pytest.raises(ParameterError, match="at most 200000: choose a longer dt"):
        Merton(horizon=1000.0).solution(1e-4)


@pytest.mark.parametrize("parameters", [EXTREMES[0], EXTREMES[3], EXTREMES[4], EXTREMES[5], {"risk_aversion": 0.05}])
def test_steps_at_extremes_are_finite(parameters):
    env = gym.make("Merton-v0", dt=0.25, **{"discount": 2.0, **parameters})
    env.reset(seed=1)
    for level in (-1.0, 1.0):
        env.reset(seed=2)
        done = False
        while not done:
            observation, reward, terminated, truncated, _ = env.step(np.full(2, level, np.float32))
            done = terminated or truncated
            assert np.isfinite(reward)
            assert np.all(np.isfinite(observation))


def test_the_judges_see_what_is_wrong(monkeypatch):
    """By 64 nodes of Gauss and Legendre's, 1 - beta rho by subtraction, and fractions by NumPy's solver."""

    def fixed(self, t):
        nodes, weights = np.polynomial.legendre.leggauss(64)
        ahead = (self.horizon - t)[..., None] * (nodes + 1) / 2
        f = self._f(t[..., None] + ahead)
        integrand = np.exp(-self.discount * ahead) * (self.riskless_equivalent * f - np.log(f) - 1)
        return (self.horizon - t) / 2 * (integrand @ weights)

    monkeypatch.setattr(Merton, "_h", fixed)
    with pytest.raises(WrongAnswer, match="V is"):
        merton.judge({"risk_aversion": 1.0, "horizon": 10.0, "bequest": 1e-2})
    worse = BrockMirman.solution

    def saved(self, dt=None):
        found = worse(self)
        return type(found)(lambda t, x: found.value(t, x) * (1 + 1e-10), found.policy, found.kind, found.source, 0.0)

    monkeypatch.setattr(BrockMirman, "solution", saved)
    with pytest.raises(WrongAnswer, match="V is"):
        brock_mirman.judge({})


@pytest.mark.parametrize(
    "parameters",
    [
        {"discount_factor": 1 - 1e-10, "productivity_persistence": 1 - 1e-10},
        {"capital_share": 0.988, "discount_factor": 0.9999, "productivity_deviation": 1e-3},
        {"productivity_persistence": -0.999999},
    ],
)
def test_brock_mirman_near_its_bounds(parameters):
    brock_mirman.judge(parameters)


def test_brock_mirman_boxes_that_no_float_holds():
    with pytest.raises(ParameterError, match=r"no float holds the box.*productivity_deviation=400\.0"):
        BrockMirman(productivity_deviation=400.0)
    with pytest.raises(ParameterError, match="productivity_deviation must be at least 1e-10"):
        BrockMirman(productivity_deviation=1e-18)
