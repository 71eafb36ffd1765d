"""Certificates in discrete time hold the truth where it is known, and say so where they know nothing."""

from __future__ import annotations

import numpy as np
import pytest
import scipy

from hacontrol_agents import Certificate, certify
from hacontrol_agents.certificates.candidate import Barrier
from hacontrol_agents.certificates.extended import Splines
from hacontrol_agents.certificates.maximum import maximum_point
from hacontrol_agents.certificates.periods import PeriodValue, States
from hacontrol_envs import BrockMirman, IncomeFluctuation
from hacontrol_envs.economies.krusell_smith.planner import KrusellSmithPlanner
from hacontrol_envs.errors import LearningError, ParameterError


def share_value(problem: BrockMirman, s: float, x: np.ndarray) -> np.ndarray:
    """The value of saving the share s for ever: A + B log K + C log Z, from V = log c + beta E V(X')."""
    alpha, beta, rho = problem.capital_share, problem.discount_factor, problem.productivity_persistence
    B = alpha / (1 - alpha * beta)
    C = (1 + beta * B) / (1 - beta * rho)
    A = (np.log(1 - s) + beta * B * np.log(s)) / (1 - beta)
    return A + B * np.log(x[:, 0]) + C * np.log(x[:, 1])


def saves(s: float):
    return lambda t, x: np.full((len(x), 1), s)


def holds(found: Certificate, earned: float, best: float) -> bool:
    """Whether lower <= J <= V* <= upper, up to rounding."""
    slack = 1e-10 * abs(best)
    return found.lower <= earned + slack and earned <= best + slack and best <= found.upper + slack


def test_the_optimum_is_certified_by_its_value():
    problem = BrockMirman()
    optimum = problem.solution()
    found = certify((optimum.value, optimum.policy), problem)
    best = optimum.value(0.0, found.starts).mean()
    assert holds(found, best, best)
    assert found.relative_gap <= 1e-9
    assert found.certified


@pytest.mark.slow
@pytest.mark.parametrize("factor", [0.5, 1.01])
def test_a_share_of_output_is_bounded_sharply_without_a_value(factor):
    problem = BrockMirman(discount_factor=0.93, productivity_persistence=0.5)
    s = factor * problem.saving_share
    found = certify(saves(s), problem)
    earned, best = share_value(problem, s, found.starts).mean(), problem.solution().value(0.0, found.starts).mean()
    assert holds(found, earned, best)
    assert earned - found.lower <= 1e-8 * abs(best)
    assert found.upper - best <= 1e-8 * abs(best)


@pytest.mark.slow
def test_a_value_with_a_homogeneous_solution_added_is_not_believed():
    """V* + f(log Z), f = beta E f, meets the Bellman equation of the optimal policy, and is wrong.

    log Z is an Ornstein-Uhlenbeck process seen once a period: f is Kummer's function, an eigenfunction of it.
    """
    problem = BrockMirman()
    optimum = problem.solution()
    order = np.log(problem.discount_factor) / np.log(problem.productivity_persistence) / 2

    def wrong(t, x):
        z = np.log(x[:, 1]) / problem.productivity_deviation
        return optimum.value(t, x) + scipy.special.hyp1f1(order, 0.5, z**2 / 2)

    x = np.array([[0.15, 1.0], [0.2, 1.02]])
    assert (
        np.abs(
            problem.bellman_residual(
                x, optimum.policy(0.0, x), lambda y: wrong(0.0, y.reshape(-1, 2)).reshape(y.shape[:-1])
            )
        ).max()
        < 1e-4
    )
    found = certify((wrong, optimum.policy), problem)
    best = optimum.value(0.0, found.starts).mean()
    assert np.abs(wrong(0.0, found.starts).mean() - best) > 1e-2 * abs(best)
    assert holds(found, best, best)


def test_a_wrong_value_is_corrected():
    problem = BrockMirman()
    optimum = problem.solution()
    found = certify((lambda t, x: 1.3 * optimum.value(t, x) + 4, optimum.policy), problem)
    best = optimum.value(0.0, found.starts).mean()
    assert holds(found, best, best)
    assert found.relative_gap <= 1e-6


def test_a_household_is_certified_without_its_value():
    problem = IncomeFluctuation()
    optimum = problem.solution()
    found = certify(optimum.policy, problem)
    best, slack = optimum.value(0.0, found.starts).mean(), optimum.error
    assert found.certified
    assert found.lower <= best + slack
    assert found.upper >= best - slack
    assert found.relative_gap <= 1e-5


def evaluated(problem: IncomeFluctuation, policy, x: np.ndarray) -> np.ndarray:
    """What a policy earns from states x: V = r + beta E V(X') on many nodes of assets, V linear between them."""
    assets, n_e = 30 * np.linspace(0, 1, 1500) ** 2, len(problem.income)
    nodes = np.stack(np.meshgrid(np.arange(float(n_e)), assets, indexing="ij")[::-1], axis=-1).reshape(-1, 2)

    def weights(x):
        place = np.clip(np.searchsorted(assets, x[:, 0]) - 1, 0, len(assets) - 2)
        up = (x[:, 0] - assets[place]) / (assets[place + 1] - assets[place])
        column, row = place + len(assets) * x[:, 1].astype(int), np.arange(len(x))
        entries = np.concatenate([1 - up, up]), (np.tile(row, 2), np.concatenate([column, column + 1]))
        return scipy.sparse.csr_matrix(entries, shape=(len(x), len(nodes)))

    a = policy(0.0, nodes)
    after = problem.successors(nodes, a)
    moved = sum(scipy.sparse.diags(after.probability[:, e]) @ weights(after.x[:, e].astype(float)) for e in range(n_e))
    left = scipy.sparse.identity(len(nodes), format="csc") - problem.discount_factor * moved.tocsc()
    return weights(x) @ scipy.sparse.linalg.spsolve(left, problem.reward(nodes, a))


def test_a_household_that_saves_less_is_bounded_sharply():
    problem = IncomeFluctuation()
    optimum = problem.solution()

    def less(t, x):
        return 0.8 * optimum.policy(t, x)

    found = certify(less, problem, starts=8)
    earned, best = evaluated(problem, less, found.starts).mean(), optimum.value(0.0, found.starts).mean()
    assert abs(earned - found.lower) <= 1e-4 * abs(best)
    assert abs(best - found.upper) <= 1e-5 * abs(best)
    assert not found.certified


def test_a_rough_policy_is_bounded_by_paths():
    problem = BrockMirman(discount_factor=0.9)

    def rough(t, x):
        return problem.saving_share * (1 + 0.5 * np.sign(np.sin(300 * np.log(x[:, :1]))))

    found = certify(rough, problem, starts=8, evaluations=20_000)
    rng, paths = np.random.default_rng(4), 4000
    x, earned = np.repeat(found.starts, paths, axis=0), np.zeros(8 * paths)
    for k in range(150):
        a = rough(0.0, x)
        earned += 0.9**k * problem.reward(x, a)
        x = problem.transition(x, a, rng.standard_normal((len(x), 1)))
    error = earned.reshape(8, paths).std(axis=1).mean() / np.sqrt(8 * paths)
    best = problem.solution().value(0.0, found.starts).mean()
    assert found.standard_error > 0
    assert -4 * error <= earned.mean() - found.lower <= 4 * error + 0.02 * found.gap
    assert error < 0.01 * found.gap
    assert holds(found, found.lower, best)


def test_what_is_not_finite_is_refused_or_no_help():
    problem = IncomeFluctuation()
    optimum = problem.solution()
    with pytest.raises(LearningError, match="not finite at 1024 of 1024 states"):
        certify(lambda t, x: np.nan * x[:, :1], problem)
    found = certify((lambda t, x: np.nan * x[:, 0], optimum.policy), problem, starts=4)
    assert found.certified
    assert abs(found.upper - optimum.value(0.0, found.starts).mean()) <= 1e-5 * found.scale


def test_a_population_is_refused():
    problem = KrusellSmithPlanner(asset_nodes=20)
    with pytest.raises(ParameterError, match="up to 3 states and one action"):
        certify(lambda t, y: y, problem)


def test_maximum_points_are_found_inside_and_at_ends():
    peaks = np.array([-3.0, 0.0, 0.3111, 0.97, 1.0, 2.0])
    found = maximum_point(lambda a: -np.cosh(a - peaks), 0.0, 1.0, len(peaks))
    np.testing.assert_allclose(found, np.clip(peaks, 0, 1), atol=1e-6)


def test_splines_are_differentiated_and_reproduce_cubics():
    splines = Splines(-1.0, 3.0, 12)
    s = np.linspace(-1, 3, 7)[:, None]
    weights = np.linalg.solve(splines.values(splines.nodes[:, None]), splines.nodes**3)
    np.testing.assert_allclose(splines.sum(s, weights), s[:, 0] ** 3, atol=1e-10)
    np.testing.assert_allclose(splines.slopes(s, 0) @ weights, 3 * s[:, 0] ** 2, atol=1e-9)


def test_finite_components_have_functions_of_their_own():
    """The functions and their tangents beyond the box, and the rows of the programme, against the definitions."""
    problem = IncomeFluctuation()
    at = States(problem)
    assert list(at.levels) == [1]
    low, high = np.array([-1.0, -1.0]), np.array([0.5, 1.0])
    basis, weights = at.expansion(low, high, 2), np.arange(1.0, 7.0)
    s = np.array([[0.1, -1.0], [0.1, 1.0], [0.7, 1.0]])
    z = (s[:, 0] + 0.25) / 0.75
    np.testing.assert_allclose(basis.values(s) @ weights, basis.sum(s, weights), atol=1e-12)
    inside = [1 + 2 * z[0] + 3 * (2 * z[0] ** 2 - 1), 4 + 5 * z[1] + 6 * (2 * z[1] ** 2 - 1)]
    tangent = 4 + 5 + 6 + (5 + 6 * 4) * (z[2] - 1)
    np.testing.assert_allclose(basis.sum(s, weights), [*inside, tangent], atol=1e-12)
    value = PeriodValue(at, lambda x: 0 * x[:, 0], 1.0).plus(basis, weights)
    t, x = at.back(s)
    a = np.full((3, 1), 0.6)
    rates = value.rates(t, x, a)
    expected = problem.bellman_residual(
        x, a, lambda y: basis.sum(at.of(t, y.reshape(-1, 2)), weights).reshape(y.shape[:-1])
    )
    np.testing.assert_allclose(rates.residual, expected, atol=1e-12)
    np.testing.assert_allclose(problem.reward(x, a) - value.rows(basis, rates) @ weights, expected, atol=1e-12)
    barrier = Barrier(0, 1.0, 0.0, 1, 2.0)
    later = problem.expectation(
        x, a, lambda y: np.exp(2 * (at.of(t, y.reshape(-1, 2))[:, 0] - 1)).reshape(y.shape[:-1])
    )
    np.testing.assert_allclose(rates.excess(barrier), 0.96 * later - np.exp(2 * (s[:, 0] - 1)), atol=1e-12)
