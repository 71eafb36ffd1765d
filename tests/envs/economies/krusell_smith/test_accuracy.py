"""Measures of household policies, on policies whose errors are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from common.krusell_smith_economies import economy
from common.marks import slow_where
from hacontrol_envs.arrays import Floats
from hacontrol_envs.economies.krusell_smith import accuracy as measures
from hacontrol_envs.economies.krusell_smith.economy import KrusellSmith
from hacontrol_envs.economies.krusell_smith.law_of_motion import LawOfMotion
from hacontrol_envs.economies.krusell_smith.paths import Path, path_of_z
from hacontrol_envs.economies.krusell_smith.solution import ReferenceSolution


@pytest.fixture(params=slow_where("ssj".__eq__, ["ssj", "jedc"]))
def solution(request: pytest.FixtureRequest) -> ReferenceSolution:
    return economy(request.param).reference_solution()


def constant_wealth(assets: Floats, e: Any, z: Any, law: Floats) -> Floats:
    return assets


def spending(solution: ReferenceSolution, share: float) -> Any:
    """The reference policy, but consuming `share` more as long as there is cash for it."""
    one = solution.economy

    def policy(assets: Floats, e: Any, z: Any, law: Floats) -> Floats:
        cash = one.cash(assets, e, np.asarray(z)[..., None], np.asarray(one.capital_of(law))[..., None])
        saving = solution.policy(assets, e, z, law)
        return np.maximum(cash - (1 + share) * (cash - saving), one.borrowing_limit)

    return policy


def test_reference_is_as_good_as_it_says(solution):
    path = solution.simulate(2000, 9, every=40)
    found = measures.euler_errors(solution.economy, solution.policy, path.z[path.kept], path.laws)
    assert abs(found.mean - solution.euler.mean) < 0.3
    assert found.mean < found.high <= found.max < -2


@pytest.mark.parametrize("share", [0.01, 0.001])
def test_an_error_of_today_s_consumption_is_found(solution, share):
    """Today's consumption is too high, tomorrow's policy is right: the error is the share, and mpc' more."""
    one, (z, laws) = solution.economy, solution.ergodic
    wrong, calls = spending(solution, share), list[int]()

    def policy(assets: Floats, e: Any, z: Any, law: Floats) -> Floats:
        calls.append(1)
        return (wrong if len(calls) == 1 else solution.policy)(assets, e, z, law)

    errors = measures.euler_residuals(one, policy, z[:10], laws[:10])
    assert len(calls) == 2
    rich = one.assets > 10
    implied = 1 - 1 / (1 + share)
    assert errors[..., rich].min() > implied
    np.testing.assert_allclose(errors[..., rich], implied, rtol=0.2)
    assert -np.log10(share) - 0.15 < -np.log10((errors * laws[:10]).sum() / 10) < -np.log10(share) + 0.15


@pytest.mark.slow
def test_constrained_households_have_no_error():
    solution = economy("ssj").reference_solution()
    one, (z, laws) = solution.economy, solution.ergodic
    saving = solution.saving_on_grid(z[:5], one.capital_of(laws[:5]))
    errors = measures.euler_residuals(one, solution.policy, z[:5], laws[:5])
    bound = (saving[..., :-1] == 0) & (saving[..., 1:] == 0)  # well inside
    assert bound.any()
    assert errors[..., :-1][bound].max() < 1e-12


def test_bad_policies_have_large_errors_and_give_no_warning(solution):
    z, laws = solution.ergodic
    found = measures.euler_errors(solution.economy, lambda a, e, z, law: 1e3 + 0 * a, z[:2], laws[:2])
    assert np.all(np.isfinite(found))  # nothing is left to consume, today and tomorrow
    found = measures.euler_errors(solution.economy, lambda a, e, z, law: 0 * a, z[:2], laws[:2])
    assert found.mean > -1
    found = measures.euler_errors(solution.economy, constant_wealth, z[:4], laws[:4])
    assert found.mean > -2


def test_chunks_do_not_matter(solution, monkeypatch):
    z, laws = (given[:7] for given in solution.ergodic)
    whole = measures.euler_errors(solution.economy, solution.policy, z, laws)
    monkeypatch.setattr(measures, "POINTS", 1)
    np.testing.assert_allclose(measures.euler_errors(solution.economy, solution.policy, z, laws), whole, rtol=1e-9)


def test_quantile_is_by_mass():
    one = economy("ssj")
    laws = np.zeros((1, 3, 200))
    laws[0, 0, [0, 50, 100]] = 0.99, 0.0095, 0.0005
    errors = np.zeros(laws.shape)
    errors[0, 0, [0, 50, 100, 150]] = 1e-5, 1e-3, 1e-1, 1.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measures, "euler_residuals", lambda *_: errors)
        found = measures.euler_errors(one, constant_wealth, np.zeros(1, dtype=np.int64), laws)
    np.testing.assert_allclose(found, np.log10([0.99e-5 + 0.95e-5 + 5e-5, 1e-3, 1e-1]))


def test_path_errors(solution):
    one, z = solution.economy, solution.simulate(60, 2).z
    law = solution.ergodic.laws[int(np.argmax(solution.ergodic.z == z[0]))]
    assert measures.path_error(one, solution.policy, solution.policy, z, law) == (0, 0)
    found = measures.path_error(one, spending(solution, 0.01), solution.policy, z[:2], law)
    path = solution.simulate(1, z=z[:2], law=law)
    lost = 100 * -np.log(1 - 0.01 * path.consumption[0] / path.capital[1])
    np.testing.assert_allclose(found.max, lost, rtol=0.02)
    np.testing.assert_allclose(found.mean, found.max / 2)


def test_den_haan_of_a_law_that_is_obeyed_and_of_one_that_is_not():
    one = economy("jedc")
    law = LawOfMotion(np.array([[0.12, 0.966], [0.14, 0.963]]))
    z = path_of_z(one, 300, 0)
    path = Path(one, z, law.forecast(38.0, z), np.arange(0), np.empty((0, 2, 200)))
    assert measures.den_haan(law, path) == (0, 0)
    shifted = LawOfMotion(law.coefficients + [[1e-4, 0.0]] * 2)
    first = measures.den_haan(shifted, Path(one, z[:2], path.capital[:2], path.kept, path.laws))
    np.testing.assert_allclose(first.max, 0.01)
    long = measures.den_haan(shifted, path).max
    assert 0.01 / (1 - 0.963) < long < 0.01 / (1 - 0.966)


@pytest.mark.parametrize("elasticity", [1.0, 0.5, 2.0])
def test_equivalents_of_known_changes(elasticity):
    one = KrusellSmith("ssj", intertemporal_elasticity=elasticity)
    rng, quarters = np.random.default_rng(0), 50
    c, weights = rng.uniform(1, 2, (50, 6)), one.discount_factor ** np.arange(quarters)[:, None]
    values = np.stack([(weights * one.utility(share * c)).sum(axis=0) for share in (1.02, 1.0)])
    found = measures._equivalent(one, values, quarters)
    np.testing.assert_allclose(found.gain, 2.0, rtol=1e-10)
    assert found.error < 1e-10


@pytest.mark.slow
def test_welfare(solution):
    one, first = solution.economy, solution.ergodic
    z = path_of_z(one, 700, 3, 4, first=first.z[0])
    law = first.laws[0]
    same = measures.welfare(one, solution.policy, solution.policy, z[:50], law)
    np.testing.assert_allclose(same, 0.0, atol=1e-12)  # percent: rounding, on some processors
    kept = measures.welfare(one, constant_wealth, solution.policy, z, law)
    assert kept.gain + 3 * kept.error < -0.5
    if one.parameters["calibration"] == "ssj":
        assert abs(kept.gain + 5.5) < 0.1
    ignorant = measures.welfare(one, one.steady_state().policy, solution.policy, z, law)
    assert -0.1 < ignorant.gain < -3 * ignorant.error < 0
