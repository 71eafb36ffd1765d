"""Steady states of Krusell-Smith where they are hard to have: right, warned of or refused, each with its sisters."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq

from hacontrol_benchmarks.measure.judges import krusell_smith
from hacontrol_envs.economies.krusell_smith import steady_state
from hacontrol_envs.economies.krusell_smith.economy import KrusellSmith
from hacontrol_envs.errors import EquilibriumError, NumericalError, ParameterError, TruncationWarning

KNOWN = [
    ({"borrowing_limit": 60.0, "asset_nodes": 300}, 69.525, -0.0011586, 1e-4),
    ({"depreciation": 0.0, "asset_nodes": 400}, 117.12, 0.017076, 1e-3),
    ({"depreciation": 0.0, "asset_nodes": 400, "asset_max": 1200.0}, 117.12, 0.017076, 1e-3),
    ({"intertemporal_elasticity": 0.02, "asset_nodes": 200, "asset_max": 600.0}, 154.49, -0.010698, 3e-4),
]
"""Parameters; capital and the interest rate as others computed them, on other grids; the tolerance that these leave."""


@pytest.mark.parametrize(("parameters", "capital", "rate", "tolerance"), KNOWN)
def test_steady_states_that_others_computed(parameters, capital, rate, tolerance):
    found = KrusellSmith("ssj", **parameters).steady_state()
    np.testing.assert_allclose(found.capital, capital, rtol=tolerance)
    np.testing.assert_allclose(found.interest_rate, rate, atol=tolerance / 10)


HARD = [
    *(
        {"borrowing_limit": limit, "asset_nodes": 80}
        for limit in (20.0, 25.4, 40.0, 55.0, 60.0, 64.6, 65.0, 80.0, -1.0)
    ),
    *({"intertemporal_elasticity": eis, "asset_nodes": 40} for eis in (0.011, 0.02, 0.03, 0.1, 1.0, 3.0)),
    *({"depreciation": delta, "asset_nodes": 80} for delta in (0.0, 1e-4, 0.3, 1.0)),
    *({"calibration": "jedc", "insurance": insurance, "asset_nodes": 80} for insurance in (0.0, 1e-6, 0.3)),
    {"calibration": "jedc", "insurance": 0.0, "intertemporal_elasticity": 0.4, "asset_nodes": 80},
    {"calibration": "jedc", "insurance": 0.0, "intertemporal_elasticity": 0.5, "asset_nodes": 80},
    {"calibration": "jedc", "insurance": 0.0, "borrowing_limit": 2.0, "asset_nodes": 80},
    {"discount_factor": 0.999, "asset_nodes": 80},
    {"income_persistence": 0.9999, "asset_nodes": 80},
]


@pytest.mark.slow
@pytest.mark.parametrize("parameters", HARD, ids=str)
def test_hard_steady_states_pass_the_independent_judge(parameters):
    krusell_smith.judge({"calibration": "ssj", **parameters})


def test_no_pole_is_taken_for_an_equilibrium():
    """Above the rate at which firms use just the limit they use less, and nobody can own that."""
    for limit in (55.0, 60.0, 70.0):
        one = KrusellSmith("ssj", borrowing_limit=limit, asset_nodes=60)
        found = one.steady_state()
        pole = brentq(lambda r: (0.36 / (r + 0.025)) ** (1 / 0.64) - limit, -0.02, 0.02, xtol=1e-14)  # noqa: B023
        assert found.interest_rate < pole
        assert limit < found.capital
        assert abs(found.clearing_error) < 1e-8


def test_what_does_not_clear_is_no_steady_state(monkeypatch):
    """Whatever rate a search ends with, what is returned was tested."""
    monkeypatch.setattr(steady_state, "_root", lambda households: 0.012)
    with pytest.raises(NumericalError, match="more capital than firms use"):
        KrusellSmith("ssj", asset_nodes=40).steady_state()


def test_goods_balance():
    """Y = C + delta K where the grid holds everybody, and what is lost is told where it does not."""
    for calibration in ("ssj", "jedc"):
        found = KrusellSmith(calibration, asset_nodes=80).steady_state()
        used = (found.law * found.consumption).sum() + 0.025 * found.capital
        np.testing.assert_allclose(used, found.output, rtol=1e-8)
        assert found.output_lost < 1e-6
    found = KrusellSmith("ssj", asset_nodes=80, asset_max=60.0).steady_state(cut=True)
    used = (found.law * found.consumption).sum() + 0.025 * found.capital
    np.testing.assert_allclose(1 - used / found.capital**0.36, found.output_lost, rtol=1e-6)
    assert 0.02 < found.output_lost < 0.05
    assert 0.1 < found.share_at_top < 0.2
    assert "share_at_top=0.1" in repr(found)


def test_grids_that_cut_the_law_are_refused_and_warned_of():
    for top in (40.0, 60.0, 100.0):
        with pytest.raises(EquilibriumError, match=rf"% of households are at asset_max={top:g}"):
            KrusellSmith("ssj", asset_nodes=60, asset_max=top).steady_state()
    with pytest.raises(EquilibriumError, match="asset_max=60"):
        KrusellSmith("ssj", asset_nodes=40, asset_max=60.0).reference_solution()
    with pytest.warns(TruncationWarning, match="the grid cuts the law of the steady state"):
        found = KrusellSmith("ssj", asset_nodes=60, asset_max=190.0).steady_state()
    assert 1e-4 < found.share_at_top < 1e-2
    with pytest.raises(EquilibriumError, match=r"asset_max=20 holds too little.*firms use capital 25\.4"):
        KrusellSmith("ssj", asset_nodes=60, asset_max=20.0).steady_state()
    with pytest.raises(EquilibriumError, match="% of households are at asset_max=26: raise it"):
        KrusellSmith("ssj", asset_nodes=60, asset_max=26.0).steady_state()


def test_the_end_of_the_grid_is_chosen_so_that_it_does_not_matter():
    assert KrusellSmith("ssj").assets[-1] == KrusellSmith("jedc").assets[-1] == 400
    assert KrusellSmith("ssj", asset_max=123.0).assets[-1] == 123
    rich = KrusellSmith("ssj", depreciation=0.0, asset_nodes=100)
    assert rich.assets[-1] > 400
    assert rich.steady_state().share_at_top < 1e-6
    assert "asset_max" not in rich.parameters
    again = KrusellSmith(**rich.parameters | {"asset_max": None})
    np.testing.assert_array_equal(again.assets, rich.assets)


def test_methods_for_productivity():
    """Rouwenhorst's chain has the persistence asked for; Tauchen's has the published one, or is refused."""

    def persistence(one: KrusellSmith) -> float:
        law, x = one.joint_law.sum(axis=1), np.log(one.productivity)
        x = x - law @ x
        return float((law * x) @ one.aggregate_chain @ x / (law @ x**2))

    assert abs(persistence(KrusellSmith("ssj")) - 0.9315) < 5e-5
    for rho in (0.0, 0.5, 0.9, 0.95, 0.99, 0.999, 0.9999):
        for states in (2, 3, 5, 9):
            one = KrusellSmith(
                "ssj",
                productivity_persistence=rho,
                productivity_states=states,
                productivity_method="rouwenhorst",
            )
            np.testing.assert_allclose(1 - persistence(one), 1 - rho, rtol=1e-9)
            assert np.ptp(one.joint_law.sum(axis=1)[[0, -1]]) < 1e-12
    for rho, states in ((0.95, 2), (0.99, 3), (0.99, 5), (0.999, 5), (0.9999, 5), (0.9999, 2), (0.97, 5)):
        with pytest.raises(ParameterError, match='productivity_method="rouwenhorst"'):
            KrusellSmith("ssj", productivity_persistence=rho, productivity_states=states)
    with pytest.raises(ParameterError, match="productivity_method must be one of 'tauchen', 'rouwenhorst'"):
        KrusellSmith("ssj", productivity_method="rouwenhurst")


def test_without_insurance_the_reference_is_found_and_has_no_finite_value():
    """Krusell and Smith's own economy: who has neither work nor assets consumes nothing, and so nobody comes there."""
    solution = KrusellSmith("jedc", insurance=0.0, asset_nodes=60).reference_solution(beliefs="log-linear")
    assert solution.euler.mean < -4
    assert 38 < solution.capital < 41
    with pytest.raises(EquilibriumError, match="nothing is left to consume"):
        solution.value(10.0, 1, 0, 39.0)
