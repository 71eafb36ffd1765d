"""Responses of Krusell-Smith: the chain's expectation, brute force, transitions, a closed form, each other."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from common.krusell_smith_economies import economy, tiny
from hacontrol_envs.economies.krusell_smith.economy import KrusellSmith
from hacontrol_envs.economies.krusell_smith.paths import Path, path_of_z, simulate
from hacontrol_envs.economies.krusell_smith.responses import UNITS, ImpulseResponse
from hacontrol_envs.economies.krusell_smith.sequence_space import Linearised, chosen, step_back
from hacontrol_envs.economies.krusell_smith.solution import ReferenceSolution
from hacontrol_envs.errors import ParameterError
from hacontrol_envs.numerics import chains
from hacontrol_envs.numerics.inequality import gini, gini_gradient
from hacontrol_envs.numerics.transport import Transport

MOVING = [name for name in UNITS if name != "productivity"]


@cache
def small(deviation: float = 0.007) -> KrusellSmith:
    return KrusellSmith("ssj", asset_nodes=100, asset_max=200.0, productivity_deviation=deviation)


@cache
def response(seed: int = 0, calibration: str = "ssj") -> ImpulseResponse:
    """That of a solution, at the default number of draws."""
    one = small() if calibration == "ssj" else tiny()
    return one.reference_solution().impulse_response(40, seed=seed)


def gap(one: ImpulseResponse, other: ImpulseResponse, name: str) -> float:
    """Largest difference relative to the largest response."""
    first, second = getattr(one, name), getattr(other, name)
    return float(np.abs(first - second).max() / np.abs(first).max())


@pytest.mark.slow
def test_log_z_is_the_chains_own():
    """E log Z from P^t, for every pair of states; .207 % after 20 quarters at the default."""
    one, solution = small(), small().reference_solution()
    levels = np.log(one.productivity)
    for start, to in ((2, 3), (1, 4), (2, 2)):
        found = solution.impulse_response(20, start=start, to=to, draws=2)
        for t in (0, 1, 20):
            power = np.linalg.matrix_power(one.aggregate_chain, t)
            assert found.productivity[t] == pytest.approx((power[to] - power[start]) @ levels, abs=1e-15)
        assert np.all(found.errors["productivity"] == 0)
    assert 100 * response().productivity[20] == pytest.approx(0.207, abs=5e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("calibration", "digits"), [("ssj", 3e-4), ("jedc", 2e-3)])
def test_seeds_agree_by_as_much_as_errors_say(calibration, digits):
    """Capital after 20 quarters, and every aggregate at every quarter, within standard errors of ten seeds."""
    found = [response(seed, calibration) for seed in range(10)]
    capital = np.array([one.capital[20] for one in found])
    assert np.ptp(capital) < digits * capital.mean()
    for name in MOVING:
        paths, errors = np.array([getattr(one, name) for one in found]), np.array([one.errors[name] for one in found])
        spread, said = paths.std(axis=0, ddof=1), np.sqrt((errors**2).mean(axis=0))
        assert np.all(spread < 2.2 * said + 1e-13), name  # chi with 9 degrees of freedom passes 2.2 once in 10^6


@pytest.mark.slow
def test_pairs_without_a_surrogate_agree():
    """Brute force: means over 3000 pairs of paths, with nothing but common draws, of another random stream."""
    solution, quarters, draws = tiny().reference_solution(), 12, 3000
    one, found, rng = solution.economy, response(calibration="jedc"), np.random.default_rng(7)
    z, laws = solution.ergodic
    law = laws[rng.choice(np.flatnonzero(z == found.start), draws)]
    uniforms, paths = rng.random((quarters + 1, draws)), list[Path]()
    for then in (found.to, found.start):
        later = chains.draw(one.aggregate_chain, np.full(draws, then), uniforms)
        paths.append(simulate(one, solution.policy, np.concatenate([np.full((1, draws), found.start), later]), law))
    moved, stayed = paths
    for name, rows in (("output", slice(1, -1)), ("consumption", slice(1, None)), ("capital", slice(1, -1))):
        apart = np.log(getattr(moved, name)[rows] / getattr(stayed, name)[rows])
        error = np.hypot(apart.std(axis=1) / np.sqrt(draws), found.errors[name][: quarters + 1])
        assert np.all(np.abs(apart.mean(axis=1) - getattr(found, name)[: quarters + 1]) <= 4 * error + 1e-13), name


@pytest.mark.slow
def test_a_shock_between_states_is_the_mean_of_the_two():
    solution = small().reference_solution()
    levels, to_three, to_four = np.log(small().productivity), response(), solution.impulse_response(40, to=4)
    size = 0.3 * levels[3] + 0.7 * levels[4] - levels[2]
    found = solution.impulse_response(40, shock=size)
    assert found.shock == pytest.approx(size)
    assert found.to is None
    for name in UNITS:
        mean = 0.3 * getattr(to_three, name) + 0.7 * getattr(to_four, name)
        assert np.abs(getattr(found, name) - mean).max() < 3e-3 * np.abs(mean).max(), name
    none = solution.impulse_response(5, shock=0.0, draws=2)
    assert all(np.all(getattr(none, name) == 0) for name in UNITS)
    up, down = (solution.impulse_response(40, shock=size) for size in (levels[3] - levels[2], levels[1] - levels[2]))
    assert gap(up, response(), "capital") < 1e-12
    assert up.capital[20] == pytest.approx(-down.capital[20], rel=0.02)


@pytest.mark.slow
def test_goods_and_factors_balance_to_first_order():
    """Y = C + I, w L = (1 - alpha) Y and (r + delta) K = alpha Y, along both kinds of response."""
    steady, found = small().steady_state(), response()
    alpha, delta = small().capital_share, small().depreciation
    share = 1 - alpha * delta / (steady.interest_rate + delta)
    linear = steady.impulse_response(horizon=40)
    made = share * linear.consumption + linear.investment
    np.testing.assert_allclose(made, linear.output, atol=1e-15)
    np.testing.assert_allclose(linear.wage, linear.output, atol=1e-15)
    gross = linear.interest_rate / (steady.interest_rate + delta) + linear.capital
    np.testing.assert_allclose(gross, linear.output, atol=1e-15)
    np.testing.assert_allclose(linear.output, linear.productivity + alpha * linear.capital, atol=1e-15)
    ratio = (steady.interest_rate + delta) / alpha
    moved = (1 - delta) * linear.capital[:-1] + ratio * linear.investment[:-1]
    np.testing.assert_allclose(linear.capital[1:], moved, atol=1e-15)
    np.testing.assert_allclose(found.wage, found.output, atol=1e-13)
    made = share * found.consumption + found.investment
    np.testing.assert_allclose(made, found.output, atol=5e-3 * found.output.max())


@pytest.mark.slow
def test_the_two_responses_agree_for_small_shocks():
    """The linear one along the chain's own E log Z; what is of second order shrinks with the shock."""
    gaps = {}
    for deviation in (0.007, 0.00175):
        one = small(deviation)
        found = one.reference_solution().impulse_response(80)
        linear = one.steady_state().impulse_response(horizon=80, productivity=found.productivity)
        gaps[deviation] = {name: gap(linear, found, name) for name in MOVING}
    for name, most in {"output": 1e-3, "consumption": 3e-3, "capital": 3e-3, "wage": 1e-3, "gini": 2e-2}.items():
        assert max(one[name] for one in gaps.values()) < most, name
    for name in ("investment", "interest_rate"):
        assert gaps[0.007][name] < 1e-2
        assert gaps[0.00175][name] == pytest.approx(gaps[0.007][name] / 4, rel=0.1), name


@pytest.mark.parametrize("calibration", ["ssj", "jedc"])
def test_jacobians_are_derivatives_of_transitions(calibration):
    """Columns against differences of whole nonlinear transitions: policies backward, the law forward."""
    steady = economy(calibration).steady_state()
    one, around, quarters, h = steady.economy, Linearised(steady, 40), 41, 1e-6

    def assets(r: np.ndarray, w: np.ndarray) -> np.ndarray:
        """Chosen in each quarter, (41,), where prices deviate by these."""
        thresholds, policies = steady.thresholds[None, None].copy(), list[np.ndarray]()
        ahead = (0.0, 0.0)
        for now in zip(r[::-1], w[::-1], strict=True):
            step_back(steady, thresholds, now, ahead)
            policies.append(chosen(one, thresholds))
            ahead = now
        law, found = steady.law, []
        for saving in policies[::-1]:
            law = law @ Transport(one.assets, saving, steady.averages.chain)
            found.append(one.capital_of(law))
        return np.array(found)

    for s in (0, 1, 7, 40):
        unit = np.eye(quarters)[s] * h
        for jacobian, r, w in ((around.interest_rate, unit, 0 * unit), (around.wage, 0 * unit, unit)):
            column = (assets(r, w) - assets(-r, -w)) / (2 * h)
            np.testing.assert_allclose(jacobian.jacobian[:, s], column, atol=3e-5 * np.abs(column).max())


@pytest.mark.slow
def test_the_market_clears_along_the_nonlinear_transition_to_second_order():
    """Prices of the linear response, fed to households: capital supplied misses that demanded by the shock's square."""
    steady = small().steady_state()
    one, mean, misses = small(), steady.averages, []
    for size in (0.02, 0.01):
        path = steady.impulse_response(size, 0.9, 300)
        Z, K = np.exp(path.productivity), steady.capital * np.exp(path.capital)
        prices = one.capital_share * Z * (K / mean.labour) ** (one.capital_share - 1) - one.depreciation
        wages = (1 - one.capital_share) * Z * (K / mean.labour) ** one.capital_share
        thresholds, policies, ahead = steady.thresholds[None, None].copy(), list[np.ndarray](), (0.0, 0.0)
        for now in zip((prices - steady.interest_rate)[::-1], (wages - steady.wage)[::-1], strict=True):
            step_back(steady, thresholds, now, ahead)
            policies.append(chosen(one, thresholds))
            ahead = now
        law, supplied = steady.law, []
        for saving in policies[::-1]:
            supplied.append(one.capital_of(law))
            law = law @ Transport(one.assets, saving, mean.chain)
        misses.append(np.abs(np.log(np.array(supplied) / K))[:150].max() / size)
    assert misses[1] < 2e-3
    assert misses[0] / misses[1] == pytest.approx(2, abs=0.1)


@pytest.mark.slow
def test_nearly_without_risk_the_linear_response_is_brock_mirmans():
    """Log utility, full depreciation: log K' = log Z + alpha log K; what is left is of second order in risk."""
    gaps = []
    for deviation in (0.1, 0.05):
        one = KrusellSmith(
            "ssj", depreciation=1.0, intertemporal_elasticity=1.0, income_deviation=deviation, income_persistence=0.5,
            asset_max=3.0, asset_nodes=400,
        )  # fmt: skip
        found = one.steady_state().impulse_response(0.01, 0.8, 30)
        K = [0.0]
        for z in found.productivity[:-1]:
            K.append(z + 0.36 * K[-1])
        gaps.append(np.abs(found.capital - K).max() / max(K))
    assert gaps[1] < 3e-3
    assert gaps[1] < 0.5 * gaps[0]


@pytest.mark.slow
def test_linear_responses_are_linear_and_need_no_tail(monkeypatch):
    from hacontrol_envs.economies.krusell_smith import sequence_space

    steady = small().steady_state()
    one, other = steady.impulse_response(0.01, 0.97, 100), steady.impulse_response(-0.03, 0.97, 150)
    for name in UNITS:
        scale = np.abs(getattr(one, name)).max()
        np.testing.assert_allclose(getattr(other, name)[:101], -3 * getattr(one, name), atol=1e-10 * scale)
    lasting = steady.impulse_response(persistence=1.0, horizon=100)
    monkeypatch.setattr(sequence_space, "TAIL", 600)
    longer = steady.impulse_response(persistence=1.0, horizon=100)
    assert gap(longer, lasting, "capital") < 1e-5
    by_chain, levels = steady.impulse_response(horizon=5), np.log(small().productivity)
    law = chains.stationary(small().aggregate_chain)
    deviations = levels - law @ levels
    moved = [np.linalg.matrix_power(small().aggregate_chain, t) @ deviations for t in range(6)]
    slopes = [float(law @ (deviations * one) / (law @ deviations**2)) for one in moved]
    np.testing.assert_allclose(by_chain.productivity, 0.01 * np.array(slopes), rtol=1e-13)
    assert all(np.all(getattr(steady.impulse_response(0.0), name) == 0) for name in UNITS)


def test_gini_is_the_mean_distance_and_its_gradient_its_slope():
    rng, assets = np.random.default_rng(0), np.linspace(-1.0, 9.0, 30) ** 3 / 9
    law = rng.dirichlet(np.ones(60), 4).reshape(4, 2, 30)
    masses = law.sum(axis=1)
    direct = [m @ np.abs(assets[:, None] - assets) @ m / (2 * m @ assets) for m in masses]
    np.testing.assert_allclose(gini(law, assets), direct, rtol=1e-12)
    np.testing.assert_allclose(gini(small().steady_state().law, small().assets), small().steady_state().gini)
    way = rng.standard_normal(law.shape)
    way -= way.mean(axis=(1, 2), keepdims=True)
    slope = (gini(law + 1e-7 * way, assets) - gini(law - 1e-7 * way, assets)) / 2e-7
    np.testing.assert_allclose((gini_gradient(law, assets) * way).sum(axis=(1, 2)), slope, rtol=1e-6)


def test_figures_have_units_and_intervals_where_noise_is_left():
    found, linear = response(), small().steady_state().impulse_response(horizon=40)
    axes = found.plot().axes
    assert [one.get_ylabel() for one in axes] == list(UNITS.values())
    assert {one.get_xlabel() for one in axes} == {"quarters"}
    assert [len(one.collections) for one in axes] == [0] + 7 * [1]
    np.testing.assert_array_equal(axes[3].lines[-1].get_ydata(), 100 * found.capital)
    assert all(len(one.collections) == 0 for one in linear.plot().axes)
    table = found.to_dict()
    assert list(table) == ["quarter", *UNITS, *(f"{name}_error" for name in UNITS)]
    assert {len(column) for column in table.values()} == {41}


BAD = [
    ({"draws": 0}, "draws must be at least 2"),
    ({"draws": 1}, "draws must be at least 2"),
    ({"draws": 1.5}, "draws must be a whole number"),
    ({"draws": 10**400}, "draws must be at most"),
    ({"quarters": 0}, "quarters must be at least 1"),
    ({"quarters": -5}, "quarters must be at least 1"),
    ({"seed": -1}, "seed must be at least 0"),
    ({"start": 5}, "Z has states 0 to 4"),
    ({"start": -1}, "start must be at least 0"),
    ({"start": 1.0}, "start must be a whole number"),
    ({"to": True}, "to must be at least 0"),
    ({"to": 10**400}, "to must be at most"),
    ({"shock": 1.0}, "shock must leave log Z within its states"),
    ({"shock": np.nan}, "shock must be finite"),
    ({"shock": "1"}, "shock must be a number"),
    ({"shock": 0.001, "to": 3}, "either the state"),
]


@pytest.mark.parametrize(("bad", "message"), BAD)
def test_bad_arguments_of_a_response_are_refused(bad, message):
    with pytest.raises(ParameterError, match=message):
        small().reference_solution().impulse_response(**bad)


LINEAR = [
    ({"horizon": 0}, "horizon must be at least 1"),
    ({"horizon": 2.5}, "horizon must be a whole number"),
    ({"horizon": 10**9}, "horizon must be at most"),
    ({"shock": np.inf}, "shock must be finite"),
    ({"shock": 2.0}, "shock must lie between -1 and 1"),
    ({"persistence": 1.01}, "persistence must be at most 1"),
    ({"persistence": -0.5}, "persistence must be at least 0"),
    ({"productivity": np.zeros(3)}, "productivity must be deviations"),
    ({"productivity": np.full(301, np.nan)}, "productivity must be finite"),
    ({"productivity": np.zeros(301), "shock": 0.01}, "either the path"),
]


@pytest.mark.parametrize(("bad", "message"), LINEAR)
def test_bad_arguments_of_a_linear_response_are_refused(bad, message):
    with pytest.raises(ParameterError, match=message):
        small().steady_state().impulse_response(**bad)


def test_a_chain_that_does_not_move_has_no_persistence():
    still = KrusellSmith("ssj", asset_nodes=100, asset_max=200.0, productivity_states=1).steady_state()
    with pytest.raises(ParameterError, match="no persistence"):
        still.impulse_response()
    assert still.impulse_response(persistence=0.9).capital[1] > 0


PATHS = [
    ({"quarters": -5}, "quarters must be at least 1"),
    ({"quarters": 1.5}, "quarters must be a whole number"),
    ({"quarters": 5, "seed": -1}, "seed must be at least 0"),
    ({"quarters": 5, "every": -1}, "every must be at least 0"),
    ({"quarters": 5, "z": np.array([0, 5])}, "z must be a path of states of Z"),
    ({"quarters": 5, "z": np.array([0.0, 1.0])}, "z must be an array of whole numbers"),
    ({"quarters": 5, "z": np.zeros((2, 2), dtype=int)}, "path of one economy"),
    ({"quarters": 5, "z": np.array([], dtype=int)}, "z must be a path of states of Z"),
    ({"quarters": 5, "z": np.zeros(4, dtype=int), "law": np.ones((3, 100))}, "masses of at least 0 that sum to one"),
    ({"quarters": 5, "z": np.zeros(4, dtype=int), "law": np.ones((3, 99)) / 297}, "a law must have shape"),
    ({"quarters": 5, "z": np.zeros(4, dtype=int), "law": np.full((3, 100), np.nan)}, "sum to one"),
    ({"quarters": 5, "z": np.zeros(4, dtype=int), "law": "law"}, "array of masses"),
]


@pytest.mark.parametrize(("bad", "message"), PATHS)
def test_bad_arguments_of_a_path_are_refused(bad, message):
    with pytest.raises(ParameterError, match=message):
        small().reference_solution().simulate(**bad)


def test_paths_and_figures_refuse_what_they_cannot_mean():
    solution: ReferenceSolution = small().reference_solution()
    one, law = small(), solution.ergodic.laws[0]
    for bad in ({"quarters": -1}, {"count": 0}, {"seed": -1}, {"first": 7}, {"first": 0.5}):
        with pytest.raises(ParameterError, match=next(iter(bad)) if "first" not in bad else "z must be"):
            path_of_z(one, **{"quarters": 5, "seed": 0} | bad)
    with pytest.raises(ParameterError, match="z must be a path"):
        simulate(one, solution.policy, np.array([0, -1]), law)
    with pytest.raises(ParameterError, match="last must be at least 1"):
        solution.simulate(20).plot(last=0)
    missing = sorted(set(range(5)) - set(solution.ergodic.z.tolist()))
    for state in missing:  # what no law is known for is not begun from another state's law
        with pytest.raises(ParameterError, match="give the law"):
            solution.simulate(3, z=np.array([state, state, 2, 2]))
