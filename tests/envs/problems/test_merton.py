"""Merton: its closed form against computations that share no code with it, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize

from hacontrol_envs import Merton, check_problem
from hacontrol_envs.errors import ParameterError


def test_merton_reference_values():
    p = Merton()
    np.testing.assert_allclose(p.solution().policy(0.0, np.ones(1)), [0.625, 0.0478125], rtol=1e-14)
    assert p.riskless_equivalent == pytest.approx(0.045625, rel=1e-14)
    assert p.solution().value(0.0, np.array([2.0])) == pytest.approx(-(0.0478125**-2) / 2, rel=1e-13)


@pytest.mark.parametrize("risk_aversion", [0.5, 1.0, 2.0, 5.0])
def test_merton_is_the_best_constant_policy(risk_aversion):
    p = Merton(risk_aversion=risk_aversion, discount=0.2)
    x = np.array([1.7])
    options = {"xatol": 1e-9, "fatol": 1e-15}
    best = minimize(lambda a: -p.constant_action_value(x, a), [0.2, 0.06], method="Nelder-Mead", options=options)
    np.testing.assert_allclose(p.solution().policy(0.0, x), best.x, rtol=1e-5)
    assert p.solution().value(0.0, x) == pytest.approx(-best.fun, rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("risk_aversion", [0.5, 1.0, 3.0])
def test_merton_constant_policy_by_simulation(risk_aversion):
    p, rng = Merton(risk_aversion=risk_aversion, discount=0.4), np.random.default_rng(1)
    dt, n, horizon = 0.1, 20_000, 40.0
    x, a = np.full((n, 1), 1.3), np.array([0.5, 0.1])
    lump = np.zeros(n)
    for k in range(round(horizon / dt)):
        after = p.exact_step(0.0, x, np.broadcast_to(a, (n, 2)), dt, rng.standard_normal((n, 1)))
        flows = [np.exp(-p.discount * (k + j) * dt) * p.reward(0.0, y, a) for j, y in enumerate((x, after))]
        lump, x = lump + dt / 2 * sum(flows), after
    expected = p.constant_action_value(np.array([1.3]), a)
    assert abs(lump.mean() - expected) < 4 * lump.std() / np.sqrt(n) + 3e-4 * abs(expected)


@pytest.mark.parametrize("risk_aversion", [0.5, 1.0, 3.0])
def test_merton_sampled_against_optimising_every_step(risk_aversion):
    p, dt = Merton(risk_aversion=risk_aversion, horizon=6.0, bequest=0.7), 1.5
    g, gamma, found = risk_aversion, np.exp(-p.discount * dt), p.solution(dt)
    drift, vol, rho = 0.05, 0.2, p.discount

    def step(a, x, slope, level):
        """Of V(t+dt, x) = slope u(x) + level: what the action a is worth, by quadrature over the step."""
        growth, variance = 0.03 + a[0] * drift - a[1], (a[0] * vol) ** 2

        def utility(s, scale):
            """E u(scale X_s)."""
            if g == 1:
                return np.log(scale * x) + (growth - variance / 2) * s
            return (scale * x) ** (1 - g) / (1 - g) * np.exp((1 - g) * (growth - g * variance / 2) * s)

        flow = quad(lambda s: np.exp(-rho * s) * utility(s, a[1]), 0, dt, epsabs=1e-14)[0]
        return flow + gamma * (slope * utility(dt, 1.0) + level)

    slope, level = 0.7, 0.0
    for k in range(3, -1, -1):
        options = {"xatol": 1e-9, "fatol": 1e-14}
        best, far = (
            minimize(
                lambda a, x=x, c=(slope, level): -step(a, x, *c), [0.5, 0.2], method="Nelder-Mead", options=options
            )
            for x in (1.0, np.e)
        )
        np.testing.assert_allclose(found.policy(k * dt, np.ones(1)), best.x, rtol=1e-4)
        slope, level = (best.fun - far.fun, -best.fun) if g == 1 else (-best.fun * (1 - g), 0.0)
        for x, result in ((1.0, best), (np.e, far)):
            assert found.value(k * dt, np.array([x])) == pytest.approx(-result.fun, rel=1e-8)


@pytest.mark.parametrize("risk_aversion", [1.0, 3.0])
def test_merton_sampled_tends_to_continuous(risk_aversion):
    p, x = Merton(risk_aversion=risk_aversion, horizon=8.0), np.array([1.4])
    gaps = [p.solution().value(0.0, x) - p.solution(dt).value(0.0, x) for dt in (1.0, 0.5, 0.25)]
    assert min(gaps) > 0
    assert np.log2(gaps[-2] / gaps[-1]) == pytest.approx(2, abs=0.1)


def test_merton_infinite_horizon_is_the_limit():
    x = np.array([0.8])
    np.testing.assert_allclose(
        Merton(horizon=800.0).solution().value(0.0, x), Merton().solution().value(0.0, x), rtol=1e-12
    )
    far, near = Merton(horizon=400.0, risk_aversion=1.0), Merton(risk_aversion=1.0)
    np.testing.assert_allclose(far.solution().value(0.0, x), near.solution().value(0.0, x), rtol=1e-6)


def test_infeasible_merton_is_refused_with_the_inequality():
    with pytest.raises(ParameterError, match=r"discount - \(1 - risk_aversion\) \* M > 0 is violated.*= -0\.0\d+"):
        Merton(risk_aversion=0.5, discount=0.01)
    Merton(risk_aversion=0.5, discount=0.01, horizon=1.0)


BAD_MERTONS = [
    ({"risk_aversion": 0.0}, "risk_aversion"),
    ({"risk_aversion": -1.0}, "risk_aversion"),
    ({"risk_aversion": "2"}, "risk_aversion"),
    ({"risk_aversion": True}, "risk_aversion"),
    ({"risk_aversion": np.nan}, "risk_aversion"),
    ({"discount": -0.1}, "discount"),
    ({"discount": None}, "discount"),
    ({"discount": np.inf}, "discount"),
    ({"horizon": 0.0}, "horizon"),
    ({"horizon": -1}, "horizon"),
    ({"bequest": 0.0, "horizon": 1.0}, "bequest"),
    ({"volatility": 0.0}, "volatility"),
    ({"volatility": np.nan}, "volatility"),
    ({"volatility": [0.2, 0.1]}, "volatility"),
    ({"expected_return": [0.06, 0.07], "volatility": [[0.2, 0.1], [0.2, 0.1]]}, "row rank"),
    ({"expected_return": [0.06, 0.07, 0.08], "volatility": [[0.2, 0.1], [0.1, 0.1], [0.0, 0.3]]}, "row rank"),
    ({"expected_return": [0.06, 0.07], "volatility": [[0.2, 0.0], [0.2, 2e-8]]}, "or nearly so.* 5e-08 of its largest"),
    ({"expected_return": [0.06, 0.07], "volatility": [[0.0, 0.0], [0.2, 0.1]]}, "row rank"),
    ({"expected_return": [[0.06]]}, "expected_return"),
    ({"expected_return": []}, "expected_return"),
    ({"expected_return": "0.08"}, "expected_return"),
    ({"risk_free_rate": None}, "risk_free_rate"),
]


@pytest.mark.parametrize(("bad", "words"), BAD_MERTONS)
def test_bad_parameters_are_refused(bad, words):
    with pytest.raises(ParameterError, match=words):
        Merton(**bad)


@pytest.mark.slow
def test_assets_that_differ_only_a_little_are_kept():
    check_problem(Merton(expected_return=[0.08, 0.08], volatility=[[0.2, 0.0], [0.2, 2e-6]]))


def test_an_asset_almost_without_risk_is_not_redundant():
    p = Merton(expected_return=[0.03, 0.08], volatility=[1e-7, 0.2])
    np.testing.assert_allclose(p.fractions, [0.0, 0.625], atol=1e-12)
