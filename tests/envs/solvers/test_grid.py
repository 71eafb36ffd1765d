"""Finite differences against closed forms: orders of convergence, laws, and what a chain's generator must be."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.integrate import quad
from scipy.linalg import solve_continuous_lyapunov
from scipy.stats import norm, truncnorm

from common.linear_problems import Linear
from hacontrol_envs import LQR, FirmInvestment, Jet, Merton
from hacontrol_envs.errors import NumericalError, ParameterError
from hacontrol_envs.solvers.grid import Grid, clustered_nodes, edge_nodes
from hacontrol_envs.solvers.hjb import GridValue, extrapolate, refine, solve

CORRELATED = LQR(dimension=2, noise_matrix=[[0.3, 0.0], [0.1, 0.25]])
TILT = np.array([0.7, -0.4])


def uniform(count):
    return np.linspace(-1.0, 1.0, count)


def known(problem):
    return lambda x: problem.solution().value(0.0, x)


def solved(problem, counts, order, nodes=uniform):
    """V less the closed form on grids of so many nodes along each state, with the grids."""
    grids = [Grid(problem, (nodes(count),) * problem.state.dimension, order, known(problem)) for count in counts]
    return grids, [solve(grid)[0] - known(problem)(grid.x) for grid in grids]


def at_quarters(grids, errors):
    """Errors at the nodes u = -1/2, 0 and 1/2 of each state, which all grids share and where none is at an edge."""
    shared = [np.all(np.isin(grid.unit, (-0.5, 0.0, 0.5)), axis=1) for grid in grids]
    return [error[rows] for error, rows in zip(errors, shared, strict=True)]


def rates(errors):
    return np.log2(np.abs(errors[-2] / errors[-1]))


# The order of extrapolation shows later on LQR, whose second coefficient is small and settles late: see the counts.
@pytest.mark.slow
@pytest.mark.parametrize(("problem", "counts"), [(LQR(), (641, 1281, 2561)), (Merton(), (81, 161, 321))])
def test_order_1_and_its_extrapolation(problem, counts):
    errors = at_quarters(*solved(problem, counts, 1))
    np.testing.assert_allclose(rates(errors), 1, atol=0.15)
    pairs = [extrapolate(pair)[0] for pair in (errors[:2], errors[1:])]
    np.testing.assert_allclose(rates(pairs), 2, atol=0.15)
    assert np.all(np.abs(extrapolate(errors)[0]) < np.abs(pairs[-1]) / 4)


def test_extrapolation_is_exact_for_polynomials_in_the_width_and_estimates_its_error():
    h = 0.5 ** np.arange(4)
    limit, error = extrapolate(3.0 - 2 * h + 5 * h**2 + 7 * h**3)
    assert limit == pytest.approx(3.0, abs=1e-12)
    assert error == pytest.approx(7 * h[1] * h[2] * h[3], rel=1e-9)  # the remainder of Neville's scheme, one order less


def test_order_4():
    errors = at_quarters(*solved(Merton(), (81, 161, 321), 4))
    np.testing.assert_allclose(rates(errors), 4, atol=0.15)
    assert np.abs(errors[-1]).max() < 2e-7


QUADRATIC = [(LQR(), 31, uniform), (LQR(), 61, edge_nodes), (LQR(dimension=2), 31, uniform), (CORRELATED, 31, uniform)]


@pytest.mark.slow
@pytest.mark.parametrize(("problem", "count", "nodes"), QUADRATIC)
def test_order_4_is_exact_for_quadratics(problem, count, nodes):
    grids, errors = solved(problem, (count,), 4, nodes)
    assert np.abs(errors[0]).max() < 1e-10
    jet = GridValue(grids[0], errors[0] + known(problem)(grids[0].x)).jet(0.0, grids[0].x)
    np.testing.assert_allclose(jet.v_xx, problem.solution().jet(0.0, grids[0].x).v_xx, atol=1e-6)


@pytest.mark.slow
def test_order_1_in_two_states():
    errors = at_quarters(*solved(CORRELATED, (33, 65), 1))
    np.testing.assert_allclose(rates(errors), 1, atol=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("covariance", [0.1, -0.1])
@pytest.mark.parametrize(("order", "counts"), [(1, (41, 81)), (4, (49, 97))])
def test_exponentials_of_brownian_motion_with_correlated_noise(order, counts, covariance):
    """The flow e^{w.x} is worth e^{w.x}/(rho - w.b - w'Cw/2)."""
    D = np.linalg.cholesky([[0.25, covariance], [covariance, 0.2]])
    rate = 0.5 - 0.2 * TILT.sum() - TILT @ D @ D.T @ TILT / 2

    def value(x):
        return np.exp(x @ TILT) / rate

    problem = Linear(np.zeros((2, 2)), D, (2.0, 2.0), lambda x: np.exp(x @ TILT), constant=0.2)
    grids = [Grid(problem, (uniform(count),) * 2, order, value) for count in counts]
    errors = at_quarters(grids, [grid.evaluate(np.zeros((len(grid.x), 1))) - value(grid.x) for grid in grids])
    np.testing.assert_allclose(rates(errors), order, atol=0.15)


@pytest.mark.parametrize(("order", "counts", "largest"), [(1, (129, 257, 513), 1e-2), (4, (65, 129, 257), 1e-6)])
def test_open_edges_without_a_value_do_not_matter_far_away(order, counts, largest):
    """E cos X_t of an Ornstein-Uhlenbeck process is e^{-v_t/2} cos(x e^{-t}); the box is 7 deviations wide each way."""
    problem = Linear(-np.eye(1), np.array([[0.8]]), (4.0,), lambda x: np.cos(x[..., 0]))

    def flow(s, x):
        return np.exp(-problem.discount * s - 0.08 * 2 * (1 - np.exp(-2 * s))) * np.cos(x * np.exp(-s))

    grids = [Grid(problem, (uniform(count),), order) for count in counts]
    points = [-1.0, 0.5, 2.0]
    exact = [quad(flow, 0, 60, args=(x,), epsabs=1e-13, limit=200)[0] for x in points]
    found = [grid.evaluate(np.zeros((len(grid.x), 1)))[np.isin(grid.x[:, 0], points)] for grid in grids]
    errors = [V - exact for V in found]
    np.testing.assert_allclose(rates(errors), order, atol=0.15)
    assert np.abs(errors[-1]).max() < largest


# In two states of order 1 the Hamiltonian has edges, along which the search can stop a little below the top.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("problem", "order", "value", "action"),
    [(LQR(), 1, 1e-10, 1e-5), (LQR(), 4, 1e-10, 1e-5), (CORRELATED, 1, 1e-4, 0.2), (CORRELATED, 4, 1e-10, 1e-5)],
)
def test_actions_are_found_without_a_maximiser(problem, order, value, action, monkeypatch):
    grid = Grid(problem, (uniform(17),) * problem.state.dimension, order, known(problem))
    V, a = solve(grid)
    monkeypatch.setattr(LQR, "maximiser", lambda self, t, x, v_x, v_xx: None)
    searched, actions = solve(grid, V if order == 4 else None)
    np.testing.assert_allclose(searched, V, atol=value)
    np.testing.assert_allclose(actions[~grid.fixed], a[~grid.fixed], atol=action)
    with pytest.raises(ParameterError, match="LQR has no maximiser"):
        GridValue(grid, V).policy(0.0, grid.x)


@pytest.mark.slow
def test_coupled_controls_have_no_maximiser_and_are_searched():
    problem = LQR(dimension=2, control_cost=[[0.1, 0.04], [0.04, 0.2]])
    grid = Grid(problem, (uniform(21),) * 2, 4, known(problem))
    V, a = solve(grid, 0.8 * known(problem)(grid.x))
    np.testing.assert_allclose(V, known(problem)(grid.x), atol=1e-9)
    np.testing.assert_allclose(a, problem.solution().policy(0.0, grid.x), atol=1e-5)


@pytest.mark.slow
def test_both_states_rest_where_they_should():
    """At the origin of a symmetric problem nothing is done, although V is not smooth there on a coarse grid."""
    problem = LQR(dimension=2)
    grid = Grid(problem, (uniform(21),) * 2, 1, known(problem))
    _, a = solve(grid)
    np.testing.assert_allclose(a[np.all(grid.unit == 0, axis=1)], 0, atol=1e-9)
    np.testing.assert_allclose(a, -a[::-1], atol=1e-6)


FIRM = FirmInvestment(capital_bounds=(0.5, 4.0), productivity_bound=1.0)
CHAINS = {"LQR": CORRELATED, "firm": FIRM}


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("order", [1, 4])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_rows_of_a_generator_sum_to_zero_whatever_the_policy(name, order, data):
    problem = CHAINS[name]
    grid = Grid(problem, (uniform(12), uniform(12)), order)
    unit = data.draw(arrays(float, (144, problem.action.dimension), elements=st.floats(-1, 1)))
    L = grid.generator(problem.admissible(0.0, grid.x, problem.action.from_unit(unit)))
    scale = abs(L).max()
    assert np.abs(L.sum(axis=1)).max() < 1e-12 * scale
    if order == 1:
        off = L.toarray() - np.diag(L.diagonal())
        assert off.min() >= -1e-13 * scale


@pytest.mark.parametrize("problem", [CORRELATED, Merton(), FIRM], ids=["LQR", "Merton", "firm"])
def test_the_generator_is_that_of_the_problem(problem):
    """Of f = e^{w.x}, against b . f_x + tr(sigma sigma' f_xx)/2."""
    w, errors = TILT[: problem.state.dimension], []
    grids = [Grid(problem, (uniform(count),) * len(w), 4) for count in (33, 65, 129)]
    for grid in grids:
        a = problem.action.from_unit(0.3 * np.ones((len(grid.x), problem.action.dimension)))
        f = np.exp(grid.x @ w)
        jet = Jet(f, 0 * f, f[:, None] * w, f[:, None, None] * np.outer(w, w))
        errors.append(grid.generator(a) @ f - problem.generator(0.0, grid.x, a, jet))
    np.testing.assert_allclose(rates(at_quarters(grids, errors)), 4, atol=0.3)


PULL = np.array([[-0.6, 0.3], [-0.1, -0.9]])
SHAKE = np.linalg.cholesky([[0.16, 0.05], [0.05, 0.09]])


def law(problem, counts, order):
    """Grid, masses, and what was negative."""
    grid = Grid(problem, tuple(map(uniform, counts)), order)
    return (grid, *grid.law(np.zeros((len(grid.x), 1))))


def covariance(grid, masses):
    return (masses[:, None] * grid.x).T @ grid.x


def test_a_linear_gaussian_drift_has_a_gaussian_law():
    exact = solve_continuous_lyapunov(PULL, -SHAKE @ SHAKE.T)
    problem = Linear(PULL, SHAKE, tuple(7 * np.sqrt(np.diag(exact))), edges="reflecting")
    gaps = {}
    for order, count in ((1, 41), (1, 81), (4, 41), (4, 81)):
        grid, masses, negative = law(problem, (count, count), order)
        assert masses.sum() == pytest.approx(1, abs=1e-13)
        assert masses.min() >= 0
        assert abs(negative) < (1e-12 if order == 1 else 1e-5)
        np.testing.assert_allclose(masses @ grid.x, 0, atol=1e-12)
        gaps[order, count] = np.abs(covariance(grid, masses) - exact).max() / exact.max()
    assert np.log2(gaps[1, 41] / gaps[1, 81]) == pytest.approx(1, abs=0.15)
    assert gaps[4, 81] < min(gaps[4, 41] / 12, 1e-4)


def test_a_law_is_stationary_for_functions_that_it_was_not_computed_from():
    """E_m[L f] = 0 with L f of `ControlProblem.generator`, f a Gaussian bump."""
    exact = solve_continuous_lyapunov(PULL, -SHAKE @ SHAKE.T)
    problem = Linear(PULL, SHAKE, tuple(7 * np.sqrt(np.diag(exact))), edges="reflecting")
    grid, masses, _ = law(problem, (81, 81), 4)
    away = grid.x - (0.2, 0.1)
    f = np.exp(-np.sum(away**2, axis=1))
    f_xx = 4 * away[:, :, None] * away[:, None, :] - 2 * np.eye(2)
    jet = Jet(f, 0 * f, -2 * f[:, None] * away, f[:, None, None] * f_xx)
    flow = problem.generator(0.0, grid.x, np.zeros((len(f), 1)), jet)
    assert masses @ np.abs(flow) > 0.1
    assert abs(masses @ flow) < 2e-6


@pytest.mark.parametrize(("order", "rate", "largest"), [(1, 1, 1e-4), (4, 2, 5e-6)])
def test_a_reflected_law_is_the_truncated_gaussian(order, rate, largest):
    deviation = 0.8 / np.sqrt(2)
    problem = Linear(-np.eye(1), np.array([[0.8]]), (0.9,), edges="reflecting")
    exact = truncnorm(-0.9 / deviation, 0.9 / deviation, scale=deviation).var()
    gaps = [covariance(*law(problem, (count,), order)[:2]).item() - exact for count in (321, 641)]
    assert np.log2(gaps[0] / gaps[1]) == pytest.approx(rate, abs=0.15)
    assert abs(gaps[1]) < largest


def test_cells_integrate_a_density_over_log_wealth():
    grid = Grid(Merton(), (clustered_nodes(61, 0.3, 0.4),))
    density = norm(0.3 * np.log(10), 0.25).pdf(np.log(grid.x[:, 0]))
    assert density @ grid.cells == pytest.approx(1, abs=1e-9)


def test_nodes():
    np.testing.assert_allclose(edge_nodes(17), np.polynomial.chebyshev.chebpts2(17), atol=1e-15)
    nodes = clustered_nodes(2001, 0.3, 0.1)
    assert (nodes[0], nodes[-1]) == (-1, 1)
    spacing = np.diff(nodes) / np.hypot(0.1, (nodes[1:] + nodes[:-1]) / 2 - 0.3)
    np.testing.assert_allclose(spacing, spacing.mean(), rtol=1e-5)
    np.testing.assert_allclose(clustered_nodes(9), np.linspace(-1, 1, 9), atol=1e-6)


def test_ever_finer_grids_agree_with_the_closed_form_to_their_distance():
    problem = Merton()
    coarse, fine = refine(problem, (edge_nodes,), ((21,), (41,)), edge_value=known(problem))
    x = np.geomspace(0.1, 10, 101)[:, None]
    distance = np.abs(coarse.value(0.0, x) - fine.value(0.0, x)).max()
    assert 0 < np.abs(fine.value(0.0, x) - known(problem)(x)).max() < distance
    middle = x[20:-20]
    np.testing.assert_allclose(fine.policy(0.0, middle), problem.solution().policy(0.0, middle), rtol=1e-4)


STRONG = LQR(dimension=2, noise_matrix=[[0.3, 0.0], [0.02, 0.01]])


def test_too_strong_correlation_is_refused_at_order_1_only():
    with pytest.raises(ParameterError, match="too correlated"):
        solved(STRONG, (21,), 1, lambda count: clustered_nodes(count, 0.0, 0.2))
    grid = Grid(STRONG, (uniform(41),) * 2, 4, known(STRONG))
    V, _ = solve(grid, 0.9 * known(STRONG)(grid.x))
    np.testing.assert_allclose(V, known(STRONG)(grid.x), atol=1e-8)


BAD_GRIDS = [
    (LQR(horizon=1.0), (uniform(9),), {}, "stationary.*horizon=1.0"),
    (LQR(dimension=3), (uniform(9),) * 3, {}, "got 3 states"),
    (LQR(), (uniform(7),), {}, r"at least 8 nodes.*\(7,\)"),
    (LQR(dimension=2), (uniform(9),), {}, "each of 2 states"),
    (LQR(), (uniform(9),), {"order": 2}, "order must be 1 or 4, got 2"),
    (LQR(), (uniform(9) / 2,), {}, "from -1 to 1"),
    (LQR(), (uniform(9)[::-1],), {}, "from -1 to 1"),
]


@pytest.mark.parametrize(("problem", "nodes", "more", "words"), BAD_GRIDS)
def test_bad_grids_are_refused(problem, nodes, more, words):
    with pytest.raises(ParameterError, match=words):
        Grid(problem, nodes, **more)


def test_policies_that_do_not_settle_are_refused(monkeypatch):
    monkeypatch.setattr("hacontrol_envs.solvers.hjb.MOST_POLICIES", 1)
    with pytest.raises(NumericalError, match="not converged after 1 policies"):
        solve(dataclasses.replace(Grid(Merton(), (uniform(21),)), edge_value=known(Merton())))
