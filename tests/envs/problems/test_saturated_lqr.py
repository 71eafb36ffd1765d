"""SaturatedLQR against LQR where no bound binds, an ordinary differential equation in one state, and a certificate."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import solve_bvp

from hacontrol_agents import certify
from hacontrol_envs import LQR, SaturatedLQR, check_problem
from hacontrol_envs.errors import ParameterError
from hacontrol_envs.solvers.hjb import difference, refine

FORCED = {"state_matrix": [[0.0, 1.0], [0.0, -0.2]], "control_matrix": [[0.0], [1.0]], "noise_matrix": [[0.0], [0.3]]}


@pytest.mark.parametrize("parameters", [{}, {"dimension": 2, "action_bound": 0.5}, FORCED])
def test_contract(parameters):
    check_problem(SaturatedLQR(**parameters))


@pytest.mark.parametrize("parameters", [{}, {"dimension": 2}, FORCED])
def test_where_no_bound_binds_it_is_solved_by_riccatis_equation(parameters):
    free = LQR(**parameters)
    optimum = free.solution()
    x = free.state.from_unit(np.random.default_rng(0).uniform(-1.0, 1.0, (200, free.state.dimension)))
    best, jet = optimum.policy(0.0, x), optimum.jet(0.0, x)
    wide = SaturatedLQR(**parameters, action_bound=1.01 * np.abs(best).max())
    chosen = wide.maximiser(0.0, x, jet.v_x, jet.v_xx)
    np.testing.assert_allclose(chosen, best, atol=1e-12)
    assert np.abs(wide.hjb_residual(0.0, x, chosen, jet)).max() <= 1e-10
    narrow = SaturatedLQR(**parameters, action_bound=0.5)
    np.testing.assert_allclose(narrow.maximiser(0.0, x, jet.v_x, jet.v_xx), np.clip(best, -0.5, 0.5), atol=1e-12)


@cache
def by_ordinary_differential_equation(bound: float, edge: float = 6.0):
    """rho V = -x^2/2 - x V'/2 + d^2/2 V'' + h(V') on [0, edge], even, with a slope at the edge.

    It is that of a = -bound for good, whose value is -(k x^2 + l x + constant), 2 k = 1/(rho + 1) and
    l = -2 k bound/(rho + 1/2).
    """
    rho, d, r = 0.1, 0.3, 0.1
    k = 1 / (2 * (rho + 1))
    slope = -(2 * k * edge - 2 * k * bound / (rho + 0.5))

    def h(p):
        a = np.clip(p / r, -bound, bound)
        return a * p - r * a**2 / 2

    def slopes(x, y):
        return np.stack([y[1], 2 / d**2 * (rho * y[0] + x**2 / 2 + x * y[1] / 2 - h(y[1]))])

    x = np.linspace(0.0, edge, 601)
    start = np.stack([-k * x**2 - 0.2, -2 * k * x])
    found = solve_bvp(slopes, lambda a, b: np.array([a[1], b[1] - slope]), x, start, tol=1e-9, max_nodes=10**5)
    assert found.status == 0
    return lambda x: found.sol(np.abs(x))[0]


def on_a_grid(problem: SaturatedLQR, nodes: int):
    def uniform(count):
        return np.linspace(-1.0, 1.0, count)

    return refine(problem, (uniform,) * problem.state.dimension, [(nodes,), (2 * nodes - 1,)])


@pytest.mark.parametrize("bound", [0.5, 1.0, 2.0])
def test_one_state_by_an_ordinary_differential_equation(bound):
    found, x = on_a_grid(SaturatedLQR(action_bound=bound, noise_matrix=0.3), 401), np.linspace(-1.0, 1.0, 41)
    gap = np.abs(found[-1].value(0.0, x[:, None]) - by_ordinary_differential_equation(bound)(x))
    assert gap.max() <= 1e-6
    assert gap.max() <= difference(*found)


def test_the_looser_the_bound_the_better():
    x = np.linspace(-1.0, 1.0, 21)
    values = [by_ordinary_differential_equation(bound)(x) for bound in (0.5, 1.0, 2.0, 4.0)]
    assert all(np.all(more >= less - 1e-8) for less, more in pairwise(values))
    np.testing.assert_allclose(values[-1], LQR().solution().value(0.0, x[:, None]), rtol=1e-5)


@pytest.mark.slow
def test_a_linear_policy_that_is_cut_is_bounded_by_what_is_true():
    problem, gain = SaturatedLQR(), LQR().solution().policy(0.0, np.ones(1))[0]
    found = certify(lambda t, x: np.clip(gain * x, -1.0, 1.0), problem)
    best = by_ordinary_differential_equation(1.0)(found.starts[:, 0]).mean()
    assert not found.failed
    assert found.lower <= best <= found.upper
    assert found.relative_gap <= 0.1


def test_no_optimum_is_known():
    assert SaturatedLQR().solution() is None
    assert SaturatedLQR().solution(0.02) is None


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"action_bound": 0.0}, "action_bound must be greater than 0"),
        ({"state_matrix": 0.05}, "grow by themselves at rate 0.05"),
        ({"control_cost": -1.0}, "control_cost must be positive definite"),
    ],
)
def test_bad_parameters_are_refused(parameters, message):
    with pytest.raises(ParameterError, match=message):
        SaturatedLQR(**parameters)
