"""Responses to an aggregate shock against closed forms, the long run, and simulated firms; figures."""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
import pytest

from hacontrol_envs import FirmIndustry
from hacontrol_envs.economies.industry.responses import Linearised, plot_statics
from hacontrol_envs.errors import NumericalError, ParameterError
from hacontrol_envs.solvers.grid import Grid
from hacontrol_envs.solvers.hjb import solve

pytestmark = pytest.mark.slow

BOUNDS = (0.5, 20.0)


@cache
def equilibrium(elasticity=1.0):
    return FirmIndustry(elasticity, capital_bounds=BOUNDS).equilibrium(1e-5)


@cache
def response(elasticity, steps):
    return equilibrium(elasticity).impulse_response(0.01, 20.0, steps)


def test_at_unit_elasticity_the_price_undoes_the_shock():
    """P Y is constant, so that e^z P and with it investment are as without the shock: log Y = shock e^{-kappa t}."""
    gaps, capital = [], []
    for steps in (20, 40):
        found = response(1.0, steps)
        gaps.append(np.abs(found.output - 0.01 * np.exp(-0.5 * found.time)).max() / 0.01)
        capital.append(np.abs(found.capital).max() / 0.01)
        np.testing.assert_allclose(found.price, -found.output, atol=1e-11)
        assert 10 * gaps[-1] < found.error
    assert gaps[1] < 4e-6
    assert capital[1] < 2e-7
    assert np.log2(gaps[0] / gaps[1]) == pytest.approx(4, abs=0.1)
    assert np.log2(capital[0] / capital[1]) == pytest.approx(4, abs=0.3)


@pytest.mark.parametrize("elasticity", [0.0, 2.0])
def test_the_market_clears_and_forgets(elasticity):
    found = response(elasticity, 40)
    np.testing.assert_allclose(found.price, -elasticity * found.output, atol=1e-12)
    assert found.output[0] == pytest.approx(0.01, rel=1e-6)
    assert abs(found.capital[0]) < 1e-12
    assert np.sign(found.capital[4]) == np.sign(1 - elasticity)
    assert abs(found.output[-1]) < 5e-5
    assert abs(found.capital[-1]) < 0.1 * np.abs(found.capital).max()


def test_halving_the_step_leaves_a_sixteenth_of_its_error():
    paths = [response(2.0, steps) for steps in (10, 20, 40)]
    for name in ("price", "output", "capital"):
        coarse, middle, fine = (getattr(path, name)[:: len(path.time) // 10] for path in paths)
        ratio = np.abs(coarse - middle).max() / np.abs(middle - fine).max()
        assert np.log2(ratio) == pytest.approx(4, abs=0.4), name


def test_productivity_decays_as_it_must_and_nobody_is_lost():
    """d E e^{z_t} = e^{-kappa t} E e^z under a policy that nothing moves; Crank and Nicolson's error is of order 2."""
    found, gaps = equilibrium(0.0), []
    z = found.market.grid.x[:, 1]
    for dt in (0.25, 0.125):
        _, masses = Linearised(found, dt).paths(round(10 / dt))
        assert np.abs(masses.sum(axis=1)).max() < 1e-12
        t = dt * np.arange(len(masses))
        gaps.append(np.abs(masses @ np.exp(z) - np.exp(-0.5 * t + 0.2**2 / 2)).max())
    assert gaps[1] < 2e-4
    assert np.log2(gaps[0] / gaps[1]) == pytest.approx(2, abs=0.1)


def test_a_lasting_rise_of_the_price():
    """V^ is dV/dlog P of firms solved anew; capital has elasticity 1/(1 - alpha) in P, output alpha/(1 - alpha)."""
    found, h = equilibrium(), 1e-3
    around, grid, V = Linearised(found, 1.0), found.market.grid, found.market.value.V
    values, _ = around._backward(200)
    ends = [
        solve(Grid(dataclasses.replace(found.firm, price=found.price * np.exp(way * h)), grid.nodes, 4), V)[0]
        for way in (1, -1)
    ]
    likely = found.market.masses > 1e-8
    np.testing.assert_allclose(values.sum(axis=0)[likely], ((ends[0] - ends[1]) / (2 * h))[likely], rtol=3e-4)
    lasting = np.tile(values.sum(axis=0) @ around._migration, (201, 1))
    masses = (around._masses(lasting) - around._masses(0 * lasting))[-1]
    assert masses @ grid.x[:, 0] / found.capital == pytest.approx(1 / 0.65, rel=1e-3)
    revenue = found.firm.revenue(grid.x) / found.price
    assert masses @ revenue / found.output == pytest.approx(0.35 / 0.65, rel=1e-3)


def test_the_response_at_a_fixed_price_by_simulation():
    """The same firms and noise with z a little higher and lower at time 0; capital by Heun's method."""
    found, path = equilibrium(0.0), response(0.0, 80)
    rng, dt, n, shift = np.random.default_rng(0), 0.25, 1500, 0.02
    start = found.market.grid.x[rng.choice(len(found.market.masses), n, p=found.market.masses)]
    noise = np.sqrt((1 - np.exp(-dt)) * 0.2**2) * rng.standard_normal((40, n))
    ends = []
    for way in (1, -1):
        k, z, output = start[:, 0], start[:, 1] + way * shift, []
        rate = found.policy(k, z)
        for shock in noise:
            z = np.exp(-0.5 * dt) * z + shock
            ahead = found.policy(k * np.exp((rate - 0.08) * dt), z)
            k = k * np.exp(((rate + ahead) / 2 - 0.08) * dt)
            rate = found.policy(k, z)
            output.append([np.exp(z) * k**0.35, k])
        ends.append(np.array(output))
    difference = (ends[0] - ends[1]) / (2 * shift)
    for place, name, mean in ((0, "output", found.output), (1, "capital", found.capital)):
        simulated = difference[:, place].mean(axis=1) / mean
        error = difference[:, place].std(axis=1) / np.sqrt(n) / mean
        expected = getattr(path, name)[1:41] / 0.01
        assert error.max() < 0.1 * np.abs(expected).max()
        assert np.all(np.abs(simulated - expected) < 4 * error + 2e-3), name


def test_figures():
    figure = response(2.0, 40).plot()
    assert [axes.get_title() for axes in figure.axes] == ["price", "output", "capital"]
    assert {axes.get_ylabel() for axes in figure.axes} == {"percent"}
    np.testing.assert_allclose(figure.axes[2].lines[-1].get_ydata(), 100 * response(2.0, 40).capital)
    assert list(response(2.0, 40).to_dict()) == ["time", "price", "output", "capital"]
    drawn = plot_statics("demand_elasticity", [0.0, 1.0], [equilibrium(0.0), equilibrium(1.0)])
    np.testing.assert_allclose(drawn.axes[0].lines[0].get_ydata(), [equilibrium(0.0).price, equilibrium(1.0).price])
    assert drawn.axes[1].get_xlabel() == "demand elasticity"


@pytest.mark.parametrize(
    "bad",
    [
        {"years": 0.0},
        {"steps": 0},
        {"steps": 1.5},
        {"shock": np.nan},
        {"shock": 1.5},
        {"shock": "1"},
        {"shock": 10**400},
        {"years": -1.0},
        {"years": np.inf},
        {"steps": -5},
        {"steps": True},
        {"steps": 10**6},
        {"steps": 10**400},
    ],
)
def test_bad_arguments_are_refused(bad):
    with pytest.raises(ParameterError, match=next(iter(bad))):
        equilibrium().impulse_response(**bad)


def test_responses_are_linear_and_a_shock_of_zero_moves_nothing():
    up, down, none = (equilibrium(0.0).impulse_response(shock, 5.0, 10) for shock in (0.01, -0.02, 0.0))
    for name in ("price", "output", "capital"):
        np.testing.assert_allclose(getattr(down, name), -2 * getattr(up, name), rtol=1e-12)
        assert np.all(getattr(none, name) == 0)


def test_steps_that_are_too_long_are_refused():
    """The exact answer decays by e^{-5} in a step of ten years, that of the scheme does not."""
    with pytest.raises(NumericalError, match="Raise steps=3"):
        equilibrium().impulse_response(0.01, 30.0, 3)
    with pytest.raises(ParameterError, match="memory"):
        equilibrium().impulse_response(0.01, 1e-6, 10)


def test_a_policy_that_is_no_optimum_has_no_envelope_theorem():
    found = equilibrium()
    market = dataclasses.replace(found.market, firm=dataclasses.replace(found.firm, adjustment="as-published"))
    with pytest.raises(ParameterError, match="no argmax"):
        dataclasses.replace(found, market=market).impulse_response()
