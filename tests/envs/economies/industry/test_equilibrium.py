"""FirmIndustry's equilibrium against independent references, exact identities of a stationary law, and simulation."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from hacontrol_envs import FirmIndustry
from hacontrol_envs.errors import EquilibriumError, ParameterError

REFERENCE = {
    "kinked": (0.7183080, 1.392161, 2.41922),
    "smoothed": (0.7281487, 1.373346, 2.32657),
    "as-published": (0.7376047, 1.355740, 2.24328),
}
WEDGE = {"volatility": 0.4, "depreciation": 0.03, "purchase_price": 1.2, "resale_price": 0.6} | {
    "capital_bounds": (0.4, 30.0)
}
KINKED = {"adjustment": "kinked"}
"""The default, written out so that it is solved once."""
DEVIATION = 0.2 / np.sqrt(2 * 0.5)


@cache
def equilibrium(**parameters):
    return FirmIndustry(**parameters).equilibrium(1e-5 if "resale_price" in parameters else 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("adjustment", REFERENCE)
def test_reference_equilibria(adjustment):
    found, (price, output, capital) = equilibrium(adjustment=adjustment), REFERENCE[adjustment]
    assert found.price == pytest.approx(price, rel=2e-6)
    assert found.output == pytest.approx(output, rel=1e-5)
    assert found.capital == pytest.approx(capital, rel=1e-5)
    assert abs(found.price / price - 1) < found.error + 4e-7  # what the references are good to
    assert found.error < 1e-6
    assert abs(np.log(found.price) + np.log(found.output)) < 1e-9


@pytest.mark.slow
def test_reference_moments():
    found = equilibrium(adjustment="as-published")
    moments = [found.expectation(f) for f in (lambda k, z: np.log(k), lambda k, z: np.log(k) ** 2, lambda k, z: z**2)]
    deviation = np.sqrt(moments[1] - moments[0] ** 2)
    product = found.expectation(lambda k, z: np.log(k) * z)
    assert moments[0] == pytest.approx(0.80655, abs=1e-5)
    assert deviation == pytest.approx(0.0527, abs=5e-5)
    assert product / deviation / np.sqrt(moments[2]) == pytest.approx(0.507, abs=5e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "parameters", [KINKED, {"adjustment": "as-published"}, WEDGE], ids=["kinked", "published", "wedge"]
)
def test_a_law_of_firms(parameters):
    """Mass one, positive; z Gaussian as if alone; capital neither grows on average nor in its logarithm."""
    found, masses = equilibrium(**parameters), equilibrium(**parameters).market.masses
    deviation = found.firm.volatility / np.sqrt(2 * found.firm.mean_reversion)
    assert masses.sum() == pytest.approx(1, abs=1e-13)
    assert masses.min() >= 0
    assert abs(found.market.negative) < 1e-6
    assert found.expectation(lambda k, z: z) == pytest.approx(0, abs=1e-7)
    for power, moment in ((2, 1), (4, 3), (6, 15)):
        scaled = found.expectation(lambda k, z, power=power: (z / deviation) ** power)
        assert scaled == pytest.approx(moment, rel=5e-4)
    rate = found.expectation(found.policy)
    assert rate == pytest.approx(found.firm.depreciation, abs=2e-7)
    assert found.expectation(lambda k, z: (found.policy(k, z) - found.firm.depreciation) * k) == pytest.approx(
        0, abs=1e-6
    )


@pytest.mark.slow
@pytest.mark.parametrize("parameters", [KINKED, WEDGE], ids=["kinked", "wedge"])
def test_the_density_by_gauss_legendre(parameters):
    found = equilibrium(**parameters)
    box, deviation = found.firm.state, found.firm.volatility / np.sqrt(2 * found.firm.mean_reversion)
    nodes, weights = np.polynomial.legendre.leggauss(400)
    c, z = box.center[0] + box.half_width[0] * nodes, box.center[1] + box.half_width[1] * nodes
    k = np.exp(c)
    density = found.density(k[:, None], z[None])
    by_z = box.half_width[0] * (weights * k) @ density
    assert np.all(density >= 0)
    assert box.half_width[1] * weights @ by_z == pytest.approx(1, abs=1e-5)
    gaussian = np.exp(-((z / deviation) ** 2) / 2) / deviation / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(by_z, gaussian, atol=1e-4 * gaussian.max())
    capital = box.half_width[1] * (box.half_width[0] * (weights * k**2) @ density) @ weights
    assert capital == pytest.approx(found.capital, rel=1e-5)
    assert found.density(np.array([box.high[0] * 1.01, 1.0]), np.array([0.0, box.high[1] * 1.01])).max() == 0


@pytest.mark.slow
def test_the_law_by_simulation():
    """Firms under `policy` from one point, capital by Heun's method and z by its exact law; a tenth of a year."""
    found = equilibrium(**WEDGE)
    firm, rng, dt, n = found.firm, np.random.default_rng(0), 0.1, 1000
    decay = np.exp(-firm.mean_reversion * dt)
    shake = np.sqrt(1 - decay**2) * firm.volatility / np.sqrt(2 * firm.mean_reversion)
    k, z, seen = np.full(n, found.capital), np.zeros(n), []
    rate = found.policy(k, z)
    for step in range(1400):
        z = decay * z + shake * rng.standard_normal(n)
        ahead = found.policy(k * np.exp((rate - firm.depreciation) * dt), z)
        k = k * np.exp(((rate + ahead) / 2 - firm.depreciation) * dt)
        rate = found.policy(k, z)
        if step >= 600 and step % 20 == 0:
            seen.append([np.mean(np.exp(z) * k**firm.returns_to_scale), np.mean(k), np.mean(rate == 0)])
    idle = found.expectation(lambda k, z: (found.policy(k, z) == 0) * 1.0)
    assert 0.05 < idle < 0.95
    error = 4 * np.std(seen, axis=0) / np.sqrt(len(seen) / 5)  # of five snapshots one counts, so long does capital last
    assert np.all(error < [0.05, 0.1, 0.02])
    assert np.all(
        np.abs(np.mean(seen, axis=0) - [found.output, found.capital, idle]) < error + np.array([1e-3, 1e-3, 5e-3])
    )


@pytest.mark.slow
def test_a_price_that_output_does_not_move():
    found = equilibrium(demand_elasticity=0.0, capital_bounds=(0.5, 20.0))
    assert found.price == pytest.approx(1, abs=1e-10)
    other = equilibrium(capital_bounds=(0.5, 20.0))
    assert found.output > other.output
    assert other.price == pytest.approx(REFERENCE["kinked"][0], rel=2e-6)


@pytest.mark.slow
def test_scaling_capital_changes_the_market_as_it_should():
    """k' = c k, with z unchanged and the price's scale c^{1-alpha}: the same rates, capital c times as large."""
    found = equilibrium(demand_elasticity=0.0, capital_bounds=(0.5, 20.0))
    at_one = equilibrium(**KINKED)
    scale = (found.price / at_one.price) ** (1 / 0.65)
    assert found.capital == pytest.approx(scale * at_one.capital, rel=1e-6)
    assert found.output == pytest.approx(scale**0.35 * at_one.output, rel=1e-6)
    z = np.linspace(-0.4, 0.4, 9)
    np.testing.assert_allclose(found.policy(scale * 2.4, z), at_one.policy(2.4, z), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"returns_to_scale": 1.0, "demand_elasticity": 0.0}, r"capital bound k_m.*constant returns"),
        ({"capital_bounds": (0.2, 2.0)}, r"capital bound k_max = 2\.0 holds"),
        ({"capital_bounds": (3.0, 8.0)}, r"capital bound k_min = 3\.0 holds"),
    ],
)
def test_a_binding_bound_is_reported(parameters, words):
    with pytest.raises(EquilibriumError, match=words):
        FirmIndustry(**parameters).equilibrium()


@pytest.mark.slow
def test_a_tolerance_that_cannot_be_met_is_reported(monkeypatch):
    monkeypatch.setattr("hacontrol_envs.economies.industry.economy.SHAPES", ((61, 47), (91, 71)))
    with pytest.raises(EquilibriumError, match=r"finest grid .* leaves a relative error of .* tolerance=1e-12"):
        FirmIndustry(adjustment="as-published").equilibrium(tolerance=1e-12)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"price": 1.0}, "price is what the market"),
        ({"elasticity": 1.0}, "elasticity"),
        ({"volatility": 0.0}, "volatility must be greater than 0"),
        ({"demand_elasticity": -1.0}, "demand_elasticity"),
        ({"returns_to_scale": 1.2}, "returns_to_scale"),
    ],
)
def test_bad_parameters_are_refused(parameters, words):
    with pytest.raises(ParameterError, match=words):
        FirmIndustry(**parameters)


@pytest.mark.slow
def test_comparative_statics():
    """Demand of another elasticity moves along the same supply, whose elasticity is alpha/(1 - alpha) = 7/13."""
    one, other = FirmIndustry(capital_bounds=(0.5, 20.0)).comparative_statics("demand_elasticity", [0.5, 2.0])
    assert np.log(one.output / other.output) / np.log(one.price / other.price) == pytest.approx(0.35 / 0.65, rel=1e-5)
    assert (one.industry.demand_elasticity, other.industry.demand_elasticity) == (0.5, 2.0)
